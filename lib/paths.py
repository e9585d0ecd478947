"""Where everything lives: the one module that knows the project's folders."""

import os
import sys
from pathlib import Path

from lib.errors import UserError

# Of an installed wheel the package has another name, and no checkout around it.
INSTALLED = __name__.partition(".")[0] != "lib"
DISTRIBUTION = "wang-li-reproductions"


def user_folder() -> Path:
    """Folder of what an installed package fetches: `WANG_LI_DATA`, else in the system's folder for a user's data.

    That is XDG_DATA_HOME or ~/.local/share, on macOS ~/Library/Application Support, on Windows LOCALAPPDATA.
    """
    if chosen := os.environ.get("WANG_LI_DATA"):
        return Path(chosen).expanduser().absolute()
    home = Path(os.path.expanduser("~"))
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / DISTRIBUTION
    variable, usual = ("XDG_DATA_HOME", home / ".local" / "share")
    if sys.platform == "win32":
        variable, usual = "LOCALAPPDATA", home / "AppData" / "Local"
    given = Path(os.environ.get(variable, ""))
    return (given if given.is_absolute() else usual) / DISTRIBUTION  # a relative one is to be ignored, by XDG's rule


# Tests that run a modified copy of `lib` against the real data set REPRODUCTION_ROOT.
ROOT = user_folder() if INSTALLED else Path(os.environ.get("REPRODUCTION_ROOT", Path(__file__).resolve().parents[1]))

NOTEBOOKS = ROOT / "notebooks"
FIGURES = ROOT / "figures"
DATA = ROOT if INSTALLED else ROOT / "data"
PAPER = DATA / "paper"
EXTERNAL = DATA / "external"
BUILD = ROOT / "build"


def work_root() -> Path | None:
    """Root of a run from scratch (`FRESH=1`), or None in an ordinary run; `UserError` for a file, and for braces."""
    root = os.environ.get("REPRODUCTION_WORK_ROOT")
    if not root:
        return None
    if Path(root).is_file():
        raise UserError(f"REPRODUCTION_WORK_ROOT={root}: a file: name a folder, which need not be there")
    if {"{", "}"} & set(os.path.relpath(root, ROOT)):  # the project's own folder may have them
        raise UserError(f"REPRODUCTION_WORK_ROOT={root}: braces are patterns to Snakemake: choose another folder")
    return Path(root)


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
    """Return `path` as the reader should see it: relative to the project where possible, whole where none is around."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) and not INSTALLED else path.as_posix()
