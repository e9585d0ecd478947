"""Fingerprints see every change that can change a number, and none that cannot."""

import ast
import dataclasses
import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from lib import fingerprints
from lib.errors import UserError

MODEL = '''"""A model."""

from collections.abc import Sequence
from dataclasses import dataclass

from lib.series.numbers import offset


@dataclass(frozen=True)
class Config:
    """Its config."""

    steps: int
    rate: float = 0.5


def loss(value: float, weight: float = 2.0) -> float:
    """The loss."""
    scale: float = weight - offset()
    return scale * value  # why


def name(step: int) -> str:
    return f"step {step:>4} of" f" {loss(step)!r}"
'''

FILES = {
    "__init__.py": '"""The package."""\n',
    "paths.py": "ROOT = 1\n",
    "series/__init__.py": "from .constants import HALF\n",
    "series/constants.py": "HALF = 0.5\n",
    "series/numbers.py": "def offset():\n    from ..shared import tables\n    return tables.ONE\n",
    "series/model.py": MODEL,
    "series/training.py": (
        "from typing import TYPE_CHECKING\n"
        "import lib.paths\nfrom . import model as m\nfrom lib.shared.tables import ONE\n"
        "if TYPE_CHECKING:\n    from lib.unreached import Never\n"
        "def train(): return m.loss(1.0) + ONE\n"
    ),
    "shared/__init__.py": "",
    "shared/tables.py": "ONE = 1\n",
    "shared/other.py": "ONE = 2\n",
    "unreached.py": "Never = 0\n",
}

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


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "lib"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(fingerprints, "PACKAGE", root)
    return root


def digest(source: str) -> str:
    return hashlib.sha256(json.dumps(fingerprints.canonical(ast.parse(source))).encode()).hexdigest()


def test_reached_modules_are_those_that_python_imports(package):
    script = (
        "import sys, lib.series.training as t; t.train(); print(*[m for m in sys.modules if m[:4] in ('lib', 'lib.')])"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=package.parent, capture_output=True, text=True, check=True)
    assert "lib.paths" in run.stdout.split()  # plumbing is imported, but not part of the fingerprint
    assert fingerprints.reached(["lib.series.training"]) == sorted(set(run.stdout.split()) - {"lib.paths"})


SILENT = {
    "comment": ("# why", "# because"),
    "docstring of a module": ('"""A model."""', '"""Another text."""'),
    "docstring of a function": ('    """The loss."""\n', ""),
    "docstring of a class": ('"""Its config."""', "'''One. Two.'''"),
    "annotation of a parameter": ("value: float", "value"),
    "annotation of a result": ("-> float", "-> 'float | None'"),
    "annotation of a variable": ("scale: float =", "scale ="),
    "annotation of a field": ("rate: float =", "rate: int ="),
    "annotation of a bare field": ("steps: int", "steps: 'int'"),
    "import for annotations": ("import Sequence", "import Callable, Sequence"),
    "layout": ("return scale * value", "return (\n        scale\n        * value\n    )"),
    "quotes": ('f" {loss(step)!r}"', "f' {loss(step)!r}'"),
    "where an f-string is cut": ('of" f" {', "of {"),
}


@pytest.mark.parametrize("change", SILENT.values(), ids=SILENT)
def test_silent_changes_leave_the_fingerprint(package, change):
    before = fingerprints.code_fingerprint(["lib.series.training"])
    assert MODEL.count(change[0]) == 1
    (package / "series/model.py").write_text(MODEL.replace(*change))
    assert fingerprints.code_fingerprint(["lib.series.training"]) == before


LOUD = {
    "sign": ("weight - offset", "weight + offset"),
    "order of operands": ("weight - offset()", "offset() - weight"),
    "constant": ("2.0", "2.5"),
    "type of a constant": ("2.0", "2"),
    "name of a field": ("rate: float", "ratio: float"),
    "a field gone": ("    steps: int\n", ""),
    "decorator": ("frozen=True", "frozen=False"),
    "text": ("step {", "steps {"),
    "format": (":>4}", ":>5}"),
    "conversion": ("!r", "!s"),
    "function imported": ("import offset", "import other as offset"),
    "module imported": ("lib.series.numbers import", "lib.shared.other import"),
}


@pytest.mark.parametrize("change", LOUD.values(), ids=LOUD)
def test_changes_of_code_change_the_fingerprint(package, change):
    before = fingerprints.code_fingerprint(["lib.series.training"])
    assert MODEL.count(change[0]) == 1
    (package / "series/model.py").write_text(MODEL.replace(*change))
    assert fingerprints.code_fingerprint(["lib.series.training"]) != before


