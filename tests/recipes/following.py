"""Follow the recipes of CONTRIBUTING.md in a copy of the project: read their blocks, put them where they say."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"<!-- (\w+)(?: (\S+))?(?: (\w+))? -->\n```\w*\n(.*?)```\n", re.DOTALL)
COPIED = ("lib", "notebooks", "figures", "README.md", "pyproject.toml", "requirements.lock", "Snakefile")
IGNORED = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


class Block(NamedTuple):
    """A block of a recipe: what it is (file, row, function, cells, promise or run), for which file, and its text."""

    kind: str
    path: str
    registry: str
    text: str


def recipe(title: str) -> list[Block]:
    """Return the blocks below a heading of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^### {re.escape(title)}\n(.*?)(?=^### |\Z)", text, re.DOTALL | re.MULTILINE)
    return [Block(*found) for found in BLOCK.findall(section)]


def follow(blocks: list[Block], project: Path) -> set[str]:
    """Do what a recipe says in a project; return the files that it names."""
    for block in blocks:
        path = project / block.path
        match block.kind:
            case "file":
                assert not path.exists()
                path.write_text(block.text, encoding="utf-8")
            case "function":
                path.write_text(with_function(path.read_text(encoding="utf-8"), block.text), encoding="utf-8")
            case "row":
                path.write_text(with_row(path.read_text(encoding="utf-8"), block), encoding="utf-8")
            case "cells":
                _add_cells(path, block.text)
            case "promise":
                _add_promise(path, json.loads(block.text))
    named = {block.path for block in blocks if block.path}
    ruff = [sys.executable, "-m", "ruff"]
    code = [path for path in sorted(named) if path.endswith(".py")]
    for line in (["check", "--fix", "--quiet"], ["check"], ["format", "--check"]) if code else ():
        run = subprocess.run([*ruff, *line, *code], cwd=project, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
    return named


def with_row(text: str, block: Block) -> str:
    """Return a module's text with a row at the end of its registry, and what the row imports at its head."""
    imports = "".join(re.findall(r"^(?:from|import) .*\n", block.text, re.MULTILINE))
    row = re.sub(r"^(?:from|import) .*\n+", "", block.text, flags=re.MULTILINE)
    start = text.index("{", re.search(rf"\b{block.registry}\b[^=\n]*=", text).end())
    depth, place = 0, start
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            break
    line = text.rindex("\n", 0, place) + 1
    text = text[:line] + row + text[line:]
    first = re.search(r"^(?:from|import) ", text, re.MULTILINE)
    return text[: first.start()] + imports + text[first.start() :]


def with_function(text: str, function: str) -> str:
    """Return a module's text with a function before its first registry, which is to name it."""
    place = re.search(r"^(?:# .*\n)*\w+: Registry", text, re.MULTILINE).start()
    return f"{text[:place]}{function}\n\n{text[place:]}"


def _add_cells(path: Path, text: str) -> None:
    """Put cells, each below a line `# %% TAG ...` or `# %% [markdown]`, at the end of a notebook, or of a new one."""
    notebook = nbformat.read(path, 4) if path.exists() else nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    for head, source in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n)*)", text, re.MULTILINE):
        if head.strip() == "[markdown]":
            notebook.cells.append(nbformat.v4.new_markdown_cell(source.strip()))
        else:
            notebook.cells.append(nbformat.v4.new_code_cell(source.strip(), metadata={"tags": head.split()}))
    nbformat.write(notebook, path)


def _add_promise(path: Path, promise: Mapping[str, Any]) -> None:
    notebook = nbformat.read(path, 4)
    before = notebook.metadata.get("reproduction", {})
    both = {
        name: before[name] + value if isinstance(value, list) else {**before[name], **value}
        for name, value in promise.items()
        if name in before
    }
    notebook.metadata["reproduction"] = {**before, **promise, **both}
    nbformat.write(notebook, path)


def copied(project: Path) -> Path:
    """Copy the project: its data are the real ones, but for what is derived from them, of which it has its own copy."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, project / name, ignore=IGNORED)
        else:
            shutil.copy(ROOT / name, project / name)
    (project / "data").mkdir()
    for name in ("external", "paper", "results"):
        (project / "data" / name).symlink_to(ROOT / "data" / name)
    for place in (project / "data", project / "work"):
        (place / "cache" / "datasets").mkdir(parents=True)
        for folder in (ROOT / "data/cache/datasets").glob("*"):
            (place / "cache/datasets" / folder.name).symlink_to(folder)
    if (ROOT / "data/cache/digests").is_dir():
        shutil.copytree(ROOT / "data/cache/digests", project / "data/cache/digests")
    return project


def different(project: Path) -> set[str]:
    """Return the files that are not as in the original, or new; nothing is ever taken away."""
    return {
        path.relative_to(project).as_posix()
        for path in _files(project)
        if not (ROOT / path.relative_to(project)).is_file()
        or (ROOT / path.relative_to(project)).read_bytes() != path.read_bytes()
    }


def _files(project: Path) -> Iterator[Path]:
    for name in COPIED:
        for path in [project / name] if (project / name).is_file() else (project / name).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


@dataclass
class Server:
    """`server.py`, running."""

    process: subprocess.Popen

    def run(self, project: Path, commands: list[dict[str, Any]], **environment: str) -> tuple[int, str]:
        """Run commands of the project in it, one after another; return the exit status and what they printed."""
        output = project / "output"
        job = {"folder": str(project), "commands": commands, "environment": environment, "output": str(output)}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        status = self.process.stdout.readline()
        return int(status or -1), output.read_text(encoding="utf-8")


def command(line: str, **environment: str) -> dict[str, Any]:
    """Return a line `python -m MODULE ARGUMENT ...` as the server takes it."""
    _, _, module, *arguments = line.split()
    return {"module": module, "arguments": arguments, "environment": environment}
