"""Lay out the sources of the site in a folder: `python docs/pages.py build/site-source`, by the standard library alone.

Pages keep their places, so that links between them hold: README (which becomes the start page), docs/, data/ and the
notebooks, whose code is folded and which end with a list of their files. Written from figures/: a gallery, a page of
all tables with downloads, the scorecard, and the cards of the data.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
START = "README.md"  # becomes index.md
SERIES = {
    "0_start_here": "Start here",
    "1_infodiffusion": "InfoDiffusion",
    "2_beacons": "Semantic are Beacons",
    "3_lemoe": "LEMoE",
    "4_hetero_kd": "Heterogeneous distillation",
    "5_scorecard": "Scorecard",
}
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "data/README.md", "data/paper/README.md")
# Those that stand first, in this order.
DOCS = ("limits", "records", "profiles", "paper_scale", "paper_settings", "cluster", "speed", "without_installing")
LIBRARY = ("library", "extending", "cards/lemoe_adaptor", "cards/instruction_sets")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(?=[)#])")
SOURCE = re.compile(r"\]\((?!\w+:)([^)\s#]+)\.(?:ipynb|md)(#[^)\s]+)?\)")  # a link to what becomes a page
CARDS = ("0_start_here/sources", "4_hetero_kd/sets")
NAMES = {".tex": "LaTeX"}
SUFFIXES = {"figure": ("png", "pdf", "json"), "table": ("csv", "json", "tex")}


class Layout:
    """The folder that is filled, and what is known of the notebooks and their files."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.notebooks = sorted((ROOT / "notebooks").rglob("*.ipynb"))
        self.read = {path: json.loads(path.read_text(encoding="utf-8")) for path in self.notebooks}
        self.writer = {stem: path for path in self.notebooks for stem in self.promise(path)["writes"]}
        self.kinds = {stem: kind for path in self.notebooks for stem, kind in self.promise(path)["kinds"].items()}
        self.told = {
            stem: json.loads((ROOT / f"figures/{stem}.json").read_text(encoding="utf-8")) for stem in self.kinds
        }

    def promise(self, notebook: Path) -> dict[str, Any]:
        """Return what a notebook's metadata promise."""
        return self.read[notebook]["metadata"]["reproduction"]

    def write(self, place: str, text: str) -> None:
        """Write a page, relative to the folder."""
        path = self.target / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def bring(self, place: str) -> str:
        """Copy a file of the project to the same place of the folder; return that place."""
        path = self.target / place
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / place, path)
        return place

    def linked(self, text: str, home: str) -> str:
        """Return the text of a page with the files that it links to brought along, and README's page called index."""

        def replaced(found: re.Match[str]) -> str:
            goal = (ROOT / home).parent / found[1]
            place = Path(os.path.normpath(goal)).relative_to(ROOT).as_posix()
            if place == START:
                return os.path.relpath("index.md", Path(home).parent)
            if goal.is_file() and goal.suffix not in (".md", ".ipynb"):
                self.bring(place)
            return found[1]

        return LINK.sub(replaced, text)

    def shown(self, output: dict[str, Any], home: str) -> dict[str, Any]:
        """Return an output with its links followed: what code showed as Markdown is put into the page as it is."""
        told = "".join(output.get("data", {}).get("text/markdown", ""))
        if not told:
            return output
        told = SOURCE.sub(lambda found: f"]({found[1]}.html{found[2] or ''})", self.linked(told, home))
        return output | {"data": output["data"] | {"text/markdown": told}}

    def page(self, place: str, more: str = "") -> None:
        """Lay out one Markdown page of the project, with more at its end."""
        text = self.linked((ROOT / place).read_text(encoding="utf-8"), place)
        self.write("index.md" if place == START else place, f"{text}\n{more}")


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line, in a table too."""
    return re.sub(r"[\\|*_`<>\[\]${}]", r"\\\g<0>", " ".join(text.split()))


def toctree(entries: list[str], *options: str) -> str:
    """Return a directive that puts pages into the contents."""
    return "\n".join(["```{toctree}", *options, "", *entries, "```", ""])


def anchor(stem: str) -> str:
    """Return the name under which other pages link to a figure or table."""
    return f"file-{stem.replace('/', '-')}"


def title(stem: str) -> str:
    """Return a figure's or table's name for a reader."""
    return stem.rsplit("/", 1)[1].replace("_", " ")


def downloads(layout: Layout, stem: str, home: str = "") -> str:
    """Return links to a figure's or table's files, seen from a folder."""
    files = (layout.bring(f"figures/{stem}.{suffix}") for suffix in SUFFIXES[layout.kinds[stem]])
    return " · ".join(
        f"[{NAMES.get(Path(file).suffix, Path(file).suffix[1:].upper())}]({os.path.relpath(file, home)})"
        for file in files
    )


def records(layout: Layout, stem: str) -> str:
    """Return a folded list of the records behind a figure or table."""
    found = layout.told[stem]["records"]
    if not found:
        return "No records: computed in the notebook.\n"
    links = (f"[{escaped(one['case'])}]({layout.bring(one['record'])})" for one in found)
    plural = "" if len(found) == 1 else "s"
    return f":::{{dropdown}} {len(found)} record{plural}\n{' · '.join(links)}\n:::\n"


def source(layout: Layout, stem: str, home: str = "") -> str:
    """Return a link to the notebook that writes a file, seen from a folder."""
    path = layout.writer[stem]
    return f"[{path.stem}]({os.path.relpath(path, ROOT / home)})"


def by_series(layout: Layout, kind: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the stems of a kind, series by series, in the order of the notebooks."""
    for series, name in SERIES.items():
        stems = [stem for stem, is_kind in layout.kinds.items() if is_kind == kind and stem.startswith(f"{series}/")]
        if stems:
            yield name, stems


