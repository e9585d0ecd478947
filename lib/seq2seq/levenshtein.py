"""The Levenshtein Transformer (Gu, Wang and Zhao, 2019): writes a sentence by deletions and insertions, in parallel.

One decoder without a causal mask serves three policies: which words to delete, how many placeholders to put in each
gap, and which word stands at a placeholder. Decoding starts from the empty sentence and repeats all three.
"""

import math

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lib.seq2seq import draws, word_edits
from lib.seq2seq.blocks import Block, attention, rotary_angles, rotate
from lib.settings import Settings, Share

Memory = list[tuple[Tensor, Tensor]]  # keys and values of the source, one pair per layer of the decoder
Angles = tuple[Tensor, Tensor]
KEEP, DELETE = 0, 1


class LevenshteinConfig(Settings):
    """Shape of the model; the defaults are those of Transformer base and of the model's paper."""

    vocabulary: PositiveInt
    pad: NonNegativeInt = 0
    end: NonNegativeInt = 1
    width: PositiveInt = 512
    layers: PositiveInt = 6  # of the encoder, and again of the decoder
    heads: PositiveInt = 8
    dropout: Share = 0.1
    most: PositiveInt = 255  # placeholders in one gap, K_max
    empty: Share = 0.5  # our choice: beta, the share of sentences whose insertions start from the empty sentence
    iterations: PositiveInt = 10


