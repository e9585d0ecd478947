"""TIES against a brute force, coordinate by coordinate, and against what it must do on plain cases."""

import numpy as np
import pytest
import torch
from peft.utils import merge_utils

from lib.editing.merging import ties, trimmed
from lib.errors import UserError


def by_hand(changes: list[list[float]], kept: float) -> list[float]:
    """Merge in plain Python, from the method's words."""
    cut = []
    for change in changes:
        largest = sorted(range(len(change)), key=lambda place: -abs(change[place]))[: int(kept * len(change))]
        cut.append([value if place in largest else 0.0 for place, value in enumerate(change)])
    merged = []
    for values in zip(*cut, strict=True):
        sign = 1 if sum(values) >= 0 else -1
        agreeing = [value for value in values if np.sign(value) == sign]
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


def test_disjoint_shards_are_added_and_of_opposite_ones_the_positive_stays() -> None:
    first, second = torch.tensor([1.0, 2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, -3.0, 0.0])
    assert torch.equal(ties([first, second], 1.0), first + second)
    assert torch.equal(ties([first, -first], 1.0), first)
    assert torch.equal(ties([torch.tensor([4.0]), torch.tensor([-1.0]), torch.tensor([2.0])], 1.0), torch.tensor([3.0]))


def test_ties_is_that_of_the_peft_library() -> None:
    changes = [torch.randn(6, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    assert torch.equal(trimmed(changes[0], 0.5), merge_utils.prune(changes[0], 0.5, "magnitude"))
    assert torch.allclose(ties(changes, 0.5), merge_utils.ties(changes, torch.ones(3), 0.5), atol=1e-6)


def test_weights_weigh_the_sign_and_the_mean() -> None:
    changes = [torch.tensor(values) for values in ([4.0, 1.0, 2.0], [-1.0, 2.0, 0.0], [-2.0, -1.0, 3.0])]
    # .2 of each of the first two against .6: -.2 of 0.8 - .2 - 1.2; .2 * 1 + .2 * 2 - .6 = 0 is plus; the last agree.
    expected = [(-0.2 - 1.2) / 0.8, (0.2 + 0.4) / 0.4, (0.4 + 1.8) / 0.8]
    assert torch.allclose(ties(changes, 1.0, (0.25, 0.25, 0.75)), torch.tensor(expected))


def test_what_cannot_be_merged_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="nothing to merge"):
        ties([], 0.5)
    with pytest.raises(UserError, match="unequal shape"):
        ties([torch.zeros(2), torch.zeros(3)], 0.5)
    with pytest.raises(UserError, match="keeps a share of 0"):
        ties([torch.zeros(2)], 0)
    for weights in ([1.0], [1.0, 0.0]):
        with pytest.raises(UserError, match="give each a positive one"):
            ties([torch.zeros(2)] * 2, 0.5, weights)