def gallery(layout: Layout) -> str:
    """Return the page of all figures: picture, caption, notebook, files, records."""
    lines = [
        "# Gallery",
        "",
        "All figures, with the notebook that draws each, its numbers, and the records they rest on.",
    ]
    for name, stems in by_series(layout, "figure"):
        lines += ["", f"## {name}", "", "::::::{grid} 1 1 2 2", ":gutter: 3", ""]
        for stem in stems:
            picture = layout.bring(f"figures/{stem}.png")
            lines += [f":::::{{grid-item-card}} {title(stem).capitalize()}", f":img-top: {picture}"]
            lines += [f":img-alt: {title(stem)}", ":class-item: figure-card", "", f"({anchor(stem)})="]
            lines += [escaped(layout.told[stem]["caption"]), "", "::::{card-footer}"]
            lines += [f"{source(layout, stem)} · {downloads(layout, stem)}", "", records(layout, stem), "::::", ":::::"]
        lines += ["::::::"]
    return "\n".join(lines) + "\n"


def tables(layout: Layout) -> str:
    """Return the page of all tables: caption, notebook, files to download, records."""
    lines = ["# Tables", "", "Every table, to download as CSV, JSON or LaTeX, with the records that it rests on."]
    for name, stems in by_series(layout, "table"):
        lines += ["", f"## {name}"]
        for stem in stems:
            rows = len(layout.told[stem]["rows"])
            lines += ["", f"({anchor(stem)})=", f"### {title(stem).capitalize()}", ""]
            lines += [escaped(layout.told[stem]["caption"]), ""]
            lines += [
                f"{rows} rows · from {source(layout, stem)} · {downloads(layout, stem)}",
                "",
                records(layout, stem),
            ]
    return "\n".join(lines) + "\n"


def scorecard(layout: Layout) -> str:
    """Return the page of all claims; `filter.js` lets a reader choose among its rows."""
    found = layout.told["5_scorecard/scorecard"]
    claims = {told["text"]: stem for stem, told in layout.told.items() if "verdict" in told}
    lines = ["# Scorecard", "", escaped(found["caption"]), "", "```{rst-class} filterable", "```", ""]
    lines += ["| Paper | Claim | Verdict | Measured here | Notebook | Files |", "|---|---|---|---|---|---|"]
    for row in found["rows"]:
        stem = claims[row["claim"]]
        kind, _, more = row["verdict"].partition(" (")
        verdict = f"**{escaped(kind)}**" + (f" ({escaped(more)}" if more else "")
        measured = f"{escaped(row['the one that decides'])}: {number(row['measured'])}, over {escaped(row['over'])}"
        cells = [escaped(row["paper"]), escaped(row["claim"]), verdict, measured, source(layout, stem)]
        lines.append(f"| {' | '.join([*cells, downloads(layout, stem)])} |")
    return "\n".join([*lines, "", f"The whole table: {downloads(layout, '5_scorecard/scorecard')}", ""])


def number(cell: Any) -> str:
    """Return an estimate with its interval, a number or a dash."""
    if isinstance(cell, dict):
        return f"{cell['estimate']:.3f} \\[{cell['low']:.3f}, {cell['high']:.3f}\\]"
    return "–" if cell is None else f"{cell:.3f}"


