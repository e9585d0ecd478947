"""Divergences where classes are at minus infinity, logits are in half precision, or not numbers: against SciPy."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from torch import Tensor

from lib.distillation import divergences
from lib.distillation.divergences import DIVERGENCES
from lib.distillation.teacher_cache import over_classes

INFINITE = float("inf")
HALVES = [torch.bfloat16, torch.float16]


def adaptive(p: np.ndarray, q: np.ndarray) -> float:
    mass, gaps = 0.0, [0.0, 0.0]
    for number, token in enumerate(np.argsort(-p, kind="stable")):
        mass += p[token]
        gaps[not (number == 0 or mass <= 0.5)] += abs(p[token] - q[token])
    share = gaps[0] / sum(gaps) if sum(gaps) else 0.5
    sides = ((share, rel_entr(p, q).sum()), (1 - share, rel_entr(q, p).sum()))
    return sum(weight * value for weight, value in sides if weight)


def alpha_beta(p: np.ndarray, q: np.ndarray, a: float = 0.2, b: float = 0.7) -> float:
    return -(p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)).sum() / (a * b)


# Each of its definition, over one token's probabilities in float64.
EXPECTED: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "forward_kl": lambda p, q: rel_entr(p, q).sum(),
    "reverse_kl": lambda p, q: rel_entr(q, p).sum(),
    "jensen_shannon": lambda p, q: (rel_entr(p, (p + q) / 2).sum() + rel_entr(q, (p + q) / 2).sum()) / 2,
    "skewed_kl": lambda p, q: rel_entr(p, 0.1 * p + 0.9 * q).sum(),
    "skewed_reverse_kl": lambda p, q: rel_entr(q, 0.1 * q + 0.9 * p).sum(),
    "adaptive_kl": adaptive,
    "alpha_beta": alpha_beta,
}


def shares(logits: Tensor) -> np.ndarray:
    """The softmax in float64, of numpy: exp of minus infinity is 0."""
    values = logits.detach().double().numpy()
    weights = np.exp(values - values.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def expected(name: str, student: Tensor, teacher: Tensor) -> np.ndarray:
    return np.array([EXPECTED[name](p, q) for p, q in zip(shares(teacher), shares(student), strict=True)])


def drawn(seed: int, masks: str, dtype: torch.dtype = torch.float64, classes: int = 9) -> tuple[Tensor, Tensor]:
    """Logits of five tokens, student and teacher, with classes at minus infinity on one side, both or neither."""
    stream = torch.Generator().manual_seed(seed)
    sides = 3 * torch.randn(2, 5, classes, generator=stream, dtype=torch.float64)
    absent = torch.rand(2, 5, classes, generator=stream) < 0.4
    absent[..., 0] = False  # a class at least is left
    if masks == "same":
        absent[1] = absent[0]
    absent[0] &= masks in ("student", "same", "any")
    absent[1] &= masks in ("teacher", "same", "any")
    student, teacher = sides.masked_fill(absent, -INFINITE).to(dtype)
    return student.requires_grad_(), teacher


@pytest.mark.parametrize("name", DIVERGENCES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), masks=st.sampled_from(["student", "teacher", "same", "any"]))
def test_a_masked_class_gives_the_right_value_and_no_gradient(name: str, seed: int, masks: str) -> None:
    student, teacher = drawn(seed, masks)
    value = DIVERGENCES[name](student, teacher)
    wanted = expected(name, student, teacher)
    np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=1e-9, atol=1e-12)
    # Of tokens whose value is finite, beside others whose is not.
    finite = torch.from_numpy(np.isfinite(wanted))
    (gradient,) = torch.autograd.grad(value[finite].sum(), student)
    assert torch.isfinite(gradient).all()
    assert (gradient[student == -INFINITE] == 0).all()
    # It is the gradient by the classes that are left: logits move a class that has some mass, and no other.
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(5, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_classes_that_both_lack_are_as_if_they_were_not_there(name: str) -> None:
    for seed in range(10):
        student, teacher = drawn(seed, "same")
        value = DIVERGENCES[name](student, teacher)
        (gradient,) = torch.autograd.grad(value.sum(), student)
        for place, row in enumerate(student.detach()):
            there = row > -INFINITE
            left = row[there][None].clone().requires_grad_()
            alone = DIVERGENCES[name](left, teacher[place][there][None])
            torch.testing.assert_close(value[place], alone[0])
            torch.testing.assert_close(gradient[place][there], torch.autograd.grad(alone.sum(), left)[0][0])


@pytest.mark.parametrize("name", sorted(set(DIVERGENCES) - {"adaptive_kl"}))  # no gradient goes through its weights
@pytest.mark.parametrize("masks", ["student", "teacher", "same"])
def test_gradients_by_the_classes_that_are_left_are_those_of_differences(name: str, masks: str) -> None:
    student, teacher = drawn(3, masks)
    if not np.isfinite(expected(name, student, teacher)).all():
        assert (name, masks) in {("forward_kl", "student"), ("reverse_kl", "teacher")}
        return
    there = student.detach() > -INFINITE
    blank = torch.full_like(teacher, -INFINITE)

    def of_left(values: Tensor) -> Tensor:
        return DIVERGENCES[name](blank.masked_scatter(there, values), teacher)

    assert torch.autograd.gradcheck(of_left, (student.detach()[there].requires_grad_(),))


def test_the_readmes_loss_on_a_class_that_both_mask() -> None:
    student = torch.tensor([[0.0, 1.0, -INFINITE]], requires_grad=True)
    value = divergences.skewed_kl(student, torch.tensor([[1.0, 0.0, -INFINITE]]))
    value.sum().backward()
    p, q = (math.e / (1 + math.e), 1 / (1 + math.e)), (1 / (1 + math.e), math.e / (1 + math.e))
    assert value.item() == pytest.approx(sum(a * math.log(a / (0.1 * a + 0.9 * b)) for a, b in zip(p, q, strict=True)))
    assert value.item() == pytest.approx(0.3638, abs=5e-5)
    assert student.grad[0, :2].abs().min() > 0.3
    assert student.grad[0, 2] == 0


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_a_weight_of_zero_takes_nothing_of_an_infinite_divergence(mu: float) -> None:
    student = torch.tensor([[1.0, 0.0, 0.5]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0, -INFINITE]], dtype=torch.float64)
    value = divergences.adaptive_kl(student, teacher, mu=mu)  # mu 1: everything is of the head
    assert value.item() == (pytest.approx(rel_entr(*map(shares, (teacher, student))).sum()) if mu else INFINITE)
    if mu:
        assert torch.isfinite(torch.autograd.grad(value.sum(), student)[0]).all()


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_no_number_gives_no_number_and_never_zero(name: str, side: int) -> None:
    for place in range(4):
        sides = [value.detach().clone() for value in drawn(place, "same", torch.float32)]
        sides[side][2, place] = float("nan")
        value = DIVERGENCES[name](*sides)
        assert value.isnan().tolist() == [False, False, True, False, False]
    sides[side][1] = -INFINITE  # a token without any class
    assert DIVERGENCES[name](*sides).isnan()[1]


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), masks=st.sampled_from(["teacher", "same", "none"]))
def test_half_precision_is_read_as_single(name: str, dtype: torch.dtype, seed: int, masks: str) -> None:
    student, teacher = drawn(seed, masks, dtype, classes=300)
    value = DIVERGENCES[name](student, teacher)
    assert value.dtype == torch.float32
    np.testing.assert_allclose(value.detach().numpy(), expected(name, student, teacher), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_large_vocabulary_in_half_precision_adds_up(dtype: torch.dtype) -> None:
    stream = torch.Generator().manual_seed(0)
    teacher = 2 * torch.randn(4, 49_152, generator=stream)
    student = teacher + 0.05 * torch.randn(4, 49_152, generator=stream)
    exact = expected("jensen_shannon", student, teacher)
    assert exact == pytest.approx([3.1e-4] * 4, rel=0.1)
    found = divergences.jensen_shannon(student.to(dtype), teacher.to(dtype)).numpy()
    np.testing.assert_allclose(found, exact, rtol=0.1)  # what rounding the logits themselves does


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(DIVERGENCES)), count=st.integers(1, 5))
def test_a_tail_without_mass_is_a_class_that_both_lack(seed: int, name: str, count: int) -> None:
    student, teacher = drawn(seed, "same")
    chosen = teacher.topk(count, dim=-1).indices
    value = DIVERGENCES[name](over_classes(student, chosen), over_classes(teacher, chosen))

    def reduced(logits: Tensor) -> Tensor:
        found = torch.from_numpy(shares(logits))
        kept = found.gather(-1, chosen)
        left = found.scatter(-1, chosen, 0).sum(-1, keepdim=True)
        return torch.cat([kept, left], dim=-1).log()

    wanted = expected(name, reduced(student), reduced(teacher))
    np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(value[torch.from_numpy(np.isfinite(wanted))].sum(), student)
    assert torch.isfinite(gradient).all()
    assert (gradient[student == -INFINITE] == 0).all()
    assert over_classes(student.half(), chosen).dtype == torch.float32
