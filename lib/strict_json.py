"""JSON as users hold it, read strictly: whatever is no text, no JSON, or not what it seems is one line that says where.

Python's own reader also takes NaN and infinities, lone surrogates and the last of two equal keys, and has limits on
depth and digits that are no errors of JSON.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib import paths
from lib.errors import UserError

LONGEST_NUMBER = 300  # characters; the largest float has 309 digits, and Python reads integers of 4,300 at most
SHOWN = 8  # keys of an object that a message names
_BLANK = re.compile(r"[ \t\n\r]*")
_BYTE_ORDER_MARK = "\ufeff"


def clip(text: str, most: int = 60) -> str:
    """Return a text on one line, cut to `most` characters: what a message can show of it."""
    line = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}…"


def kind(value: Any) -> str:
    """Return what a value of JSON is, as a message says it: "null", "a list", "a text"."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")


def keys(content: dict[str, Any]) -> str:
    """Return the first keys of an object for a message, "none" where it is empty."""
    named = ", ".join(clip(key) for key in list(content)[:SHOWN])
    return f"{named}, … ({len(content)} in all)" if len(content) > SHOWN else named or "none"


def read_text(path: Path) -> str:
    """Return the text of a file, without a byte order mark at its beginning.

    Raises `UserError` naming file, place and remedy for what is absent, no file, unreadable, not UTF-8, or has NULs.
    """
    place = paths.relative(path)
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{place}: {'a folder' if path.is_dir() else 'a device or pipe'}, not a file; name a file")
        content = path.read_bytes()
    except PermissionError as error:
        raise UserError(f"{place}: {error.strerror or error}; let yourself read it (chmod u+r)") from error
    except (OSError, ValueError) as error:  # a name that holds a NUL is a ValueError
        raise UserError(f"{place}: {getattr(error, 'strerror', None) or error}; check the path of the file") from error
    if (at := content.find(b"\0")) >= 0:
        where = _line_and_byte(content, at)
        raise UserError(f"{place}, {where}: a NUL, so not UTF-8 or damaged; save the file as UTF-8, or fetch it again")
    try:
        return content.decode().removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        where = _line_and_byte(content, error.start)
        raise UserError(f"{place}, {where}: not UTF-8; save the file as UTF-8") from error


def parse(text: str, place: str, remedy: str = "mend it") -> Any:
    """Return the one value that a text holds; `UserError` beginning with `place` and ending in `remedy`.

    Refused are broken JSON, keys that an object has twice, NaN and infinities, numbers of more than `LONGEST_NUMBER`
    characters, halves of a surrogate pair, and what is nested deeper than Python reads.
    """
    value, end = _value(text, _blank(text, 0), place, remedy)
    if (end := _blank(text, end)) < len(text):
        raise UserError(f"{place}: broken JSON (something after its end, {_where(text, end)}); {remedy}")
    return value


def elements(text: str, place: str, remedy: str = "mend it") -> Iterator[tuple[str, Any]]:
    """Yield the place of each element of a JSON list and the element; raises as `parse`, from the first bad one on."""
    index, line, counted = _blank(text, _blank(text, 0) + 1), 1, 0
    number, closed = 0, text[index : index + 1] == "]"
    while not closed:
        number += 1
        line, counted = line + text.count("\n", counted, index), index
        here = f"{place}, record {number} (line {line})"
        value, index = _value(text, index, here, remedy)
        yield here, value
        index = _blank(text, index)
        closed = text[index : index + 1] == "]"
        if not closed and text[index : index + 1] != ",":
            missing = "the file ends too early" if index == len(text) else "no comma after it"
            raise UserError(f"{here}: broken JSON ({missing}, {_where(text, index)}); {remedy}")
        index = _blank(text, index + 1) if not closed else index
    if (index := _blank(text, index + 1)) < len(text):
        raise UserError(f"{place}: broken JSON (something after the list, {_where(text, index)}); {remedy}")


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines that are not blank; byte order marks and foreign line ends go."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if line.strip():
            yield number, line.removeprefix(_BYTE_ORDER_MARK)


def _value(text: str, index: int, place: str, remedy: str) -> tuple[Any, int]:
    """Return the value that begins at an index, and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text, index)
        if text.find("\\", index, end) >= 0 and (bad := _surrogate(value)):  # only an escape can say one
            raise ValueError(f"half a surrogate pair in {bad}")
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        reason = "the text ends too early" if cut else error.msg.split(":")[0]
        raise UserError(f"{place}: broken JSON ({reason}, {_where(text, error.pos)}); {remedy}") from error
    except RecursionError as error:
        raise UserError(f"{place}: nested too deeply; {remedy}") from error
    except ValueError as error:
        raise UserError(f"{place}: {error}; {remedy}") from error
    return value, end


def _surrogate(value: Any) -> str:
    """Return where a value holds half a surrogate pair, which no UTF-8 text can; empty where it holds none."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str) and not one.isascii():
            try:
                one.encode()
            except UnicodeEncodeError:
                return f'the text "{clip(one)}"'
        elif isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list):
            left += one
    return ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f'the key "{clip(twice)}" stands twice in one object')
    return content


def _number(digits: str, made: type[int] | type[float]) -> int | float:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits)} characters ({clip(digits, 12)})")
    if not math.isfinite(number := made(digits)):
        raise ValueError(f"the number {clip(digits, 12)} is beyond what a float holds")
    return number


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=lambda digits: _number(digits, int),
    parse_float=lambda digits: _number(digits, float),
    parse_constant=_constant,
)


def _blank(text: str, index: int) -> int:
    found = _BLANK.match(text, index)
    return found.end() if found else len(text)


def _where(text: str, index: int) -> str:
    line, column = text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
    return f"line {line}, column {column}" if "\n" in text.strip() else f"column {column}"


def _line_and_byte(content: bytes, index: int) -> str:
    line, byte = content.count(b"\n", 0, index) + 1, index - content.rfind(b"\n", 0, index)
    return f"line {line} (byte {byte})"
