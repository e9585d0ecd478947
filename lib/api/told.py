"""What a verb of the command line tells: one JSON document, and text in columns for a person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib import strict_json

WIDEST = 44  # characters of a cell


@dataclass(frozen=True)
class Told:
    """What a verb found: one JSON document, and the text that a person reads."""

    document: dict[str, Any]
    text: str


def finite(value: Any) -> Any:
    """Return a number as it is, None in place of one that JSON has not."""
    return None if isinstance(value, float) and not -float("inf") < value < float("inf") else value


def one_line(text: str) -> str:
    """Return a text with single blanks in place of line ends and the like."""
    return " ".join(text.split())


def table(rows: Sequence[Mapping[str, Any]], widest: Mapping[str, int] | None = None) -> str:
    """Return rows as columns under their names, numbers with three places."""
    if not rows:
        return ""
    names = list(rows[0])
    cells = [names, *([cell(row[name], (widest or {}).get(name, WIDEST)) for name in names] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(names))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def cell(value: Any, most: int = WIDEST) -> str:
    """Return a value in at most so many characters: a number with three places, - for None."""
    if value is None or isinstance(value, bool):
        return "-" if value is None else "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else strict_json.clip(one_line(str(value)), most)
