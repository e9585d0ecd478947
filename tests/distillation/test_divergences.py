"""Divergences against torch, SciPy, TRL and the formulas written out in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from torch.nn import functional

from lib.distillation import divergences
from lib.distillation.divergences import DIVERGENCES
from lib.errors import UserError


def logits(seed: int, tokens: int = 6, vocabulary: int = 11, spread: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(seed)
    drawn = spread * torch.randn(2, tokens, vocabulary, generator=stream, dtype=torch.float64)
    return drawn[0], drawn[1]


def probabilities(*both: torch.Tensor) -> list[np.ndarray]:
    return [one.softmax(-1).numpy() for one in both]


def test_kl_divergences_are_those_of_torch_and_scipy() -> None:
    student, teacher = logits(0)
    logs = [one.log_softmax(-1) for one in (student, teacher)]
    q, p = probabilities(student, teacher)
    forward, reverse = divergences.forward_kl(student, teacher), divergences.reverse_kl(student, teacher)
    torch.testing.assert_close(forward, functional.kl_div(logs[0], logs[1], reduction="none", log_target=True).sum(-1))
    torch.testing.assert_close(reverse, functional.kl_div(logs[1], logs[0], reduction="none", log_target=True).sum(-1))
    np.testing.assert_allclose(forward.numpy(), rel_entr(p, q).sum(-1))
    np.testing.assert_allclose(reverse.numpy(), rel_entr(q, p).sum(-1))


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_jensen_shannon_is_that_of_trl_also_at_its_ends(beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gkd import GKDTrainer

    student, teacher = logits(1)
    ours = divergences.jensen_shannon(student, teacher, beta=beta)
    theirs = GKDTrainer.generalized_jsd_loss(student[None], teacher[None], beta=beta, reduction="none")
    torch.testing.assert_close(ours, theirs[0].sum(-1), rtol=1e-6, atol=1e-8)  # TRL's beta is rounded to the dtype
    labels = torch.tensor([[-100, 0, 1, 2, -100, 3]])
    mean = GKDTrainer.generalized_jsd_loss(student[None], teacher[None], labels, beta=beta)
    torch.testing.assert_close(divergences.token_mean(ours[labels[0] != -100], 4), mean, rtol=1e-6, atol=1e-8)


def test_jensen_shannon_over_beta_tends_to_the_forward_and_reverse_kl() -> None:
    student, teacher = logits(2)
    near = [divergences.jensen_shannon(student, teacher, beta) / 1e-7 for beta in (1e-7, 1 - 1e-7)]
    torch.testing.assert_close(near[0], divergences.jensen_shannon(student, teacher, 0), rtol=1e-4, atol=0)
    torch.testing.assert_close(near[1], divergences.jensen_shannon(student, teacher, 1), rtol=1e-4, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.6, 1.0])
def test_skewed_divergences_mix_the_other_side_in(alpha: float) -> None:
    student, teacher = logits(3)
    q, p = probabilities(student, teacher)
    forward = divergences.skewed_kl(student, teacher, alpha=alpha)
    reverse = divergences.skewed_reverse_kl(student, teacher, alpha=alpha)
    np.testing.assert_allclose(forward.numpy(), rel_entr(p, alpha * p + (1 - alpha) * q).sum(-1), atol=1e-12)
    np.testing.assert_allclose(reverse.numpy(), rel_entr(q, alpha * q + (1 - alpha) * p).sum(-1), atol=1e-12)


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
def test_adaptive_kl_weighs_both_by_the_gaps_in_head_and_tail(mu: float) -> None:
    student, teacher = logits(4)
    student.requires_grad_()
    q, p = probabilities(student.detach(), teacher)
    expected, shares = [], []
    for ours, theirs in zip(q, p, strict=True):
        mass, gaps = 0.0, [0.0, 0.0]
        for number, token in enumerate(np.argsort(-theirs)):
            mass += theirs[token]
            gaps[not (number == 0 or mass <= mu)] += abs(theirs[token] - ours[token])
        shares.append(gaps[0] / sum(gaps))
        expected.append(shares[-1] * rel_entr(theirs, ours).sum() + (1 - shares[-1]) * rel_entr(ours, theirs).sum())
    found = divergences.adaptive_kl(student, teacher, mu=mu)
    np.testing.assert_allclose(found.detach().numpy(), expected)
    # The gradient is that of the two divergences at fixed weights.
    (gradient,) = torch.autograd.grad(found.sum(), student)
    share = torch.tensor(np.array(shares))
    both = share * divergences.forward_kl(student, teacher) + (1 - share) * divergences.reverse_kl(student, teacher)
    torch.testing.assert_close(gradient, torch.autograd.grad(both.sum(), student)[0])


def test_alpha_beta_is_its_formula_and_goes_over_into_its_limits() -> None:
    student, teacher = logits(5)
    q, p = probabilities(student, teacher)
    for a, b in [(0.2, 0.7), (1.0, 1.0), (0.5, 0.5)]:
        expected = -(p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)).sum(-1) / (a * b)
        np.testing.assert_allclose(divergences.alpha_beta(student, teacher, a, b).numpy(), expected)
    squared = divergences.alpha_beta(student, teacher, 1.0, 1.0).numpy()
    np.testing.assert_allclose(squared, ((p - q) ** 2).sum(-1) / 2)
    near = 1e-6
    for a, b in [(1.0, 0.0), (0.0, 1.0), (0.4, 0.0), (0.0, 0.4)]:
        limit = divergences.alpha_beta(student, teacher, a, b)
        torch.testing.assert_close(
            limit, divergences.alpha_beta(student, teacher, a or near, b or near), rtol=1e-4, atol=1e-6
        )
    torch.testing.assert_close(divergences.alpha_beta(student, teacher, 1, 0), divergences.forward_kl(student, teacher))
    torch.testing.assert_close(divergences.alpha_beta(student, teacher, 0, 1), divergences.reverse_kl(student, teacher))


@pytest.mark.parametrize("name", DIVERGENCES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), spread=st.floats(0.1, 30))
def test_each_is_zero_for_equals_positive_else_and_blind_to_a_shift_of_logits(
    name: str, seed: int, spread: float
) -> None:
    student, teacher = logits(seed, spread=spread)
    divergence = DIVERGENCES[name]
    value = divergence(student, teacher)
    assert value.shape == (6,)
    assert (value >= 0).all()
    if spread < 5:  # beyond, both may put all mass on one class
        assert (value > 0).all()
    torch.testing.assert_close(divergence(teacher + 3, teacher), torch.zeros(6, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(divergence(student - 7, teacher.log_softmax(-1)), value)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(divergence(student[:, order], teacher[:, order]), value)


def test_what_rounding_leaves_below_zero_is_zero_and_keeps_its_gradient() -> None:
    student, teacher = logits(7060, spread=29)
    student.requires_grad_()
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    mixed = torch.logaddexp(log_q + np.log(0.1), log_p + np.log(0.9))
    plain = (log_q.exp() * (log_q - mixed)).sum(-1)
    assert (plain < 0).any()
    value = divergences.skewed_reverse_kl(student, teacher)
    assert (value >= 0).all()
    torch.testing.assert_close(value, plain.clamp_min(0))
    expected, found = (torch.autograd.grad(one.sum(), student, retain_graph=True)[0] for one in (plain, value))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradients_stay_finite_where_float32_runs_out(name: str) -> None:
    student = torch.tensor([[90.0, -90.0, 0.0], [0.0, 0.0, 0.0], [-300.0, 300.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-90.0, 90.0, 0.0], [0.0, 0.0, 0.0], [-300.0, 300.0, 0.0]])
    value = DIVERGENCES[name](student, teacher)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(student.grad).all()
    assert (value[1:].abs() < 1e-6).all()


@pytest.mark.parametrize("name", ["forward_kl", "jensen_shannon", "skewed_kl"])
def test_a_class_that_the_teacher_gives_nothing_is_as_if_it_had_next_to_nothing(name: str) -> None:
    student, teacher = logits(6)
    student.requires_grad_()
    teacher[:, 0] = float("-inf")
    little = teacher.clone()
    little[:, 0] = -200
    found, expected = (DIVERGENCES[name](student, one) for one in (teacher, little))
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(one.sum(), student)[0] for one in (found, expected)]
    torch.testing.assert_close(*gradients)
    assert torch.isinf(divergences.reverse_kl(student, teacher)).all()


def test_parts_of_a_step_add_up_to_the_mean_over_all_its_tokens() -> None:
    student, teacher = logits(7, tokens=9)
    values = divergences.forward_kl(student, teacher)
    parts = [divergences.token_mean(values[part], 9) for part in (slice(0, 2), slice(2, 9))]
    torch.testing.assert_close(sum(parts), values.mean())
    with pytest.raises(ValueError, match="0 tokens"):
        divergences.token_mean(values, 0)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_other_vocabularies_and_other_places_are_told(name: str) -> None:
    student, teacher = logits(8)
    with pytest.raises(UserError, match=r"10 classes and the teacher 11.*other_tokenizers"):
        DIVERGENCES[name](student[:, :10], teacher)
    with pytest.raises(UserError, match="same response tokens"):
        DIVERGENCES[name](student[:1], teacher)


def test_settings_out_of_range_are_refused() -> None:
    student, teacher = logits(9)
    for call in (
        lambda: divergences.jensen_shannon(student, teacher, 1.5),
        lambda: divergences.skewed_kl(student, teacher, -0.1),
        lambda: divergences.skewed_reverse_kl(student, teacher, 2),
        lambda: divergences.adaptive_kl(student, teacher, float("nan")),
        lambda: divergences.alpha_beta(student, teacher, 0, 0),
        lambda: divergences.alpha_beta(student, teacher, -1, 2),
        lambda: divergences.alpha_beta(student, teacher, float("nan"), 1),
        lambda: divergences.alpha_beta(student, teacher, 1, float("inf")),
        lambda: divergences.jensen_shannon(student, teacher, float("nan")),
    ):
        with pytest.raises(ValueError, match=r"must lie in|neither may be"):
            call()
