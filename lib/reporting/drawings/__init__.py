"""Drawings of the four methods, made by code: shown in notebooks, and kept as SVG in docs/drawings.

`python -m lib.reporting.drawings` writes them all anew.
"""

from collections.abc import Callable
from pathlib import Path

from lib import paths
from lib.files import write_together
from lib.reporting.drawings import beacons, distillation, infodiffusion, lemoe
from lib.reporting.drawings.sheet import Sheet, svg

DRAWINGS: dict[str, Callable[[], Sheet]] = {
    "infodiffusion": infodiffusion.draw,
    "beacons": beacons.draw,
    "lemoe": lemoe.draw,
    "distillation": distillation.draw,
}
FOLDER = paths.ROOT / "docs/drawings"


def drawn(name: str) -> bytes:
    """Return the drawing of a method as SVG, the same bytes in every process; `KeyError` for a name that has none."""
    return svg(DRAWINGS[name]())


def show(name: str) -> None:
    """Show the drawing of a method in a notebook."""
    from IPython.display import SVG, display

    display(SVG(data=drawn(name).decode()))


def write(folder: Path = FOLDER) -> list[Path]:
    """Write all drawings into a folder and return their files."""
    made = {folder / f"{name}.svg": drawn(name) for name in DRAWINGS}
    write_together(made)
    return list(made)
