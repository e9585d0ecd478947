"""Distances of hidden states against their definitions; the middle loss against padding and the split of a batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lib.distillation import hidden_states
from lib.distillation.alignment import Alignment
from lib.distillation.hidden_states import DISTANCES
from lib.errors import UserError

LENGTHS = torch.tensor([5, 1, 3, 8])
MAP = {1: 2, 2: 5}


def states(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_kernels(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """CKA as HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of kernel matrices, written out over pairs of tokens."""
    tokens = len(first)
    centring = torch.eye(tokens, dtype=torch.float64) - 1 / tokens

    def hsic(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return torch.trace(one @ centring @ other @ centring) / (tokens - 1) ** 2

    one, other = (torch.tensor([[a @ b for b in side] for a in side], dtype=torch.float64) for side in (first, second))
    return hsic(one, other) / (hsic(one, one) * hsic(other, other)).sqrt()


def test_cka_is_that_of_its_kernels_and_is_centred() -> None:
    first, second = states(12, 5) + 4, states(12, 7, seed=1) - 2  # far from centred
    assert hidden_states.linear_cka(first, second) == pytest.approx(by_kernels(first, second).item())
    assert hidden_states.linear_cka(first, second) == pytest.approx(hidden_states.linear_cka(first + 9, second))
    found = hidden_states.cka(states(17, 6) + 3, states(17, 9, seed=2), LENGTHS)
    parts = zip((states(17, 6) + 3).split(LENGTHS.tolist()), states(17, 9, seed=2).split(LENGTHS.tolist()), strict=True)
    expected = [0 if len(one) < 3 else 1 - by_kernels(one, other) for one, other in parts]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64).repeat_interleave(LENGTHS))


def test_cka_does_not_see_rotation_and_size_and_knows_unrelated_states() -> None:
    first = states(400, 6)
    turned = torch.linalg.qr(states(6, 6, seed=3)).Q
    assert hidden_states.linear_cka(first, 3 * first @ turned + 1) == pytest.approx(1)
    assert hidden_states.linear_cka(first, states(400, 6, seed=4)) < 0.05
    assert hidden_states.linear_cka(first, first @ states(6, 6, seed=5)) < 0.99
    with pytest.raises(UserError, match="same for all tokens"):
        hidden_states.linear_cka(first, torch.ones(400, 3))
    with pytest.raises(ValueError, match="400 and 399 tokens"):
        hidden_states.linear_cka(first, first[1:])


def test_the_matrix_has_student_layers_as_rows_in_order() -> None:
    ours, theirs = (
        {2: states(30, 4), 0: states(30, 4, seed=1)},
        {layer: states(30, 6, seed=layer) for layer in (7, 3, 1)},
    )
    matrix = hidden_states.cka_matrix(ours, theirs)
    assert matrix.shape == (2, 3)
    one, other = (hidden_states.normalised(side) for side in (ours[2], theirs[3]))
    assert matrix[1, 1].item() == pytest.approx(hidden_states.linear_cka(one, other))


def test_mse_and_cosine_are_those_of_torch_for_each_token() -> None:
    first, second = states(17, 6), states(17, 6, seed=1)
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        assert hidden_states.mse(first, second, LENGTHS)[number] == functional.mse_loss(one, other)
        expected = 1 - one @ other / (one.norm() * other.norm())
        torch.testing.assert_close(hidden_states.cosine(first, second, LENGTHS)[number], expected)
    # Of states that are both normalised the two are one distance: why the module's output is not normalised again.
    both = [functional.layer_norm(side, (6,), eps=0.0) for side in (first, second)]
    torch.testing.assert_close(hidden_states.mse(*both, LENGTHS), 2 * hidden_states.cosine(*both, LENGTHS))


def test_gram_compares_the_tables_of_cosines_of_each_sequence() -> None:
    first, second = states(17, 6), states(17, 9, seed=1)
    expected = []
    for one, other in zip(first.split(LENGTHS.tolist()), second.split(LENGTHS.tolist()), strict=True):
        tables = [functional.cosine_similarity(side[:, None], side[None], dim=-1) for side in (one, other)]
        expected += [(tables[0] - tables[1]).square().mean()] * len(one)
    torch.testing.assert_close(hidden_states.gram(first, second, LENGTHS), torch.stack(expected))


def batch(seed: int = 0) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor], torch.Tensor]:
    stream = torch.Generator().manual_seed(seed)
    ours = {layer: torch.randn(8, 12, 6, generator=stream) for layer in MAP}
    theirs = {layer: torch.randn(8, 12, 10, generator=stream) * 50 for layer in MAP.values()}
    lengths = torch.randint(1, 8, (8, 1), generator=stream)
    places = torch.arange(12)
    return ours, theirs, (places >= 3) & (places < 3 + lengths)


@pytest.mark.parametrize("distance", DISTANCES)
def test_one_batch_of_8_is_two_of_4_whatever_the_padding(distance: str) -> None:
    ours, theirs, mask = batch()
    modules = Alignment("per_pair", list(MAP), 6, 10, 0)
    whole = hidden_states.middle_loss(ours, theirs, MAP, modules, distance, mask)
    (whole.total / whole.count).backward()
    expected = [value.grad.clone() for value in modules.parameters()]
    modules.zero_grad()
    total = 0.0
    for part in (slice(0, 4), slice(4, 8)):
        # The halves are padded otherwise, with huge numbers in prompt and padding.
        inside = functional.pad(mask[part], (2, 5))
        sides = [
            {
                layer: functional.pad(state[part], (0, 0, 2, 5)).masked_fill(~inside[..., None], 1e6)
                for layer, state in side.items()
            }
            for side in (ours, theirs)
        ]
        found = hidden_states.middle_loss(*sides, MAP, modules, distance, inside)
        assert found.count == DISTANCES[distance].counted(inside.sum(1))
        (found.total / whole.count).backward()
        total += found.total.item() / whole.count
    assert total == pytest.approx((whole.total / whole.count).item(), rel=1e-5)
    for value, gradient in zip(modules.parameters(), expected, strict=True):
        torch.testing.assert_close(value.grad, gradient, rtol=1e-4, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), distance=st.sampled_from(sorted(DISTANCES)))
def test_picked_tokens_are_the_same_as_a_mask(seed: int, distance: str) -> None:
    ours, theirs, mask = batch(seed)
    modules = Alignment("shared", list(MAP), 6, 10, 0)
    expected = hidden_states.middle_loss(ours, theirs, MAP, modules, distance, mask)
    picked = {layer: state[mask] for layer, state in theirs.items()}
    found = hidden_states.middle_loss(ours, picked, MAP, modules, distance, mask)
    assert torch.equal(found.total, expected.total)
    lengths = mask.sum(1)
    assert found.count == sum(length for length in lengths.tolist() if length >= DISTANCES[distance].least)


def test_the_loss_is_a_mean_over_layers_of_normalised_states() -> None:
    ours, theirs, mask = batch()
    modules = Alignment("per_pair", list(MAP), 6, 10, 0)
    alone = [hidden_states.middle_loss(ours, theirs, {a: b}, modules, "mse", mask).total for a, b in MAP.items()]
    found = hidden_states.middle_loss(ours, theirs, MAP, modules, "mse", mask).total
    torch.testing.assert_close(found, sum(alone) / 2)
    larger = {layer: 100 * state + 7 for layer, state in theirs.items()}
    torch.testing.assert_close(hidden_states.middle_loss(ours, larger, MAP, modules, "mse", mask).total, found)
    # Of the order of one per token, however wide: unrelated states with unit variance on either side give 2.
    assert 1 < found / int(mask.sum()) < 4


@pytest.mark.parametrize("distance", ["cka", "gram"])
def test_other_widths_need_no_module_where_tokens_are_compared_with_one_another(distance: str) -> None:
    ours, theirs, mask = batch()
    ours[1].requires_grad_()
    none = Alignment("none", list(MAP), 6, 10, 0)
    hidden_states.middle_loss(ours, theirs, MAP, none, distance, mask).total.backward()
    assert torch.isfinite(ours[1].grad).all()
    assert (ours[1].grad[~mask] == 0).all()
    same = {2: ours[1].detach(), 5: ours[2]}
    assert hidden_states.middle_loss(ours, same, MAP, none, distance, mask).total.item() == pytest.approx(0, abs=1e-4)


def test_sequences_too_short_to_tell_anything_neither_count_nor_break_the_gradient() -> None:
    ours, theirs, _ = batch()
    mask = torch.zeros(8, 12, dtype=torch.bool)
    mask[0, :2] = mask[1, :1] = mask[2, :4] = True
    ours[1].requires_grad_()
    none = Alignment("none", list(MAP), 6, 10, 0)
    found = hidden_states.middle_loss(ours, theirs, MAP, none, "cka", mask)
    assert found.count == 4
    found.total.backward()
    assert torch.isfinite(ours[1].grad).all()
    assert (ours[1].grad[0] == 0).all()


def test_mistakes_are_told() -> None:
    ours, theirs, mask = batch()
    none = Alignment("none", list(MAP), 6, 10, 0)
    with pytest.raises(UserError, match=r"equal widths, not 6 \(student\) and 10 \(teacher\).*cka or gram"):
        hidden_states.middle_loss(ours, theirs, MAP, none, "mse", mask)
    with pytest.raises(UserError, match="unknown distance 'l1': choose one of mse, cosine"):
        hidden_states.middle_loss(ours, theirs, MAP, none, "l1", mask)
    with pytest.raises(UserError, match=r"state 9 of the teacher; there are \[2, 5\]"):
        hidden_states.middle_loss(ours, theirs, {1: 9}, none, "cka", mask)
    with pytest.raises(UserError, match="no response token"):
        hidden_states.middle_loss(ours, theirs, MAP, none, "cka", torch.zeros_like(mask))
    with pytest.raises(ValueError, match=r"teacher, state 2: 3 tokens where the mask has"):
        hidden_states.middle_loss(ours, {2: states(3, 10)}, {1: 2}, none, "cka", mask)
