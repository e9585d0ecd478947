"""Stamps see every change that can change a number, and none that cannot."""

import ast
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.errors import UserError
from lib.statements import reach
from lib.statements.parsing import Code
from lib.statements.reach import Reach

MODEL = '''"""A model."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, field_validator
from torch import nn

from lib.series.numbers import offset


@dataclass(frozen=True)
class Shape:
    """Its shape."""

    steps: int
    rate: float = 0.5


class Config(BaseModel):
    """Its config."""

    width: int = 4
    depth: int = 2

    @field_validator("width")
    @classmethod
    def whole(cls, value):
        return max(1, value)


class Base:
    def __init__(self, config):
        self.config = config

    def edit(self, batch):
        return len(batch)

    def unused(self):
        return 0


class Net(nn.Module, Base):
    def forward(self, x):
        return self.scaled(x)

    scale: float

    def scaled(self, x):
        return x * self.config.width

    def never(self, x):
        return x


def loss(value: float, weight: float = 2.0) -> float:
    """The loss."""
    scale: float = weight - offset()
    return scale * value  # why


def name(step: int) -> str:
    return f"step {step:>4} of" f" {loss(step)!r}"
'''

FILES = {
    "lib": '"""The package."""\n',
    "lib.paths": "ROOT = 1\n",
    "lib.registry": "class Row: ...\nclass Registry: ...\n",
    "lib.series": "from .constants import HALF\n",
    "lib.series.constants": "HALF = 0.5\nQUARTER = 0.25\n",
    "lib.series.numbers": "def offset():\n    from ..shared import tables\n    return tables.ONE\n",
    "lib.series.model": MODEL,
    "lib.series.training": (
        "from typing import TYPE_CHECKING\n"
        "import lib.paths\nfrom . import model as m\nfrom lib.shared.tables import ONE as FIRST, LEAST\n"
        "from lib.series.rows import LOSSES\n"
        "if TYPE_CHECKING:\n    from lib.unreached import Never\n"
        "def train(case):\n"
        "    net = m.Net(case.config)\n"
        "    shape = m.Shape(1)\n"
        "    half = lib.series.HALF\n"
        "    least = LEAST\n"
        "    print(m.name(3), lib.paths.ROOT, shape.rate, net.edit([FIRST]))\n"
        "    return LOSSES[case.config.loss].function(1.0) + FIRST + half\n"
    ),
    "lib.series.rows": (
        "from lib.registry import Registry, Row\nfrom lib.series import losses\n"
        "LOSSES = Registry('loss', {\n"
        "    'near': Row(title='near', function=losses.near),\n"
        "    'far': Row(title='far', function=losses.far),\n"
        "})\n"
    ),
    "lib.series.losses": "def near(x):\n    return x\ndef far(x):\n    return 2 * x\ndef third(x):\n    return 3 * x\n",
    "lib.shared": "",
    "lib.shared.tables": "ONE = 1\nLEAST = {'a': 1}\nLEAST |= {'b': 2}\nfor one in ():\n    print(one)\n",
    "lib.shared.other": "ONE = 2\n",
    "lib.unreached": "Never = 0\n",
}
CONFIGS = ("lib.series.model:Config",)

# Pieces whose syntax trees differed between versions of Python while they were being written.
TRICKY = """
f"{x:}" f"" "a" f"{y!s:>{width}.{digits}f}" "b" '\\N{BULLET}\\U0001fae8'
f"{x=}" f"{{}}" f"{a['k']}" rf"\\d{x}"
f"{f'{z}'}{'q'}"
def one(a, /, b: int = 1, *c, d=-0.0, **e) -> None: ...
async def two():
    async with a as b, c: return [i async for i in d if i]
match x:
    case {"a": [1, *rest], **others} | Point(x=0): pass
try: pass
except* ValueError as group: raise
x: int
y: float = 1e400
z = 1j, b"\\xff", ..., None, True, 10**30, u"kind", "\\ud800"
lambda *, k=1: (yield)
del a[b:c, ::2], d.e
"""


def stamp(texts: dict[str, str], *words: str) -> list[str]:
    return Reach(Code(texts), ["lib.series.training:train"], CONFIGS, words or ("near",)).lines()


def changed(module: str, old: str, new: str, *words: str) -> bool:
    assert FILES[module].count(old) == 1, old
    return stamp(FILES | {module: FILES[module].replace(old, new)}, *words) != stamp(FILES, *words)


def names(*words: str) -> set[str]:
    return {line.split()[0] for line in stamp(FILES, *words)}


def test_what_is_reached_is_what_the_computation_can_run():
    assert names("near") == {
        *("train", "name", "loss", "offset", "ONE", "HALF", "LEAST", "statement", "one", "near", "LOSSES['near']"),
        *("Shape", "Config", "Base", "Base.edit", "Net", "Net.forward", "Net.scaled"),
    }


