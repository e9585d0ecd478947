"""The transformer layer of diffusion models and of the Levenshtein Transformer, with rotary positions."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    """One pre-norm transformer layer with full attention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Build one layer of `heads` attention heads; raises `ValueError` when they do not divide the width."""
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"the width {width} must be a multiple of twice the number of heads, {heads}")
        self.heads = heads
        self.recomputed = False  # in the backward pass, which then keeps the layer's input alone (checkpointing)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Return the hidden states (sentences, words, width) after attention and feed-forward."""
        if self.recomputed and torch.is_grad_enabled():
            return checkpoint(self._layer, hidden, angles, use_reentrant=False)
        return self._layer(hidden, angles)

    def _layer(self, hidden: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        sentences, words, width = hidden.shape
        mixed = self.attend(self.norm_attention(hidden)).view(sentences, words, 3, self.heads, -1)
        attended = turned_attention(mixed, angles)
        hidden = hidden + self.dropout(self.merge(attended.reshape(sentences, words, width)))
        fed = self.contract(functional.gelu(self.expand(self.norm_feed_forward(hidden))))
        return hidden + self.dropout(fed)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(head)) v for (sentences, heads, words, head)."""
    if query.is_cuda:
        return functional.scaled_dot_product_attention(query, key, value)
    # On a CPU and for a few dozen words, two batched products run three times as fast as the fused kernel.
    return (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1).to(value) @ value


def turned_attention(mixed: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Return attention (sentences, words, heads, head) with rotary positions.

    `mixed` (sentences, words, 3, heads, head) holds queries, keys and values.
    """
    if mixed.is_cuda:
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        return attention(rotate(query, angles), rotate(key, angles), value).transpose(1, 2)
    scale = mixed.shape[-1] ** -0.5
    # Of queries, which take the scale, and of keys: (2, 1, 1, words, head / 2).
    cosine, sine = (torch.stack([part * scale, part])[:, None, None].to(mixed) for part in angles)
    return _TurnedAttention.apply(mixed, cosine, sine)


class _TurnedAttention(torch.autograd.Function):
    """`turned_attention` for a CPU: each number is read and written once, to where the products want it.

    Left to autograd, turning alone takes as long as the layer's largest product.
    """

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        sentences, words, _, heads, head = mixed.shape
        parts = mixed.permute(2, 0, 3, 1, 4)
        turned = torch.empty_like(parts, memory_format=torch.contiguous_format)
        _turn(parts[:2], cosine, sine, turned[:2])
        turned[2] = parts[2]
        query, key, value = turned.view(3, sentences * heads, words, head)
        weights = torch.softmax(torch.bmm(query, key.mT), -1)
        ctx.save_for_backward(turned, weights, cosine, sine)
        return torch.bmm(weights, value).view(sentences, heads, words, head).transpose(1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        turned, weights, cosine, sine = ctx.saved_tensors
        _, sentences, heads, words, head = turned.shape
        query, key, value = turned.view(3, sentences * heads, words, head)
        gradient = gradient.transpose(1, 2).reshape(sentences * heads, words, head)
        of_weights = torch.bmm(gradient, value.mT)
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_turned = torch.empty_like(turned[:2])
        for part, (left, right) in zip(of_turned, ((of_scores, key), (of_scores.mT, query)), strict=True):
            torch.bmm(left, right, out=part.view_as(query))
        of_mixed = turned.new_empty(sentences, words, 3, heads, head)
        parts = of_mixed.permute(2, 0, 3, 1, 4)
        _turn(of_turned, cosine, -sine, parts[:2])  # back
        parts[2] = torch.bmm(weights.mT, gradient).view_as(turned[2])
        return of_mixed, None, None


def _turn(vectors: Tensor, cosine: Tensor, sine: Tensor, out: Tensor) -> None:
    """Write what `rotate` returns into `out`."""
    left, right = vectors.chunk(2, -1)
    first, second = out.chunk(2, -1)
    torch.mul(left, cosine, out=first).addcmul_(right, sine, value=-1)
    torch.mul(right, cosine, out=second).addcmul_(left, sine)


def rotary_angles(source_words: int, target_words: int, head: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (words, head / 2) of the rotary positions; source and target both count from 0."""
    place = torch.cat([torch.arange(source_words), torch.arange(target_words)]).to(device, torch.float32)
    frequencies = 100.0 ** (-torch.arange(0, head, 2, device=device) / head)
    angles = place[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(vectors: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of dimensions of (..., words, head) by its place's angle."""
    cosine, sine = (part.to(vectors) for part in angles)
    left, right = vectors.chunk(2, -1)
    return torch.cat([left * cosine - right * sine, left * sine + right * cosine], -1)
