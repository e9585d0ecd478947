"""Malformed notebooks, contracts and parameters cells: one line before a kernel starts, naming notebook and cell."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import papermill
import pytest

from lib import paths
from lib.errors import UserError
from lib.running import contract, execution, parameters
from tests.hostile_inputs.judged import Input, all_refused

GOOD = json.loads((Path(__file__).parents[1] / "fixtures/notebooks/well_behaved.ipynb").read_text(encoding="utf-8"))
MISSING = object()
WRONG = {
    "missing": MISSING,
    "null": None,
    "true": True,
    "number": 5,
    "text": "x",
    "list": [5],
    "empty": [],
    "object": {"a": 1},
}
# A place in the notebook, and what is no damage there.
PLACES: dict[str, tuple[str, ...]] = {
    "nbformat": (),
    "nbformat_minor": ("number",),
    "cells": (),
    "cells.0": ("missing",),
    "cells.1": (),
    "cells.0.cell_type": (),
    "cells.0.source": ("text", "empty"),
    "cells.0.metadata": ("object",),
    "cells.0.metadata.tags": ("missing", "empty"),
    "cells.0.metadata.papermill": ("missing", "object"),
    "cells.0.id": ("missing", "text"),
    "cells.1.cell_type": (),
    "cells.1.source": (),
    "cells.1.metadata": (),
    "cells.1.metadata.tags": (),
    "cells.1.outputs": ("empty",),
    "cells.2.source": ("text", "empty"),
    "cells.2.outputs": ("empty",),
    "cells.2.metadata.execution": ("missing", "object"),
    "metadata": (),
    "metadata.kernelspec": (),
    "metadata.kernelspec.name": (),
    "metadata.language_info": ("missing", "object"),
    "metadata.papermill": ("missing", "object"),
    "metadata.reproduction": (),
    "metadata.reproduction.title": ("text",),
    "metadata.reproduction.item": ("text",),
    "metadata.reproduction.claim": ("text",),
    "metadata.reproduction.minutes": (),
    "metadata.reproduction.minutes.cpu": ("number",),
    "metadata.reproduction.minutes.smoke": ("number",),
    "metadata.reproduction.minutes.note": ("missing", "null", "text"),
    "metadata.reproduction.load": (),
    "metadata.reproduction.cases": ("empty",),
    "metadata.reproduction.writes": (),
    "metadata.reproduction.kinds": (),
    "metadata.reproduction.timeout": ("number",),
    "metadata.reproduction.reads_verdicts": ("missing", "true"),
    "metadata.reproduction.notebook": ("missing",),
    "metadata.reproduction.more": ("missing",),
}
BAD_LINES = ["", "   ", "a\nb", "a\rb", "a\u2028b", "a\0b"]
BAD_STEMS = ["", "/a", "../a", "a/../b", "a//b", "a/", "./a", ".a", "a\nb", "a\\b", "a\0b", "x" * 300]
BAD_CELLS = {
    "seed = 0": "write `name",
    "seed: int": "line 1",
    "seed: int = x": "derived",
    "seed: int = 1.0": "another type",
    "seed: int = True": "another type",
    "rate: float = 1e999": "another type",
    "rate: float = float('nan')": "derived",
    "seed: int = 0\nseed: int = 1": "a second `seed`",
    "seed: list = []": "write `name",
    "import os": "write `name",
    "for i in range(3):\n    seed: int = i": "write `name",
    "seed: int = ": "mend the syntax",
    "seed: int = 0)": "mend the syntax",
    "\tseed: int = 0": "mend the syntax",
    "%matplotlib inline": "mend the syntax",
    "seed: int = " + "9" * 5000: "parameters cell",
    "seed: int = " + "(" * 5000 + ")" * 5000: "parameters cell",
    "seed: int = " + "-" * 50_000 + "1": "parameters cell",
    "seed: int = 0\0": "parameters cell",
    "x" * 100_000: "write `name",
    "a.b: int = 0": "write `name",
}
BAD_VALUES = [("seed", "1.0"), ("seed", "9" * 5000), ("seed", ""), ("seed", "0x1"), ("rate", "nan"), ("rate", "inf")]
BAD_VALUES += [("rate", "1e999"), ("rate", "1,5"), ("fast", "1"), ("fast", "yes"), ("none", "1"), ("n" * 5000, "1")]
PASSED = [("rate", float("nan")), ("rate", float("inf")), ("rate", "1e-4"), ("rate", None), ("seed", [0]), ("fast", 0)]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let papermill do all that it does before a kernel starts, and say so instead of starting one."""
    for name in ("ROOT", "NOTEBOOKS", "FIGURES", "BUILD"):
        monkeypatch.setattr(paths, name, tmp_path / ("" if name == "ROOT" else name.lower()))
    original = papermill.execute_notebook

    def prepare(*arguments: Any, parameters: dict[str, Any], **options: Any) -> None:
        original(*arguments, parameters={"seed": 1, **parameters}, prepare_only=True, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", prepare)


def place(content: dict[str, Any], where: str, value: object) -> dict[str, Any]:
    """Return a copy of a notebook with another value at a place, or without what is there."""
    new: Any = copy.deepcopy(content)
    *above, last = [int(name) if name.isdecimal() else name for name in where.split(".")]
    holder = new
    for name in above:
        holder = holder[name]
    if value is not MISSING:
        holder[last] = copy.deepcopy(value)
    elif isinstance(last, int) or last in holder:
        del holder[last]
    return new


def notebooks(file: Path) -> Iterator[Input]:
    """Yield a notebook with each wrong value at each place."""
    for where, harmless in PLACES.items():
        for name, value in WRONG.items():
            if name not in harmless:
                file.write_text(json.dumps(place(GOOD, where, value)))
                yield Input(f"{where} {name}", lambda: execution.run(file), (file.name, said(where)))
    twice = place(GOOD, "cells.1.id", GOOD["cells"][0]["id"])
    for name, content in {
        "an identity twice": twice,
        "format 3": {"nbformat": 3, "worksheets": []},
        "a list": [GOOD],
    }.items():
        file.write_text(json.dumps(content))
        yield Input(name, lambda: execution.run(file), (file.name, "id|format 4|a list"))


def said(where: str) -> str:
    """Return what a message must name for damage at a place: the field, or what is missed for want of it."""
    field = where.split(".")[-1]
    if where.startswith("cells.1"):
        return f"{field}|cell 2|parameter"
    if where.startswith("metadata.kernelspec"):
        return "kernelspec"
    return f"{field}|`reproduction`|kernelspec|cell 1|first cell|format 4"


def contracts(file: Path) -> Iterator[Input]:
    """Yield a contract with each line and stem that cannot be."""

    def made(where: str, value: object) -> Input:
        file.write_text(json.dumps(place(GOOD, f"metadata.reproduction.{where}", value)))
        return Input(f"{where} {value!r}"[:60], lambda: contract.load(file), (file.name, where.split(".")[0]))

    for line in BAD_LINES:
        for field in ("title", "item", "claim", "minutes.note"):
            yield made(field, line)
    for stem in BAD_STEMS:
        yield made("cases", [stem])
        yield made("writes", [stem])
        yield made("kinds", {"fixtures/well_behaved": "table", stem: "table"})
    for value in (-1, -0.5, "1", None, [1], 1e300):
        yield made("minutes.cpu", -1e300 if value == 1e300 else value)
    for value in (0, -1, 1.5, "60", None, True):
        yield made("timeout", value)


def cells(file: Path) -> Iterator[Input]:
    """Yield parameters cells that declare nothing that could be set."""
    for source, words in BAD_CELLS.items():
        file.write_text(json.dumps(place(GOOD, "cells.1.source", source)))
        yield Input(source[:40], lambda: parameters.declared(file), (file.name, words))


def values(file: Path) -> Iterator[Input]:
    """Yield values that a parameter cannot have, as texts of the command line and as they are."""
    file.write_text(json.dumps(GOOD))
    for name, text in BAD_VALUES:
        pairs = [(name, text)]
        yield Input(
            f"{name} {text}"[:40],
            lambda pairs=pairs: parameters.changes(file, parameters.parse(file, pairs)),
            (file.name, "is not of type|unknown parameter"),
        )
    for name, value in PASSED:
        yield Input(
            f"{name} {value}", lambda name=name, value=value: parameters.changes(file, {name: value}), ("type",)
        )
    yield Input("twice", lambda: parameters.parse(file, [("seed", "1"), ("seed", "2")]), ("-p seed: given twice",))


@pytest.mark.parametrize("where", PLACES)
def test_what_is_no_damage_comes_as_far_as_a_kernel(tmp_path: Path, started: None, where: str) -> None:
    for name in PLACES[where]:
        (tmp_path / "n.ipynb").write_text(json.dumps(place(GOOD, where, WRONG[name])))
        with pytest.raises(KeyboardInterrupt):
            execution.run(tmp_path / "n.ipynb")


def test_malformed_notebooks(tmp_path: Path, started: None) -> None:
    assert all_refused(notebooks(tmp_path / "n.ipynb")) > 200


@pytest.mark.parametrize(("make", "least"), [(contracts, 70), (cells, 20), (values, 18)])
def test_wrong_contracts_cells_and_values(tmp_path: Path, make: Any, least: int) -> None:
    assert all_refused(make(tmp_path / "n.ipynb")) >= least


def test_a_folder_and_an_absent_file_are_no_notebooks(tmp_path: Path) -> None:
    (tmp_path / "folder.ipynb").mkdir()
    for name, words in (("folder.ipynb", "a folder"), ("absent.ipynb", "no such notebook"), ("nul\0.ipynb", "nul")):
        for act in (contract.load, contract.renew, parameters.declared, execution.run):
            with pytest.raises(UserError, match=words):
                act(tmp_path / name)
