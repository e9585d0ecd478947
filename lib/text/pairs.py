"""Sets of a source and a target sentence, with fixed splits: built from real text, or read from JSON lines.

The rows are made in `verses`, `dialogue` and `questions`; here they are cached, named, hashed and cut to size.
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

from lib import facts, files, fingerprints, paths
from lib.errors import UserError
from lib.text import bible, dialogue, questions, verses

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
class _Recipe:
    build: Callable[[], tuple[dict[str, list[dict[str, Any]]], dict[str, int]]]
    read: Callable[[], list[Path]]  # the files that the rows are made of
    licence: str


_RECIPES = {
    "paraphrase": _Recipe(
        partial(verses.paraphrase, whole=False), lambda: [bible.source(v) for v in bible.VERSIONS], bible.LICENCE
    ),
    "paraphrase_whole": _Recipe(
        partial(verses.paraphrase, whole=True), lambda: [bible.source(v) for v in bible.VERSIONS], bible.LICENCE
    ),
    "simplification": _Recipe(
        verses.simplification, lambda: [bible.source(v) for v in ("kjv", "web", "bbe")], bible.BASIC_LICENCE
    ),
    "dialogue": _Recipe(dialogue.build, lambda: [dialogue.source()], dialogue.LICENCE),
    "question_generation": _Recipe(questions.build, lambda: questions.files(), facts.LICENCE),
}
NAMES = tuple(name for name in _RECIPES if name != "paraphrase_whole")


def load(name: str = "paraphrase", whole: bool = False) -> PairSet:
    """Return a set of pairs, from the cache when it holds an intact copy of the current one.

    Each has 500 test and 500 validation pairs. "paraphrase": King James to World English, 4-16 words; training
    rows also from American Standard and from clauses of longer verses; `whole`: verses of 4-40 words instead, and the
    same clauses. "simplification": World English to Basic English, verses of 4-24 words, and clauses for training.
    "dialogue": a turn and the reply. "question_generation": a statement and a question that it answers. Raises
    `UserError` for another name, and for `whole` with another set than paraphrase.
    """
    if name not in NAMES:
        raise UserError(f"unknown set of pairs {name!r}: choose {', '.join(NAMES)}")
    if whole and name != "paraphrase":
        raise UserError(f"whole verses of {name!r}: only paraphrase has them; leave out whole=True")
    recipe = _RECIPES[name := f"{name}_whole" if whole else name]
    folder = paths.cache() / "datasets" / name
    key = _key(recipe)
    cached = _read_cache(folder, key)
    if cached is None:
        rows, dropped = recipe.build()
        cached = {split: pa.Table.from_pylist(rows[split]) for split in SPLITS}, dropped
        _write_cache(folder, key, *cached)
    tables, dropped = cached
    splits = DatasetDict({split: Dataset(tables[split]) for split in SPLITS})
    return PairSet(name, splits, recipe.licence, dropped)


def _key(recipe: _Recipe) -> str:
    parts = [files.sha256(path) for path in recipe.read()]
    parts.append(fingerprints.code_fingerprint(["lib.text.pairs"]))
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
    except (OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{paths.relative(folder)} is damaged ({error}): built again", stacklevel=3)
        return None


def content_hash(pairs: PairSet, splits: Iterable[str] = SPLITS) -> str:
    """Return the SHA-256 over all rows of the splits, in order: it goes into the fingerprints of records."""
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


def read_jsonl(path: Path, max_words: int | None = None) -> Dataset:
    """Read sentence pairs in the layout of the paper's own sets: one JSON object with "src" and "trg" per line.

    Blanks inside a sentence become single spaces; further keys are ignored. Raises `UserError` naming file, line and
    remedy for a missing or empty file, text that is not UTF-8, a broken line, a missing field, an empty sentence, or a
    sentence of more than `max_words` words.
    """
    place = paths.relative(path)
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{place}: {error.strerror or error}; check the path of the data file") from error
    rows = [_parse(line, f"{place}, line {number}", max_words) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError(f'{place}: no sentence pairs; write one {{"src": ..., "trg": ...}} per line')
    return Dataset(pa.Table.from_pylist(rows))


def read_folder(folder: Path, max_words: int | None = None) -> PairSet:
    """Read a set of the user's own, train.jsonl, valid.jsonl and test.jsonl in `folder`; raises as `read_jsonl`."""
    files_of = {"train": "train.jsonl", "validation": "valid.jsonl", "test": "test.jsonl"}
    splits = {split: read_jsonl(folder / file, max_words) for split, file in files_of.items()}
    return PairSet(folder.name, DatasetDict(splits), "see the owner of the files", {})


def _parse(line: bytes, place: str, max_words: int | None) -> dict[str, str]:
    """Return one pair of a JSON lines file; `place` names file and line in errors."""
    try:
        content = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: broken JSON ({error.msg}, column {error.colno}); mend or remove the line") from error
    if not isinstance(content, dict):
        raise UserError(f'{place}: not a JSON object; write {{"src": ..., "trg": ...}}')
    row = {}
    for field in ("src", "trg"):
        if field not in content:
            raise UserError(f'{place}: no field "{field}" (found: {", ".join(content) or "none"}); rename or add it')
        if not isinstance(content[field], str):
            raise UserError(f'{place}: field "{field}" is not a string; put the sentence in quotation marks')
        words = content[field].split()
        if not words:
            raise UserError(f'{place}: field "{field}" is empty; fill it or remove the line')
        if max_words is not None and len(words) > max_words:
            raise UserError(f'{place}: field "{field}" has {len(words)} words, the model takes {max_words}; shorten it')
        row[field] = " ".join(words)
    return row