class Levenshtein(nn.Module):
    """Encoder and decoder with the three policies.

    Our choices: positions are rotary, also between the decoder and the source; encoder, decoder and output layer share
    the word vectors; begin, finish and placeholder have vectors of their own after those of the words.
    """

    hidden = ("encoder.", "decoder.")  # whose matrices Muon trains

    def __init__(self, config: LevenshteinConfig) -> None:
        """Build the model with fresh weights from torch's global generator; `ValueError` as for `Block`."""
        super().__init__()
        self.config = config
        width = config.width
        self.begin, self.finish, self.placeholder = range(config.vocabulary, config.vocabulary + 3)
        self.words = nn.Embedding(config.vocabulary + 3, width)
        nn.init.normal_(self.words.weight, std=width**-0.5)
        self.encoder = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm_source = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(DecoderBlock(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.delete = nn.Linear(width, 2)
        self.place = nn.Linear(2 * width, config.most + 1)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))

    def losses(self, source: Tensor, target: Tensor, generator: draws.Stream) -> dict[str, Tensor]:
        """Return `deletion`, `placeholders` and `words`, each (sentences,): the mean of -log p of the oracle's actions.

        source (sentences, source words), target (sentences, places); nats per word, per gap and per placeholder, 0
        where a sentence has none. Insertions start from the target without a uniform share of its words, or with
        probability `empty` (beta) without any; deletions from the likeliest words in place of those, as released: the
        paper's other start, the empty sentence, has nothing to delete.
        """
        config = self.config
        words = target[:, :-1].masked_fill(target[:, :-1] == config.end, config.pad)
        drawn = draws.uniform((len(words), words.shape[1] + 2), generator).to(words.device)
        share, from_empty, each = drawn[:, :1], drawn[:, 1:2] < config.empty, drawn[:, 2:]
        start = word_edits.delete(words, (each >= share) & ~from_empty & (words != config.pad), config.pad)
        memory = self.remember(source)

        matched = word_edits.oracle(start, words, config.pad)[1]
        counts = word_edits.missing_in_gaps(matched, words, config.pad).clamp(max=config.most)
        placeholders = _cross_entropy(self.placeholder_scores(start, memory), counts)

        missing = (words != config.pad) & ~matched
        scores = self.word_scores(words.masked_fill(missing, self.placeholder), memory)
        likelihood = functional.cross_entropy(scores, words[missing], reduction="none")

        filled = words.masked_scatter(missing, scores.detach().argmax(-1))
        kept = word_edits.oracle(filled, words, config.pad)[0]
        deletion = _cross_entropy(self.deletion_scores(filled, memory), torch.where(kept, KEEP, DELETE))
        return {
            "deletion": _mean(deletion, filled != config.pad),
            "placeholders": _mean(placeholders, self.gaps(start)),
            "words": _mean(likelihood.new_zeros(missing.shape).masked_scatter(missing, likelihood), missing),
        }

    @torch.inference_mode()
    def sample(self, source: Tensor, places: int, generator: torch.Generator) -> Tensor:
        """Write target ids (sentences, places) for source (sentences, source words): words, END, then PAD.

        The likeliest action is taken everywhere, as in the paper, so nothing is drawn from `generator` and equal
        sources have equal results. A sentence is done when an iteration leaves it as it was.
        """
        pad = self.config.pad
        source, row = torch.unique(source, dim=0, return_inverse=True)
        memory = self.remember(source)
        words = source.new_full((len(source), places - 1), pad)
        active = torch.arange(len(source), device=source.device)
        for _ in range(self.config.iterations):
            before = words[active]
            after = self.refine(before, [(key[active], value[active]) for key, value in memory])
            words[active] = after
            active = active[(after != before).any(1)]
            if not len(active):
                break
        lengths = (words != pad).sum(1, keepdim=True)
        return functional.pad(words, (0, 1), value=pad).scatter(1, lengths, self.config.end)[row]

    def refine(self, words: Tensor, memory: Memory) -> Tensor:
        """Delete, insert placeholders and fill them once in `words` (sentences, most words), of the same shape."""
        pad, most_words = self.config.pad, words.shape[1]
        words = word_edits.delete(words, words != pad, pad)
        if words.shape[1]:
            deleted = self.deletion_scores(words, memory).argmax(-1) == DELETE
            words = word_edits.delete(words, ~deleted & (words != pad), pad)
        counts = self.placeholder_scores(words, memory).argmax(-1) * self.gaps(words)
        room = most_words - (words != pad).sum(1, keepdim=True)
        words = word_edits.insert(words, word_edits.limit(counts, room), self.placeholder, pad)
        missing = words == self.placeholder
        if missing.any():
            words = words.masked_scatter(missing, self.word_scores(words, memory).argmax(-1))
        return functional.pad(words, (0, most_words - words.shape[1]), value=pad)

    def gaps(self, words: Tensor) -> Tensor:
        """Which gaps (sentences, m + 1) of `words` (sentences, m) are there; a shorter sentence has fewer."""
        return functional.pad(words != self.config.pad, (1, 0), value=True)

    def deletion_scores(self, words: Tensor, memory: Memory) -> Tensor:
        """Score KEEP and DELETE, (sentences, m, 2), for each of `words` (sentences, m)."""
        return self.delete(self.states(words, memory)[:, 1:-1]).float()

    def placeholder_scores(self, words: Tensor, memory: Memory) -> Tensor:
        """Score 0..K_max placeholders, (sentences, m + 1, K_max + 1), for each gap of `words` (sentences, m)."""
        states = self.states(words, memory)
        return self.place(torch.cat([states[:, :-1], states[:, 1:]], -1)).float()

    def word_scores(self, words: Tensor, memory: Memory) -> Tensor:
        """Score the vocabulary, (placeholders, vocabulary), at all placeholders among `words`; never PAD or END."""
        config = self.config
        states = self.states(words, memory)[:, 1:-1][words == self.placeholder]
        scores = functional.linear(states, self.words.weight[: config.vocabulary], self.bias).float()
        return scores.index_fill(1, torch.tensor([config.pad, config.end], device=scores.device), -math.inf)

    def remember(self, source: Tensor) -> Memory:
        """Read the source (sentences, source words) once, for any number of calls of the decoder."""
        hidden, angles = self._enter(source)
        for block in self.encoder:
            hidden = block(hidden, angles)
        hidden = self.norm_source(hidden)
        return [block.remember(hidden, angles) for block in self.decoder]  # type: ignore[operator]  # a ModuleList's

    def states(self, words: Tensor, memory: Memory) -> Tensor:
        """Return the decoder's states (sentences, m + 2, width) for begin, `words` (sentences, m) and finish."""
        pad = self.config.pad
        lengths = (words != pad).sum(1, keepdim=True)
        bounded = functional.pad(functional.pad(words, (1, 0), value=self.begin), (0, 1), value=pad)
        bounded = bounded.scatter(1, lengths + 1, self.finish)
        hidden, angles = self._enter(bounded)
        for block, (key, value) in zip(self.decoder, memory, strict=True):
            hidden = block(hidden, bounded != pad, key, value, angles)
        return self.norm(hidden)

    def _enter(self, ids: Tensor) -> tuple[Tensor, Angles]:
        angles = rotary_angles(ids.shape[1], 0, self.config.width // self.config.heads, ids.device)
        return self.words(ids) * math.sqrt(self.config.width), angles


class DecoderBlock(nn.Module):
    """One pre-norm layer: attention among the words that are there, attention to the source, feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Build one layer of `heads` attention heads, which must divide the width (as `Block` checks)."""
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_source, self.norm_feed_forward = (nn.LayerNorm(width) for _ in range(3))
        self.attend, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ask, self.answer, self.merge_source = (nn.Linear(width, size * width) for size in (1, 2, 1))
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def remember(self, source: Tensor, angles: Angles) -> tuple[Tensor, Tensor]:
        """Return the keys and values (sentences, heads, source words, head) of the encoded source."""
        key, value = self._heads(self.answer(source), 2)
        return rotate(key, angles), value

    def forward(self, hidden: Tensor, present: Tensor, key: Tensor, value: Tensor, angles: Angles) -> Tensor:
        """Return the states (sentences, words, width); `present` (sentences, words) tells words from padding."""
        mine = self._heads(self.attend(self.norm_attention(hidden)), 3)
        attended = _attention_to(rotate(mine[0], angles), rotate(mine[1], angles), mine[2], present)
        hidden = hidden + self.dropout(self.merge(attended.transpose(1, 2).flatten(2)))
        query = rotate(self._heads(self.ask(self.norm_source(hidden)), 1)[0], angles)
        hidden = hidden + self.dropout(self.merge_source(attention(query, key, value).transpose(1, 2).flatten(2)))
        fed = self.contract(functional.gelu(self.expand(self.norm_feed_forward(hidden))))
        return hidden + self.dropout(fed)

    def _heads(self, mixed: Tensor, parts: int) -> Tensor:
        return mixed.view(*mixed.shape[:2], parts, self.heads, -1).permute(2, 0, 3, 1, 4)


def _attention_to(query: Tensor, key: Tensor, value: Tensor, present: Tensor) -> Tensor:
    """Attend as `attention` does, to the places that are `present` (sentences, words) only."""
    mask = present[:, None, None]
    if query.is_cuda:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    return scores.masked_fill(~mask, -math.inf).softmax(-1).to(value) @ value


def _cross_entropy(scores: Tensor, actions: Tensor) -> Tensor:
    """Return -log p (sentences, decisions) of actions under scores (sentences, decisions, choices), in nats."""
    return functional.cross_entropy(scores.flatten(0, 1), actions.flatten(), reduction="none").view(actions.shape)


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean (sentences,) of the counted values (sentences, decisions), 0 where none counts."""
    return (values * counted).sum(1) / counted.sum(1).clamp(min=1)