def test_a_look_up_takes_the_rows_that_the_config_names_and_all_where_it_names_none():
    assert names("far") - names("near") == {"far", "LOSSES['far']"}
    assert {"near", "far"} < names("neither")


SILENT = {
    "comment": ("lib.series.model", "# why", "# because"),
    "docstring of a module": ("lib.series.model", '"""A model."""', '"""Another text."""'),
    "docstring of a function": ("lib.series.model", '    """The loss."""\n', ""),
    "docstring of a class": ("lib.series.model", '"""Its config."""', "'''One. Two.'''"),
    "annotation of a parameter": ("lib.series.model", "value: float,", "value,"),
    "annotation of a result": ("lib.series.model", "-> float", "-> 'float | None'"),
    "annotation of a variable": ("lib.series.model", "scale: float =", "scale ="),
    "annotation of a field": ("lib.series.model", "rate: float =", "rate: int ="),
    "a bare annotation of a plain class": ("lib.series.model", "    scale: float\n\n    def scaled", "    def scaled"),
    "import for annotations": ("lib.series.model", "import Sequence", "import Callable, Sequence"),
    "imports sorted otherwise": (
        "lib.series.training",
        "import lib.paths\nfrom . import model as m\n",
        "from . import model as m\nimport lib.paths\n",
    ),
    "a module under another name": ("lib.series.model", "from torch import nn", "import torch.nn as nn"),
    "layout": ("lib.series.model", "return scale * value", "return (\n        scale\n        * value\n    )"),
    "quotes": ("lib.series.model", 'f" {loss(step)!r}"', "f' {loss(step)!r}'"),
    "where an f-string is cut": ("lib.series.model", 'of" f" {', "of {"),
    "a new function": ("lib.series.model", "def name(", "def other():\n    return 1\n\n\ndef name("),
    "an unused function": ("lib.series.losses", "3 * x", "4 * x"),
    "a new method of a base class": (
        "lib.series.model",
        "    def unused",
        "    def more(self):\n        return 2\n\n    def unused",
    ),
    "an unused method": ("lib.series.model", "        return 0\n", "        return 1\n"),
    "a new field of a config": ("lib.series.model", "    depth: int = 2\n", "    depth: int = 2\n    more: int = 0\n"),
    "a row's title": ("lib.series.rows", "title='near'", "title='Near'"),
    "a new row": ("lib.series.rows", "    'far'", "    'third': Row(title='3', function=losses.third),\n    'far'"),
    "another row": ("lib.series.losses", "2 * x", "3 - x"),
    "a constant beside": ("lib.series.constants", "QUARTER = 0.25", "QUARTER = 0.2"),
    "what stores": ("lib.paths", "ROOT = 1", "ROOT = 2"),
}


@pytest.mark.parametrize("change", SILENT.values(), ids=SILENT)
def test_silent_changes_leave_the_stamp(change):
    assert not changed(*change)


LOUD = {
    "sign": ("lib.series.model", "weight - offset", "weight + offset"),
    "order of operands": ("lib.series.model", "weight - offset()", "offset() - weight"),
    "a default in a signature": ("lib.series.model", "2.0", "2.5"),
    "type of a constant": ("lib.series.model", "2.0", "2"),
    "name of a field": ("lib.series.model", "rate: float", "ratio: float"),
    "a field gone": ("lib.series.model", "    steps: int\n", ""),
    "decorator": ("lib.series.model", "frozen=True", "frozen=False"),
    "a base class": ("lib.series.model", "class Net(nn.Module, Base)", "class Net(Base, nn.Module)"),
    "a validator": ("lib.series.model", "max(1, value)", "max(2, value)"),
    "a dunder method": ("lib.series.model", "self.config = config", "self.config = config or None"),
    "a method called by a library": ("lib.series.model", "return self.scaled(x)", "return self.scaled(x) + 1"),
    "a method of a base class": ("lib.series.model", "return len(batch)", "return len(batch) + 1"),
    "text": ("lib.series.model", "step {", "steps {"),
    "format": ("lib.series.model", ":>4}", ":>5}"),
    "conversion": ("lib.series.model", "!r", "!s"),
    "another function under the same name": (
        "lib.series.numbers",
        "..shared import tables",
        "..shared import other as tables",
    ),
    "a constant imported elsewhere under another name": ("lib.shared.tables", "ONE = 1", "ONE = 3"),
    "a constant handed on by a package": ("lib.series.constants", "HALF = 0.5", "HALF = 0.6"),
    "an entry of a table filled by |=": ("lib.shared.tables", "'b': 2", "'b': 3"),
    "a top-level for": ("lib.shared.tables", "for one in ()", "for one in (1,)"),
    "the row that is used": ("lib.series.losses", "return x\n", "return -x\n"),
    "another function in the row": ("lib.series.rows", "function=losses.near", "function=losses.third"),
    "library function imported": ("lib.series.model", "from torch import nn", "from jax import nn"),
}


