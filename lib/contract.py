"""What a notebook promises: the typed reading of its metadata `reproduction`, for runner, graph and tests."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from lib import paths
from lib.errors import UserError

KEY = "reproduction"
SUFFIXES = {"figure": (".png", ".pdf", ".json"), "table": (".csv", ".md", ".tex", ".json")}


def _inside(stem: str) -> str:
    """Refuse a stem that leaves the folder of figures, or that hides a file or a suffix."""
    parts = PurePosixPath(stem).parts
    if not parts or stem != "/".join(parts) or any(part.startswith((".", "/")) for part in parts):
        raise ValueError("must be a relative path like series/name")
    return stem


Line = Annotated[str, Field(min_length=1, pattern=r"^[^\n]+$")]
Stem = Annotated[str, AfterValidator(_inside)]


class Minutes(BaseModel):
    """Measured minutes of one run on 2 cores, records being read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    smoke: float = Field(ge=0)
    cpu: float = Field(ge=0)


class Contract(BaseModel):
    """The promise of one notebook: paper item, claim, minutes, load, cases it reads, files it writes, time limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

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
    return inside.with_suffix("").as_posix()


def read(notebook: Path) -> dict[str, Any]:
    """Return a notebook as JSON; `UserError` naming the file where it is missing, broken or not format 4."""
    try:
        content = json.loads(Path(notebook).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{paths.relative(notebook)}: no such notebook: check the path") from error
    except ValueError as error:
        raise UserError(f"{paths.relative(notebook)}: not a notebook ({error}): restore it from git") from error
    if not isinstance(content, dict) or content.get("nbformat") != 4:
        raise UserError(f"{paths.relative(notebook)}: not a notebook of format 4: save it again in JupyterLab")
    return content


def load(notebook: Path) -> Contract:
    """Return the contract of a notebook; `UserError` naming the notebook and the field where it is missing or wrong."""
    promise = read(notebook).get("metadata", {}).get(KEY)
    remedy = "mend it under Advanced Tools, Notebook Metadata, in JupyterLab"
    if not isinstance(promise, dict):
        raise UserError(f"{paths.relative(notebook)}: no `{KEY}` in the notebook's metadata: {remedy}")
    try:
        return Contract.model_validate({**promise, "notebook": Path(notebook)})
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in (KEY, *problem["loc"]))
        raise UserError(f"{paths.relative(notebook)}: metadata `{place}`: {problem['msg']}: {remedy}") from error


def all_notebooks() -> list[Contract]:
    """Return the contracts of all notebooks in reading order; `UserError` for a wrong one, or a file promised twice."""
    found = sorted(path for path in paths.NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    contracts = [load(path) for path in found]
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
