"""The transformer layer of diffusion models and of the Levenshtein Transformer, with rotary positions."""

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
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        attended = attention(rotate(query, angles), rotate(key, angles), value)
        hidden = hidden + self.dropout(self.merge(attended.transpose(1, 2).reshape(sentences, words, width)))
        fed = self.contract(functional.gelu(self.expand(self.norm_feed_forward(hidden))))
        return hidden + self.dropout(fed)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(head)) v for (sentences, heads, words, head)."""
    if query.is_cuda:
        return functional.scaled_dot_product_attention(query, key, value)
    # On a CPU and for a few dozen words, two batched products run three times as fast as the fused kernel.
    return (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1).to(value) @ value


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
