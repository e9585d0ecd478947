"""What a notebook promises: the typed reading of its metadata `reproduction`, for runner, graph and tests.

The heading of its first cell and the whole of its last one, with the promise as a table and the way to the notebooks
before and after it, are written from it: `python -m lib.running.contract --write [NOTEBOOK ...]`.
"""

import argparse
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from lib import paths, strict_json
from lib.errors import UserError, command
from lib.files import write_text
from lib.settings import Settings

KEY = "reproduction"
LAST = "about"  # id of the last cell
CELLS = ("code", "markdown", "raw")
LONGEST_NAME = 100  # characters of a part of a path; with a suffix it fits every file system
SUFFIXES = {"figure": (".png", ".pdf", ".json"), "table": (".csv", ".md", ".tex", ".json")}


def _inside(stem: str) -> str:
    """Refuse a stem that leaves the folder of figures, or that hides a file or a suffix."""
    parts = PurePosixPath(stem).parts
    if not parts or stem != "/".join(parts) or any(part.startswith((".", "/")) for part in parts):
        raise ValueError("must be a relative path like series/name")
    if not stem.isprintable() or "\\" in stem or max(map(len, parts)) > LONGEST_NAME:
        raise ValueError(f"must have parts of {LONGEST_NAME} printable characters at most, and no backslash")
    return stem


def _said(line: str) -> str:
    """Refuse a line that says nothing, and one that would break out of its row of a table."""
    if not line.strip() or not line.isprintable():
        raise ValueError("must be one line of printable characters")
    return line


Line = Annotated[str, AfterValidator(_said)]
Stem = Annotated[str, AfterValidator(_inside)]


class Minutes(Settings):
    """Measured minutes of one run on 2 cores, records being read; `note` says what it takes without them."""

    model_config = ConfigDict(strict=True)

    smoke: float = Field(ge=0)
    cpu: float = Field(ge=0)
    note: Line | None = None


class Contract(Settings):
    """The promise of one notebook: paper item, claim, minutes, load, cases it reads, files it writes, time limit."""

    model_config = ConfigDict(strict=True)

    notebook: Path  # its file; not part of the metadata
    item: Line  # of the paper, like "Figure 3"
    title: Line
    claim: Line
    minutes: Minutes
    load: Literal["light", "alone"]  # side by side with one thread each, or alone with all
    cases: list[Stem]  # prefixes of the names of the cases it reads
    writes: list[Stem]  # figures and tables promised under figures/, without suffix
    kinds: dict[Stem, Literal["figure", "table"]]
    timeout: int = Field(gt=0)  # seconds that one cell may take
    reads_verdicts: bool = False  # of the other notebooks, so that it runs after all of them

    @model_validator(mode="after")
    def _kinds_of_all(self) -> "Contract":
        if len(set(self.writes)) != len(self.writes) or set(self.writes) != set(self.kinds):
            raise ValueError("writes and kinds must name the same files, each once")
        return self

    @property
    def name(self) -> str:
        """Name of the notebook: its path under notebooks/ without the suffix."""
        return name(self.notebook)

    def reads(self, case: str) -> bool:
        """Whether the notebook reads the case of that name: one of its prefixes ends with a part of the name."""
        return any(f"{case}/".startswith(f"{prefix}/") for prefix in self.cases)

    @property
    def files(self) -> list[str]:
        """Files promised under figures/, in the order of `writes`."""
        return [stem + suffix for stem in self.writes for suffix in SUFFIXES[self.kinds[stem]]]


def name(notebook: Path) -> str:
    """Path of a notebook under notebooks/, or its bare name elsewhere, without the suffix."""
    notebook = Path(notebook)
    inside = notebook.relative_to(paths.NOTEBOOKS) if notebook.is_relative_to(paths.NOTEBOOKS) else Path(notebook.name)
    return inside.with_suffix("").as_posix() if inside.name else inside.as_posix()


def read(notebook: Path) -> dict[str, Any]:
    """Return a notebook as JSON; `UserError` naming the file, and the cell, where it is missing, broken or malformed.

    What is read here and by papermill has the types of format 4: metadata are objects, tags and a source texts or lists
    of them, identities differ.
    """
    place = paths.relative(notebook)
    if not Path(notebook).exists():
        raise UserError(f"{place}: no such notebook: check the path")
    text = strict_json.read_text(Path(notebook))
    content = strict_json.parse(text, f"{place}: not a notebook", "restore it from git")
    if not isinstance(content, dict):
        raise UserError(f"{place}: not a notebook but {strict_json.kind(content)}: restore it from git")
    if type(content.get("nbformat")) is not int or content["nbformat"] != 4:
        raise UserError(f"{place}: not a notebook of format 4: save it again in JupyterLab")
    for problem in _problems(content):
        raise UserError(f"{place}: {problem}: save it again in JupyterLab, or restore it from git")
    return content


