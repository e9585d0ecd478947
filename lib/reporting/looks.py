"""How a model, a method or a verdict looks in every picture: colour, line and marker by its place in the style sheet.

A series names its rows once, in its own `figures` module: `LOOKS = looks.numbered(["InfoDiffusion", "DiffuSeq"])`.
"""

from collections.abc import Sequence
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


def curve(axes: Axes, x: Sequence[float], found: Sequence[Interval], look: Look, label: str) -> dict[str, list[float]]:
    """Draw estimates over x with their intervals as bars; return what was drawn, to be saved with the figure."""
    axes.errorbar(x, [one.estimate for one in found], _bars(found), label=label, capsize=2, elinewidth=1, **look.line())
    return _numbers(found) | {"x": [float(place) for place in x]}


def rows(axes: Axes, names: Sequence[str], found: Sequence[Interval], look: Look) -> dict[str, list[float]]:
    """Draw one interval a row, the first name at the top, beside a line at 0; return what was drawn."""
    places = np.arange(len(names))[::-1]
    middle = [one.estimate for one in found]
    axes.errorbar(middle, places, xerr=_bars(found), capsize=2, elinewidth=1.4, **look.points())
    axes.axvline(0, color="0.6", lw=0.8, zorder=0)
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(axis="y", visible=False)
    return _numbers(found) | {"row": places.tolist()}


def direct_label(axes: Axes, x: float, y: float, text: str, look: Look, **moved: Any) -> None:
    """Write a curve's name beside its end, in its colour, in the place of a legend; `moved` goes to `annotate`."""
    place: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
    axes.annotate(text, (x, y), color=look.colour, **(place | moved))


def _bars(found: Sequence[Interval]) -> np.ndarray:
    """Return how far intervals reach below and above their estimates, (2, intervals)."""
    return np.array([[one.estimate - one.low, one.high - one.estimate] for one in found], float).T


def _numbers(found: Sequence[Interval]) -> dict[str, list[float]]:
    return {
        "estimate": [float(one.estimate) for one in found],
        "low": [float(one.low) for one in found],
        "high": [float(one.high) for one in found],
    }
