"""Wrong command lines of `python -m lib.running.*`: exit status 2, no traceback; the last line says what is wrong."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lib import errors, paths

GOOD = "tests/fixtures/notebooks/well_behaved.ipynb"


class Line(NamedTuple):
    """A command of `lib.running`, its arguments (`{}` is a folder of made files), and what its last line must say."""

    command: str
    arguments: tuple[str, ...]
    said: str


LINES = [
    *(
        Line("contract", (name,), "no notebook has this name")
        for name in ("nope", "", "/", "..", "a\nb", "n\0", "é" * 400)
    ),
    Line("contract", ("--wrote",), "unrecognized arguments"),
    Line("execution", (), "required: notebook"),
    Line("execution", ("nope.ipynb",), "no such notebook"),
    *(Line("execution", (name,), "a folder") for name in ("/", "", ".", "notebooks", "{}/folder")),
    Line("execution", ("{}/text.txt",), "not a notebook"),
    Line("execution", ("{}/cut.json",), "ends too early"),
    Line("execution", ("{}/deep/a.json",), "too deeply"),
    Line("execution", ("{}/null.ipynb",), "null"),
    Line("execution", (GOOD, "--profile", "laptop"), "unknown profile 'laptop'"),
    Line("execution", (GOOD, "--profile", ""), "unknown profile"),
    Line("execution", (GOOD, "--profile"), "expected one argument"),
    Line("execution", (GOOD, "-p", "seed"), "expected 2 arguments"),
    Line("execution", (GOOD, "-p", "seed", "9" * 5000), "not of type int"),
    Line("execution", (GOOD, "-p", "seed", "1.5"), "not of type int"),
    Line("execution", (GOOD, "-p", "rate", "nan"), "not of type float"),
    Line("execution", (GOOD, "-p", "rate", "1e999"), "not of type float"),
    Line("execution", (GOOD, "-p", "fast", "1"), "not of type bool"),
    Line("execution", (GOOD, "-p", "sede", "1"), "unknown parameter 'sede'"),
    Line("execution", (GOOD, "-p", "seed", "1", "-p", "seed", "2"), "given twice"),
    Line("execution", (GOOD, "-p", "profile", "smoke"), "--profile"),
    Line("execution", (GOOD, "--record", "--profile", "smoke"), "drop --record"),
    Line("execution", (GOOD, "--record", "-p", "seed", "1"), "drop --record"),
    Line("execution", (GOOD, "--output"), "expected one argument"),
    Line("readme", ("--chek",), "unrecognized arguments"),
    Line("readme", ("x",), "unrecognized arguments"),
    Line("reproduce", ("--profile", "laptop"), "unknown profile"),
    Line("reproduce", ("--fresh", "2"), "invalid choice"),
    Line("reproduce", ("--only",), "at least one argument"),
    Line("reproduce", ("--only", "nope"), "no notebook has this name"),
    Line("reproduce", ("--report", "--only", "nope"), "no notebook has this name"),
    Line("reproduce", ("--set", "x"), "no size"),
    Line("reproduce", ("--set", "editing.steps=-1"), "editing.steps"),
    Line("reproduce", ("--set", "editing.rate=NaN"), "editing.rate"),
    Line("reproduce", ("--set", "editing.steps=5", "editing.steps=6"), "set twice"),
    Line("reproduce", ("--set", "editing.steps=5", "--record"), "drop --fresh and --record"),
    Line("reproduce", ("--set", "editing.steps=5", "--fresh", "1"), "drop --fresh and --record"),
    Line("catalogue", (), "required: action"),
    Line("catalogue", ("lst",), "invalid choice"),
    Line("catalogue", ("list", "--profile", "laptop"), "unknown profile"),
    Line("catalogue", ("list", "--only", "nope"), "no case of profile cpu begins so"),
    Line("catalogue", ("list", "--rows", "some"), "invalid choice"),
    Line("catalogue", ("plan", "--streams", "x"), "invalid int value"),
    Line("catalogue", ("list", "--set", "a=b"), "no size"),
    Line("catalogue", ("list", "--set", "editing.steps=0"), "editing.steps"),
    Line("tolerances", (), "required: old, new"),
    Line("tolerances", ("{}",), "required: new"),
    Line("tolerances", ("nope", "nope"), "no JSON files there"),
    Line("tolerances", ("{}/text.txt", "{}/one"), "no JSON files there"),
    Line("tolerances", ("{}/folder", "{}/one"), "no JSON files there"),
    Line("tolerances", ("{}/one", "{}/one", "--rtol", "much"), "invalid float value"),
]
# What must list all cases first.
LONG = [
    Line("catalogue", ("plan", "--queue", "{}/absent"), "no such file"),
    Line("catalogue", ("plan", "--queue", "{}/folder"), "no such file"),
    Line("catalogue", ("plan", "--queue", "{}/names"), "no case begins so"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files that the lines name."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("folder", "one", "deep"):
        (folder / name).mkdir()
    texts = {
        "text.txt": "x",
        "cut.json": "{",
        "null.ipynb": "null",
        "names": "no/such/case\n",
        "one/a.json": '{"a": 1}',
        "deep/a.json": "[" * 100_000,
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a command sets for its children, and stand at the root of the project."""
    before = dict(os.environ)
    monkeypatch.chdir(paths.ROOT)
    yield
    os.environ.clear()
    os.environ.update(before)


def arguments(line: Line, made: Path) -> list[str]:
    """Return the arguments of a line with the folder of made files in its place."""
    return [one.replace("{}", str(made)) for one in line.arguments]


def _named(line: Line) -> str:
    return ascii(" ".join((line.command, *line.arguments)))[1:60]


ALL = [*LINES, *(pytest.param(line, marks=pytest.mark.thorough) for line in LONG)]
FEW = [line for line in LINES if line in (LINES[0], LINES[9], LINES[-1])]


@pytest.mark.parametrize("line", ALL, ids=_named)
def test_a_wrong_line(line: Line, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    module = importlib.import_module(f"lib.running.{line.command}")
    monkeypatch.setattr(sys, "argv", [line.command, *arguments(line, made)])
    with pytest.raises(SystemExit) as caught:
        errors.command(module.main)
    said = capsys.readouterr().err.rstrip("\n").splitlines()
    assert caught.value.code == 2
    assert line.said in said[-1]
    assert "error: " in said[-1]
    assert len(said) == 1 or said[0].startswith("usage: ")


@pytest.mark.parametrize("line", FEW, ids=_named)
def test_some_as_a_process(line: Line, made: Path) -> None:
    command = [sys.executable, "-m", f"lib.running.{line.command}", *arguments(line, made)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT, check=False)
    assert done.returncode == 2
    assert line.said in done.stderr
    assert "Traceback" not in done.stderr