def _problems(content: dict[str, Any]) -> Iterator[str]:
    """Yield what is not as format 4 has it, of all that is read here and by papermill."""
    if type(content.get("nbformat_minor")) is not int:
        yield "`nbformat_minor` is no whole number"
    yield from _metadata_problems("the notebook", content, ("kernelspec", "language_info", "papermill"))
    cells = content.get("cells")
    if not isinstance(cells, list):
        yield f"`cells` {_found(content, 'cells')} where a list is expected"
        return
    identities: set[str] = set()
    for number, cell in enumerate(cells, 1):
        where = f"cell {number}"
        if not isinstance(cell, dict):
            yield f"{where} is {strict_json.kind(cell)} where an object is expected"
            return
        if cell.get("cell_type") not in CELLS:
            yield f"{where}: `cell_type` is none of {', '.join(CELLS)}"
        if not _is_text(cell.get("source")):
            yield f"{where}: `source` {_found(cell, 'source')} where a text, or a list of texts, is expected"
        outputs = cell.get("outputs", [] if cell.get("cell_type") != "code" else None)
        if not isinstance(outputs, list) or not all(isinstance(one, dict) and "output_type" in one for one in outputs):
            yield f"{where}: `outputs` {_found(cell, 'outputs')} where a list of outputs is expected"
        yield from _metadata_problems(where, cell, ("papermill", "execution"))
        metadata = cell["metadata"] if isinstance(cell.get("metadata"), dict) else {}
        tags = metadata.get("tags", [])
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            yield f"{where}: `metadata.tags` {_found(metadata, 'tags')} where a list of texts is expected"
        identity = cell.get("id", f"{number}, which has none")
        if not isinstance(identity, str) or identity in identities:
            yield f"{where}: `id` is no text, or that of an earlier cell ({strict_json.clip(str(identity))})"
        else:
            identities.add(identity)


def _metadata_problems(where: str, holder: dict[str, Any], objects: Sequence[str]) -> Iterator[str]:
    metadata = holder.get("metadata")
    if not isinstance(metadata, dict):
        yield f"{where}: `metadata` {_found(holder, 'metadata')} where an object is expected"
        return
    for name in objects:
        if name in metadata and not isinstance(metadata[name], dict):
            yield f"{where}: `metadata.{name}` {_found(metadata, name)} where an object is expected"


def _found(holder: dict[str, Any], name: str) -> str:
    return f"is {strict_json.kind(holder[name])}" if name in holder else "is missing"


def _is_text(source: Any) -> bool:
    return isinstance(source, str) or (isinstance(source, list) and all(isinstance(line, str) for line in source))


def load(notebook: Path) -> Contract:
    """Return the contract of a notebook; `UserError` naming the notebook and the field where it is missing or wrong."""
    promise = read(notebook)["metadata"].get(KEY)
    remedy = "mend it under Advanced Tools, Notebook Metadata, in JupyterLab"
    if not isinstance(promise, dict):
        raise UserError(f"{paths.relative(notebook)}: no `{KEY}` in the notebook's metadata: {remedy}")
    if "notebook" in promise:
        raise UserError(f"{paths.relative(notebook)}: metadata `{KEY}.notebook`: the file's own name: {remedy}")
    try:
        return Contract.model_validate({**promise, "notebook": Path(notebook)})
    except ValidationError as error:
        problem = error.errors()[0]
        place = strict_json.clip(".".join(str(part) for part in (KEY, *problem["loc"])))
        raise UserError(f"{paths.relative(notebook)}: metadata `{place}`: {problem['msg']}: {remedy}") from error


