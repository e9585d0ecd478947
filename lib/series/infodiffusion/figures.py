"""The figures of the series: each function draws one and returns it with the numbers that it shows."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lib import intervals
from lib.intervals import Interval
from lib.reporting import looks
from lib.reporting.figures import Drawn
from lib.reporting.looks import GREY, Look
from lib.series.infodiffusion.rows import MODELS

# The pair first, so that it has the same two looks in every figure.
FIRST = ("infodiffusion", "diffuseq")
LOOKS = looks.numbered([MODELS[name].title for name in (*FIRST, *(name for name in MODELS if name not in FIRST))])
BESIDE = Look(GREY, ":", "")  # copying, the paper


def schedules(curves: Mapping[str, ArrayLike], points: pd.DataFrame | None = None) -> Drawn:
    """Draw abar over t = 0 .. T of named curves, the highest first, and the paper's points (`t`, `abar_read_off`)."""
    figure, axes = plt.subplots(figsize=(6.4, 4))
    numbers: dict[str, Any] = {}
    named: list[tuple[float, float]] = []
    for (name, values), look in zip(curves.items(), looks.numbered(list(curves)).values(), strict=True):
        values = np.asarray(values, float)
        axes.plot(values, color=look.colour, linestyle=look.style, marker="", label=name)
        named.append(_free(values, named))
        at = round(named[-1][0] * len(values))
        field = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        looks.direct_label(axes, at, values[at], name, look, xytext=(0, 0), ha="center", bbox=field)
        numbers[name] = values
    if points is not None:
        axes.plot(points["t"], points["abar_read_off"], "kx", label="read off the paper's plot", markevery=1)
        axes.annotate("x: read off the paper's plot", (0.03, 0.06), xycoords="axes fraction", fontsize=9)
        numbers["read off"] = points[["t", "abar_read_off"]].to_dict("list")
    axes.set(
        xlabel=f"time t (of T = {len(values) - 1:,})", ylabel="signal kept, $\\bar{\\alpha}_t$", ylim=(-0.03, 1.03)
    )
    return figure, numbers


