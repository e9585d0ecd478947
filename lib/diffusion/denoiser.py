"""The network that estimates the clean target embeddings from the noised ones and the source (both models)."""

import math
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lib.diffusion import rounding
from lib.seq2seq.blocks import Block, rotary_angles
from lib.settings import Settings, Share


class DenoiserConfig(Settings):
    """Shape of the network; the defaults are the paper's (BERT base, embeddings of 128)."""

    vocabulary: PositiveInt
    network: Literal["ours", "bert"] = "ours"  # "bert" is the released one: lib.diffusion.bert
    embedding: PositiveInt = 128
    width: PositiveInt = 768
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    dropout: Share = 0.1
    embedding_scale: PositiveFloat = 1.0  # our choice: norm of a word vector over sqrt(embedding); smaller is noisier
    sharpness: PositiveFloat = 1.0  # our choice: scale of the scores of the output layer


class Denoiser(nn.Module):
    """Transformer over source and noised target together (partial noising); returns an estimate of x0.

    Our choices: word vectors have a fixed norm, so the squared error cannot shrink them to nothing; positions are
    rotary and start at zero in the source and again in the target, so that the same place has the same angle; one
    vector tells source from target.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        """Build the network with fresh weights from torch's global generator."""
        super().__init__()
        self.config = config
        width = config.width
        self.words = nn.Parameter(torch.randn(config.vocabulary, config.embedding))
        self.enter = nn.Linear(2 * config.embedding, width)
        self.part = nn.Parameter(torch.randn(2, width) * 0.02)
        self.time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, config.embedding)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))

    def vectors(self) -> Tensor:
        """Return all word vectors (vocabulary, embedding), each of norm scale * sqrt(embedding)."""
        scale = self.config.embedding_scale * math.sqrt(self.config.embedding)
        return self.words * (scale / self.words.norm(dim=-1, keepdim=True).clamp(min=1e-12))

    def logits(self, estimate: Tensor, vectors: Tensor) -> Tensor:
        """Score every word for estimates (..., embedding): the output layer tied to the word vectors."""
        return functional.linear(estimate * self._factor(), vectors, self.bias)

    def read(self, estimate: Tensor, vectors: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return -log p(target | estimate) in nats, of the shape of `target`, and the mean word vector as `expected`.

        The scores are those of `logits`; they are never held for all words and all places at once.
        """
        scaled = (estimate * self._factor()).flatten(0, -2)
        loss, mean = rounding.read(scaled, vectors, self.bias, target.flatten())
        return loss.view(target.shape), mean.view(estimate.shape)

    def _factor(self) -> float:
        # A perfect estimate scores sharpness * sqrt(embedding), whatever the scale of the word vectors.
        config = self.config
        return config.sharpness / (config.embedding_scale**2 * math.sqrt(config.embedding))

    def expected(self, scores: Tensor, vectors: Tensor) -> Tensor:
        """Return the mean word vector (..., embedding) under the softmax of `scores` (..., vocabulary), in float32."""
        return (scores.softmax(-1) @ vectors).float()

    @torch.no_grad()
    def mean_word(self, estimate: Tensor, vectors: Tensor) -> Tensor:
        """Return `expected` of the `logits` of estimates, (sentences, words, embedding) each, and no gradient."""
        rows = estimate.flatten(0, -2)
        parts = rounding.chunks(len(rows), len(vectors), rows.device)
        means = [self.expected(self.logits(rows[some], vectors), vectors) for some in parts]
        return torch.cat(means).view(estimate.shape)

    def forward(
        self, source: Tensor, noised: Tensor, previous: Tensor, t: Tensor, steps: int, both: bool = False
    ) -> Tensor:
        """Estimate x0 (sentences, target words, embedding) in float32; with `both` of source and target words.

        `source` (sentences, source words, embedding) clean; `noised` x_t and `previous`, the last estimate of x0 or
        zeros (self-conditioning), both (sentences, target words, embedding); `t` (sentences,) in [0, T = steps].
        """
        scale = 1 / self.config.embedding_scale  # back to unit variance per dimension at t = 0
        source_part = functional.linear(source * scale, self.enter.weight[:, : source.shape[-1]], self.enter.bias)
        target_part = self.enter(torch.cat([noised, previous * scale], -1))
        part = self.part.to(source_part.dtype)  # keeps the residual stream in the precision of autocast
        hidden = torch.cat([source_part + part[0], target_part + part[1]], 1)
        hidden = hidden + self.time(time_features(t / steps))[:, None]
        head = self.config.width // self.config.heads
        angles = rotary_angles(source.shape[1], noised.shape[1], head, hidden.device)
        for block in self.blocks:
            hidden = block(hidden, angles)
        return self.leave(self.norm(hidden if both else hidden[:, source.shape[1] :])).float()


def time_features(fraction: Tensor, size: int = 128) -> Tensor:
    """Return sines and cosines (sentences, size) of t/T in [0, 1]."""
    frequencies = torch.exp(torch.linspace(0, math.log(1000), size // 2, device=fraction.device))
    angles = fraction[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)


def forward_flops(config: DenoiserConfig) -> float:
    """Return the floating-point operations of one forward pass per word, matrix products only (attention left out).

    A backward pass costs twice as much. The output layer counts for half of the words: the source has none.
    """
    blocks = config.layers * 12 * config.width**2
    ends = 3 * config.embedding * config.width + (2 * config.width**2 if config.network == "bert" else 0)
    return 2 * (blocks + ends + 0.5 * config.embedding * config.vocabulary)
