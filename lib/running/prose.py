"""Outputs that no sentence follows, and numbers that stand in text alone: `python -m lib.running.prose [NOTEBOOK ...]`.

A cell that shows a table or a figure is followed by a sentence that says what is in it: in the text right below it,
before any heading; or printed by code, since numbers that depend on the profile come from the records: in the cell's
own outputs after the last table or figure, or at the beginning of those of the next cell.

A number with decimals that is written in a text cell stands in an output of the notebook, in its code, in a file that
the cell links, or, in a sentence on a paper, among the published numbers: else nothing would hold it to the records. An
estimate with its interval, `0.40 [0.13, 0.67]`, stands there as a whole.
"""

import argparse
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lib import paths
from lib.errors import command
from lib.running import contract

LEAST_WORDS = 4  # of a sentence
BLOCKS = re.compile(r"^(```|~~~).*?^\1|<!--.*?-->|\$\$.*?\$\$", re.DOTALL | re.MULTILINE)
FORMULA = re.compile(r"\$[^$\n]+\$")
NO_PROSE = re.compile(r"^\s*(#{1,6}\s|\||>?\s*!\[)")  # a heading, a row of a table, a picture
ENDS = re.compile(r"[.!?][)\"'*_]*(?=\s|$)")
WORD = re.compile(r"[^\W_]+")
DECIMAL = re.compile(r"(?<![\w.])-?\d*\.\d+(?![\w.]*\w)")
NUMBER = re.compile(r"-?\d*\.?\d+(?:e-?\d+)?")
INTERVAL = re.compile(r"([-+]?\d*\.?\d+) \[([-+]?\d*\.?\d+), ([-+]?\d*\.?\d+)\]")
PAPER = re.compile(r"\b(paper|published|authors)", re.IGNORECASE)
CHAPTER = re.compile(r"[1-5]\.\d")
LINK = re.compile(r"\]\(([^)#\s]+\.(?:json|csv|md))\)")
CODE = re.compile(r"`[^`\n]*`")


class Untold(NamedTuple):
    """A cell that shows something which no sentence follows: its place among all cells, from 1 on, id and heading."""

    cell: int
    identity: str
    heading: str
    shows: str

    def __str__(self) -> str:
        """Return one line of the list."""
        return f"cell {self.cell} ({self.identity}), a {self.shows} under '{self.heading}'"


def untold(notebook: Mapping[str, Any]) -> list[Untold]:
    """Return the cells of a notebook that show a table or a figure and are not followed by a sentence."""
    cells, found, heading = notebook["cells"], [], ""
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            headings = re.findall(r"^#{1,6}\s+(.+)$", BLOCKS.sub("", _source(cell)), re.MULTILINE)
            heading = headings[-1] if headings else heading
        kinds = [_shown(output) for output in cell.get("outputs", [])]
        if not any(kinds):
            continue
        last = max(place for place, kind in enumerate(kinds) if kind)
        below = cells[number + 1] if number + 1 < len(cells) else None
        if not (_printed(cell["outputs"][last + 1 :]) or (below is not None and _begins_with_sentence(below))):
            found.append(Untold(number + 1, str(cell.get("id", "no id")), heading, str(kinds[last])))
    return found


def shown(notebook: Mapping[str, Any]) -> int:
    """Return how many cells of a notebook show a table or a figure."""
    return sum(any(map(_shown, cell.get("outputs", []))) for cell in notebook["cells"])


def sentences(text: str) -> list[str]:
    """Return the sentences with which Markdown begins: before any heading, without code, tables and pictures.

    A sentence has four words and ends with a full stop, a question mark or an exclamation mark; a line that ends with a
    colon announces what comes, and says nothing about what was.
    """
    prose: list[str] = []
    for line in FORMULA.sub("x", BLOCKS.sub("", text)).splitlines():
        if re.match(r"\s*#{1,6}\s", line):
            break
        prose.append("" if NO_PROSE.match(line) else line)
    told: list[str] = []
    for paragraph in re.split(r"\n\s*\n|\n\s*(?=[-*]\s|\d+\.\s)", "\n".join(prose)):
        start = 0
        for end in ENDS.finditer(paragraph):
            told.append(" ".join(paragraph[start : end.end()].split()))
            start = end.end()
    return [sentence for sentence in told if len(WORD.findall(sentence)) >= LEAST_WORDS]


