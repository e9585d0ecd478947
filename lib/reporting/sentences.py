"""Sentences that a notebook prints below a table or a figure, so that they say what the records say today."""

from collections.abc import Mapping, Sequence

from lib.intervals.estimates import Interval
from lib.reporting import tables

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def tell(*sentences: str) -> None:
    """Show sentences as one paragraph of text."""
    from IPython.display import Markdown, display

    display(Markdown(" ".join(sentences)))


def spread(interval: Interval | Sequence[float], digits: int = 2, signed: bool = False) -> str:
    """Return an estimate with its interval, `0.40 [0.13, 0.67]`; `signed` writes the plus of a difference, too."""
    return tables.format_cell(Interval(*interval), f"{'+' if signed else ''}z.{digits}f")


def by_side(interval: Interval | Sequence[float], above: str, below: str, open_: str, margin: float = 0.0) -> str:
    """Return the wording for where an interval lies: wholly above `margin`, wholly below it, or across (`open_`)."""
    _, low, high = interval
    if low > margin:
        return above
    return below if high < margin else open_


def number(count: int, thing: str, things: str | None = None) -> str:
    """Return `three seeds`, `one seed`, `12 seeds`: a count in words up to ten, with the noun that it counts."""
    noun = thing if count == 1 else things or f"{thing}s"
    return f"{WORDS[count] if 0 <= count < len(WORDS) else f'{count:,}'} {noun}"


def listed(names: Sequence[str]) -> str:
    """Return `A`, `A and B` or `A, B and C`; `none` where there are no names."""
    *first, last = names or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def extremes(values: Mapping[str, float]) -> tuple[str, str]:
    """Return the names of the lowest and of the highest value, the first of equal ones.

    Raises `ValueError` without values.
    """
    return min(values, key=values.__getitem__), max(values, key=values.__getitem__)
