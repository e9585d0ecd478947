"""Distances of hidden states against their definitions; the middle loss against padding and the split of a batch."""

import itertools
import math

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


def hsic(one: torch.Tensor, other: torch.Tensor) -> float:
    """The unbiased HSIC: a mean over all ordered quadruples of tokens (Song et al. 2012, theorem 3)."""
    tokens, total, a, b = len(one), 0.0, one.tolist(), other.tolist()
    for i, j, q, r in itertools.permutations(range(tokens), 4):
        total += a[i][j] * (b[i][j] + b[q][r] - 2 * b[i][q])
    return total / (tokens * (tokens - 1) * (tokens - 2) * (tokens - 3))


def by_quadruples(first: torch.Tensor, second: torch.Tensor) -> float:
    one, other = first @ first.T, second @ second.T
    return hsic(one, other) / math.sqrt(hsic(one, one) * hsic(other, other))


def plain(first: torch.Tensor, second: torch.Tensor) -> float:
    """Linear CKA (Kornblith et al. 2019, equation 3): what is to be debiased."""
    one, other = (states - states.mean(0) for states in (first, second))
    return ((other.T @ one).square().sum() / ((one.T @ one).norm() * (other.T @ other).norm())).item()


@pytest.mark.parametrize("tokens", [4, 5, 6, 7])
def test_debiased_cka_is_that_of_all_quadruples_of_tokens(tokens: int) -> None:
    first, second = states(tokens, 5) + 4, states(tokens, 7, seed=1) - 2  # far from centred
    second[:, :5] += first
    expected = by_quadruples(first, second)
    assert hidden_states.debiased_cka(first, second).item() == pytest.approx(expected, rel=1e-9)
    assert hidden_states.debiased_cka(first.float(), second.float()).item() == pytest.approx(expected, abs=1e-5)
    halves = [side.bfloat16() for side in (first, second)]
    found = hidden_states.debiased_cka(*halves)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(by_quadruples(*(side.double() for side in halves)), abs=1e-5)
    assert torch.autograd.gradcheck(hidden_states.debiased_cka, (first.requires_grad_(), second))


def test_states_that_one_token_stands_far_out_of_are_compared_by_what_is_left() -> None:
    first, second = states(7, 5), states(7, 5, seed=1)
    second += first
    expected = by_quadruples(first, second)
    for side in (first, second):
        side *= 3e-3
    far = torch.zeros(7, 1, dtype=torch.float64)
    far[2] = 1  # in a dimension of its own: adds to the products of its row alone, which centring takes away
    ours, theirs = (torch.cat([side, far], 1) for side in (first, second))
    assert hidden_states.debiased_cka(ours, theirs).item() == pytest.approx(expected, rel=1e-6)
    assert hidden_states.debiased_cka(ours, ours).item() == pytest.approx(1, rel=1e-6)


def of_unrelated(tokens: int, draws: int = 400) -> torch.Tensor:
    pairs = zip(states(draws, tokens, 192, seed=tokens), states(draws, tokens, 576, seed=tokens + 1), strict=True)
    return torch.stack([hidden_states.debiased_cka(one, other) for one, other in pairs])


@pytest.mark.parametrize("tokens", [6, 8, 12, 24])
def test_unrelated_states_have_a_debiased_cka_of_zero_however_few(tokens: int) -> None:
    found = of_unrelated(tokens)
    assert abs(found.mean().item()) < 3 * found.std().item() / math.sqrt(len(found))
    assert found.std().item() == pytest.approx((tokens * (tokens - 3) / 2) ** -0.5, rel=0.15)
    assert plain(states(tokens, 192), states(tokens, 576, seed=1)) > 0.8  # what it was: no distance at all


def test_cka_is_taken_of_the_fewest_tokens_on_which_chance_is_below_a_quarter() -> None:
    assert of_unrelated(hidden_states.CKA_TOKENS).std() < 0.25
    assert of_unrelated(hidden_states.CKA_TOKENS - 1).std() > 0.25


def test_debiased_cka_goes_over_into_the_plain_one_and_does_not_see_rotation_and_size() -> None:
    first = states(400, 6)
    turned, mixed = torch.linalg.qr(states(6, 6, seed=3)).Q, first @ states(6, 6, seed=5)
    assert hidden_states.debiased_cka(first, 3 * first @ turned + 1).item() == pytest.approx(1)
    assert abs(hidden_states.debiased_cka(first, states(400, 6, seed=4)).item()) < 0.02
    assert hidden_states.debiased_cka(first, mixed).item() == pytest.approx(plain(first, mixed), abs=0.01)
    assert hidden_states.debiased_cka(first, torch.full((400, 3), 0.1)) == 0
    for size in (1e-15, 1e-6, 1e-4, 1e4, 1e15):
        assert hidden_states.debiased_cka(size * first, first).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="400 and 399 tokens"):
        hidden_states.debiased_cka(first, first[1:])
    with pytest.raises(ValueError, match="3 tokens: debiased CKA needs 4"):
        hidden_states.debiased_cka(first[:3], first[:3])
    first[0, 0] = float("nan")
    assert hidden_states.debiased_cka(first, mixed).isnan()


def test_the_distance_compares_all_tokens_of_a_batch() -> None:
    first, second = states(17, 6) + 3, states(17, 9, seed=2)
    found = hidden_states.cka(first, second, LENGTHS)
    torch.testing.assert_close(found, 1 - hidden_states.debiased_cka(first, second).expand(17))
    few = hidden_states.cka(first[:7], second[:7], torch.tensor([4, 3]))
    assert torch.equal(few, torch.zeros(7, dtype=torch.float64))
    counted = hidden_states.DISTANCES["cka"].counted
    assert [counted(torch.tensor(lengths)) for lengths in ([4, 3], [4, 3, 1], [1] * 20, [])] == [0, 8, 20, 0]


