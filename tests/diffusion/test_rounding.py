"""Loss and mean word in chunks: torch's of the whole table of scores, their gradients, and their memory."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lib.diffusion import rounding

SIZES = 37, 101, 8  # places, words, embedding


def given(dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor, Tensor]:
    """Estimates, vectors and bias that ask for gradients, the targets, and the weights of the places."""
    generator = torch.Generator().manual_seed(1)
    places, words, embedding = SIZES
    shapes = ((places, embedding), (words, embedding), (words,))
    values = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
    weights = torch.rand(places, generator=generator, dtype=dtype)
    return values, torch.randint(words, (places,), generator=generator), weights


def plain(estimate: Tensor, vectors: Tensor, bias: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same by torch's own functions, from the whole table."""
    scores = functional.linear(estimate, vectors, bias)
    return functional.cross_entropy(scores, target, reduction="none"), (scores.softmax(-1) @ vectors).float()


def total(read: tuple[Tensor, Tensor], weights: Tensor, parts: str) -> Tensor:
    """A sum of the loss, of the mean, or of both, in which every place and dimension has a weight of its own."""
    loss, mean = read
    of_mean = (mean * torch.linspace(-1, 2, mean.numel()).view_as(mean)).sum()
    return {"loss": (loss * weights).sum(), "mean": of_mean, "both": (loss * weights).sum() + of_mean}[parts]


@pytest.mark.parametrize("parts", ["loss", "mean", "both"])
@pytest.mark.parametrize("kept", [0, 2**25])
@pytest.mark.parametrize("at_once", [1, 5 * 101, 10**6])
def test_losses_means_and_gradients_are_those_of_the_whole_table(
    at_once: int, kept: int, parts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "AT_ONCE", {"cpu": at_once})
    monkeypatch.setattr(rounding, "KEPT", kept)
    values, target, weights = given()
    with torch.no_grad():
        values[0][3] *= 60  # so sure of other words that p of the target is 0 in float32
        target[5] = values[1].norm(dim=1).argmax()
        values[0][5] = 60 * values[1][target[5]]  # so sure of the target that its p is 1
    found, expected = rounding.read(*values, target), plain(*values, target)
    for mine, torchs in zip(found, expected, strict=True):
        assert torch.allclose(mine, torchs, rtol=1e-5, atol=1e-5)
    assert torch.equal(found[0], rounding.negative_log_likelihood(*values, target))
    assert found[0][3] > 100
    assert found[0][5] < 1e-6
    gradients = (torch.autograd.grad(total(read, weights, parts), values) for read in (found, expected))
    for mine, torchs in zip(*gradients, strict=True):
        assert torch.allclose(mine, torchs, rtol=1e-5, atol=1e-4)


def test_gradients_in_float64_are_differences() -> None:
    values, target, _ = given(torch.float64)
    small = [value[:5].detach().requires_grad_() for value in values]
    assert torch.autograd.gradcheck(lambda *v: rounding.read(*v, target[:5] % 5), small, fast_mode=True)


@pytest.mark.parametrize("parts", ["loss", "mean", "both"])
def test_in_bfloat16_it_is_as_near_to_float32_as_torchs(parts: str) -> None:
    values, target, weights = given()
    with torch.no_grad():
        values[0][:9] = 3 * values[1][target[:9]]  # some sure of the target
    exact = torch.autograd.grad(total(plain(*values, target), weights, parts), values)
    with torch.autocast("cpu", torch.bfloat16):
        found, torchs = rounding.read(*values, target), plain(*values, target)
    assert [value.dtype for value in found] == [torch.float32] * 2
    assert torch.allclose(found[0], torchs[0], rtol=1e-5, atol=0.004)  # of the same scores in bfloat16
    for right, *both in zip(
        exact, *(torch.autograd.grad(total(read, weights, parts), values) for read in (found, torchs)), strict=True
    ):
        mine, other = ((value - right).norm() / right.norm() for value in both)
        assert mine < max(1.5 * other, 0.004)


def test_what_is_nearly_sure_still_learns_in_bfloat16() -> None:
    """Where p of the target is 1 - 2e-4, which bfloat16 cannot tell from 1, loss and gradient are those of float32."""
    scores = torch.zeros(1, 5)
    scores[0, 2] = math.log(4 * (1 / 2e-4 - 1))
    estimate, target = scores.clone().requires_grad_(), torch.tensor([2])
    with torch.autocast("cpu", torch.bfloat16):
        loss = rounding.negative_log_likelihood(estimate, torch.eye(5), torch.zeros(5), target)
    exact = functional.cross_entropy(scores.bfloat16().float(), target)
    (gradient,) = torch.autograd.grad(loss.sum(), estimate)
    assert loss.item() == pytest.approx(exact.item(), rel=0.01)
    assert gradient[0, 2].item() == pytest.approx(-2e-4, rel=0.05)
    assert gradient.sum().item() == pytest.approx(0, abs=2e-6)


def test_no_table_of_all_scores_is_kept_where_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    values, target, _ = given()
    places, words, _ = SIZES
    for kept, expected in ((0, 0), (places * words, places * words)):
        monkeypatch.setattr(rounding, "KEPT", kept)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: (s.append(x.numel()), x)[1], lambda x: x):
            rounding.negative_log_likelihood(*values, target)
        assert max(sizes) == max(expected, 16 * words)  # the vectors with the column of their bias, in whole sixteens
