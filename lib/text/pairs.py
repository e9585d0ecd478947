"""Pairs of a source and a target sentence, with splits: built from verse-aligned Bibles, or read from JSON lines.

A verse is held out in all its translations at once, before any splitting into clauses. Verses stand in the order of a
hash of their ids; the test split is taken from its start, the validation split from its end: no random generator.
"""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
from datasets import Dataset, DatasetDict

from lib import files, fingerprints, paths
from lib.errors import UserError
from lib.text import bible

SPLITS = ("train", "validation", "test")
HELD_OUT = 500
SHORTEST, LONGEST, LONGEST_WHOLE = 4, 16, 40  # words, punctuation marks included, on both sides
LENGTH_RATIO, OVERLAP = 2.0, 0.25  # a clause pair beyond these is taken as misaligned
_STRONG = frozenset(".;:?!")
_ANY = _STRONG | {","}
Words = list[str]


@dataclass(frozen=True)
class PairSet:
    """Sentence pairs of one task, in the splits train, validation and test."""

    name: str
    splits: DatasetDict  # columns src, trg, verse (id), version (of the source), kind (verse or clause)
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


def load(name: str = "paraphrase", whole: bool = False) -> PairSet:
    """Return a set of pairs, from the cache when it holds an intact copy of the current one.

    "paraphrase": King James to World English, 500 test and 500 validation verses of 4-16 words; training rows also from
    American Standard and from clauses of longer verses. `whole`: verses of 4-40 words instead, and the same clauses.
    Raises `UserError` for another name.
    """
    if name != "paraphrase":
        raise UserError(f"unknown set of pairs {name!r}: choose paraphrase")
    folder = paths.cache() / "datasets" / (f"{name}_whole" if whole else name)
    key = _key()
    cached = _read_cache(folder, key)
    if cached is None:
        cached = _build(LONGEST_WHOLE if whole else LONGEST)
        _write_cache(folder, key, *cached)
    tables, dropped = cached
    splits = DatasetDict({split: Dataset(tables[split]) for split in SPLITS})
    return PairSet(folder.name, splits, bible.LICENCE, dropped)


def hash_order(verses: Iterable[int]) -> list[int]:
    """Return verse ids in the order of the SHA-256 of their decimal form: fixed, and independent of the text."""
    return sorted(verses, key=lambda verse: hashlib.sha256(str(verse).encode()).digest())


def clauses(source: Words, target: Words) -> list[tuple[Words, Words]]:
    """Split a verse pair where both sides split alike, and join neighbouring pieces again up to 16 words (our choice).

    First at strong marks (. ; : ? !), then each piece at all marks; a level is used only if both sides have the same
    number of pieces. Pieces of more than 16 words, or that fail `aligned`, are left out.
    """
    joined: list[tuple[Words, Words]] = []
    for left, right in _pieces(source, target):
        if joined and max(len(joined[-1][0]) + len(left), len(joined[-1][1]) + len(right)) <= LONGEST:
            joined[-1] = (joined[-1][0] + left, joined[-1][1] + right)
        else:
            joined.append((left, right))
    return [pair for pair in joined if _fits(*pair, LONGEST) and aligned(*pair)] if len(joined) > 1 else []


def overlap(source: Words, target: Words) -> float:
    """Return the F1 of the shared words (punctuation aside) of two sentences, in [0, 1]."""
    left, right = (Counter(w for w in words if w[0].isalnum()) for words in (source, target))
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 0.0


def aligned(source: Words, target: Words) -> bool:
    """Whether two clauses may be one another's translation: lengths within a factor of 2, a quarter of words shared."""
    longer, shorter = max(len(source), len(target)), min(len(source), len(target))
    return longer <= LENGTH_RATIO * shorter and overlap(source, target) >= OVERLAP


def _cut(words: Words, marks: frozenset[str]) -> list[Words]:
    ends = [i + 1 for i, word in enumerate(words) if word in marks]
    if not ends or ends[-1] != len(words):
        ends.append(len(words))
    return [words[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def _pieces(source: Words, target: Words) -> list[tuple[Words, Words]]:
    for marks in (_STRONG, _ANY):
        left, right = _cut(source, marks), _cut(target, marks)
        if len(left) == len(right) > 1:
            if marks is _ANY:
                return list(zip(left, right, strict=True))
            return [leaf for pair in zip(left, right, strict=True) for leaf in _pieces(*pair)]
    return [(source, target)]


def _fits(source: Words, target: Words, longest: int) -> bool:
    return min(len(source), len(target)) >= SHORTEST and max(len(source), len(target)) <= longest


def _held_out(kjv: dict[int, Words], web: dict[int, Words], longest: int) -> dict[str, list[int]]:
    """Choose test and validation verses of 4 to `longest` words, no text twice among them."""
    order = hash_order(verse for verse in kjv.keys() & web.keys() if _fits(kjv[verse], web[verse], longest))
    chosen: dict[str, list[int]] = {"test": [], "validation": []}
    texts: set[tuple[str, ...]] = set()
    # From both ends: a short verse in the test split of one reading is then never in the validation split of the other.
    for split, candidates in (("test", order), ("validation", order[::-1])):
        for verse in candidates:
            pair = {tuple(kjv[verse]), tuple(web[verse])}
            if len(chosen[split]) < HELD_OUT and not pair & texts:
                chosen[split].append(verse)
                texts |= pair
    return chosen


def _candidates(texts: dict[str, dict[int, Words]], excluded: set[int], longest: int) -> Iterator[dict[str, Any]]:
    for version in ("kjv", "asv"):
        for verse in sorted(texts[version].keys() & texts["web"].keys() - excluded):
            source, target = texts[version][verse], texts["web"][verse]
            if _fits(source, target, longest):
                yield _row(source, target, verse, version, "verse")
            if not _fits(source, target, LONGEST):
                for left, right in clauses(source, target):
                    yield _row(left, right, verse, version, "clause")


def _row(source: Words, target: Words, verse: int, version: str, kind: str) -> dict[str, Any]:
    return {"src": " ".join(source), "trg": " ".join(target), "verse": verse, "version": version, "kind": kind}


def _build(longest: int) -> tuple[dict[str, pa.Table], dict[str, int]]:
    texts = {v: {i: bible.normalise(raw).split() for i, raw in bible.verses(v).items()} for v in bible.VERSIONS}
    kjv, web = texts["kjv"], texts["web"]
    # The verses of both readings are held out of both, so that a model trained on either may be scored on either.
    readings = {limit: _held_out(kjv, web, limit) for limit in (LONGEST, LONGEST_WHOLE)}
    excluded = {verse for chosen in readings.values() for verses in chosen.values() for verse in verses}
    known = {" ".join(side[verse]) for verse in excluded for side in (kjv, web)}

    dropped = {"text_of_a_held_out_verse": 0, "repeated_pair": 0}
    train, seen = [], set()
    for row in _candidates(texts, excluded, longest):
        pair = row["src"], row["trg"]
        if known.intersection(pair):
            dropped["text_of_a_held_out_verse"] += 1
        elif pair in seen:
            dropped["repeated_pair"] += 1
        else:
            seen.add(pair)
            train.append(row)
    rows = {s: [_row(kjv[v], web[v], v, "kjv", "verse") for v in vs] for s, vs in readings[longest].items()}
    return {split: pa.Table.from_pylist({"train": train, **rows}[split]) for split in SPLITS}, dropped


def _key() -> str:
    parts = [files.sha256(bible.source(version)) for version in bible.VERSIONS]
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
