"""The gate over the committed notebooks: what must hold in the file, and nbval on it in a process of its own."""

import datetime
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.running import contract, execution, kernels

HERE = Path(__file__).parent
SANITIZE = HERE / "sanitize.cfg"
SKIPS = HERE / "skips.json"
COMPARED = "nbval-check-output"
SKIPPING = {"nbval-skip", "nbval-ignore-output", "nbval-raises-exception", "raises-exception"}
SKIPPING_COMMENT = re.compile(r"^\s*#\s*(NBVAL_|PYTEST_VALIDATE_)", re.MULTILINE)
ABSOLUTE_PATH = re.compile(
    r"(?<![\w./:])/(home|root|Users|tmp|var|usr|opt|mnt|private|srv|data|work)/\w|\b[A-Z]:\\\\?\w"
)
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
MACHINERY = re.compile(r"^\s*(class \w|%cd\b|sys\.path)", re.MULTILINE)
# A backslash before a letter starts a command of TeX; two of them break the line and print the command's name.
DOUBLED_BACKSLASH = re.compile(r"\\\\[A-Za-z|,;!{}]")
# Only in an environment are two of them at their place: they end its lines.
ENVIRONMENT = re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)
FORMULA_BREAK = re.compile(r"\$[^$]*(\\\\)[^$]*\$")
# What is left of \bar, \frac, \right or \text where a backslash was read as an escape.
ESCAPED = re.compile(r"[\x00-\x08\x0b-\x1f]|\t(?=ext|imes|heta|au|ilde|o\b)")
SAVES_FIGURE = re.compile(r"^figures\.save\(", re.MULTILINE)
DRAWS_FIGURE = re.compile(r"\bplt\.(figure|subplots|subplot_mosaic)\(")
MAX_LINES, MAX_BYTES = 14, 2_000_000


@dataclass(frozen=True)
class Skip:
    """A notebook, or one cell of it by its id, that the gate leaves out; why, and until which day (ISO)."""

    notebook: str
    cell: str | None
    reason: str
    until: str


@dataclass(frozen=True)
class Outcome:
    """What nbval found: the cells that failed, by number among the code cells, and everything that pytest printed."""

    failed: list[int]
    cells: int
    output: str


def read_skips() -> list[Skip]:
    """Return the list of skips."""
    return [Skip(**entry) for entry in json.loads(SKIPS.read_text())]


def skip_faults(skips: Sequence[Skip], notebooks: Sequence[Path], today: datetime.date) -> list[str]:
    """Say which skips are over, give no reason, or name no notebook, or no cell that carries a skipping tag."""
    known = {contract.name(path): contract.read(path) for path in notebooks}
    found = []
    for skip in skips:
        place = f"{skip.notebook} {skip.cell or ''}".strip()
        tagged = [cell.get("id") for cell in _code(known.get(skip.notebook, {"cells": []})) if SKIPPING & _tags(cell)]
        if skip.notebook not in known or (skip.cell and skip.cell not in tagged):
            found.append(f"{place}: skips nothing")
        if not skip.reason.strip():
            found.append(f"{place}: no reason")
        if datetime.date.fromisoformat(skip.until) < today:
            found.append(f"{place}: over since {skip.until}")
    return found


def faults(path: Path, skips: Sequence[Skip] = ()) -> list[str]:
    """Say what is wrong with a committed notebook as a file."""
    try:
        promise = contract.load(path)
        execution.check_kernel(path)
    except UserError as error:
        return [str(error)]
    notebook, listed = contract.read(path), {skip.cell for skip in skips if skip.notebook == contract.name(path)}
    found = [] if path.stat().st_size < MAX_BYTES else [f"larger than {MAX_BYTES // 10**6} MB"]
    found += _frame_faults(notebook, promise)
    counts = [cell["execution_count"] for cell in _code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"execution counts are {counts}: run all cells in order with `make notebooks`")
    if not compared_cells(notebook):
        found.append(f"no cell with the tag `{COMPARED}` has a stored value")
    for cell in notebook["cells"]:
        found += [f"cell {cell.get('id')}: {fault}" for fault in _cell_faults(cell, listed)]
    if "papermill" in json.dumps([notebook["metadata"], *(cell["metadata"] for cell in notebook["cells"])]):
        found.append("carries papermill's times and paths: record it with `make notebooks`")
    return found


def compared_cells(notebook: Mapping[str, Any]) -> list[str]:
    """Return the ids of the cells whose stored text nbval compares: run, tagged, and with more than a picture."""
    cells = [cell for cell in _code(notebook) if COMPARED in _tags(cell) and not SKIPPING & _tags(cell)]
    return [cell.get("id", "") for cell in cells if cell["execution_count"] and any(map(_is_value, cell["outputs"]))]


