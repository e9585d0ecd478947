"""Files of JSON lines, one object a line: the user's own data."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from lib import paths
from lib.errors import UserError


class Line(NamedTuple):
    """One line that is not blank: its number in the file, file and line as errors name them, and its object."""

    number: int
    place: str
    content: dict[str, Any]


def read(path: Path, what: str, layout: str) -> list[Line]:
    """Return the lines of a file, in order; a byte order mark and foreign line ends are read too.

    `what` a line holds ("sentence pairs") and its `layout` are for messages. Raises `UserError` naming file, line and
    remedy for a missing or empty file, text that is not UTF-8, a broken line, and one that is no object.
    """
    place = paths.relative(path)
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{place}: {error.strerror or error}; check the path of the data file") from error
    found = [
        Line(number, f"{place}, line {number}", _parsed(line, f"{place}, line {number}", layout))
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not found:
        raise UserError(f"{place}: no {what}; write one {layout} per line")
    return found


def _parsed(line: bytes, place: str, layout: str) -> dict[str, Any]:
    try:
        content = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: broken JSON ({error.msg}, column {error.colno}); mend or remove the line") from error
    if not isinstance(content, dict):
        raise UserError(f"{place}: not a JSON object; write {layout}")
    return content
