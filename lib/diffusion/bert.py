"""The network of the released code: BERT's layers, fresh, between projections from word vectors and back (DiffuSeq)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.diffusion.denoiser import Denoiser, DenoiserConfig
from lib.errors import UserError
from lib.seq2seq.blocks import Block
from lib.sources import hub

PLACES = 512  # of source and target together, as BERT has


def denoiser(config: DenoiserConfig) -> Denoiser:
    """Return the network of a shape with fresh weights from torch's global generator."""
    return BertDenoiser(config) if config.network == "bert" else Denoiser(config)


class BertLayer(Block):
    """transformers' layer of BERT behind the interface of `Block`; it has no rotary positions."""

    def __init__(self, config: DenoiserConfig) -> None:
        """Build one layer with torch's default weights, as the released code does; `ValueError` for unfit heads."""
        nn.Module.__init__(self)
        hub.use_offline()
        from transformers import BertConfig
        from transformers.models.bert import modeling_bert

        self.recomputed = False
        shape = BertConfig(
            hidden_size=config.width,
            num_attention_heads=config.heads,
            intermediate_size=4 * config.width,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            attn_implementation="sdpa",
        )
        self.layer = modeling_bert.BertLayer(shape)

    def _layer(self, hidden: Tensor, angles: tuple[Tensor, Tensor] | None) -> Tensor:
        return self.layer(hidden)


class BertDenoiser(Denoiser):
    """`Denoiser` as the released code builds it: learnt positions, norms after each part, word vectors of any length.

    Source and target are one row of places. Ours is what the release lacks: the last estimate of x0 beside x_t, which
    enters through columns of its own in the first projection.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        """Build the network with fresh weights from torch's global generator; `ValueError` for unfit heads."""
        nn.Module.__init__(self)
        self.config = config
        width = config.width
        self.words = nn.Parameter(torch.randn(config.vocabulary, config.embedding) * config.embedding_scale)
        self.enter = nn.Linear(2 * config.embedding, width)
        self.inside = nn.Linear(width, width)
        self.time = nn.Sequential(nn.Linear(128, 512), nn.SiLU(), nn.Linear(512, width))
        self.places = nn.Embedding(PLACES, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(BertLayer(config) for _ in range(config.layers))
        self.outside, self.leave = nn.Linear(width, width), nn.Linear(width, config.embedding)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))

    def vectors(self) -> Tensor:
        """Return all word vectors (vocabulary, embedding), of whatever length they have."""
        return self.words

    def forward(
        self, source: Tensor, noised: Tensor, previous: Tensor, t: Tensor, steps: int, both: bool = False
    ) -> Tensor:
        """Estimate x0 as `Denoiser` does; raises `UserError` for more places than BERT has."""
        places = source.shape[1] + noised.shape[1]
        if places > PLACES:
            raise UserError(f"source and target of {places} words: BERT has {PLACES} places; shorten the window")
        source_part = functional.linear(source, self.enter.weight[:, : source.shape[-1]], self.enter.bias)
        target_part = self.enter(torch.cat([noised, previous], -1))
        hidden = self.inside(torch.cat([source_part, target_part], 1).tanh()) + self.places.weight[:places]
        hidden = hidden + self.time(time_features(t / steps))[:, None]
        hidden = self.dropout(self.norm(hidden))
        for block in self.blocks:
            hidden = block(hidden, None)  # its places are among what enters
        left = hidden if both else hidden[:, source.shape[1] :]
        return self.leave(self.outside(left).tanh()).float()


def time_features(fraction: Tensor, size: int = 128) -> Tensor:
    """Return cosines and sines (sentences, size) of t/T, in thousandths, at wavelengths of 2 pi to 20,000 pi."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(size // 2, device=fraction.device) / (size // 2))
    angles = 1000 * fraction[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)
