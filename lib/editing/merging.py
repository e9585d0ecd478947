"""Merging changes of one weight that were learnt apart: TIES (trim, elect the sign, disjoint mean)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.errors import UserError


def trimmed(change: Tensor, kept: float) -> Tensor:
    """Return a change (any shape) with all but its `kept` share of entries of largest magnitude set to zero."""
    count = int(kept * change.numel())
    if count == 0:
        return torch.zeros_like(change)
    size = change.abs()
    bound = size.flatten().kthvalue(change.numel() - count + 1).values
    return torch.where(size >= bound, change, 0)


def ties(changes: Sequence[Tensor], kept: float, weights: Sequence[float] | None = None) -> Tensor:
    """Return the TIES merge of changes of equal shape, W' - W each: what is to be added to W.

    Every change is trimmed; each coordinate takes the sign of the sum over changes (plus, if it is zero), and the mean
    of those values alone that have this sign; `weights` weigh sum and mean, all alike by default. Raises `UserError`
    for no changes, unequal shapes, a share outside (0, 1], and other than one positive weight for each change.
    """
    if not changes:
        raise UserError("nothing to merge: give at least one change")
    if len({change.shape for change in changes}) > 1:
        raise UserError("changes of unequal shape cannot be merged: give changes of one weight")
    if not 0 < kept <= 1:
        raise UserError(f"TIES keeps a share of {kept}: give one above 0 and at most 1")
    if weights is None:
        weights = [1.0] * len(changes)
    if len(weights) != len(changes) or not all(weight > 0 for weight in weights):
        raise UserError(
            f"{len(changes)} changes cannot be merged with weights {tuple(weights)}: give each a positive one"
        )
    # Sums are gathered one change after another: a stack of them would be a second copy of all.
    parts = [trimmed(change, kept) for change in changes]
    elected = torch.zeros_like(parts[0])
    for part, weight in zip(parts, weights, strict=True):
        elected += weight * part
    elected = torch.where(elected >= 0, 1.0, -1.0)
    total, number = torch.zeros_like(parts[0]), torch.zeros_like(parts[0])
    for part, weight in zip(parts, weights, strict=True):
        agrees = part.sign() == elected
        total += torch.where(agrees, weight * part, 0)
        number += weight * agrees
    return total / torch.where(number > 0, number, 1)
