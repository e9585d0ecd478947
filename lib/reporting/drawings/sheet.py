"""What drawings of methods are made of: a sheet with boxes, arrows and notes, all at fixed places, saved as SVG.

Text stays text, so that it can be searched, read aloud and shown in the reader's own font.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from lib.reporting import figures

INK, BLUE, RUST = "#141428", "#123f8c", "#8c3614"
# Pale and dark by turns, with edges of their own: a grey print tells them apart too.
LOOKS: dict[str, dict[str, Any]] = {
    "plain": {"facecolor": "white", "edgecolor": INK, "linewidth": 1.0},
    "frozen": {"facecolor": "#e6eaf2", "edgecolor": "#40465a", "linewidth": 1.2, "linestyle": (0, (4, 2))},
    "trained": {"facecolor": "#f7c9a9", "edgecolor": RUST, "linewidth": 2.0},
    "loss": {"facecolor": BLUE, "edgecolor": BLUE, "linewidth": 1.0},
    "group": {"facecolor": "none", "edgecolor": "#a0a4b0", "linewidth": 1.0},
}
Look = Literal["plain", "frozen", "trained", "loss", "group"]
Place = tuple[float, float]
SIZE = 9.5  # points
# A fixed salt makes the ids of clip paths and markers the same in every process.
SVG: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "drawings"}
# What a reader without the project's font sees instead: none is wider, so text stays in its box.
FAMILIES = ("'DejaVu Sans'", "'DejaVu Sans', Verdana, Arial, sans-serif")
UNDATED = {"Date": None, "Creator": None, "Format": None, "Type": None}
CLEAR = 1.0  # pixels that have to lie between a text and what is not its own


@dataclass(frozen=True)
class Boxed:
    """A box and the text in it, None for a frame around others."""

    patch: Patch
    text: Text | None


class Sheet:
    """A sheet of paper, measured in tenths of an inch from the lower left corner, and all that was drawn on it."""

    def __init__(self, width: float, height: float) -> None:
        """Take an empty sheet."""
        figures.style()
        self.figure: Figure = plt.figure(figsize=(width / 10, height / 10), layout="none")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")
        self.boxes: list[Boxed] = []
        self.arrows: list[Path] = []

    def box(self, centre: Place, size: Place, text: str, look: Look = "plain", points: float = SIZE) -> None:
        """Draw a box with text in its middle."""
        low = (centre[0] - size[0] / 2, centre[1] - size[1] / 2)
        patch = FancyBboxPatch(low, *size, boxstyle="round,pad=0,rounding_size=0.8", zorder=2, **LOOKS[look])
        self.axes.add_patch(patch)
        colour = "white" if look == "loss" else INK
        self.boxes.append(Boxed(patch, self._text(centre, text, points, color=colour, ha="center")))

    def circle(self, centre: Place, radius: float, text: str) -> None:
        """Draw a circle with a sign in it."""
        patch = Circle(centre, radius, zorder=2, **LOOKS["plain"])
        self.axes.add_patch(patch)
        self.boxes.append(Boxed(patch, self._text(centre, text, SIZE, color=INK, ha="center")))

    def cell(self, centre: Place, size: Place, text: str, shade: float) -> None:
        """Draw a cell of a table, as dark as `shade` says, from 0 (white) to 1 (dark blue)."""
        low = (centre[0] - size[0] / 2, centre[1] - size[1] / 2)
        paper, ink = np.ones(3), np.array([0x12, 0x3F, 0x8C]) / 255
        colours: dict[str, Any] = {"facecolor": tuple(paper + shade * (ink - paper)), "edgecolor": "#8088a0"}
        patch = FancyBboxPatch(low, *size, boxstyle="square,pad=0", zorder=2, linewidth=0.6, **colours)
        self.axes.add_patch(patch)
        colour = "white" if shade > 0.7 else INK
        self.boxes.append(Boxed(patch, self._text(centre, text, 9, color=colour, ha="center")))

    def frame(self, low: Place, high: Place) -> None:
        """Draw a frame around what belongs together."""
        size = (high[0] - low[0], high[1] - low[1])
        patch = FancyBboxPatch(low, *size, boxstyle="round,pad=0,rounding_size=1", zorder=1, **LOOKS["group"])
        self.axes.add_patch(patch)
        self.boxes.append(Boxed(patch, None))

    def arrow(self, *places: Place, strong: bool = False, dashed: bool = False, head: bool = True) -> None:
        """Draw an arrow through places, in straight lines."""
        path = Path(list(places))
        look: dict[str, Any] = {"color": BLUE if strong else INK, "linewidth": 2.4 if strong else 1.1}
        look |= {"linestyle": (0, (3, 2)) if dashed else "-", "arrowstyle": "-|>" if head else "-"}
        scale = 14 if strong else 10
        patch = FancyArrowPatch(path=path, mutation_scale=scale, zorder=3, joinstyle="miter", capstyle="butt", **look)
        self.axes.add_patch(patch)
        self.arrows.append(path)

    def note(self, place: Place, text: str, points: float = SIZE, **look: Any) -> None:
        """Write text beside things; `look` as matplotlib's."""
        self._text(place, text, points, **({"color": INK, "ha": "left"} | look))

    def dots(self, places: Sequence[Place], filled: bool, radius: float = 0.62) -> None:
        """Draw dots, filled or open."""
        for place in places:
            look = {"facecolor": BLUE if filled else "white", "edgecolor": BLUE if filled else INK, "linewidth": 1.1}
            self.axes.add_patch(Circle(place, radius, zorder=4, **look))

    def _text(self, place: Place, text: str, points: float, **look: Any) -> Text:
        # Words in a row stand on one line, whatever their letters reach down to.
        va = "center" if "\n" in text else "center_baseline"
        return self.axes.text(*place, text, fontsize=points, va=va, linespacing=1.25, zorder=5, **look)