def test_the_matrix_has_student_layers_as_rows_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = (
        {2: states(30, 4), 0: states(30, 4, seed=1)},
        {layer: states(30, 6, seed=layer) for layer in (7, 3, 1)},
    )
    matrix = hidden_states.cka_matrix(ours, theirs)
    assert matrix.shape == (2, 3)
    one, other = (hidden_states.normalised(side) for side in (ours[2], theirs[3]))
    assert matrix[1, 1].item() == pytest.approx(hidden_states.debiased_cka(one, other).item(), abs=1e-5)
    # In parts each HSIC is a mean over them: of 15 tokens in parts of 8 and 7 here.
    monkeypatch.setattr(hidden_states, "CKA_AT_ONCE", 8)
    kernels = [side[:15].double() @ side[:15].double().T for side in (one, other)]
    pieces = [[kernel[part, part] for kernel in kernels] for part in (slice(0, 8), slice(8, 15))]
    means = [sum(hsic(piece[i], piece[j]) for piece in pieces) for i, j in ((0, 1), (0, 0), (1, 1))]
    found = hidden_states.cka_matrix({2: ours[2][:15]}, {3: theirs[3][:15]}).item()
    assert found == pytest.approx(means[0] / math.sqrt(means[1] * means[2]), abs=1e-6)
    with pytest.raises(UserError, match="same for all tokens"):
        hidden_states.cka_matrix(ours, {1: torch.ones(30, 3)})
    with pytest.raises(ValueError, match="29 and 30 tokens"):
        hidden_states.cka_matrix(ours, {1: states(29, 3)})


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


@pytest.mark.parametrize("distance", [name for name, row in DISTANCES.items() if not row.pooled])
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
    lengths, row = mask.sum(1), DISTANCES[distance]
    counted = [int(lengths.sum())] if row.pooled else lengths.tolist()
    assert found.count == sum(length for length in counted if length >= row.least)
    assert found.mean.item() == pytest.approx(found.total.item() / found.count)


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


@pytest.mark.parametrize("distance", ["cka", "gram"])
def test_tokens_too_few_to_tell_anything_neither_count_nor_break_the_gradient(distance: str) -> None:
    ours, theirs, _ = batch()
    mask = torch.zeros(8, 12, dtype=torch.bool)
    mask[0, :1] = mask[1, :1] = mask[3, 5:6] = True
    ours[1].requires_grad_()
    none = Alignment("none", list(MAP), 6, 10, 0)
    found = hidden_states.middle_loss(ours, theirs, MAP, none, distance, mask)
    assert (found.total.item(), found.count, found.mean.item()) == (
        pytest.approx(0, abs=1e-6),
        0,
        pytest.approx(0, abs=1e-6),
    )
    found.mean.backward()
    assert (ours[1].grad.abs() < 1e-6).all()
    if distance == "gram":
        mask[2, :4] = True
        assert hidden_states.middle_loss(ours, theirs, MAP, none, distance, mask).count == 4
    else:
        mask[2, :5] = True
        assert hidden_states.middle_loss(ours, theirs, MAP, none, distance, mask).count == 8
    ours[1].data[0, 0] = float("nan")
    assert hidden_states.middle_loss(ours, theirs, MAP, none, distance, mask).mean.isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("distance", DISTANCES)
def test_states_and_modules_in_half_precision_are_compared_in_single(distance: str, dtype: torch.dtype) -> None:
    ours, theirs, mask = batch()
    modules = Alignment("per_pair", list(MAP), 6, 10, 0)
    halves = [{layer: state.to(dtype) for layer, state in side.items()} for side in (ours, theirs)]
    exact = hidden_states.middle_loss(ours, theirs, MAP, modules, distance, mask).mean
    found = hidden_states.middle_loss(*halves, MAP, modules.to(dtype), distance, mask).mean
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0)
    flat = [next(iter(side.values()))[mask] for side in (halves[0], halves[0])]
    assert DISTANCES[distance].compute(*flat, mask.sum(1)).dtype == torch.float32


def test_mistakes_are_told() -> None:
    ours, theirs, mask = batch()
    none = Alignment("none", list(MAP), 6, 10, 0)
    with pytest.raises(UserError, match=r"equal widths, not 6 \(student\) and 10 \(teacher\).*cka or gram"):
        hidden_states.middle_loss(ours, theirs, MAP, none, "mse", mask)
    with pytest.raises(UserError, match="unknown distance 'l1': choose one of mse, cosine"):
        hidden_states.middle_loss(ours, theirs, MAP, none, "l1", mask)
    with pytest.raises(UserError, match=r"state 9 of the teacher; there are \[2, 5\]"):
        hidden_states.middle_loss(ours, theirs, {1: 9}, none, "cka", mask)
    with pytest.raises(ValueError, match="mapping: no pair of layers"):
        hidden_states.middle_loss(ours, theirs, {}, none, "cka", mask)
    with pytest.raises(UserError, match="no response token"):
        hidden_states.middle_loss(ours, theirs, MAP, none, "cka", torch.zeros_like(mask))
    with pytest.raises(ValueError, match=r"teacher, state 2: 3 tokens where the mask has"):
        hidden_states.middle_loss(ours, {2: states(3, 10)}, {1: 2}, none, "cka", mask)
