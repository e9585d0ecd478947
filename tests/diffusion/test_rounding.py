"""The rounding loss in chunks: torch's cross entropy of the whole table of scores, its gradients, and its memory."""

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


@pytest.mark.parametrize("kept", [0, 2**25])
@pytest.mark.parametrize("at_once", [1, 5 * 101, 10**6])
def test_loss_and_gradients_are_those_of_the_whole_table(
    at_once: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "AT_ONCE", {"cpu": at_once})
    monkeypatch.setattr(rounding, "KEPT", kept)
    (estimate, vectors, bias), target, weights = given()
    with torch.no_grad():
        estimate[3] *= 60  # so sure of other words that p of the target is 0 in float32
    expected = functional.cross_entropy(functional.linear(estimate, vectors, bias), target, reduction="none")
    found = rounding.negative_log_likelihood(estimate, vectors, bias, target)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found[3] > 100
    values = (estimate, vectors, bias)
    for mine, torchs in zip(
        *(torch.autograd.grad((x * weights).sum(), values) for x in (found, expected)), strict=True
    ):
        assert torch.allclose(mine, torchs, rtol=1e-5, atol=1e-5)


def test_gradients_in_float64_are_differences() -> None:
    values, target, _ = given(torch.float64)
    assert torch.autograd.gradcheck(lambda *v: rounding.negative_log_likelihood(*v, target), values)


def test_in_bfloat16_it_is_as_near_to_float32_as_torchs() -> None:
    values, target, weights = given()
    exact = torch.autograd.grad((rounding.negative_log_likelihood(*values, target) * weights).sum(), values)
    with torch.autocast("cpu", torch.bfloat16):
        found = rounding.negative_log_likelihood(*values, target)
        torchs = functional.cross_entropy(functional.linear(*values), target, reduction="none")
    assert found.dtype == torch.float32
    assert torch.allclose(found, torchs, rtol=1e-5)  # of the same scores in bfloat16
    for right, *both in zip(
        exact, *(torch.autograd.grad((x * weights).sum(), values) for x in (found, torchs)), strict=True
    ):
        mine, other = ((value - right).norm() / right.norm() for value in both)
        assert mine < max(1.2 * other, 0.004)


def test_no_table_of_all_scores_is_kept_where_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    values, target, _ = given()
    places, words, _ = SIZES
    for kept, expected in ((0, 0), (places * words, places * words)):
        monkeypatch.setattr(rounding, "KEPT", kept)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: (s.append(x.numel()), x)[1], lambda x: x):
            rounding.negative_log_likelihood(*values, target)
        assert max(sizes) == max(expected, vectors := values[1].numel()), vectors