def framed(promise: Contract, cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cells of a notebook with its heading and its last cell as the contract has them.

    The prose of the first cell stays. Raises `UserError` where the first cell is not text, or a neighbour's contract
    is wrong.
    """
    if not cells or cells[0]["cell_type"] != "markdown":
        raise UserError(
            f"{paths.relative(promise.notebook)}: the first cell is not text: put one there that says what it is about"
        )
    first = cells[0] | {"source": _first_text(promise, "".join(cells[0]["source"])).splitlines(keepends=True)}
    last = {
        "cell_type": "markdown",
        "id": LAST,
        "metadata": {},
        "source": _last_text(promise).splitlines(keepends=True),
    }
    return [first, *(cell for cell in cells[1:] if cell.get("id") != LAST), last]


def is_framed(promise: Contract) -> bool:
    """Whether the first and the last cell of a notebook stand as its contract has them."""
    cells = read(promise.notebook)["cells"]
    return [_as_text(cell) for cell in framed(promise, cells)] == [_as_text(cell) for cell in cells]


def renew(notebook: Path) -> bool:
    """Write the first and the last cell of a notebook as its contract has them; return whether that changed the file.

    Raises `UserError` for a wrong contract, and where the first cell is not text.
    """
    promise = load(notebook)
    if is_framed(promise):
        return False
    content = read(notebook)
    content["cells"] = framed(promise, content["cells"])
    # As nbformat writes it.
    write_text(notebook, json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    return True


def _as_text(cell: dict[str, Any]) -> tuple[str | None, str]:
    return cell.get("id"), "".join(cell["source"])


def _first_text(promise: Contract, text: str) -> str:
    """Return the heading, and below it the prose of a first cell, without any heading of old."""
    lines = text.splitlines()
    prose = "\n".join(lines[1:] if lines[:1] and lines[0].startswith("# ") else lines).strip()
    return "\n\n".join([_heading(promise), *([prose] if prose else [])])


def _last_text(promise: Contract) -> str:
    return "\n\n".join(["## About this notebook", _table(promise), *_neighbours(promise)])


def _neighbours(promise: Contract) -> list[str]:
    """Return a line with links to the notebooks before and after this one; none outside the folder of notebooks."""
    found = _files()
    if promise.notebook.absolute() not in found:
        return []
    place, links = found.index(promise.notebook.absolute()), []
    for word, other in (("Previous", place - 1), ("Next", place + 1)):
        if 0 <= other < len(found):
            target = Path(os.path.relpath(found[other], found[place].parent)).as_posix()
            links.append(f"{word}: [{_heading(load(found[other])).removeprefix('# ')}]({target})")
    return [" · ".join(links)] if links else []


def _files() -> list[Path]:
    """Return the files of all notebooks in reading order."""
    found = (path for path in paths.NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    return sorted(path.absolute() for path in found)


def link(promise: Contract, stem: str) -> str:
    """Return the path from a notebook to the JSON of one of its figures or tables, as a link has it."""
    return f"{'../' * len(PurePosixPath(promise.name).parts)}figures/{stem}.json"


def _heading(promise: Contract) -> str:
    number = re.match(r"\d+(\.\d+)?(?=_)", promise.notebook.stem)
    return f"# {number[0] if number else ''} {promise.title}".replace("#  ", "# ")


def _table(promise: Contract) -> str:
    minutes = f"{promise.minutes.smoke:g} (`smoke`), {promise.minutes.cpu:g} (`cpu`) on 2 cores"
    minutes += " with records" if promise.cases else ""
    files = ", ".join(f"[{stem.rsplit('/', 1)[-1]}]({link(promise, stem)})" for stem in promise.writes)
    rows = {
        "Paper item": promise.item,
        "Claim": promise.claim,
        "Minutes": "; ".join(part for part in (minutes, promise.minutes.note) if part),
        "Files": f"{files}: numbers, and the records they come from" if files else "none",
    }
    cells = {name: text.replace("|", r"\|") for name, text in rows.items()}
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in cells.items())])


def all_notebooks() -> list[Contract]:
    """Return the contracts of all notebooks in reading order; `UserError` for a wrong one, or a file promised twice."""
    contracts = [load(path) for path in _files()]
    owners: dict[str, Contract] = {}
    for contract in contracts:
        for file in contract.files:
            if (other := owners.setdefault(file, contract)) is not contract:
                raise UserError(
                    f"{paths.relative(contract.notebook)}: promises {file}, as {other.name} does: rename one"
                )
    return contracts


def below(prefixes: Sequence[str]) -> list[Contract]:
    """Return the contracts of the notebooks named, or in the folders named, in reading order; of all for no name.

    A name is a path under notebooks/, with or without `notebooks/` and the suffix. Raises `UserError` for one that
    names no notebook, and for a wrong contract.
    """
    wanted = {prefix: prefix.removeprefix("notebooks/").removesuffix(".ipynb").strip("/") for prefix in prefixes}
    contracts = all_notebooks()
    for prefix, stem in wanted.items():
        if not any(f"{contract.name}/".startswith(f"{stem}/") for contract in contracts):
            raise UserError(f"{prefix}: no notebook has this name or lies below it: `ls notebooks/*` names them")
    return [
        contract
        for contract in contracts
        if not wanted or any(f"{contract.name}/".startswith(f"{stem}/") for stem in wanted.values())
    ]


def main() -> int:
    """Write the first and last cells from the command line; without --write only name what differs, and return 1."""
    parser = argparse.ArgumentParser(prog="python -m lib.running.contract", description=framed.__doc__)
    parser.add_argument("notebooks", nargs="*", help="notebooks, or folders of them; all without")
    parser.add_argument("--write", action="store_true", help="write the cells that differ")
    arguments = parser.parse_args()
    differ = []
    for promise in below(arguments.notebooks):
        if renew(promise.notebook) if arguments.write else not is_framed(promise):
            differ.append(promise)
            print(
                f"{paths.relative(promise.notebook)}: {'written' if arguments.write else 'not as its contract has it'}"
            )
    return 1 if differ and not arguments.write else 0


if __name__ == "__main__":
    command(main)
