"""The records in files of the user's own: JSON lines, one object a line, or one JSON list of objects."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lib import paths, strict_json
from lib.errors import UserError

_MENDED_BY = {
    "null": "fill it or remove the record",
    "a list": "give one text",
    "a number": "put it in quotation marks",
    "true or false": "put it in quotation marks",
}


def fields(row: Any, place: str, layout: str) -> dict[str, Any]:
    """Return the fields of a row that was given in a call; `UserError` for what has none, as a tuple or a text."""
    if not isinstance(row, Mapping):
        raise UserError(f"{place} is of type {type(row).__name__}: give {layout}")
    return dict(row)


@dataclass(frozen=True)
class Record:
    """One object of a file: where it stands, as messages name it, its number (of its line in JSON lines), its fields.

    Where several names of a field are given, they stand for the same in different layouts: the first that is there
    counts. `above` names the field that this object is itself the content of.
    """

    place: str
    number: int
    content: dict[str, Any]
    above: str = ""

    def name(self, names: Sequence[str]) -> str:
        """Return the name under which the record holds a field; `UserError` for none."""
        found = next((name for name in names if name in self.content), None)
        if found is None:
            wanted = " or ".join(f'"{self.above}{name}"' for name in names)
            held = strict_json.keys(self.content)
            raise UserError(f"{self.place}: no field {wanted} (found: {held}); rename or add it")
        return found

    def has(self, *names: str) -> bool:
        """Whether one of the fields is there and not null."""
        return any(self.content.get(name) is not None for name in names)

    def text(self, *names: str) -> str:
        """Return a text without the blanks around it; `UserError` for something else and for an empty one."""
        name = self.name(names)
        found = self.content[name]
        if not isinstance(found, str):
            kind = strict_json.kind(found)
            self.refuse(name, f"is {kind} where a text is expected; {_MENDED_BY.get(kind, 'see the layout')}")
        if not found.strip():
            self.refuse(name, "is empty; fill it or remove the record")
        return found.strip()

    def texts(self, *names: str) -> tuple[str, ...]:
        """Return the texts of a field that holds one or a list of them; raises as `text`, and for an empty list."""
        name = self.name(names)
        if not isinstance(self.content[name], list):
            return (self.text(name),)
        if not self.content[name]:
            self.refuse(name, "is an empty list; give a text or remove the record")
        listed = self.inside(name)
        return tuple(listed.text(place) for place in listed.content)

    def inside(self, *names: str) -> "Record":
        """Return what stands in a field (an object, or a list by its places) as a record of its own."""
        name = self.name(names)
        content = self.content[name]
        if isinstance(content, list):
            content = {str(place): item for place, item in enumerate(content)}
        if not isinstance(content, dict):
            self.refuse(name, f"is {strict_json.kind(content)}, not an object or list; see the layout")
        return Record(self.place, self.number, content, f"{self.above}{name}.")

    def refuse(self, name: str, problem: str) -> NoReturn:
        """Raise the `UserError` that tells what is wrong with a field, and its remedy."""
        raise UserError(f'{self.place}: field "{self.above}{strict_json.clip(name)}" {problem}')


def read(path: Path, what: str, layout: str) -> list[Record]:
    """Return the records of a file, in order; a byte order mark and foreign line ends are read too.

    `what` a record holds ("sentence pairs") and its `layout` are for messages. Raises `UserError` naming file, line or
    record, and remedy for a file that cannot be read or is empty, for whatever `strict_json` refuses, and for a record
    that is no object.
    """
    place = paths.relative(path)
    text = strict_json.read_text(Path(path))
    listed = text.lstrip().startswith("[")
    found = list(enumerate(strict_json.elements(text, place), 1) if listed else _of_lines(text, place, what))
    for _, (here, content) in found:
        if not isinstance(content, dict):
            raise UserError(f"{here}: not a JSON object but {strict_json.kind(content)}; write {layout}")
    if not found:
        raise UserError(f"{place}: no {what}; write one {layout} per line, or a list of them")
    return [Record(here, number, content) for number, (here, content) in found]


def _of_lines(text: str, place: str, what: str) -> Iterator[tuple[int, tuple[str, Any]]]:
    """Yield the number of each line, its place, and what it holds."""
    for number, line in strict_json.lines(text):
        here = f"{place}, line {number}"
        try:
            yield number, (here, strict_json.parse(line, here, "mend or remove the line"))
        except UserError:
            _refuse_one_value(text, place, what)
            raise


def _refuse_one_value(text: str, place: str, what: str) -> None:
    """Refuse a file that is one value over several lines, like {"data": [...]}: no broken lines, but another form."""
    try:
        content = strict_json.parse(text, place)
    except UserError:
        return
    held = f"one object ({strict_json.keys(content)})" if isinstance(content, dict) else strict_json.kind(content)
    raise UserError(f"{place}: {held} over several lines, not a list; give {what} alone: as a list, or one a line")