def run_nbval(notebook: Path, report: Path, environment: Mapping[str, str], sanitize: Path = SANITIZE) -> Outcome:
    """Run nbval on a notebook: lax, with this interpreter, in the notebook's folder; pytest writes `report`."""
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-sanitize-with", str(sanitize)]
    options += ["--nbval-cell-timeout", str(contract.load(notebook).timeout), "--color", "no", f"--junit-xml={report}"]
    alone = [
        "-c",
        os.devnull,
        "--rootdir",
        str(notebook.parent),
        "--noconftest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *alone, "-p", "no:randomly", str(notebook)],
            cwd=notebook.parent,
            env=kernels.environment("light") | dict(environment),
            capture_output=True,
            text=True,
        )
        if kernels.UNANSWERED not in run.stdout:  # else no cell has run
            break
    if not report.is_file():
        raise RuntimeError(run.stdout + run.stderr)
    cells = list(ElementTree.parse(report).iter("testcase"))
    failed = [number for number, cell in enumerate(cells) if len(cell)]
    return Outcome(failed, len(cells), run.stdout + run.stderr)


def _frame_faults(notebook: Mapping[str, Any], promise: contract.Contract) -> list[str]:
    """Say where the first and the last cell are not what the contract writes."""
    try:
        wanted, text = (_lines(cells) for cells in (contract.framed(promise, notebook["cells"]), notebook["cells"]))
    except UserError as error:
        return [str(error)]
    missing = [line for line in wanted if line not in text]
    remedy = "first or last cell is not as in the contract: run `python -m lib.running.contract --write`"
    return [f"{remedy}: {line}" for line in missing or [""]] if wanted != text else []


def _lines(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    return [line for cell in (cells[0], cells[-1]) for line in "".join(cell["source"]).splitlines()]


def _cell_faults(cell: Mapping[str, Any], listed: set[str | None]) -> list[str]:
    source, found = "".join(cell["source"]), []
    if "id" not in cell:
        found.append("no id: save the notebook again in JupyterLab")
    if cell["cell_type"] != "code":
        return found + list(_tex_faults(source))
    if len(source.splitlines()) > MAX_LINES:
        found.append(f"more than {MAX_LINES} lines: move what is used twice, or is machinery, to lib/")
    if MACHINERY.search(source):
        found.append("a class, %cd or sys.path: that belongs to lib/")
    if "injected-parameters" in _tags(cell):
        found.append("parameters were injected: record it with `make notebooks`")
    if SKIPPING_COMMENT.search(source):
        found.append("marked for nbval by a comment: use tags")
    if SKIPPING & _tags(cell) and cell.get("id") not in listed:
        found.append(f"{', '.join(sorted(SKIPPING & _tags(cell)))}: not in {SKIPS.name}")
    if SAVES_FIGURE.search(source) and not any("image/png" in output.get("data", {}) for output in cell["outputs"]):
        found.append("saves a figure that an earlier cell shows unfinished: draw and save it in one cell")
    if DRAWS_FIGURE.search(source) and "figures.save(" not in source:
        found.append("draws a figure that it does not save: draw and save it in one cell")
    for output in cell["outputs"]:
        found += _tex_faults("".join(output.get("data", {}).get("text/markdown", "")))
        text = _text(output)
        found += ["output is an error"] if output["output_type"] == "error" else []
        found += ["output on standard error"] if output.get("name") == "stderr" else []
        found += [f"output holds an absolute path: {match[0]}" for match in [ABSOLUTE_PATH.search(text)] if match]
        found += ["output holds a memory address"] if ADDRESS.search(text) else []
    return found


def _tex_faults(text: str) -> Iterator[str]:
    """Say where Markdown has a formula that TeX would not show as it was meant."""
    for match in filter(None, [DOUBLED_BACKSLASH.search(text), FORMULA_BREAK.search(ENVIRONMENT.sub("", text))]):
        yield f"doubled backslash: {match[0]}"
    if match := ESCAPED.search(text):
        yield f"a control character where a backslash was meant: {text[match.start() : match.end() + 5]!r}"


def _code(notebook: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _tags(cell: Mapping[str, Any]) -> set[str]:
    return set(cell["metadata"].get("tags", []))


def _text(output: Mapping[str, Any]) -> str:
    """Text of an output, pictures aside."""
    data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
    parts = [output.get("text", ""), *data.values(), output.get("traceback", "")]
    return "\n".join("".join(map(str, part)) if isinstance(part, list) else str(part) for part in parts)


def _is_value(output: Mapping[str, Any]) -> bool:
    text = _text(output).strip()
    return bool(text) and not re.fullmatch(r"<Figure size .* with \d+ Axes>", text)
