"""How a model, a method or a verdict looks in every picture: colour, line and marker by its place in the style sheet.

A series names its rows once, in its own `figures` module: `LOOKS = looks.numbered(["InfoDiffusion", "DiffuSeq"])`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
from matplotlib import rc_params_from_file
from matplotlib.axes import Axes

from lib.intervals.estimates import Interval
from lib.reporting.figures import STYLE

# In the order of the style sheet's lightness steps, so that a grey print tells neighbours apart.
_CYCLE = rc_params_from_file(STYLE, use_default_template=False)["axes.prop_cycle"].by_key()
COLOURS, LINES, MARKERS = (tuple(_CYCLE[kind]) for kind in ("color", "linestyle", "marker"))
LINE = 13.0  # points from one line of small text to the next
OPEN = {"markerfacecolor": "white"}  # points of few seeds, or of the second of two ways
GREY = "#8a8a8a"  # what is only there to compare with: the paper's curve, chance, copying


@dataclass(frozen=True)
class Look:
    """One look; `line()` and `points()` are keyword arguments of matplotlib's plot and errorbar."""

    colour: str
    style: Any = "-"
    marker: str = "o"

    def line(self) -> dict[str, Any]:
        """Return colour, line and marker of a curve, a marker at each of its points."""
        return {"color": self.colour, "linestyle": self.style, "marker": self.marker, "markevery": 1}

    def points(self) -> dict[str, Any]:
        """Return colour and marker of points without a line."""
        return self.line() | {"linestyle": "none"}


def numbered(names: Sequence[str]) -> dict[str, Look]:
    """Return a look for each name, by its place; more names than colours take the colours again with other markers."""
    colours = list(islice(cycle(COLOURS), len(names)))
    turns = [place // len(COLOURS) + place for place in range(len(names))]
    return {
        name: Look(colour, LINES[turn % len(LINES)], MARKERS[turn % len(MARKERS)])
        for name, colour, turn in zip(names, colours, turns, strict=True)
    }


def curve(
    axes: Axes, x: Sequence[float], found: Sequence[Interval], look: Look, label: str, *, hollow: bool = False
) -> dict[str, list[float]]:
    """Draw estimates over x with their intervals as bars, points open where `hollow`; return what was drawn."""
    style, middle = look.line() | (OPEN if hollow else {}), [one.estimate for one in found]
    axes.errorbar(x, middle, _bars(found), label=label, capsize=2, elinewidth=1, **style)
    return _numbers(found) | {"x": [float(place) for place in x]}


def rows(
    axes: Axes,
    names: Sequence[str],
    found: Sequence[Interval | None],
    look: Look | Sequence[Look],
    *,
    up: float = 0,
    hollow: Collection[str] = (),
    zero: bool = True,
    label: str | None = None,
) -> dict[str, list[float]]:
    """Draw one interval a row, the first name at the top, beside a line at 0; return what was drawn.

    None leaves a row empty. `look` is one for all rows or one each; points of the rows named in `hollow` are open. `up`
    moves the points of several calls apart, above the middle of their rows; `label` names those of one call.
    """
    each = [look] * len(names) if isinstance(look, Look) else look
    there: list[tuple[float, Interval]] = []
    alike: dict[tuple[Look, bool], list[tuple[float, Interval]]] = {}
    for place, (name, one, kind) in enumerate(zip(names, found, each, strict=True)):
        if one is not None:
            there.append((len(names) - 1 - place + up, one))
            alike.setdefault((kind, name in hollow), []).append(there[-1])
    told = label
    for (kind, is_open), points in alike.items():
        places, mine = zip(*points, strict=True)
        style = kind.points() | (OPEN if is_open else {})
        middle = [one.estimate for one in mine]
        axes.errorbar(middle, places, xerr=_bars(mine), capsize=2, elinewidth=1.4, label=told, **style)
        told = label and f"_{label}"  # one series, named once
    if zero:
        axes.axvline(0, color="0.6", lw=0.8, zorder=0)
    axes.set_yticks(range(len(names) - 1, -1, -1), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(axis="y", visible=False)
    return _numbers([one for _, one in there]) | {"row": [place for place, _ in there]}


def direct_label(axes: Axes, x: float, y: float, text: str, look: Look, **moved: Any) -> None:
    """Write a curve's name beside its end, in its colour, in the place of a legend; `moved` goes to `annotate`."""
    place: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
    axes.annotate(text, (x, y), color=look.colour, **(place | moved))


def name_ends(
    axes: Axes, ends: Mapping[str, tuple[float, float]], given: Mapping[str, Look], *, outside: bool = False
) -> None:
    """Write each curve's name beside its end (x, y), in its look, and move names apart that would meet.

    `outside` writes them right of the axes, a thin line leading from each to its curve. Call it when all curves are
    drawn and the limits are set.
    """
    axes.figure.canvas.draw()  # the layout settles in the first drawing
    points = 72 / axes.figure.dpi
    heights = {name: (axes.transData.transform(end)[1] - axes.bbox.y0) * points for name, end in ends.items()}
    top = axes.bbox.height * points
    moved = apart(heights, LINE, top)
    for name, end in ends.items():
        if not outside:
            direct_label(axes, *end, name, given[name], xytext=(6, moved[name] - heights[name]))
            continue
        place: dict[str, Any] = {"xytext": (1.03, moved[name] / top), "textcoords": "axes fraction"}
        direct_label(axes, *end, name, given[name], **place)
        line = {"arrowstyle": "-", "color": given[name].colour, "lw": 0.6, "shrinkA": 0, "shrinkB": 2}
        # Apart from the name, whose box would else hold its line.
        axes.annotate("", end, arrowprops=line, **place)


def apart(heights: Mapping[str, float], least: float, top: float) -> dict[str, float]:
    """Return heights in their order, at least `least` apart and at most `top`: moved up, then down from the top."""
    moved: dict[str, float] = {}
    last = -np.inf
    for name in sorted(heights, key=heights.__getitem__):
        last = moved[name] = max(heights[name], last + least)
    limit = top
    for name in reversed(list(moved)):
        moved[name] = min(moved[name], limit)
        limit = moved[name] - least
    return moved


def head(axes: Axes, text: str, **moved: Any) -> None:
    """Write upright, above the names at the y axis, what they are: the head of a column; `moved` goes to the label.

    With `va="top"` it stands beside the top of the axes. Call it after the title is set.
    """
    place: dict[str, Any] = {"rotation": 0, "ha": "right", "va": "bottom", "fontsize": 9, "color": "0.35"} | moved
    axes.set_ylabel(text, **place)
    axes.yaxis.set_label_coords(-0.02, 1.0)
    if place["va"] == "bottom" and not axes.get_title():
        axes.set_title(" ", fontsize=9)  # the layout keeps no room above the axes for a label of the y axis


def _bars(found: Sequence[Interval]) -> np.ndarray:
    """Return how far intervals reach below and above their estimates, (2, intervals)."""
    return np.array([[one.estimate - one.low, one.high - one.estimate] for one in found], float).T


def _numbers(found: Sequence[Interval]) -> dict[str, list[float]]:
    return {
        "estimate": [float(one.estimate) for one in found],
        "low": [float(one.low) for one in found],
        "high": [float(one.high) for one in found],
    }
