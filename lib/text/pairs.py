"""Sets of a source and a target sentence, with fixed splits: built from real text, or read from JSON lines.

The rows are made in `verses`, `dialogue`, `replies` and `questions`, which end in the recipes of their sets; here they
are cached, hashed and cut to size.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
from datasets import Dataset, DatasetDict

from lib import files, paths
from lib.statements.reach import entry_of, reach
from lib.text import json_records
from lib.text.json_records import Record

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class PairSet:
    """Sentence pairs of one task, in the splits train, validation and test."""

    name: str
    splits: DatasetDict  # columns src, trg, group (verse, conversation or subject), and some of the set's own
    licence: str
    dropped: dict[str, int]  # training rows left out, by reason

    def __getitem__(self, split: str) -> Dataset:
        """Return one split; `KeyError` for a name other than train, validation, test."""
        return self.splits[split]

    def sources(self, split: str) -> list[str]:
        """Return the source sentences of a split, in order."""
        return self.splits[split]["src"][:]

    def targets(self, split: str) -> list[str]:
        """Return the target sentences of a split, in order."""
        return self.splits[split]["trg"][:]


@dataclass(frozen=True)
class Recipe:
    """How a set of ours is made: its name, the builder of its rows, the files that these are made of, their licence.

    `build` returns the rows of each split and counts of what is left out; it is a function at the top of its module.
    """

    name: str
    build: Callable[[], tuple[dict[str, list[dict[str, Any]]], dict[str, int]]]
    read: Callable[[], list[Path]]
    licence: str

    def load(self) -> PairSet:
        """Return the set, from the cache when it holds an intact copy of the current one."""
        folder, key = paths.cache() / "datasets" / self.name, self._key()
        cached = _read_cache(folder, key)
        if cached is None:
            rows, dropped = self.build()
            cached = {split: pa.Table.from_pylist(rows[split]) for split in SPLITS}, dropped
            _write_cache(folder, key, *cached)
        tables, dropped = cached
        splits = DatasetDict({split: Dataset(tables[split]) for split in SPLITS})
        return PairSet(self.name, splits, self.licence, dropped)

    def _key(self) -> str:
        """Digest of the files that a set is made of, and of the code that makes it."""
        parts = [files.sha256(path) for path in self.read()]
        parts.append(reach(entry_of(self.build))[0])
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _write_cache(folder: Path, key: str, tables: dict[str, pa.Table], dropped: dict[str, int]) -> None:
    for split, table in tables.items():
        files.write_atomically(folder / f"{split}.parquet", partial(parquet.write_table, table, compression="zstd"))
    hashes = {split: files.sha256(folder / f"{split}.parquet") for split in tables}
    # Written last: without it the folder counts as empty.
    files.write_json(folder / "manifest.json", {"key": key, "sha256": hashes, "dropped": dropped})


def _read_cache(folder: Path, key: str) -> tuple[dict[str, pa.Table], dict[str, int]] | None:
    """Return the cached tables, or None when the copy is missing, outdated, or damaged (then named in a warning)."""
    if not (folder / "manifest.json").exists():
        return None
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["key"] != key:
            return None
        for split in SPLITS:
            if files.sha256(folder / f"{split}.parquet") != manifest["sha256"][split]:
                raise ValueError(f"{split}.parquet has another checksum")
        return {split: parquet.read_table(folder / f"{split}.parquet") for split in SPLITS}, dict(manifest["dropped"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        warnings.warn(f"{paths.relative(folder)} is damaged ({error}): built again", stacklevel=3)
        return None


def content_hash(pairs: PairSet, splits: Iterable[str] = SPLITS) -> str:
    """Return the SHA-256 over all rows of the splits, in order: it goes into the stamps of records."""
    digest = hashlib.sha256()
    for split in splits:
        rows = [list(row) for row in zip(pairs.sources(split), pairs.targets(split), strict=True)]
        digest.update(json.dumps([split, rows], ensure_ascii=False).encode())
    return digest.hexdigest()


def subset(pairs: PairSet, train: int, held_out: int | None = None) -> PairSet:
    """Return the first `train` training rows by the hash of their texts, and the first `held_out` of the other splits.

    A larger subset contains every smaller one.
    """

    def key(row: tuple[str, str]) -> bytes:
        return hashlib.sha256("\t".join(row).encode()).digest()

    rows = list(zip(pairs.sources("train"), pairs.targets("train"), strict=True))
    first = sorted(sorted(range(len(rows)), key=lambda index: key(rows[index]))[:train])
    splits = {split: data.select(range(len(data))[:held_out]) for split, data in pairs.splits.items()}
    return replace(pairs, splits=DatasetDict(splits | {"train": pairs["train"].select(first)}))


def read_jsonl(path: Path) -> Dataset:
    """Read sentence pairs in the layout of the paper's own sets: one JSON object with "src" and "trg" per line.

    Blanks inside a sentence become single spaces; further keys are ignored. Raises `UserError` naming file, line and
    remedy for whatever `json_records` refuses, a missing field, or an empty sentence.
    """
    records = json_records.read(path, "sentence pairs", '{"src": ..., "trg": ...}')
    return Dataset(pa.Table.from_pylist([_pair(record) for record in records]))


def read_folder(folder: Path) -> PairSet:
    """Read a set of the user's own, train.jsonl, valid.jsonl and test.jsonl in `folder`; raises as `read_jsonl`."""
    files_of = {"train": "train.jsonl", "validation": "valid.jsonl", "test": "test.jsonl"}
    splits = {split: read_jsonl(folder / file) for split, file in files_of.items()}
    return PairSet(folder.name, DatasetDict(splits), "see the owner of the files", {})


def _pair(record: Record) -> dict[str, str]:
    return {field: " ".join(record.text(field).split()) for field in ("src", "trg")}


def shortened(pairs: PairSet, tokens: Callable[[str], int], most: int) -> PairSet:
    """Return a set whose pairs have at most `most` tokens, source and target together; `dropped` counts those cut.

    Words fall off the end of the longer side, as in DiffuSeq's code, but for the first of each. In validation and test
    the source alone is cut, to half of `most`: what a model reads must not depend on a reference, nor a score on the
    cut. `tokens` counts those of a text, at most one a letter.
    """
    counts, splits = dict.fromkeys(SPLITS, 0), {}
    for split in SPLITS:
        rows = []
        for source, target in zip(pairs.sources(split), pairs.targets(split), strict=True):
            if split == "train":
                kept = _cut([source, target], tokens, most)
            else:
                kept = [*_cut([source], tokens, most // 2), target]
            counts[split] += kept != [source, target]
            rows.append(dict(zip(("src", "trg"), kept, strict=True)))
        splits[split] = Dataset(pa.Table.from_pylist(rows))
    told = {f"shortened in {split}": count for split, count in counts.items()}
    return replace(pairs, splits=DatasetDict(splits), dropped=pairs.dropped | told)


def _cut(texts: list[str], tokens: Callable[[str], int], most: int) -> list[str]:
    """Return texts without their last words, taken from the longer one, until they have at most so many tokens."""
    if sum(map(len, texts)) <= most:
        return texts
    words = [text.split() for text in texts]
    lengths = [[tokens(word) for word in side] for side in words]
    while sum(map(sum, lengths)) > most:
        sides = [side for side in range(len(texts)) if len(lengths[side]) > 1]
        if not sides:
            break
        lengths[max(sides, key=lambda side: sum(lengths[side]))].pop()
    kept = [" ".join(side[: len(length)]) for side, length in zip(words, lengths, strict=True)]
    return kept if kept != [" ".join(side) for side in words] else texts
