"""Readers of the field's own instruction files: Dolly, Self-Instruct's user tasks, Vicuna, S-NI, UnNI.

All are JSON lines or one JSON list, in the layout that MiniLLM and its successors share (instruction, input, output)
or in that of the set's own release. These are the user's files: only the profile `paper` trains on them
(`lib.text.suites`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lib.errors import UserError
from lib.text import json_records
from lib.text.instructions import Instruction
from lib.text.json_records import Record


@dataclass(frozen=True)
class _Layout:
    """Under which keys a set holds its fields, the usual key first; an input may be missing or empty."""

    instruction: tuple[str, ...]
    input: tuple[str, ...]
    output: tuple[str, ...]
    nested: str | None = None  # key of a list of objects with input and output


_LAYOUTS: Mapping[str, _Layout] = {
    "dolly": _Layout(("instruction",), ("input", "context"), ("output", "response")),
    "selfinst": _Layout(("instruction",), ("input",), ("output",), nested="instances"),
    "vicuna": _Layout(("instruction", "text"), (), ("output",)),
    "sni": _Layout(("instruction",), ("input",), ("output",)),
    "unni": _Layout(("instruction",), ("input",), ("output",)),
}
NAMES = tuple(_LAYOUTS)


def read(name: str, path: Path) -> list[Instruction]:
    """Read the instructions of one set, in the order of the file; blanks around texts go.

    `name`: one of `NAMES`. An output may be one text or a list of them, all right; the first is the output.
    Self-Instruct's own release has several instances under one instruction: each is an instruction here. Raises
    `UserError` naming file, line and remedy for whatever `json_records` refuses, a missing field, a field of another
    type, an empty instruction or output; and for another name.
    """
    if name not in _LAYOUTS:
        raise UserError(f"no instruction files called {name!r}: choose one of {', '.join(NAMES)}")
    return [
        Instruction(instruction, given, outputs[0], name, f"{name}/{record.number}/{instance}", outputs)
        for record in json_records.read(path, "instructions", '{"instruction": ..., "output": ...}')
        for instance, (instruction, given, outputs) in enumerate(_parsed(record, _LAYOUTS[name]))
    ]


def _parsed(record: Record, layout: _Layout) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield instruction, input and outputs of each instance in one record."""
    instruction = record.text(*layout.instruction)
    for one in _instances(record, layout.nested):
        yield instruction, _input(one, layout), one.texts(*layout.output)


def _instances(record: Record, nested: str | None) -> list[Record]:
    if nested is None or nested not in record.content:
        return [record]
    instances = record.content[nested]
    if not isinstance(instances, list) or not instances or not all(isinstance(one, dict) for one in instances):
        record.refuse(nested, "is not a list of objects; mend or remove the record")
    listed = record.inside(nested)
    return [listed.inside(place) for place in listed.content]


def _input(record: Record, layout: _Layout) -> str:
    """Return the input, empty where it is missing, null or blank."""
    name = next((name for name in layout.input if record.has(name)), None)
    if name is None or (isinstance(record.content[name], str) and not record.content[name].strip()):
        return ""
    return record.text(name)