def unfounded(notebook: Mapping[str, Any], folder: Path) -> list[tuple[int, str]]:
    """Return the numbers with decimals, by place of their cell, that text alone holds; `folder` is the notebook's own.

    Code blocks, formulas and `code` aside. A number is founded by one that rounds to it: 0.403 founds .4 and 40.3.
    """
    found: list[tuple[int, str]] = []
    shown = _numbers("\n".join(text for cell in notebook["cells"] for text in _output_texts(cell)))
    for place, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] != "markdown":
            continue
        text = CODE.sub("", FORMULA.sub("x", BLOCKS.sub("", _source(cell))))
        linked = [file for file in (folder / link for link in LINK.findall(text)) if file.exists()]
        known = shown + [one for file in linked for one in _numbers(file.read_text("utf-8"))]
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            here = known + _published() if PAPER.search(sentence) else known
            found += [(place, one.group()) for one in INTERVAL.finditer(sentence) if not _stands(one.groups(), here)]
            found += [(place, one) for one in DECIMAL.findall(INTERVAL.sub("", sentence)) if not _stands([one], here)]
    return found


def _stands(written: Sequence[str], known: Sequence[float]) -> bool:
    """Whether numbers stand one after the other among those known; a sign may be in words, a share in per cent."""
    if len(written) == 1 and CHAPTER.fullmatch(written[0]):
        return True
    values = [(abs(float(one)), 0.5 * 10.0 ** -len(one.partition(".")[2]) * (1 + 1e-6)) for one in written]
    return any(
        all(abs(abs(known[start + step]) * scale - value) <= half for step, (value, half) in enumerate(values))
        for start in range(len(known) - len(values) + 1)
        for scale in (1.0, 100.0)
    )


@functools.cache
def _published() -> list[float]:
    files = sorted((paths.ROOT / "data" / "paper").glob("*.csv"))
    return [one for file in files for one in _numbers(file.read_text("utf-8"))]


def _numbers(text: str) -> list[float]:
    return [float(one) for one in NUMBER.findall(text.replace("\N{MINUS SIGN}", "-"))]


def _output_texts(cell: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a cell of code shows as text, and its source."""
    if cell["cell_type"] == "code":
        yield _source(cell)
    for output in cell.get("outputs", []):
        yield "".join(output.get("text", ""))
        yield from ("".join(text) for kind, text in output.get("data", {}).items() if kind.startswith("text/"))


def _begins_with_sentence(cell: Mapping[str, Any]) -> bool:
    """Whether the cell below says something at once, as text or printed before it shows the next thing."""
    if cell["cell_type"] == "markdown":
        return bool(sentences(_source(cell)))
    outputs = cell.get("outputs", [])
    first = next((place for place, output in enumerate(outputs) if _shown(output)), None)
    # The caption of a figure comes before it, so what a cell prints ahead of one is about that one.
    return first is None and _printed(outputs)


def _printed(outputs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether outputs hold a sentence that was printed, or shown as Markdown."""
    for output in outputs:
        text = output.get("data", {}).get("text/markdown", output.get("text", ""))
        if sentences("".join(text)):
            return True
    return False


def _shown(output: Mapping[str, Any]) -> str | None:
    """Return whether an output is a table or a figure, or None."""
    data = output.get("data", {})
    if any(kind.startswith("image/") for kind in data):
        return "figure"
    return "table" if "<table" in "".join(data.get("text/html", "")) else None


def _source(cell: Mapping[str, Any]) -> str:
    return "".join(cell["source"])


def _lines(prefixes: Sequence[str]) -> Iterator[str]:
    """Yield the list, notebook by notebook, and the sum."""
    missing = every = 0
    for promise in contract.below(prefixes):
        notebook = contract.read(promise.notebook)
        found, count = untold(notebook), shown(notebook)
        missing, every = missing + len(found), every + count
        if found:
            yield f"{paths.relative(promise.notebook)}: {len(found)} of {count}"
            yield from (f"  {one}" for one in found)
        yield from (
            f"  cell {cell}: {number} stands in text alone"
            for cell, number in unfounded(notebook, promise.notebook.parent)
        )
    yield f"{missing} of {every} tables and figures are not followed by a sentence that says what is in them"


def main() -> int:
    """List the outputs that no sentence follows."""
    parser = argparse.ArgumentParser(prog="python -m lib.running.prose", description=main.__doc__)
    parser.add_argument("notebooks", nargs="*", help="notebooks, or folders of them; all without")
    for line in _lines(parser.parse_args().notebooks):
        print(line)
    return 0


if __name__ == "__main__":
    command(main)
