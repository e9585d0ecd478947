"""Small vocabularies for the students: those tokens of the teacher that occur, or tokens trained on the data.

A small student on a CPU spends most of its time in its output layer; over a few thousand tokens it trains several times
faster than over the teacher's 49,152. What this costs is measured: the share of tokens that are kept, and the mass that
the teacher puts on the others.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from lib.causal_lm.encoding import leading
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAD, END = "<pad>", "<end>"


class Vocabulary(Protocol):
    """What batches and students need of a vocabulary; ids run from 0 to len - 1."""

    pad: int
    end: int
    unknown: int
    leading: list[int]  # special tokens that stand before every prompt

    def __len__(self) -> int:
        """Return the number of tokens, special ones included."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens but `unknown`."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without the special ones."""

    def content_hash(self) -> str:
        """Return the SHA-256 of the tokens in their order: it goes into the fingerprints of records."""


class RestrictedVocabulary:
    """The tokens of a larger tokenizer that occur in given texts, in the order of its ids, and its special tokens.

    `kept` (tokens,): their ids in the larger tokenizer, ascending; the small id is the place there. The end of a
    response is the tokenizer's own end token, padding and what is not kept its unknown token (one id: neither is ever
    learned from). What the tokenizer puts before a text (`<s>` of Llama-2) is kept, and stands before every prompt.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", kept: Iterable[int]) -> None:
        """Keep the given ids and the special ones.

        Raises `UserError` for a tokenizer without an end token or a second special one for padding, and `ValueError`
        for an id that it does not have.
        """
        self.tokenizer = tokenizer
        end = tokenizer.eos_token_id
        spare = [number for number in (tokenizer.unk_token_id, tokenizer.pad_token_id) if number not in (None, end)]
        if end is None or not spare:
            raise UserError(
                f"{type(tokenizer).__name__}: no end token, or no unknown or padding token apart from it; add them"
            )
        first = leading(tokenizer)
        chosen = sorted({*kept, end, spare[0], *first})
        if chosen[0] < 0 or chosen[-1] >= len(tokenizer):
            raise ValueError(f"ids from {chosen[0]} to {chosen[-1]}: the tokenizer has 0 to {len(tokenizer) - 1}")
        self.kept = torch.tensor(chosen)
        self.end, self.pad = chosen.index(end), chosen.index(spare[0])
        self.unknown = self.pad
        self.leading = [chosen.index(number) for number in first]

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> "RestrictedVocabulary":
        """Keep the tokens that occur in the texts; `ValueError` for texts without tokens."""
        found = {number for ids in _encoded(tokenizer, texts) for number in ids}
        if not found:
            raise ValueError("no tokens to build a vocabulary on")
        return cls(tokenizer, found)

    def __len__(self) -> int:
        """Return the number of kept tokens."""
        return len(self.kept)

    @cached_property
    def _places(self) -> Tensor:
        places = torch.full((len(self.tokenizer),), self.unknown)
        places[self.kept] = torch.arange(len(self.kept))
        return places

    def to_small(self, ids: Tensor) -> Tensor:
        """Return the small ids of the tokenizer's, any shape; `unknown` for what is not kept."""
        return self._places[ids]

    def to_large(self, ids: Tensor) -> Tensor:
        """Return the tokenizer's ids of small ones, any shape."""
        return self.kept[ids]

    def encode(self, text: str) -> list[int]:
        """Return the small ids of a text, `unknown` for tokens that are not kept."""
        return self.to_small(torch.tensor(_encoded(self.tokenizer, [text])[0], dtype=torch.long)).tolist()

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of small ids, without the special ones."""
        large = self.to_large(torch.tensor(list(ids), dtype=torch.long)).tolist()
        return self.tokenizer.decode(large, skip_special_tokens=True)

    def coverage(self, texts: Iterable[str]) -> float:
        """Return the share of the tokens of the texts that are kept, in [0, 1]; `ValueError` for no tokens."""
        ids = torch.tensor([number for row in _encoded(self.tokenizer, texts) for number in row], dtype=torch.long)
        if not len(ids):
            raise ValueError("no tokens to cover")
        return float(torch.isin(ids, self.kept).double().mean())

    def content_hash(self) -> str:
        """Return the SHA-256 of the kept tokens and their ids."""
        large = self.kept.tolist()
        return _digest(list(zip(large, self.tokenizer.convert_ids_to_tokens(large), strict=True)))


class TrainedVocabulary:
    """Byte-level byte-pair tokens trained on given texts: another tokenizer than the teacher's, without unknown words.

    Single digits and a leading blank are tokens as in the teacher's; ids 0 and 1 are padding and end.
    """

    pad, end = 0, 1
    unknown = 0  # every byte is a token: nothing is unknown

    def __init__(self, texts: Iterable[str], size: int) -> None:
        """Train on the texts; `size` counts special tokens and the 256 bytes; `ValueError` for fewer, or no text."""
        texts = list(texts)
        least = 2 + len(pre_tokenizers.ByteLevel.alphabet())
        if size <= least or not any(texts):
            raise ValueError(f"{size} tokens on {len(texts)} texts: give text, and more than {least} tokens")
        self.leading: list[int] = []
        self.tokenizer = Tokenizer(models.BPE())
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        self.tokenizer.decoder = decoders.ByteLevel()
        self.tokenizer.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=size,
                special_tokens=[PAD, END],
                initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                show_progress=False,
            ),
        )

    def __len__(self) -> int:
        """Return the number of tokens: at most the size asked for."""
        return self.tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; a special token's name in it is ordinary text only if it is none."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without the special ones."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def content_hash(self) -> str:
        """Return the SHA-256 of tokens and merges."""
        return hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest()


def _encoded(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> list[list[int]]:
    chosen = list(texts)
    return tokenizer(chosen, add_special_tokens=False)["input_ids"] if chosen else []


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
