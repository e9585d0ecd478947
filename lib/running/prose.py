"""Outputs that no sentence follows: `python -m lib.running.prose [NOTEBOOK ...]` lists and counts them.

A cell that shows a table or a figure is followed by a sentence that says what is in it: in the text right below it,
before any heading; or printed by code, since numbers that depend on the profile come from the records: in the cell's
own outputs after the last table or figure, or at the beginning of those of the next cell.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
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