def _free(values: np.ndarray, taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the first place (share of the time, value) on a curve that is not beside one that is taken.

    At 0.35 most curves are apart, and no point of the paper's is there.
    """
    places = [(share, float(values[round(share * len(values))])) for share in (0.35, 0.6, 0.12, 0.8)]
    return next((p for p in places if all(abs(p[0] - x) > 0.2 or abs(p[1] - y) > 0.07 for x, y in taken)), places[0])


def training(curves: Mapping[str, Sequence[Mapping[int, float]]], copied: float) -> Drawn:
    """Draw validation BLEU over training by title, of each training seed {step: BLEU}, with copying beside.

    From three seeds on their mean with Student's interval; of fewer the first alone, with open markers.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4))
    numbers: dict[str, Any] = {}
    last = 0
    for title, seeds in curves.items():
        steps = sorted(set.intersection(*(set(one) for one in seeds)))
        found = [[one[step] for one in seeds] for step in steps]
        if len(seeds) >= intervals.MINIMUM_SEEDS:
            spread = [intervals.t_interval(values, bounds=intervals.SHARE) for values in found]
        else:
            spread = [Interval(values[0], values[0], values[0]) for values in found]
        few = len(seeds) < intervals.MINIMUM_SEEDS
        numbers[title] = looks.curve(axes, steps, spread, LOOKS[title], title, hollow=few)
        last = max(last, steps[-1])
    axes.plot([0, last], [copied] * 2, label="copy the source", **BESIDE.line())
    axes.annotate("copy the source", (last, copied), (-4, 4), textcoords="offset points", ha="right", fontsize=9)
    axes.set(xlabel="training step", ylabel="BLEU on validation, one candidate", xlim=(0, 1.25 * last))
    axes.set_xticks([place for place in axes.get_xticks() if 0 <= place <= last])  # the names stand to the right
    axes.spines["bottom"].set_bounds(0, last)
    axes.set_ylim(0, 1.08 * max(axes.get_ylim()[1], copied))
    ends = {title: (found["x"][-1], found["estimate"][-1]) for title, found in numbers.items()}
    looks.name_ends(axes, ends, LOOKS)
    return figure, numbers | {"copy the source": {"x": [0, last], "estimate": [copied] * 2}}


def settled_words(shown: Mapping[str, tuple[NDArray[np.object_], NDArray[np.int64]]], steps: int) -> Drawn:
    """Draw the finished sentence of each model (title: words, settling steps), above each word its settling step.

    The darker the field of a word, the earlier it was settled, of `steps`.
    """
    figure, panels = plt.subplots(len(shown), 1, figsize=(10, 1.05 * len(shown)), layout="constrained", squeeze=False)
    numbers = {}
    for axes, (title, (words, settled)) in zip(panels.flat, shown.items(), strict=True):
        ends = np.cumsum([len(word) + 3 for word in words])
        middles = ends - np.array([len(word) + 3 for word in words]) / 2
        for word, step, x in zip(words, settled, middles, strict=True):
            early = 1 - (step - 1) / max(steps - 1, 1)
            field = {
                "boxstyle": "round,pad=0.25",
                "edgecolor": "0.5",
                "linewidth": 0.6,
                "facecolor": str(1 - 0.3 * early),
            }
            axes.text(x, 0.25, word, ha="center", va="center", fontsize=9, bbox=field, parse_math=False)
            axes.text(x, 0.8, str(step), ha="center", va="center", fontsize=9)
        axes.set(xlim=(0, max([*ends, 90])), ylim=(0, 1.1))
        axes.set_title(f"{title}: above each word the sampling step that settled it", loc="left", fontsize=10)
        axes.axis("off")
        numbers[title] = {"words": list(words), "settled at step": np.asarray(settled).tolist()}
    return figure, numbers


def by_task(found: Mapping[str, Mapping[str, Interval]], aside: Mapping[str, float], measure: str) -> Drawn:
    """Draw a measure of the models (task: title: interval), a panel a task, and a dotted line at the score `aside`."""
    figure, panels = panels_of(len(found), (5, 3.4))
    numbers: dict[str, Any] = {}
    for axes, (task, rows) in zip(panels, found.items(), strict=False):
        drawn = looks.rows(axes, list(rows), list(rows.values()), [LOOKS[title] for title in rows], zero=False)
        axes.axvline(aside[task], **BESIDE.line())
        axes.annotate("copy", (aside[task], len(rows) - 0.4), (3, 0), textcoords="offset points", va="top", fontsize=8)
        axes.set(title=task, xlabel=measure, ylabel="model", ylim=(-0.6, len(rows) - 0.3), xlim=(0, None))
        numbers[task] = {"row": drawn["row"], "copy": aside[task]} | {title: one for title, one in rows.items()}
    return figure, numbers


def ranks(here: Mapping[str, Mapping[str, float]], paper: Mapping[str, Mapping[str, float]]) -> Drawn:
    """Draw the models' ranks by a measure (task: title: value), those here at the left, the paper's at the right.

    Only models of both take part; 1 is the best. The pair is in colour, all others are grey.
    """
    figure, panels = panels_of(len(here), (5, 3.4))
    numbers = {}
    for axes, task in zip(panels, here, strict=False):
        both = [title for title in here[task] if title in paper[task]]
        left, right = (
            pd.Series({title: side[task][title] for title in both}).rank(ascending=False, method="first")
            for side in (here, paper)
        )
        for title in both:
            first = title in list(LOOKS)[: len(FIRST)]
            look = LOOKS[title] if first else Look("0.55", "-", "o")
            axes.plot([0, 1], [left[title], right[title]], lw=2.2 if first else 1, **look.line())
            for x, side, ha in ((0, left, "right"), (1, right, "left")):
                name = f"{title}  {side[title]:.0f}" if x == 0 else f"{side[title]:.0f}  {title}"
                axes.annotate(
                    name,
                    (x, side[title]),
                    (-8 if x == 0 else 8, 0),
                    textcoords="offset points",
                    ha=ha,
                    va="center",
                    fontsize=8,
                    color=look.colour if first else "0.25",
                    weight="bold" if first else "normal",
                )
        axes.set(title=task, xlim=(-1.05, 2.05), ylim=(len(both) + 0.5, 0.2))
        axes.set_xticks([0, 1], ["here", "in the paper"])
        axes.set(xlabel="rank by BLEU, 1 is the best", yticks=[], ylabel="")
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        numbers[task] = {"models": both, "here": left.tolist(), "paper": right.tolist()}
    return figure, numbers


def differences(found: Mapping[str, Mapping[str, Interval | None]], title: str, single: Collection[str] = ()) -> Drawn:
    """Draw differences (column: row: interval), a panel a column, all of the same rows; None leaves a gap.

    Rows of `single` rest on one training seed: their markers are open.
    """
    names = list(next(iter(found.values())))
    size = (2.6 + 3.4 * len(found), 0.32 * len(names) + 1.2)
    figure, panels = plt.subplots(
        1, len(found), figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    numbers = {}
    for axes, (column, rows) in zip(panels.flat, found.items(), strict=True):
        found_here = [rows[name] for name in names]
        drawn = looks.rows(axes, names, found_here, LOOKS["InfoDiffusion"], hollow=single, zero=False)
        axes.axvline(0, color="0.35", lw=1.2, zorder=0)
        axes.set(title=column, xlabel=title)
        numbers[column] = {"row": drawn["row"], **{name: one for name, one in rows.items() if one}}
    panels.flat[0].set_ylabel("task and score")
    return figure, numbers


def over_lambda(found: Mapping[float, Interval]) -> Drawn:
    """Draw BLEU over lambda with its intervals."""
    figure, axes = plt.subplots(figsize=(5.6, 3.6))
    numbers = looks.curve(axes, list(found), list(found.values()), LOOKS["InfoDiffusion"], "InfoDiffusion")
    axes.set(xlabel="lambda (0: every word alike; 0.5: the paper's)", ylabel="BLEU", ylim=(0, None))
    return figure, {"InfoDiffusion": numbers}


def panels_of(count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Two panels a row; those beyond `count` are empty."""
    down, across = -(-count // 2), min(2, count)
    figure, panels = plt.subplots(
        down, across, figsize=(size[0] * across, size[1] * down), layout="constrained", squeeze=False
    )
    for unused in panels.flat[count:]:
        unused.axis("off")
    return figure, list(panels.flat)
