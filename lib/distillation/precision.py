"""In what precision losses are computed, and logarithms of shares that may be zero."""

import torch
from torch import Tensor


def raised(values: Tensor) -> Tensor:
    """Return numbers in float32 at least, float64 as they are: half precision loses what a vocabulary adds up to."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def log_of_shares(shares: Tensor) -> Tensor:
    """Return the logarithm of numbers that are not negative; of zero it is -inf, and no gradient goes back there."""
    absent = shares == 0
    return torch.where(absent, float("-inf"), torch.where(absent, 1, shares).log())