def cards(layout: Layout) -> str:
    """Return what the page of the data ends with: the sources, the instruction sets, the card of the sentence pairs."""
    lines = ["## Cards", ""]
    for stem in CARDS:
        text = (ROOT / f"figures/{stem}.md").read_text(encoding="utf-8")
        lines += [text, f"From {source(layout, stem, 'data')} · {downloads(layout, stem, 'data')}", ""]
    blocks = [(block, path) for path in layout.notebooks for block in pair_cards(layout.read[path])]
    if blocks:
        block, path = max(blocks, key=lambda found: len(found[0]))  # that of all tasks
        link = f"[{path.stem}]({os.path.relpath(path, ROOT / 'data')})"
        lines += [f"Sets of sentence pairs; words are 5 %, median, 95 % and most. From {link}.", "", block, ""]
    return "\n".join([*lines, toctree(["paper/README"], ":hidden:")])


def pair_cards(content: dict[str, Any]) -> Iterator[str]:
    """Yield what the cells of a notebook show that call `lib.text.cards`: tables, or what they print."""
    for cell in content["cells"]:
        if cell["cell_type"] == "code" and "cards.card(" in "".join(cell["source"]):
            for output in cell["outputs"]:
                if "text/html" in output.get("data", {}):
                    yield "\n".join(["```{raw} html", *output["data"]["text/html"], "```"])
                elif "text" in output:
                    yield f"```text\n{''.join(output['text'])}\n```"


def notebook(layout: Layout, path: Path) -> None:
    """Lay out a notebook: its code folded, its links followed, a list of its files at its end.

    A code cell that shows nothing is one with the code cell after it: one fold for both.
    """
    place = path.relative_to(ROOT).as_posix()
    content = json.loads(json.dumps(layout.read[path]))
    cells: list[dict[str, Any]] = []
    for cell in content["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            if cells and cells[-1]["cell_type"] == "code" and not cells[-1]["outputs"]:
                text = f"{cells.pop()['source']}\n\n{text}"
            outputs = [layout.shown(output, place) for output in cell["outputs"]]
            cells.append(cell | {"source": text, "outputs": outputs, "metadata": {"tags": ["hide-input"]}})
        else:
            cells.append(cell | {"source": layout.linked(text, place)})
    content["cells"] = cells
    writes = layout.promise(path)["writes"]
    if writes:
        home = Path(place).parent.as_posix()
        lines = ["## Files of this notebook", "", "| | files | behind it |", "|---|---|---|"]
        for stem in writes:
            count = len(layout.told[stem]["records"])
            told = f"[{count} records](#{anchor(stem)})" if count else f"[no records](#{anchor(stem)})"
            lines.append(f"| {title(stem)} | {downloads(layout, stem, home)} | {told} |")
        content["cells"].append({"cell_type": "markdown", "id": "files", "metadata": {}, "source": "\n".join(lines)})
    content["metadata"].pop("widgets", None)
    layout.write(place, json.dumps(content, ensure_ascii=False))


def docs() -> list[str]:
    """Return the places of the pages under docs/."""
    return [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]


def contents(layout: Layout) -> str:
    """Return the table of contents that the start page ends with, shown in the sidebar alone."""
    found = {place.removeprefix("docs/").removesuffix(".md") for place in docs()}
    others = [*(name for name in DOCS if name in found), *sorted(found.difference(DOCS, LIBRARY))]
    series = [
        f"{name} <notebooks/{folder}/README>"
        for folder, name in SERIES.items()
        if (ROOT / "notebooks" / folder).is_dir()
    ]
    first, *_, last = (f"notebooks/{path.stem}" for path in layout.notebooks if path.parent.name == "notebooks")
    trees = {
        "Notebooks": [first, *series, last],
        "Results": ["scorecard", "gallery", "tables"],
        "Library": [*(f"docs/{name}" for name in LIBRARY if name in found), "API <api/lib/index>"],
        "Project": [
            *(f"docs/{name}" for name in others),
            "Data <data/README>",
            "CONTRIBUTING",
            "CHANGELOG",
        ],
    }
    return "\n".join(toctree(entries, ":hidden:", f":caption: {caption}") for caption, entries in trees.items())


def main(target: Path) -> None:
    """Fill the folder anew."""
    shutil.rmtree(target, ignore_errors=True)
    layout = Layout(target)
    for path in layout.notebooks:
        notebook(layout, path)
    for place in docs():
        layout.page(place)
    for folder in SERIES:
        inside = [path.stem for path in layout.notebooks if path.parent.name == folder]
        if inside:
            layout.page(f"notebooks/{folder}/README.md", toctree(inside, ":hidden:"))
    more = {START: contents(layout), "data/README.md": cards(layout)}
    for place in PAGES:
        layout.page(place, more.get(place, ""))
    layout.write("gallery.md", gallery(layout))
    layout.write("tables.md", tables(layout))
    layout.write("scorecard.md", scorecard(layout))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
