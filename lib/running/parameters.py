"""The parameters of a notebook: what its parameters cell declares, and values held to it before a kernel starts."""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import paths
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
    return dict(_declaration(statement, place) for statement in statements)


def parse(notebook: Path, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Turn texts of the command line into values of the declared types; `changes` refuses what stays text."""
    known = declared(notebook)
    return {name: _parse(text, known[name].type) if name in known else text for name, text in pairs}


def changes(notebook: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that differ from the defaults.

    Raises `UserError` for an unknown parameter, or a value of another type: the string "1e-4" is no float.
    """
    known = declared(notebook)
    for name, value in values.items():
        if name not in known:
            raise UserError(f"{paths.relative(notebook)}: unknown parameter {name!r}: it has {', '.join(known)}")
        if not _is(value, known[name].type):
            wanted = known[name].type.__name__
            raise UserError(
                f"{paths.relative(notebook)}: parameter {name} = {value!r} is not of type {wanted}: correct it"
            )
    return {name: value for name, value in values.items() if value != known[name].default}


def _declaration(statement: ast.stmt, place: str) -> tuple[str, Parameter]:
    line = f"{place}: parameters cell, line {statement.lineno}: `{ast.unparse(statement)}`"
    match statement:
        case ast.AnnAssign(ast.Name(id=name), ast.Name(id=annotation), ast.expr() as value) if annotation in TYPES:
            try:
                default = ast.literal_eval(value)
            except (ValueError, TypeError) as error:
                raise UserError(f"{line} has a derived value: give a plain one, derive in a later cell") from error
            if not _is(default, TYPES[annotation]):
                raise UserError(f"{line} has a value of another type: correct one of them")
            return name, Parameter(TYPES[annotation], default)
    raise UserError(f"{line}: write `name: {' | '.join(TYPES)} = value`")


def _is(value: Any, wanted: type) -> bool:
    """Whether a value is of a parameter's type; a whole number is a float too, a bool is no number."""
    return type(value) is wanted or (wanted is float and type(value) is int)


def _parse(text: str, wanted: type) -> Any:
    if wanted is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if wanted is int and re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    if wanted is float:
        try:
            return float(text) if math.isfinite(float(text)) else text
        except ValueError:
            return text
    return text
