"""Recurrent baseline: a bidirectional GRU reads the source, a GRU with attention writes the target."""

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lib.seq2seq import nucleus
from lib.settings import Settings, Share


class GruConfig(Settings):
    """Shape of the network; the defaults are our choice, of the order of a Transformer-base (no size is published)."""

    vocabulary: PositiveInt
    width: PositiveInt = 1024  # of the states and of the word vectors; each direction of the encoder has half of it
    layers: PositiveInt = 2
    dropout: Share = 0.1
    pad: NonNegativeInt = 0
    end: NonNegativeInt = 1


class Gru(nn.Module):
    """GRU encoder and decoder with global attention after the decoder's recurrence (Luong et al., 2015, "general").

    Our choice among the attentions: the recurrence does not wait for the attention, so that in training one call of
    torch's GRU runs over all target places. Word vectors of source, target and output layer are one matrix.
    """

    hidden = ("encoder.", "decoder.", "bridge.", "match.", "merge.")  # whose matrices Muon trains

    def __init__(self, config: GruConfig) -> None:
        """Build the network with fresh weights from torch's global generator; `ValueError` for an odd width."""
        super().__init__()
        if config.width % 2:
            raise ValueError(f"the width {config.width} must be even: half of it is for each direction of the encoder")
        self.config = config
        width, between = config.width, config.dropout if config.layers > 1 else 0.0
        self.words = nn.Embedding(config.vocabulary, width)
        nn.init.normal_(self.words.weight, std=width**-0.5)  # as an output layer: logits of unit variance
        self.encoder = nn.GRU(width, width // 2, config.layers, batch_first=True, dropout=between, bidirectional=True)
        self.decoder = nn.GRU(width, width, config.layers, batch_first=True, dropout=between)
        self.bridge = nn.Linear(width, width)
        self.match = nn.Linear(width, width, bias=False)
        self.merge = nn.Linear(2 * width, width)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return M s_j and s_j, s the encoder's states, and the state from which the decoder starts.

        (sentences, source words, width) twice and (layers, sentences, width). The decoder's layer starts from tanh(W
        [last forward; last backward]) of the same layer of the encoder.
        """
        states, last = self.encoder(self._vectors(source))
        both = last.unflatten(0, (self.config.layers, 2)).transpose(1, 2).flatten(2)
        keys = self.match(states)
        # In the keys' precision and order of memory once, not at every place.
        return keys, states.to(keys.dtype).contiguous(), self.bridge(both).tanh().float()

    def decode(self, words: Tensor, keys: Tensor, states: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        """Read words (sentences, places) from the state `carried`; return what predicts the next ones, and the state.

        tanh(W [context; h]) with context = sum_j a_j s_j and a = softmax_j(h^T M s_j), (sentences, places, width), and
        (layers, sentences, width).
        """
        hidden, carried = self.decoder(self._vectors(words), carried)
        merged = self.merge(torch.cat([attend(hidden, keys, states), hidden], -1)).tanh()
        return self.dropout(merged), carried

    def output(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., vocabulary) of hidden states (..., width)."""
        return functional.linear(hidden, self.words.weight, self.bias)

    def losses(self, source: Tensor, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return `likelihood`, the mean of -log p over words and END in nats, (sentences,).

        Word ids: source (sentences, source words) without padding, target (sentences, places) with END, then PAD.
        """
        hidden, _ = self.decode(nucleus.shifted(target, self.config.end), *self.encode(source))
        return {"likelihood": nucleus.likelihood(hidden, target, self.config.pad, self.output)}

    @torch.inference_mode()
    def sample(self, source: Tensor, places: int, generator: torch.Generator) -> Tensor:
        """Draw target ids (sentences, places) by nucleus sampling; what follows END is PAD."""
        source = source.to(self.bias.device)
        keys, states, carried = self.encode(source)

        def step(words: Tensor) -> Tensor:
            nonlocal carried
            hidden, carried = self.decode(words, keys, states, carried)
            return self.output(hidden[:, -1])

        start = torch.full_like(source[:, :1], self.config.end)
        return nucleus.sentences(step, start, places, self.config.pad, self.config.end, generator)

    def _vectors(self, words: Tensor) -> Tensor:
        return self.dropout(self.words(words) * self.config.width**0.5)


def attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return sum_j softmax_j(q . k_j) v_j, (sentences, places, width), with the softmax in float32.

    query (sentences, places, width); keys and values (sentences, source words, width).
    """
    return torch.bmm(torch.bmm(query, keys.transpose(1, 2)).float().softmax(-1).to(values), values)