@pytest.mark.parametrize("name", FILES)
def test_every_reached_file_counts_and_no_other(package, name):
    before = fingerprints.code_fingerprint(["lib.series.training"])
    (package / name).write_text((package / name).read_text() + "\nADDED = 1\n")
    counts = name not in ("paths.py", "shared/other.py", "unreached.py")
    assert (fingerprints.code_fingerprint(["lib.series.training"]) != before) is counts


def test_every_operator_and_number_of_a_tree_counts():
    tree = ast.parse(MODEL)
    original, seen = digest(MODEL), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp):
            kept, node.op = node.op, ast.MatMult()
            seen.add(digest(ast.unparse(tree)))
            node.op = kept
        elif isinstance(node, ast.Constant) and isinstance(node.value, float):
            node.value += 1
            seen.add(digest(ast.unparse(tree)))
            node.value -= 1
    assert len(seen) == 4  # two operators and two floats, all told apart
    assert original not in seen


OURS = sorted(fingerprints.PACKAGE.rglob("*.py"))
CORPUS = [*OURS, *(Path(module.__file__) for module in (dataclasses, ast))]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_layout_never_counts(path):
    source = path.read_text(encoding="utf-8")
    assert digest(ast.unparse(ast.parse(source))) == digest(source)


HERE = "{}.{}".format(*sys.version_info)


@pytest.mark.parametrize("version", sorted({"3.11", "3.12", "3.13"} - {HERE}))
def test_equal_on_every_supported_python(version, tmp_path):
    interpreter = shutil.which(f"python{version}")
    probe = [interpreter or "", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    if not interpreter or subprocess.run(probe, capture_output=True, text=True).stdout.strip() != version:
        pytest.skip(f"no working python{version} on this machine")
    (tmp_path / "tricky.py").write_text(TRICKY)
    script = (
        "import ast, hashlib, json, sys, pathlib; from lib import fingerprints\n"
        "for name in sys.argv[1:]:\n"
        "    tree = ast.parse(pathlib.Path(name).read_text(encoding='utf-8'))\n"
        "    print(hashlib.sha256(json.dumps(fingerprints.canonical(tree)).encode()).hexdigest())\n"
    )
    # The standard library of this Python may be written in a syntax that an older one does not read.
    names = [str(path) for path in [tmp_path / "tricky.py", *OURS]]
    run = subprocess.run(
        [interpreter, "-W", "ignore", "-c", script, *names],
        env={"PYTHONPATH": str(fingerprints.PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [digest(Path(name).read_text(encoding="utf-8")) for name in names]


def test_code_edited_under_a_running_process_is_noticed(package, monkeypatch):
    path = package / "series/model.py"
    monkeypatch.setattr(fingerprints, "AT_START", {path: MODEL})
    path.write_text(MODEL.replace("# why", "# because"))
    assert fingerprints.changed_since_start(["lib.series.training"]) == []
    path.write_text(MODEL.replace("weight - offset", "weight + offset"))
    assert fingerprints.changed_since_start(["lib.series.training"]) == ["lib.series.model"]


def test_errors_name_the_place(package):
    with pytest.raises(UserError, match=r"^lib\.series\.absent: no such module"):
        fingerprints.code_fingerprint(["lib.series.absent"])
    (package / "series/model.py").write_text("x = 1\ny = = 2\n")
    with pytest.raises(UserError, match=r"^lib/series/model\.py, line 2: "):
        fingerprints.code_fingerprint(["lib.series.training"])


class Settings(BaseModel):
    rate: float = 0.1
    widths: tuple[int, ...] = (1, 2)


def test_config_fingerprint_is_the_digest_of_canonical_json():
    expected = hashlib.sha256(b'{"rate":0.1,"widths":[1,2]}').hexdigest()
    assert fingerprints.config_fingerprint(Settings()) == expected
    assert fingerprints.config_fingerprint({"widths": [1, 2], "rate": 0.1}) == expected
    assert fingerprints.config_fingerprint(Settings(rate=math.nextafter(0.1, 1))) != expected


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_config_fingerprint_refuses_what_is_not_a_number(bad):
    with pytest.raises(ValueError, match="JSON"):
        fingerprints.config_fingerprint({"rate": bad})
    with pytest.raises(ValueError, match="JSON"):
        fingerprints.config_fingerprint(Settings(rate=bad))
