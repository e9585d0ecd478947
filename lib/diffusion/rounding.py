"""The rounding loss, -log p(w | x0) over all words, without ever holding the scores of all words for all places."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Scores at once: on a CPU what stays in its cache, elsewhere half a GiB of float32.
AT_ONCE = {"cpu": 2**20}
AT_ONCE_ELSEWHERE = 2**27
# The largest table of scores that is kept from the forward to the backward pass; a larger one is computed again.
KEPT = 2**25


def negative_log_likelihood(estimate: Tensor, vectors: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    """Return -log softmax(estimate vectors^T + bias)[target] in nats, (places,), in float32.

    estimate (places, embedding), vectors (words, embedding), bias (words,), target (places,) word ids. The products are
    in the precision of autocast, or the estimate's. Differentiable once in all but the target.
    """
    device = estimate.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else estimate.dtype
    with torch.autocast(device, enabled=False):
        return _Likelihood.apply(estimate, vectors, bias, target, dtype)


def _chunks(places: int, words: int, device: torch.device) -> list[slice]:
    rows = max(1, AT_ONCE.get(device.type, AT_ONCE_ELSEWHERE) // words)
    return [slice(start, start + rows) for start in range(0, places, rows)]


class _Likelihood(torch.autograd.Function):
    """The gradient of the scores is p - 1 at the target and p elsewhere, times the gradient of the place.

    The place's gradient multiplies the small matrices on either side instead of the table of scores.
    """

    @staticmethod
    def forward(
        ctx: Any, estimate: Tensor, vectors: Tensor, bias: Tensor, target: Tensor, dtype: torch.dtype
    ) -> Tensor:
        rows, words = _chunks(len(estimate), len(vectors), estimate.device), len(vectors)
        ctx.types = estimate.dtype, vectors.dtype, bias.dtype
        estimate, vectors, bias = (value.to(dtype) for value in (estimate, vectors, bias))
        keep = any(ctx.needs_input_grad) and len(estimate) * words <= KEPT
        table = estimate.new_empty(len(estimate), words) if keep else None
        found = estimate.new_empty(len(estimate), dtype=_wide(dtype))
        for some in rows:
            slope, found[some] = _slope(estimate[some], vectors, bias, target[some])
            if table is not None:
                table[some] = slope
        ctx.save_for_backward(estimate, vectors, bias, target, table)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        estimate, vectors, bias, target, table = ctx.saved_tensors
        of_estimate, of_vectors, of_bias = (
            torch.zeros_like(v, dtype=t) for v, t in zip((estimate, vectors, bias), ctx.types, strict=True)
        )
        rows = [slice(None)] if table is not None else _chunks(len(estimate), len(vectors), estimate.device)
        for some in rows:
            if table is None:
                slope = _slope(estimate[some], vectors, bias, target[some])[0].to(estimate.dtype)
            else:
                slope = table
            weight = gradient[some, None]
            of_estimate[some] = (slope @ vectors) * weight
            of_vectors += slope.T @ (estimate[some] * weight).to(slope.dtype)
            of_bias += (slope.T @ weight.to(slope.dtype))[:, 0]
        return of_estimate, of_vectors, of_bias, None, None


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _slope(estimate: Tensor, vectors: Tensor, bias: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of -log p by the scores (places, words), and -log p (places,), in float32 at least."""
    scores = functional.linear(estimate, vectors, bias)
    wide = _wide(scores.dtype)
    highest = scores.amax(-1, keepdim=True).to(wide)
    scores, wanted = scores.to(wide), target[:, None]
    of_target = scores.gather(1, wanted) - highest
    p = scores.sub_(highest).exp_()
    total = p.sum(-1, keepdim=True)
    p.div_(total).scatter_add_(1, wanted, torch.full_like(total, -1.0))
    return p, (total.log() - of_target)[:, 0]
