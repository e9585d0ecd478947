"""The parameters of a notebook: what its parameters cell declares, and values held to it before a kernel starts."""

import ast
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import paths, strict_json
from lib.errors import UserError
from lib.running import contract

TYPES = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell: its type and default value."""

    type: type
    default: Any


def declared(notebook: Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook: one `name: type = value` a line, in the one cell tagged `parameters`.

    Raises `UserError` naming the notebook and the line: no such cell or several, a line without annotation, a default
    that is derived or of another type.
    """
    place = paths.relative(notebook)
    cells = [cell for cell in contract.read(notebook)["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    if len(cells) != 1 or cells[0]["cell_type"] != "code":
        raise UserError(f"{place}: {len(cells)} cells have the tag `parameters`: tag exactly one code cell")
    try:
        statements = ast.parse("".join(cells[0]["source"])).body
    except SyntaxError as error:
        raise UserError(f"{place}: parameters cell, line {error.lineno}: {error.msg}: mend the syntax") from error
    except (ValueError, RecursionError, MemoryError) as error:  # a NUL, or what is nested too deeply
        raise UserError(f"{place}: parameters cell: {error or type(error).__name__}: write plain values") from error
    found: dict[str, Parameter] = {}
    for statement in statements:
        name, parameter = _declaration(statement, place)
        if name in found:
            raise UserError(f"{place}: parameters cell, line {statement.lineno}: a second `{name}`: leave one")
        found[name] = parameter
    return found


def parse(notebook: Path, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Turn texts of the command line into values of the declared types; `changes` refuses what stays text.

    Raises `UserError` for a parameter that is given twice.
    """
    known = declared(notebook)
    names = [name for name, _ in pairs]
    for name in {name for name in names if names.count(name) > 1}:
        raise UserError(f"-p {strict_json.clip(name)}: given twice: leave one")
    return {name: _parse(text, known[name].type) if name in known else text for name, text in pairs}


def changes(notebook: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that differ from the defaults.

    Raises `UserError` for an unknown parameter, or a value of another type: the string "1e-4" is no float.
    """
    known = declared(notebook)
    for name, value in values.items():
        if name not in known:
            unknown = strict_json.clip(name)
            held = ", ".join(known) or "none"
            raise UserError(f"{paths.relative(notebook)}: unknown parameter {unknown!r}: it has {held}")
        if not _is(value, known[name].type):
            wanted, given = known[name].type.__name__, strict_json.clip(repr(value))
            raise UserError(
                f"{paths.relative(notebook)}: parameter {name} = {given} is not of type {wanted}: correct it"
            )
    return {name: value for name, value in values.items() if value != known[name].default}


def _declaration(statement: ast.stmt, place: str) -> tuple[str, Parameter]:
    line = f"{place}: parameters cell, line {statement.lineno}: `{_shown(statement)}`"
    match statement:
        case ast.AnnAssign(ast.Name(id=name), ast.Name(id=annotation), ast.expr() as value) if annotation in TYPES:
            try:
                default = ast.literal_eval(value)
            except (ValueError, TypeError, RecursionError, MemoryError) as error:
                raise UserError(f"{line} has a derived value: give a plain one, derive in a later cell") from error
            if not _is(default, TYPES[annotation]):
                raise UserError(f"{line} has a value of another type: correct one of them")
            return name, Parameter(TYPES[annotation], default)
    raise UserError(f"{line}: write `name: {' | '.join(TYPES)} = value`")


def _shown(statement: ast.stmt) -> str:
    try:
        return strict_json.clip(ast.unparse(statement).split("\n")[0])
    except (ValueError, RecursionError):  # a number of thousands of digits, or what is nested too deeply
        return "..."


def _is(value: Any, wanted: type) -> bool:
    """Whether a value is of a parameter's type: a whole number is a float too, bool and NaN are no numbers."""
    if wanted is float and type(value) in (float, int):
        return abs(value) <= sys.float_info.max  # false for NaN
    return type(value) is wanted


def _parse(text: str, wanted: type) -> Any:
    if wanted is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if wanted is int and re.fullmatch(r"[+-]?[0-9]{1,18}", text):  # a 64-bit number, as seeds are
        return int(text)
    if wanted is float:
        try:
            return float(text) if math.isfinite(float(text)) else text
        except ValueError:
            return text
    return text
