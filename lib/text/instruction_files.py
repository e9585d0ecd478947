"""Readers of the field's own instruction files: Dolly, Self-Instruct's user tasks, Vicuna, S-NI, UnNI.

All are JSON lines, one object a line, in the layout that MiniLLM and its successors share (instruction, input, output)
or in that of the set's own release. These are the user's files: only the profile `paper` trains on them
(`lib.text.suites`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.text import json_lines
from lib.text.instructions import Instruction


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
    `UserError` naming file, line and remedy for a missing or empty file, text that is not UTF-8, a broken line, a
    missing field, a field of another type, an empty instruction or output; and for another name.
    """
    if name not in _LAYOUTS:
        raise UserError(f"no instruction files called {name!r}: choose one of {', '.join(NAMES)}")
    return [
        Instruction(instruction, given, outputs[0], name, f"{name}/{line.number}/{instance}", outputs)
        for line in json_lines.read(path, "instructions", '{"instruction": ..., "output": ...}')
        for instance, (instruction, given, outputs) in enumerate(_parsed(line.content, _LAYOUTS[name], line.place))
    ]


def _parsed(content: Mapping[str, Any], layout: _Layout, place: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield instruction, input and outputs of each instance on one line; `place` names file and line in errors."""
    instruction = _text(content, _key(content, layout.instruction, place), place)
    instances = content.get(layout.nested, [content])  # type: ignore[arg-type]  # None is no field's name
    if not isinstance(instances, list) or not instances or not all(isinstance(one, dict) for one in instances):
        raise UserError(f'{place}: field "{layout.nested}" is not a list of objects; mend or remove the line')
    for one in instances:
        yield instruction, _input(one, layout, place), _outputs(one, layout, place)


def _key(content: Mapping[str, Any], keys: tuple[str, ...], place: str) -> str:
    found = next((key for key in keys if key in content), None)
    if found is None:
        named = " or ".join(f'"{key}"' for key in keys)
        raise UserError(f"{place}: no field {named} (found: {', '.join(content) or 'none'}); rename or add it")
    return found


def _text(content: Mapping[str, Any], key: str, place: str) -> str:
    if not isinstance(content[key], str):
        raise UserError(f'{place}: field "{key}" is not a text; put it in quotation marks')
    if not content[key].strip():
        raise UserError(f'{place}: field "{key}" is empty; fill it or remove the line')
    return content[key].strip()


def _input(content: Mapping[str, Any], layout: _Layout, place: str) -> str:
    """Return the input, empty where it is missing, null or blank."""
    key = next((key for key in layout.input if content.get(key) is not None), None)
    if key is None or not str(content[key]).strip():
        return ""
    return _text(content, key, place)


def _outputs(content: Mapping[str, Any], layout: _Layout, place: str) -> tuple[str, ...]:
    key = _key(content, layout.output, place)
    if not isinstance(content[key], list):
        return (_text(content, key, place),)
    if not content[key]:
        raise UserError(f'{place}: field "{key}" is an empty list; give a reference or remove the line')
    return tuple(_text({key: one}, key, place) for one in content[key])
