"""Sentences that a notebook prints below a table or a figure, so that they say what the records say today."""

from collections.abc import Mapping, Sequence

from lib.intervals.estimates import Interval
from lib.reporting import tables

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
MORE = 3  # digits of a small difference


def tell(*sentences: str) -> None:
    """Show sentences as one paragraph of text."""
    from IPython.display import Markdown, display

    display(Markdown(" ".join(sentences)))


def spread(interval: Interval | Sequence[float], digits: int = 2, signed: bool = False) -> str:
    """Return an estimate with its interval, `0.40 [0.13, 0.67]`, or a `signed` difference, `+0.004 [-0.010, +0.018]`.

    A difference has up to `MORE` digits more where rounding would hide the sign of its estimate, or that of an end of
    an interval that leaves 0 out; what is rounded to 0 all the same has no sign.
    """
    found = Interval(*interval)
    if not signed:
        return tables.format_cell(found, f"z.{digits}f")
    enough = _digits(found if found.low > 0 or found.high < 0 else found[:1], digits)
    estimate, low, high = (_signed(one, enough) for one in found)
    return f"{estimate} [{low}, {high}]"


def difference(value: float, digits: int = 2) -> str:
    """Return a difference without an interval, `+0.40`, with its sign and digits as in `spread`."""
    return _signed(value, _digits([value], digits))


def _digits(values: Sequence[float], least: int) -> int:
    """Return the fewest digits, at least `least`, in which no value is rounded to 0 that `MORE` digits would show."""
    shown = [one for one in values if round(one, least + MORE)]
    return next(count for count in range(least, least + MORE + 1) if all(round(one, count) for one in shown))


def _signed(value: float, digits: int) -> str:
    return f"{value:{'+' if round(value, digits) else 'z'}.{digits}f}"


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


def ties(values: Mapping[str, float], digits: int = 2, *, lowest: bool = False) -> list[str]:
    """Return the names of all that share the highest value, or the `lowest`, as it is told: rounded to `digits`.

    Raises `ValueError` without values.
    """
    rounded = {name: round(value, digits) for name, value in values.items()}
    best = min(rounded.values()) if lowest else max(rounded.values())
    return [name for name, value in rounded.items() if value == best]


def extremes(values: Mapping[str, float]) -> tuple[str, str]:
    """Return the names of the lowest and of the highest value, the first of equal ones.

    Raises `ValueError` without values.
    """
    return min(values, key=values.__getitem__), max(values, key=values.__getitem__)
