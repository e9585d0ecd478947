"""TIES against a brute force, coordinate by coordinate, and against what it must do on plain cases."""

import numpy as np
import pytest
import torch

from lib.editing.merging import ties, trimmed
from lib.errors import UserError


def by_hand(changes: list[list[float]], kept: float) -> list[float]:
    """Merge in plain Python, from the method's words."""
    cut = []
    for change in changes:
        largest = sorted(range(len(change)), key=lambda place: -abs(change[place]))[: round(kept * len(change))]
        cut.append([value if place in largest else 0.0 for place, value in enumerate(change)])
    merged = []
    for values in zip(*cut, strict=True):
        sign = np.sign(sum(values))
        agreeing = [value for value in values if sign and np.sign(value) == sign]
        merged.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return merged


@pytest.mark.parametrize("number", [1, 2, 3, 5])
@pytest.mark.parametrize("kept", [0.1, 0.2, 0.53, 1.0])
def test_ties_is_the_brute_force(number: int, kept: float) -> None:
    for seed in range(5):
        changes = np.random.default_rng([seed, number]).normal(size=(number, 30))
        found = ties([torch.tensor(change).reshape(5, 6) for change in changes], kept)
        assert np.allclose(found.flatten().numpy(), by_hand(changes.tolist(), kept), atol=1e-12)


def test_trimming_keeps_the_largest_and_their_bits() -> None:
    change = torch.tensor([[0.1, -3.0], [2.0, 0.5]])
    assert torch.equal(trimmed(change, 0.5), torch.tensor([[0.0, -3.0], [2.0, 0.0]]))
    assert torch.equal(trimmed(change, 1.0), change)
    assert not trimmed(change, 0.1).any()


def test_disjoint_shards_are_added_and_opposite_ones_cancel() -> None:
    first, second = torch.tensor([1.0, 2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, -3.0, 0.0])
    assert torch.equal(ties([first, second], 1.0), first + second)
    assert torch.equal(ties([first, -first], 1.0), torch.zeros(4))
    assert torch.equal(ties([torch.tensor([4.0]), torch.tensor([-1.0]), torch.tensor([2.0])], 1.0), torch.tensor([3.0]))


def test_what_cannot_be_merged_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="nothing to merge"):
        ties([], 0.5)
    with pytest.raises(UserError, match="unequal shape"):
        ties([torch.zeros(2), torch.zeros(3)], 0.5)
    with pytest.raises(UserError, match="keeps a share of 0"):
        ties([torch.zeros(2)], 0)
