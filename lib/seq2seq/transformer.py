"""The encoder-decoder transformer of Vaswani et al. (2017), which keeps keys and values while it writes."""

import math

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lib.seq2seq import nucleus
from lib.settings import Settings, Share

Kept = tuple[Tensor, Tensor]  # keys and values (sentences, heads, words, head)


class TransformerConfig(Settings):
    """Shape of the network; the defaults are those of Transformer-base."""

    vocabulary: PositiveInt
    width: PositiveInt = 512
    layers: PositiveInt = 6  # of the encoder, and again of the decoder
    heads: PositiveInt = 8
    inner: PositiveInt = 2048  # width of the feed-forward part
    dropout: Share = 0.1
    pad: NonNegativeInt = 0
    end: NonNegativeInt = 1


class Transformer(nn.Module):
    """Sinusoidal positions, one matrix of word vectors for source, target and output layer, as published.

    Our choice: the norms stand before each part and once more at the end of either side (torch's `norm_first`), which
    is steadier in short trainings. torch's own decoder layers keep no keys and values, so the layers are ours.
    """

    hidden = ("encoder.", "decoder.")  # whose matrices Muon trains

    def __init__(self, config: TransformerConfig) -> None:
        """Build the network with fresh weights from torch's global generator; `ValueError` for an unfit width."""
        super().__init__()
        if config.width % config.heads or config.width % 2:
            raise ValueError(f"the width {config.width} must be even and a multiple of {config.heads}, the heads")
        self.config = config
        self.words = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.words.weight, std=config.width**-0.5)
        self.encoder = nn.ModuleList(Layer(config, crossed=False) for _ in range(config.layers))
        self.decoder = nn.ModuleList(Layer(config, crossed=True) for _ in range(config.layers))
        self.norm_encoder, self.norm_decoder = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, source: Tensor) -> list[Kept]:
        """Read source ids (sentences, source words); return each decoder layer's keys and values of the encoding."""
        hidden = self._enter(source, 0)
        for layer in self.encoder:
            hidden, _ = layer(hidden)
        encoding = self.norm_encoder(hidden)
        return [layer.cross.keep(encoding) for layer in self.decoder]  # type: ignore[operator, union-attr]  # a ModuleList's

    def decode(self, words: Tensor, encoded: list[Kept], past: list[Kept] | None = None) -> tuple[Tensor, list[Kept]]:
        """Read words (sentences, places); return what predicts the next ones (sentences, places, width), and the past.

        `past` holds each layer's keys and values of the words before; with it, `words` is one place.
        """
        hidden = self._enter(words, past[0][0].shape[2] if past else 0)
        kept: list[Kept] = []
        for number, layer in enumerate(self.decoder):
            hidden, own = layer(hidden, encoded[number], past[number] if past else None)
            kept.append(own)
        return self.norm_decoder(hidden), kept

    def output(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., vocabulary) of hidden states (..., width)."""
        return functional.linear(hidden, self.words.weight, self.bias)

    def losses(self, source: Tensor, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return `likelihood`, the mean of -log p over words and END in nats, (sentences,).

        Word ids: source (sentences, source words) without padding, target (sentences, places) with END, then PAD.
        """
        hidden, _ = self.decode(nucleus.shifted(target, self.config.end), self.encode(source))
        return {"likelihood": nucleus.likelihood(hidden, target, self.config.pad, self.output)}

    @torch.inference_mode()
    def sample(self, source: Tensor, places: int, generator: torch.Generator) -> Tensor:
        """Draw target ids (sentences, places) by nucleus sampling; what follows END is PAD."""
        source = source.to(self.bias.device)
        encoded, past = self.encode(source), None

        def step(words: Tensor) -> Tensor:
            nonlocal past
            hidden, past = self.decode(words, encoded, past)
            return self.output(hidden[:, -1])

        start = torch.full_like(source[:, :1], self.config.end)
        return nucleus.sentences(step, start, places, self.config.pad, self.config.end, generator)

    def _enter(self, words: Tensor, first: int) -> Tensor:
        vectors = self.words(words) * math.sqrt(self.config.width)
        return self.dropout(vectors + positions(first, words.shape[1], self.config.width, words.device).to(vectors))


class Attention(nn.Module):
    """Attention of several heads; the keys and values are made apart, so that they can be kept."""

    def __init__(self, width: int, heads: int) -> None:
        """Build the projections of queries, of keys and values, and of what the heads found."""
        super().__init__()
        self.heads = heads
        self.query, self.memory, self.merge = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )

    def keep(self, states: Tensor) -> Kept:
        """Return keys and values (sentences, heads, words, head) of states (sentences, words, width)."""
        key, value = self.memory(states).chunk(2, -1)
        return self._split(key), self._split(value)

    def forward(self, states: Tensor, kept: Kept, causal: bool) -> Tensor:
        """Attend from states (sentences, places, width) to kept words; if `causal`, a place sees none after it."""
        key, value = kept
        query = self._split(self.query(states)) * key.shape[-1] ** -0.5
        # For a few dozen words two batched products are quicker on a CPU than the fused kernel.
        scores = (query @ key.transpose(-1, -2)).float()
        if causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        found = scores.softmax(-1).to(value) @ value
        return self.merge(found.transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """One layer: attention to its own words, for the decoder also to the encoding, and the feed-forward part."""

    def __init__(self, config: TransformerConfig, crossed: bool) -> None:
        """Build the layer; `crossed` is that of the decoder, whose own attention is causal."""
        super().__init__()
        width = config.width
        self.own, self.norm_own = Attention(width, config.heads), nn.LayerNorm(width)
        if crossed:
            self.cross, self.norm_cross = Attention(width, config.heads), nn.LayerNorm(width)
        self.expand, self.contract = nn.Linear(width, config.inner), nn.Linear(config.inner, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, encoded: Kept | None = None, past: Kept | None = None) -> tuple[Tensor, Kept]:
        """Return the hidden states (sentences, words, width) after the layer, and the keys and values of all words.

        `encoded` is given to the decoder's layers; `past` holds what the words before left, `hidden` is one word then.
        """
        normed = self.norm_own(hidden)
        kept = self.own.keep(normed)
        if past is not None:
            kept = torch.cat([past[0], kept[0]], 2), torch.cat([past[1], kept[1]], 2)
        hidden = hidden + self.dropout(self.own(normed, kept, causal=encoded is not None and past is None))
        if encoded is not None:
            hidden = hidden + self.dropout(self.cross(self.norm_cross(hidden), encoded, causal=False))
        fed = self.contract(self.dropout(functional.relu(self.expand(self.norm_feed_forward(hidden)))))
        return hidden + self.dropout(fed), kept


def positions(first: int, words: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Return sines and cosines (words, width) of the places from `first` on, wavelengths from 2 pi to 20,000 pi."""
    place = torch.arange(first, first + words, device=device)[:, None]
    angles = place * 10_000.0 ** (-torch.arange(0, width, 2, device=device) / width)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
