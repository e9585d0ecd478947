"""Merging changes of one weight that were learnt apart: TIES (trim, elect the sign, disjoint mean)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.errors import UserError


def trimmed(change: Tensor, kept: float) -> Tensor:
    """Return a change (any shape) with all but its `kept` share of entries of largest magnitude set to zero."""
    count = round(kept * change.numel())
    if count == 0:
        return torch.zeros_like(change)
    size = change.abs()
    bound = size.flatten().kthvalue(change.numel() - count + 1).values
    return torch.where(size >= bound, change, 0)


def ties(changes: Sequence[Tensor], kept: float) -> Tensor:
    """Return the TIES merge of changes of equal shape, W' - W each: what is to be added to W.

    Every change is trimmed; each coordinate takes the sign of the sum over changes, and the mean of those values alone
    that have this sign. Raises `UserError` for no changes, unequal shapes and a share outside (0, 1].
    """
    if not changes:
        raise UserError("nothing to merge: give at least one change")
    if len({change.shape for change in changes}) > 1:
        raise UserError("changes of unequal shape cannot be merged: give changes of one weight")
    if not 0 < kept <= 1:
        raise UserError(f"TIES keeps a share of {kept}: give one above 0 and at most 1")
    # Sums are gathered one change after another: a stack of them would be a second copy of all.
    parts = [trimmed(change, kept) for change in changes]
    elected = torch.zeros_like(parts[0])
    for part in parts:
        elected += part
    elected = elected.sign()
    total, number = torch.zeros_like(elected), torch.zeros_like(elected)
    for part in parts:
        agrees = (part.sign() == elected) & (elected != 0)
        total += torch.where(agrees, part, 0)
        number += agrees
    return total / number.clamp(min=1)
