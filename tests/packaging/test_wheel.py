"""The wheel: a package of its own name, whole, that never reads a folder `lib` of whoever installs it."""

import ast
import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest

import lib

ROOT = Path(__file__).parents[2]
NAME = "wang_li_reproductions"
# Imports every module of the wheel and says which packages came with it.
IMPORT_ALL = f"""
import importlib, pkgutil, sys
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
    line = [sys.executable, "-P", "-c", IMPORT_ALL]
    run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 130


@pytest.mark.thorough
@pytest.mark.parametrize("oldest", [False, True], ids=["newest", "oldest"])
def test_a_new_environment_with_the_wheel_alone(wheel: Path, tmp_path: Path, oldest: bool) -> None:
    """What the methods need comes with the wheel: the newest versions, and the oldest that its metadata allow."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv/bin/python")
    lines = [str(wheel)]
    if oldest:
        with zipfile.ZipFile(wheel) as archive:
            (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
            needed = [line for line in archive.read(metadata).decode().splitlines() if line.startswith("Requires-Dist")]
        lines += [n.removeprefix("Requires-Dist: ").replace(">=", "==") for n in needed if "extra ==" not in n]
    run = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *lines], capture_output=True, text=True, check=False
    )
    if "No matching distribution" in run.stderr or "network" in run.stderr.lower():
        pytest.skip("no package index, or one without these versions")
    assert run.returncode == 0, run.stderr
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/__init__.py").write_text("raise RuntimeError('the lib of somebody else')\n")
    run = subprocess.run([python, "-c", IMPORT_ALL], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
