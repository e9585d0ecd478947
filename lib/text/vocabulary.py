"""Vocabularies of words or word pieces, and the information that each carries in the training corpus."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch

from lib import files, paths
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import BertTokenizer

MOST_UNKNOWN = 0.05


@dataclass(frozen=True)
class Vocabulary:
    """Words by id, with their counts in the corpus it was built on; ids 0, 1, 2 are PAD, END and UNK (count 0)."""

    words: tuple[str, ...]
    counts: tuple[int, ...]
    total: int  # words of the corpus, the unknown ones included

    pad: ClassVar[int] = 0
    end: ClassVar[int] = 1
    unk: ClassVar[int] = 2
    kind: ClassVar[str] = "words"

    @classmethod
    def build(cls, texts: Iterable[str], size: int | None = None, min_count: int = 1) -> Self:
        """Count whitespace words; keep those seen `min_count` times, at most `size` with the specials.

        Frequent words come first, those of equal count by the alphabet. Raises `ValueError` for texts without words.
        """
        counter = Counter(word for text in texts for word in text.split())
        if not counter:
            raise ValueError("no words to build a vocabulary on")
        ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
        specials = ["<pad>", "<end>", "<unk>"]
        kept = [(w, n) for w, n in ranked if n >= min_count and w not in specials]
        kept = kept[: None if size is None else max(size - len(specials), 0)]
        words, counts = [*specials, *(w for w, _ in kept)], [0] * len(specials) + [n for _, n in kept]
        return cls(tuple(words), tuple(counts), counter.total())

    def __len__(self) -> int:
        """Return the number of entries, specials included."""
        return len(self.words)

    @cached_property
    def index(self) -> dict[str, int]:
        """Map each entry to its id."""
        return {word: number for number, word in enumerate(self.words)}

    @property
    def specials(self) -> tuple[int, int, int]:
        """Ids of PAD, END and UNK, which carry no information."""
        return self.pad, self.end, self.unk

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's words, without END; a special's name in the text is an unknown word."""
        ids = (self.index.get(word, self.unk) for word in text.split())
        return [self.unk if number in self.specials else number for number in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids` up to the first END, PAD left out; UNK stays visible."""
        return " ".join(self._entries(ids))

    def information(self, reading: Literal["self-information", "entropy"] = "self-information") -> torch.Tensor:
        """Return H(w) for every entry, (len,) float32, 0 for the specials.

        p(w) is the relative frequency in the corpus; an entry never seen counts as seen once. "self-information" is
        -log p (our reading of the paper's H), "entropy" is -p log p. Raises `ValueError` for another reading.
        """
        probability = torch.tensor(self.counts, dtype=torch.float64).clamp(min=1) / max(self.total, 1)
        information = -torch.log(probability)
        if reading == "entropy":
            information = probability * information
        elif reading != "self-information":
            raise ValueError(f"unknown reading {reading!r}: self-information or entropy")
        information[list(self.specials)] = 0.0
        return information.float()

    def unknown(self, texts: Iterable[str]) -> tuple[int, int]:
        """Return (unknown words, words) of the texts."""
        ids = [number for text in texts for number in self.encode(text)]
        return ids.count(self.unk), len(ids)

    def check_coverage(self, texts: Iterable[str], name: str) -> None:
        """Raise `UserError` when more than 5 % of the words of the texts, called `name`, are unknown."""
        unknown, total = self.unknown(texts)
        if unknown > MOST_UNKNOWN * total:
            raise UserError(
                f"{name}: {unknown} of {total} words ({unknown / total:.1%}) are not among the {len(self)} of the "
                f"vocabulary, more than {MOST_UNKNOWN:.0%}; build the vocabulary on this text, or make it larger"
            )

    def content_hash(self) -> str:
        """Return the SHA-256 of entries and counts: it goes into the fingerprints of records."""
        return hashlib.sha256(json.dumps(self._content(), ensure_ascii=False).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON, atomically."""
        files.write_json(path, self._content())

    def as_json(self) -> str:
        """Return the vocabulary as the JSON text that `load` reads."""
        return files.json_text(self._content())

    def _content(self) -> dict[str, object]:
        return {"kind": self.kind, "total": self.total, "words": list(self.words), "counts": list(self.counts)}

    def _entries(self, ids: Iterable[int]) -> list[str]:
        entries = []
        for number in ids:
            if number == self.end:
                break
            if number != self.pad:
                entries.append(self.words[number])
        return entries


@dataclass(frozen=True)
class WordPieces(Vocabulary):
    """The uncased BERT vocabulary behind the interface of `Vocabulary`; PAD, END and UNK are [PAD], [SEP] and [UNK]."""

    end: ClassVar[int] = 102
    unk: ClassVar[int] = 100
    kind: ClassVar[str] = "word pieces"

    @classmethod
    def from_file(cls, path: Path, texts: Iterable[str]) -> Self:
        """Read `vocab.txt` (one piece a line) and count the pieces of `texts`.

        Raises `UserError` for a missing file or one in which [PAD], [UNK], [SEP] are not at 0, 100, 102.
        """
        try:
            words = tuple(Path(path).read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise UserError(f"{paths.relative(path)}: {reason}; fetch the sources again") from error
        if len(words) <= cls.end or [words[i] for i in (cls.pad, cls.unk, cls.end)] != ["[PAD]", "[UNK]", "[SEP]"]:
            raise UserError(f"{paths.relative(path)}: not the uncased BERT vocabulary; fetch the sources again")
        empty = cls(words, (0,) * len(words), 0)
        counter = Counter(number for text in texts for number in empty.encode(text))
        counts = tuple(0 if n in empty.specials else counter[n] for n in range(len(words)))
        return cls(words, counts, counter.total())

    @cached_property
    def _tokenizer(self) -> "BertTokenizer":
        from transformers import BertTokenizer  # slow to import, and needed for the paper's vocabulary only

        return BertTokenizer(vocab=dict(self.index), do_lower_case=True)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's word pieces, without END; a special's name in the text is ordinary text."""
        return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids` up to the first [SEP], [PAD] left out, continuing pieces joined to their words."""
        return " ".join(self._entries(ids)).replace(" ##", "")


def load(path: Path) -> Vocabulary:
    """Read a vocabulary that `save` wrote; `UserError` for a missing, broken or inconsistent file."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        kind = {cls.kind: cls for cls in (Vocabulary, WordPieces)}[content["kind"]]
        words, counts, total = tuple(content["words"]), tuple(content["counts"]), content["total"]
        if not all(isinstance(word, str) for word in words):
            raise ValueError("an entry that is no text")
        if not all(type(count) is int and count >= 0 for count in (*counts, total)):
            raise ValueError("a count that is no number from 0 on")
        if len(words) != len(counts) or len(set(words)) != len(words) or sum(counts) > total or len(words) <= kind.unk:
            raise ValueError("entries and counts do not agree")
        return kind(words, counts, total)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{paths.relative(path)}: not a vocabulary ({error}); delete it and build it again") from error