@pytest.mark.parametrize("change", LOUD.values(), ids=LOUD)
def test_changes_of_code_change_the_stamp(change):
    assert changed(*change)


def test_a_moved_module_changes_no_stamp():
    moved = {name: text for name, text in FILES.items() if name != "lib.series.losses"}
    moved |= {"lib.shared.losses": FILES["lib.series.losses"]}
    moved["lib.series.rows"] = FILES["lib.series.rows"].replace(
        "from lib.series import losses", "from lib.shared import losses"
    )
    assert stamp(moved) == stamp(FILES)


def test_two_functions_of_one_name_that_change_places_are_told_apart():
    texts = FILES | {
        "lib.series.numbers": "from lib.shared import other, tables\ndef offset():\n    return tables.ONE - other.ONE\n"
    }
    swapped = texts["lib.series.numbers"].replace("tables.ONE - other.ONE", "other.ONE - tables.ONE")
    assert stamp(texts) != stamp(texts | {"lib.series.numbers": swapped})


def test_every_operator_and_number_of_a_tree_counts():
    tree = ast.parse(MODEL)
    original, seen = stamp(FILES), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp):
            kept, node.op = node.op, ast.MatMult()
            seen.add(tuple(stamp(FILES | {"lib.series.model": ast.unparse(tree)})))
            node.op = kept
        elif isinstance(node, ast.Constant) and isinstance(node.value, float):
            node.value += 1
            seen.add(tuple(stamp(FILES | {"lib.series.model": ast.unparse(tree)})))
            node.value -= 1
    assert len(seen) == 5  # three operators and two floats, all told apart
    assert tuple(original) not in seen


OURS = sorted(reach.PACKAGE.rglob("*.py"))
CORPUS = [*OURS, *(Path(module.__file__) for module in (dataclasses, ast))]


def whole(source: str) -> list[tuple[str, str]]:
    """Every statement of one module by name and digest."""
    from lib.statements.names import Class, Registered

    module = Code({"lib.one": source}).source("lib.one")
    found = list(module.side)
    for name in module.definitions:
        definition = module.definition(name)
        if isinstance(definition, Class):
            found.append(definition.skeleton)
            found += [
                one for part in (definition.methods, definition.fields) for several in part.values() for one in several
            ]
        elif isinstance(definition, Registered):
            found += [*definition.rest, *(one for several in definition.rows.values() for one in several)]
        else:
            found += definition
    return [(one.name, one.digest) for one in found]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_layout_never_counts(path):
    source = path.read_text(encoding="utf-8")
    assert whole(ast.unparse(ast.parse(source))) == whole(source)


HERE = "{}.{}".format(*sys.version_info)


@pytest.mark.parametrize("version", sorted({"3.11", "3.12", "3.13"} - {HERE}))
def test_equal_on_every_supported_python(version, tmp_path):
    interpreter = shutil.which(f"python{version}")
    probe = [interpreter or "", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    if not interpreter or subprocess.run(probe, capture_output=True, text=True).stdout.strip() != version:
        pytest.skip(f"no working python{version} on this machine")
    (tmp_path / "tricky.py").write_text(TRICKY)
    script = (
        "import pathlib, sys\n"
        "from lib.statements import names, parsing\n"
        "for name in sys.argv[1:]:\n"
        "    source = parsing.Code({'lib.one': pathlib.Path(name).read_text(encoding='utf-8')}).source('lib.one')\n"
        "    for key in source.definitions:\n"
        "        found = source.definition(key)\n"
        "        parts = [found.skeleton] if isinstance(found, names.Class) else found\n"
        "        print(key, *(one.digest for one in parts) if isinstance(parts, list) else ())\n"
    )
    environment = {"PYTHONPATH": str(reach.PACKAGE.parent)}
    names = [str(path) for path in [tmp_path / "tricky.py", *OURS]]
    lines = [
        subprocess.run(
            [python, "-W", "ignore", "-c", script, *names],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for python in (sys.executable, interpreter)
    ]
    assert lines[0] == lines[1]


def test_errors_name_the_place():
    with pytest.raises(UserError, match=r"^lib\.series\.absent:train: not at the top level"):
        Reach(Code(FILES), ["lib.series.absent:train"])
    with pytest.raises(UserError, match=r"^lib\.series\.model, line 2: "):
        stamp(FILES | {"lib.series.model": "x = 1\ny = = 2\n"})