def key(sheet: Sheet, place: Place, entries: Sequence[tuple[Look, str]], step: float) -> None:
    """Say in a row what the looks of boxes mean, `step` apart."""
    for number, (look, meaning) in enumerate(entries):
        x = place[0] + number * step
        patch = FancyBboxPatch((x, place[1] - 0.9), 3, 1.8, boxstyle="round,pad=0,rounding_size=0.4", **LOOKS[look])
        sheet.axes.add_patch(patch)
        sheet.note((x + 4, place[1]), meaning, 9)


def svg(sheet: Sheet) -> bytes:
    """Return a drawing as SVG, the same bytes in every process; `ValueError` naming what a reader cannot read."""
    check(sheet)
    buffer = io.BytesIO()
    with plt.rc_context(SVG):
        sheet.figure.savefig(buffer, format="svg", metadata=UNDATED, bbox_inches=None, facecolor="white")
    # matplotlib leaves blanks at the ends of lines
    lines = buffer.getvalue().decode().replace(*FAMILIES).splitlines()
    return ("\n".join(line.rstrip() for line in lines) + "\n").encode()


def check(sheet: Sheet) -> None:
    """Raise `ValueError` where texts overlap, leave sheet or box, or are run into by a box or an arrow."""
    figures.check_legible(sheet.figure)
    if faults := list(_faults(sheet)):
        raise ValueError("the drawing is not legible: " + "; ".join(faults))


def _faults(sheet: Sheet) -> Iterator[str]:
    boxes = [(boxed, boxed.patch.get_window_extent()) for boxed in sheet.boxes]
    for text in sheet.axes.texts:
        extent = text.get_window_extent()
        around = extent.padded(CLEAR)
        for boxed, box in boxes:
            if boxed.text is text and not _inside(around, box):
                yield f"{text.get_text()!r} does not fit into its box"
            if boxed.text is not text and around.overlaps(box) and not (boxed.text is None and _inside(around, box)):
                yield f"{text.get_text()!r} lies on a box that is not its own"
        for arrow in sheet.arrows:
            if sheet.axes.transData.transform_path(arrow).intersects_bbox(around, filled=False):
                yield f"an arrow runs through {text.get_text()!r}"


def _inside(inner: Bbox, outer: Bbox) -> bool:
    return bool(outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1)
