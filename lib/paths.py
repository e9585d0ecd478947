"""Where everything lives: the one module that knows the project's folders."""

import os
from pathlib import Path

from lib.errors import UserError

# Tests that run a modified copy of `lib` against the real data set this.
ROOT = Path(os.environ.get("REPRODUCTION_ROOT", Path(__file__).resolve().parents[1]))

NOTEBOOKS = ROOT / "notebooks"
FIGURES = ROOT / "figures"
DATA = ROOT / "data"
PAPER = DATA / "paper"
EXTERNAL = DATA / "external"
BUILD = ROOT / "build"


def work_root() -> Path | None:
    """Root of a run from scratch (`FRESH=1`), or None in an ordinary run; raises `UserError` where it is a file."""
    root = os.environ.get("REPRODUCTION_WORK_ROOT")
    if root and Path(root).is_file():
        raise UserError(f"REPRODUCTION_WORK_ROOT={root}: a file: name a folder, which need not be there")
    return Path(root) if root else None


def results(profile: str) -> Path:
    """Folder of the records of a profile; a run from scratch has its own."""
    return (work_root() or DATA) / "results" / profile


def cache() -> Path:
    """Folder of trained weights and derived data sets, all recomputable; ignored by git."""
    return (work_root() or DATA) / "cache"


def work(profile: str) -> Path:
    """Folder that receives what a notebook writes before it is published."""
    return (work_root() or BUILD) / "work" / profile


def work_figures(profile: str) -> Path:
    """Folder that receives tables and figures; a successful `cpu` run publishes them to `figures/`."""
    return work(profile) / "figures"


def relative(path: Path) -> str:
    """Return `path` as the reader should see it: relative to the project where possible."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()
