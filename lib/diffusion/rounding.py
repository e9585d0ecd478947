"""What an estimate of x0 says about its word, by a softmax over all words: -log p, and the mean word vector.

Both are read from one table of scores, which is never held for all places and all words at once.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Scores at once: on a CPU what stays in its cache, elsewhere half a GiB of float32.
AT_ONCE = {"cpu": 2**20}
AT_ONCE_ELSEWHERE = 2**27
# The largest table of p that is kept from the forward to the backward pass; a larger one is computed again.
KEPT = 2**25
# Below it p of the target may be 0 in any precision: -log p is then taken from the scores.
LEAST = 1e-30


def negative_log_likelihood(estimate: Tensor, vectors: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    """Return -log p(target) in nats, (places,), as `read` does."""
    return read(estimate, vectors, bias, target)[0]


def read(estimate: Tensor, vectors: Tensor, bias: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p(target) in nats (places,) and the mean word vector p vectors (places, embedding), in float32.

    p = softmax(estimate vectors^T + bias), for estimate (places, embedding), vectors (words, embedding), bias (words,)
    and target (places,), word ids. Products and p are in the precision of autocast, or the estimate's: in bfloat16
    -log p is that of the scores within 0.004. Differentiable once in all but the target.
    """
    device = estimate.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else estimate.dtype
    with torch.autocast(device, enabled=False):
        return _Reading.apply(estimate, vectors, bias, target, dtype)


def chunks(places: int, words: int, device: torch.device) -> list[slice]:
    """Return slices of so many places each that their scores are no more than what is held at once."""
    rows = max(1, AT_ONCE.get(device.type, AT_ONCE_ELSEWHERE) // words)
    return [slice(start, start + rows) for start in range(0, places, rows)]


class _Reading(torch.autograd.Function):
    """The table of scores is read once, and once more by the gradient of the mean.

    p of the target is held apart from q, the p of all other words, which is 0 at the target; rest = sum q = 1 - p. The
    gradient of -log p by the scores is q elsewhere and -rest at the target: right also where p rounds to 1. With the
    gradient G of the mean m, a word v has p (G v - G m) besides.
    """

    @staticmethod
    def forward(
        ctx: Any, estimate: Tensor, vectors: Tensor, bias: Tensor, target: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.types = estimate.dtype, vectors.dtype, bias.dtype
        (places, size), words, wide = estimate.shape, len(vectors), torch.promote_types(dtype, torch.float32)
        of_target = functional.embedding(target, vectors).to(wide)
        estimate, vectors, bias = (value.to(dtype) for value in (estimate, vectors, bias))
        columns = _beside(vectors, vectors.new_ones(words), vectors.new_ones(words))
        keep = any(ctx.needs_input_grad) and places * words <= KEPT
        table = vectors.new_empty(places, words) if keep else None
        p, loss = (vectors.new_empty(places, dtype=wide) for _ in range(2))
        sums = vectors.new_empty(places, columns.shape[1], dtype=wide)
        for some in chunks(places, words, estimate.device):
            q, p[some], loss[some] = _apart(
                estimate[some],
                vectors,
                bias,
                target[some],
                table[some] if keep else None,  # type: ignore[index]  # there is one if it is kept
            )
            sums[some] = q @ columns
        others, rest = sums[:, :size], sums[:, size]
        sure = rest < 0.5
        p, loss = torch.where(sure, 1 - rest, p), torch.where(sure, -torch.log1p(-rest), loss)
        ctx.save_for_backward(estimate, vectors, bias, target, columns, of_target, others, p, rest, table)
        return loss, torch.addcmul(others, p[:, None], of_target)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, of_loss: Tensor | None, of_mean: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        estimate, vectors, bias, target, columns, of_target, others, p, rest, table = ctx.saved_tensors
        if of_loss is None and of_mean is None:
            return None, None, None, None, None
        size, dtype = estimate.shape[1], estimate.dtype
        loss = torch.zeros_like(rest) if of_loss is None else of_loss.to(rest)
        at_target = -loss * rest  # the gradient by the scores of the targets
        direct = None  # the gradient by the mean, where there is one
        if of_mean is None:  # the gradient of the place multiplies the small matrices in the place of q
            inner = _beside((estimate * loss[:, None]).to(dtype), loss.to(dtype))
            of_estimate = others * loss[:, None]
        else:
            middle = (of_mean * torch.addcmul(others, p[:, None], of_target)).sum(-1)
            at_target = at_target + p * ((of_mean * of_target).sum(-1) - middle)
            inner = _beside(estimate, estimate.new_ones(len(estimate)))
            high = (loss - middle).to(dtype)  # in two parts, or its rounding would be that of the whole place
            direct = _beside(of_mean.to(dtype), high, (loss - middle - high).to(dtype))
            of_estimate = torch.empty_like(others)
        of_words = torch.zeros(columns.shape, dtype=rest.dtype, device=rest.device)
        if table is not None and direct is None:
            of_words += table.T @ inner
        else:
            slopes = None if table is None else torch.empty_like(table)
            for some in chunks(len(estimate), len(vectors), estimate.device):
                slope = q = _apart(estimate[some], vectors, bias, target[some])[0] if table is None else table[some]
                if direct is not None:
                    slope = torch.mm(direct[some], columns.T, out=None if slopes is None else slopes[some]).mul_(q)
                    of_estimate[some] = slope @ vectors
                if slopes is None:
                    of_words += slope.T @ inner[some]
                    if direct is not None:
                        of_words[:, :size] += q.T @ direct[some, :size]
            if slopes is not None:
                of_words += slopes.T @ inner
                of_words[:, :size] += table.T @ direct[:, :size]  # type: ignore[index]  # with slopes
        of_estimate = torch.addcmul(of_estimate, at_target[:, None], of_target)
        own = at_target[:, None] * estimate
        if of_mean is not None:
            own = torch.addcmul(own, p[:, None], of_mean)
        of_vectors, of_bias = of_words[:, :size].index_add(0, target, own), of_words[:, size]
        of_bias = of_bias.index_add(0, target, at_target)
        found = (of_estimate, of_vectors, of_bias)
        return *(value.to(kind) for value, kind in zip(found, ctx.types, strict=True)), None, None  # type: ignore[return-value]


def _beside(matrix: Tensor, *beside: Tensor) -> Tensor:
    """Return a matrix (rows, columns) with columns more, filled up with zeros to where products are fast."""
    rows, size = matrix.shape
    found = matrix.new_zeros(rows, -(-(size + len(beside)) // 16) * 16)
    found[:, :size], found[:, size : size + len(beside)] = matrix, torch.stack(beside, 1)
    return found


def _apart(
    estimate: Tensor, vectors: Tensor, bias: Tensor, target: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return q (places, words), p of the target (places,) and -log p (places,), the last two in float32 at least."""
    scores = functional.linear(estimate, vectors, bias)
    q, wanted = torch.softmax(scores, -1, out=out), target[:, None]
    p = q.gather(1, wanted)[:, 0].to(torch.promote_types(scores.dtype, torch.float32))
    loss, low = -p.log(), p < LEAST
    if low.any():
        rare = scores[low].to(p)
        loss[low] = rare.logsumexp(-1) - rare.gather(1, wanted[low])[:, 0]
    return q.scatter_(1, wanted, 0.0), p, loss
