"""A forest plot of claims: the intervals of their comparisons, turned so that right is what the paper says.

What is drawn of a comparison is how far its difference lies beyond the claimed margin, in the claimed direction: 0 is
the margin, above 0 is as claimed. The claims of a paper that are counted in one unit share a panel; every panel has an
axis of its own, since a share of facts, a BLEU and a loss in nats are no lengths of one kind.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.intervals import Interval
from lib.reporting import claims, looks
from lib.reporting.looks import Look

# What a panel says of its unit.
UNITS = {claims.SHARE_UNIT: "shares and scores from 0 to 1", claims.POINTS_UNIT: "scores in points of 100"}
AXIS = (
    "how far the measured difference lies beyond the margin that the claim asks for, with its interval\n"
    "shaded: as the paper says; thick: the comparison that decides; thin: the claim's others; hollow: one seed"
)
WIDTH, LABEL, OUTCOME = 10.0, 58, 26  # inches; letters in a line of a claim and of a verdict
SPACED = 0.25  # of a row, from its middle to its outermost comparison
ROW, PANEL = 0.4, 0.6  # inches of a claim, and of what a panel has beside them
# A verdict is told by its words beside the row; colour and marker only repeat them.
LOOKS = {
    claims.SUPPORTED: Look("#1f6f7a", marker="o"),
    claims.NOT_SUPPORTED: Look("#e0663c", marker="s"),
    claims.INCONCLUSIVE: Look("#123f8c", marker="D"),
    claims.NOT_TESTABLE: Look("#141428", marker="^"),
    claims.NOT_JUDGED: Look(looks.GREY, marker="o"),
    claims.NOT_RECORDED: Look(looks.GREY, marker="o"),
}


@dataclass(frozen=True)
class Row:
    """A claim in the plot: its paper, what it says, its verdict, and how its comparisons lie beyond their margins.

    `beyond` are intervals in the claimed direction, None where nothing is recorded; `decides` is the place among them
    of the comparison that decides, which is drawn boldly.
    """

    paper: str
    text: str
    verdict: str
    beyond: tuple[Interval | None, ...]
    decides: int = 0
    unit: str = claims.SHARE_UNIT


def beyond(found: Interval, direction: str, margin: float) -> Interval:
    """Return how far a difference lies beyond a margin in the claimed direction."""
    middle, low, high = (value - margin for value in found)
    return Interval(middle, low, high) if direction == ">" else Interval(-middle, -high, -low)


def draw(rows: Sequence[Row]) -> tuple[Figure, dict[str, Any]]:
    """Draw the rows, a panel for each paper and unit in their order; return the figure and what was drawn.

    Raises `ValueError` without rows.
    """
    if not rows:
        raise ValueError("a forest plot needs a claim")
    keys = dict.fromkeys((row.paper, row.unit) for row in rows)
    panels = {key: [row for row in rows if (row.paper, row.unit) == key] for key in keys}
    heights = [ROW * len(group) + PANEL for group in panels.values()]
    size = (WIDTH, sum(heights) + 0.4)
    figure, grid = plt.subplots(len(panels), 1, figsize=size, height_ratios=heights, squeeze=False)
    numbers: dict[str, Any] = {}
    for ((paper, unit), group), axes in zip(panels.items(), grid[:, 0], strict=True):
        _panel(axes, group)
        axes.set_title(f"{paper} ({UNITS.get(unit, unit)})", loc="left", fontweight="bold", fontsize=9)
        for row in group:
            numbers[f"{paper}: {row.text}"] = {"verdict": row.verdict, "unit": unit, "beyond": list(row.beyond)}
    figure.supxlabel(AXIS, fontsize=9)
    return figure, numbers


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    limits = _limits(rows)
    axes.axvspan(0, limits[1], color="#1f6f7a", alpha=0.08, lw=0)
    axes.axvline(0, color="0.4", lw=0.9)
    for place, row in enumerate(rows):
        look = _look(row.verdict)
        hollow = row.verdict.startswith(claims.NOT_JUDGED)
        spaced = np.linspace(-SPACED, SPACED, len(row.beyond)) if len(row.beyond) != 1 else [0.0]
        for number, (found, moved) in enumerate(zip(row.beyond, spaced, strict=True)):
            if found is not None:
                bold = number == row.decides
                axes.hlines(place + moved, found.low, found.high, color=look.colour, lw=2.2 if bold else 0.8)
                axes.plot(
                    [found.estimate], [place + moved], marker=look.marker, color=look.colour, ls="none",
                    ms=5.5 if bold else 2.5, mfc="white" if hollow else look.colour, zorder=3, markevery=1,
                )  # fmt: skip
        if not any(row.beyond):
            axes.text(0, place, "no interval", ha="center", va="center", fontsize=7.5, color="0.35", style="italic")
        axes.annotate(
            textwrap.fill(_short(row.verdict), OUTCOME), (1.01, place), xycoords=("axes fraction", "data"), va="center",
            fontsize=8, color=look.colour if look.colour != looks.GREY else "0.35",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [textwrap.fill(row.text, LABEL) for row in rows], fontsize=8)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=limits)
    axes.grid(axis="y", visible=False)


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the ends of an axis that holds every interval and 0, with room on both sides of it."""
    ends = [end for row in rows for found in row.beyond if found is not None for end in (found.low, found.high)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room


def _look(verdict: str) -> Look:
    """Return the look of a verdict, which may tell a number or a reason after its name."""
    return next(look for name, look in LOOKS.items() if verdict.startswith(name))


def _short(verdict: str) -> str:
    return verdict.partition(" (")[0]
