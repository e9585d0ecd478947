"""Pictures of the distillation series, drawn from tables and records; each returns its figure and what was drawn."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib.intervals import Interval
from lib.reporting import looks
from lib.reporting.figures import Drawn

LOOK = looks.Look(looks.COLOURS[0])  # of what is measured here; levels without a student are grey
KEY = "filled: several training seeds, hollow: one"
RULES = {  # of mapping rules: title and marker
    "uniform": ("uniform (ours)", "o"),
    "last_k": ("last layers", "s"),
    "skip": ("constant stride", "D"),
    "cka_monotone": ("most similar, in order", "*"),
    "reversed": ("reversed (control)", "v"),
    "random": ("random (control)", "^"),
    "all_to_one": ("all to one (control)", "P"),
}
PROPORTIONS = {"ce": "cross-entropy", "output": "output loss", "middle": "middle loss"}


def interval_rows(
    panels: Mapping[str, Mapping[str, Interval]],
    xlabel: str,
    lines: Mapping[str, Mapping[str, float]] | None = None,
    zero: bool = False,
    lone: Collection[str] = (),
    head: str = "",
) -> Drawn:
    """Draw intervals a row, one panel beside the other with the same rows; `lines` are named levels by panel.

    Rows stand as they are given, the first at the top; names of levels stand in two lines, so that near ones do not
    meet. `zero` keeps the line at 0, which a score does not need. Rows in `lone` have one training seed: their interval
    is over test items, so it knows nothing of another seed, and they are hollow. `head` stands above the names; where
    it is empty it says what hollow means. Without panels the picture says that nothing is recorded.
    """
    if not panels:
        figure, axes = plt.subplots(figsize=(4, 1))
        axes.set_axis_off()
        axes.text(0.5, 0.5, "nothing is recorded", ha="center", va="center")
        return figure, {}
    names = list(next(iter(panels.values())))
    size = (3.2 + 3.2 * len(panels), max(2.4, 0.9 + 0.3 * len(names)))
    figure, grid = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    numbers: dict[str, Any] = {}
    for axes, (title, found) in zip(grid[0], panels.items(), strict=True):
        numbers[title] = looks.rows(axes, names, [found[name] for name in names], LOOK, hollow=lone, zero=zero)
        numbers[title]["one seed"] = [name for name in names if name in lone]
        levels = (lines or {}).get(title, {})
        if not zero:
            _crop(axes, [*numbers[title]["low"], *numbers[title]["high"], *levels.values()])
        for place, name in enumerate(sorted(levels, key=levels.__getitem__)):
            level = levels[name]
            axes.axvline(level, color=looks.GREY, ls="--", lw=1)
            above = 3 + 11 * (place % 2)
            where: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
            where |= {"xytext": (0, above), "ha": "center", "va": "bottom"}
            axes.annotate(name, (level, 1.0), fontsize=8, color="0.35", **where)
            numbers[title][name] = level
        axes.set_title(title, pad=28 if lines else 6)
        axes.set_xlabel(xlabel)
    looks.head(grid[0][0], head or (KEY if lone else "several training seeds each"), fontsize=8)
    return figure, numbers


def _crop(axes: Axes, ends: Sequence[float]) -> None:
    """Let the axis end a little beyond what is drawn: scores need no zero."""
    spare = 0.12 * (max(ends) - min(ends)) or 1.0
    axes.set_xlim(min(ends) - spare, max(ends) + spare)


def similarity(matrices: Mapping[str, np.ndarray], maps: Mapping[str, Mapping[int, int]]) -> Drawn:
    """Draw debiased CKA of all pairs of layers, a panel a moment, with the layers that each rule takes on the first.

    `matrices` are (student layers, teacher layers) by title; `maps` go from student to teacher layers, by rule.
    """
    students, teachers = next(iter(matrices.values())).shape
    every = np.concatenate([matrix.ravel() for matrix in matrices.values()])
    heights = [3.0, *[1.0] * (len(matrices) - 1)]
    figure, panels = plt.subplots(len(matrices), 1, figsize=(8, 8.4), sharex=True, height_ratios=heights, squeeze=False)
    image = None
    for panel, (title, matrix) in zip(panels[:, 0], matrices.items(), strict=True):
        extent = (0.5, teachers + 0.5, students + 0.5, 0.5)
        image = panel.imshow(
            matrix, extent=extent, aspect="auto", cmap="cividis", vmin=min(0.0, every.min()), vmax=every.max()
        )
        panel.set(title=title, yticks=range(1, students + 1), xticks=range(2, teachers + 1, 2))
        panel.grid(False)
    named = {name: found for name, found in maps.items() if name in RULES}
    drawn = {
        name: [layer + 0.12 * (n - (len(named) - 1) / 2) for layer in found]
        for n, (name, found) in enumerate(named.items())
    }
    for name, found in named.items():
        title, marker = RULES[name]
        panels[0, 0].plot(
            list(found.values()),
            drawn[name],
            label=title,
            marker=marker,
            ls="none",
            mfc="white",
            mec="black",
            ms=7,
            markevery=1,
        )
    panels[-1, 0].legend(
        *panels[0, 0].get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, -0.6), ncols=3
    )
    panels[-1, 0].set_xlabel("layer of the teacher")
    figure.supylabel("layer of the student")
    figure.colorbar(image, ax=list(panels[:, 0]), label="debiased CKA (0: unrelated)")
    numbers = {"cka": {title: matrix.tolist() for title, matrix in matrices.items()}, "drawn": drawn}
    return figure, numbers | {"maps": {name: list(found.values()) for name, found in named.items()}}


def weights_over_training(curves: Mapping[str, pd.DataFrame], points: int = 12) -> Drawn:
    """Draw the weight of each loss over training steps, a panel a loss, a line a rule, named at its end.

    `curves` are frames of records by title, columns step and weight_<loss>.
    """
    shown = {title: curve.iloc[:: max(1, len(curve) // points)] for title, curve in curves.items()}
    styles = looks.numbered(list(shown))
    figure, panels = plt.subplots(1, len(PROPORTIONS), figsize=(9.5, 3.2), sharex=True)
    numbers: dict[str, Any] = {title: {"step": curve["step"].tolist()} for title, curve in shown.items()}
    for axes, (part, title) in zip(panels, PROPORTIONS.items(), strict=True):
        for rule, curve in shown.items():
            numbers[rule][part] = curve[f"weight_{part}"].tolist()
            axes.plot(numbers[rule]["step"], numbers[rule][part], label=rule, **styles[rule].line())
        axes.set(title=title, xlabel="training step", ylabel="weight", ylim=(0, 1.1 * axes.get_ylim()[1]))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure, numbers


def gain_by_student(found: pd.DataFrame, columns: Sequence[str]) -> Drawn:
    """Draw scores of unlike students, a row a student from the smallest on, a panel a column; one seed each, no line.

    `found` has columns student and parameters (millions), and intervals in `columns`.
    """
    ordered = found.sort_values("parameters (millions)", kind="stable")
    names = [f"{row['student']}, {row['parameters (millions)']:.1f} M" for _, row in ordered.iterrows()]
    panels = {column: dict(zip(names, ordered[column], strict=True)) for column in columns}
    head = "blocks x width, millions of weights"
    figure, numbers = interval_rows(panels, "ROUGE-L (points of 100)", lone=names, head=head)
    for axes, column in zip(figure.axes, columns, strict=True):
        if "minus" in column:
            axes.axvline(0, color="0.5", lw=0.9)
            left, right = axes.get_xlim()
            axes.set_xlim(min(left, -0.2), max(right, 0.2))
            axes.set_xlabel("difference in ROUGE-L (points)")
    return figure, numbers


def step_costs(found: pd.DataFrame) -> Drawn:
    """Draw what a training step costs: seconds and memory, a bar a method with its value at the end.

    `found` has columns method, seconds a step, MiB held.
    """
    columns = {
        "seconds a step": ("time of a step", "time (s)", "{:.2f}"),
        "MiB held": ("memory held", "memory (MiB)", "{:.0f}"),
    }
    figure, panels = plt.subplots(1, len(columns), figsize=(9.5, 0.9 + 0.36 * len(found)), sharey=True)
    for axes, (column, (title, label, told)) in zip(panels, columns.items(), strict=True):
        values = found[column].astype(float)
        bars = axes.barh(found["method"], values, color=LOOK.colour, label=column)
        axes.bar_label(bars, [told.format(value) for value in values], padding=3, fontsize=8)
        axes.set(title=title, xlabel=label, xlim=(0, 1.15 * values.max()))
        axes.grid(axis="y", visible=False)
    panels[0].invert_yaxis()
    looks.head(panels[0], "losses; teacher kept on disk (cached) or run (live)", fontsize=8)
    return figure, found.to_dict("list")
