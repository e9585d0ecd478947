"""Pictures of the LEMoE series: records go in, a figure and the numbers drawn in it come out."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from lib import intervals
from lib.intervals import Interval
from lib.records import Record
from lib.reporting import looks
from lib.reporting.figures import Drawn
from lib.reporting.looks import Look
from lib.series.lemoe import evaluation, glossary

# One look for each method, in every picture of the series.
METHODS = ("lemoe", "conventional", "memoe", "lemoe_threshold", "grace", "ewc", "defer", "wise", "ft", "alphaedit")
LOOKS = looks.numbered(METHODS) | {"no_edit": Look(looks.GREY, "--", "x")}
NAMES = {
    "lemoe": "LEMoE",
    "conventional": "conventional MoE",
    "lemoe_threshold": "LEMoE, threshold",
    "memoe": "MEMoE",
    "grace": "GRACE",
    "wise": "WISE-Merge",
    "ewc": "FT-EWC",
    "ft": "FT-L",
    "defer": "DEFER",
    "alphaedit": "AlphaEdit",
    "no_edit": "no edit",
}
FAMILIES = looks.numbered(glossary.FAMILIES) | {glossary.NONE: LOOKS["no_edit"]}
SCORES = looks.numbered(list(evaluation.METRICS))


def forgetting(runs: Mapping[str, Sequence[Record]]) -> Drawn:
    """Draw Rel of every batch over the batches edited so far, one panel a name; intervals over its seeds or edits."""
    figure, panels = plt.subplots(1, len(runs), sharey=True, figsize=(9, 3.8), squeeze=False)
    numbers: dict[str, object] = {}
    for axes, (name, found) in zip(panels[0], runs.items(), strict=True):
        frames = [run.frames["scores"] for run in found]
        batches = sorted(frames[0]["batch"].unique())
        given = looks.numbered([f"batch {batch + 1}" for batch in batches])
        for batch, (label, look) in zip(batches, given.items(), strict=True):
            mine = [frame[frame["batch"] == batch] for frame in frames]
            after = sorted(mine[0]["batches"].unique())
            rel = [[part.loc[part["batches"] == n, "rel"].to_numpy() for part in mine] for n in after]
            cells = [intervals.over_seeds_or_items(items, intervals.SHARE) for items in rel]
            x = [n + 0.08 * (batch - len(batches) / 2) for n in after]  # beside each other, so that bars can be told
            numbers[f"{name}, {label}"] = looks.curve(axes, x, cells, look, label)
            looks.direct_label(axes, x[0], cells[0].high, label, look, xytext=(0, 8), ha="center", fontsize=8)
        axes.set(title=name, xlabel="batches edited", ylim=(-0.05, 1.18), xticks=batches and [b + 1 for b in batches])
        axes.set(yticks=np.linspace(0, 1, 6), xlim=(0.4, len(batches) + 0.6))
    panels[0][0].set_ylabel("Rel")
    return figure, numbers


def interval_rows(axes: Axes, rows: Mapping[str, tuple[Interval, Look]], up: float = 0.0) -> dict[str, list[float]]:
    """Draw one interval a row, the first at the top, each in its look, as `looks.rows`; scores need no line at 0."""
    found, given = zip(*rows.values(), strict=True)
    drawn = looks.rows(axes, list(rows), found, given, up=up, zero=False)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    return drawn


def agreement(values: Mapping[str, tuple[str, Sequence[float]]], chance: float) -> Drawn:
    """Draw how often routes at the end are those of training: of each row its method and one number a seed."""
    figure, axes = plt.subplots(figsize=(7, 0.5 * len(values) + 1.4))
    rows = {
        name: (intervals.t_interval(found, bounds=intervals.SHARE, floor=1e-6), LOOKS[method])
        for name, (method, found) in values.items()
    }
    axes.axvline(chance, color=looks.GREY, ls="--", lw=1, zorder=0)
    look = Look(looks.GREY)
    looks.direct_label(axes, chance, len(rows) - 0.45, "one expert serves all", look, xytext=(4, 0), fontsize=8)
    drawn = interval_rows(axes, rows)
    axes.set(xlabel="share routed at the end as when it was learnt", xlim=(0, 1.02))
    looks.head(axes, "method, order")
    return figure, {**drawn, "rows": list(rows), "seeds": [list(found) for _, found in values.values()]}


def orders(runs: Mapping[str, Mapping[str, Sequence[Record]]], names: Mapping[str, str]) -> Drawn:
    """Draw Avg by order, a row each, of several methods; beside an order, how alike the edits of its batches are."""
    every = list(dict.fromkeys(order for found in runs.values() for order in found))
    figure, axes = plt.subplots(figsize=(7.5, 0.6 * len(every) + 1.5))
    numbers: dict[str, object] = {"order": every}
    for place, (method, found) in enumerate(runs.items()):
        rows, up = {}, 0.24 * ((len(runs) - 1) / 2 - place)
        for order in every:
            alike = np.mean([run.values["within"] - run.values["between"] for run in found[order]]).round(2) + 0.0
            scores = [evaluation.final(run)["avg"].to_numpy() for run in found[order]]
            cell = intervals.over_seeds_or_items(scores, intervals.SHARE)
            rows[f"{names[order]}\n(alike by {alike:+.2f})"] = (cell, LOOKS[method])
        numbers[method] = interval_rows(axes, rows, up)
        top = rows[next(iter(rows))][0]
        label = {"xytext": (6, 0), "fontsize": 9}
        looks.direct_label(axes, top.high, len(every) - 1 + up, NAMES[method], LOOKS[method], **label)
    axes.set(xlabel="Avg after the last batch", xlim=(0, 1))
    looks.head(axes, "order of the edits")
    return figure, numbers


def keys(scores: Mapping[str, np.ndarray], batches: Mapping[str, Sequence[int | None]]) -> Drawn:
    """Draw each text by its scores with two keys, (texts, 2): right of the diagonal the first expert serves it.

    `batches` says of each text to which batch, 0 or 1, it belongs; None of an unrelated one.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4.6))
    every = np.concatenate(list(scores.values()))
    low, high = float(every.min()), float(every.max())
    room = 0.14 * (high - low)
    low, high = low - room, high + room
    axes.fill_between([low, high], [low, low], [low, high], color=looks.COLOURS[0], alpha=0.08, lw=0)
    axes.fill_between([low, high], [low, high], [high, high], color=looks.COLOURS[1], alpha=0.12, lw=0)
    numbers: dict[str, object] = {}
    for kind, points in scores.items():
        for batch in dict.fromkeys(batches[kind]):
            mine = points[[one == batch for one in batches[kind]]]
            colour = looks.GREY if batch is None else looks.COLOURS[batch]
            marker = "x" if batch is None else (looks.MARKERS[2:] if kind == "rephrases" else looks.MARKERS)[batch]
            label = kind if batch is None else f"{kind}, batch {batch + 1}"
            face = "white" if kind == "rephrases" else colour
            axes.plot(*mine.T, marker, color=colour, mfc=face, label=label, markevery=1, ms=6, ls="none")
            numbers[label] = {"key 1": mine[:, 0].tolist(), "key 2": mine[:, 1].tolist()}
    axes.set(xlabel="score with key 1, $k_1 \\cdot v$", ylabel="score with key 2, $k_2 \\cdot v$")
    axes.set(xlim=(low, high), ylim=(low, high))
    place: dict[str, Any] = {"transform": axes.transAxes, "fontsize": 9}
    axes.text(0.97, 0.04, "expert 1 serves", color=looks.COLOURS[0], ha="right", **place)
    axes.text(0.03, 0.96, "expert 2 serves", color="#a8431f", va="top", **place)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small")
    return figure, numbers


def over_edits(
    runs: Mapping[str, Mapping[int, Record]], panels: Mapping[str, Sequence[str]], metric: str = "avg"
) -> Drawn:
    """Draw a score over the number of edits, a panel for each group of methods, intervals over edits."""
    figure, every = plt.subplots(1, len(panels), sharey=True, figsize=(9.6, 4), squeeze=False)
    numbers: dict[str, object] = {}
    for axes, (title, methods) in zip(every[0], panels.items(), strict=True):
        ends = {}
        for method in [one for one in methods if runs.get(one)]:
            found = {count: evaluation.cells(run)[metric] for count, run in sorted(runs[method].items())}
            cells = {count: cell for count, cell in found.items() if cell is not None}
            numbers[method] = looks.curve(axes, list(cells), list(cells.values()), LOOKS[method], NAMES[method])
            ends[NAMES[method]] = (max(cells), cells[max(cells)].estimate)
        axes.set(xscale="log", xlabel="edits T", title=title, ylim=(0, 1.02))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:,.0f}")
        looks.name_ends(axes, ends, {NAMES[method]: LOOKS[method] for method in methods}, outside=True)
    every[0][0].set_ylabel(evaluation.METRICS[metric])
    return figure, numbers


def over_count(panels: Mapping[str, Mapping[str, Mapping[int, float]]]) -> Drawn:
    """Draw numbers over the number of edits, a panel each: by the panel's title, method and count."""
    figure, every = plt.subplots(1, len(panels), figsize=(10.5, 3.6), squeeze=False)
    for axes, (title, found) in zip(every[0], panels.items(), strict=True):
        ends = {}
        for method, points in found.items():
            axes.plot(list(points), list(points.values()), label=NAMES[method], **LOOKS[method].line())
            ends[NAMES[method]] = (max(points), points[max(points)])
        axes.set(xscale="log", xlabel="edits T", ylabel=title, ylim=(0, None))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:,.0f}")
        looks.name_ends(axes, ends, {NAMES[method]: LOOKS[method] for method in found}, outside=True)
    return figure, {
        title: {method: {"T": list(points), "value": list(points.values())} for method, points in found.items()}
        for title, found in panels.items()
    }


def latency(seconds: Mapping[str, float]) -> Drawn:
    """Draw the time of a forward pass over the number of experts held, beside the model without an adaptor."""
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    values = {int(name): 1000 * value for name, value in seconds.items()}
    axes.set(xlabel="experts held", ylabel="forward pass (ms)", ylim=(0, 1.1 * max(values.values(), default=1)))
    bare, held = values.pop(0, None), values
    if held:
        axes.plot(list(held), list(held.values()), **LOOKS["lemoe"].line())
        looks.name_ends(axes, {"LEMoE": (max(held), held[max(held)])}, {"LEMoE": LOOKS["lemoe"]}, outside=True)
        axes.set_xscale("log")
        axes.set_xticks(list(held), [str(count) for count in held])
        axes.xaxis.set_minor_locator(NullLocator())
    if bare is not None:
        look = LOOKS["no_edit"]
        axes.axhline(bare, color=look.colour, ls="--", lw=1.2, zorder=0)
        looks.direct_label(axes, min(held), bare, "without an adaptor", look, xytext=(0, -12))
    return figure, {"experts": list(held), "milliseconds": list(held.values()), "without": bare}


def by_setting(axes: Axes, frames: Mapping[float, pd.DataFrame], metrics: Sequence[str]) -> dict[str, object]:
    """Draw scores over the values of a setting, each of a frame with a row an edit, intervals over edits."""
    numbers: dict[str, object] = {}
    ends = {}
    for metric in metrics:
        columns = {value: frame[metric].dropna().to_numpy() for value, frame in frames.items()}
        cells = [intervals.mean_interval(column, bounds=intervals.SHARE) for column in columns.values()]
        title = evaluation.METRICS[metric]
        numbers[metric] = looks.curve(axes, list(columns), cells, SCORES[metric], title)
        ends[title] = (max(columns), cells[-1].estimate)
    axes.set(ylabel="score", ylim=(0, 1.05))
    looks.name_ends(axes, ends, {evaluation.METRICS[metric]: SCORES[metric] for metric in metrics}, outside=True)
    return numbers


def experts(runs: Mapping[int, Record]) -> Drawn:
    """Draw Rel, Gen and Loc over the number of experts."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    found = dict(sorted(runs.items()))
    axes.set(xlabel="experts (batches)", xscale="log", xlim=(0.9 * min(found), 1.1 * max(found)))
    axes.set_xticks(list(found), [str(count) for count in found])
    axes.xaxis.set_minor_locator(NullLocator())
    numbers = by_setting(axes, {n: evaluation.final(run) for n, run in found.items()}, ("rel", "gen", "loc"))
    return figure, numbers


def locality(run: Record | None) -> Drawn:
    """Draw unrelated tokens kept over the model's margin, and the scores over the scale of the experts' output.

    Without a record the axes stay empty.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    left.set(xlabel="margin of the unedited model (nats)", ylabel="unrelated tokens kept", ylim=(0, 1.05))
    right.set(xlabel="scale of the experts' output", ylabel="score")
    if run is None:
        return figure, {}
    groups = evaluation.by_margin(run.frames["texts"])
    cells = [Interval(row.kept, row.low, row.high) for row in groups.itertuples()]
    numbers: dict[str, object] = {"margin": looks.curve(left, groups["margin"].tolist(), cells, SCORES["loc"], "kept")}
    numbers |= by_setting(right, dict(iter(run.frames["scales"].groupby("scale"))), ("rel", "gen", "loc"))
    return figure, numbers


def methods(cells: Mapping[str, Mapping[str, Interval | None]], families: Mapping[str, str]) -> Drawn:
    """Draw Rel, Gen, Loc and Avg of each row, a panel a score, in the order given; colour and marker: its family.

    LEMoE's name is bold.
    """
    figure, panels = plt.subplots(1, len(evaluation.METRICS), sharey=True, figsize=(9.6, 0.24 * len(cells) + 1.6))
    numbers: dict[str, object] = {"rows": list(cells)}
    for axes, (metric, title) in zip(panels, evaluation.METRICS.items(), strict=True):
        rows = {}
        for name, found in cells.items():
            cell = found[metric]
            rows[name] = (cell if cell is not None else Interval(np.nan, np.nan, np.nan), FAMILIES[families[name]])
        drawn = interval_rows(axes, rows)
        numbers[metric] = {key: [None if np.isnan(one) else one for one in values] for key, values in drawn.items()}
        axes.set(xlabel=title, xlim=(-0.04, 1.04), xticks=(0, 0.5, 1))
    for label in panels[0].get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == "LEMoE" else "normal")
    looks.head(panels[0], "method")
    there = [family for family in FAMILIES if family in {families[name] for name in cells}]
    points = [Line2D([], [], label=family, ms=6, **FAMILIES[family].points()) for family in there]
    figure.legend(handles=points, loc="outside lower center", ncols=len(points), fontsize=9, handletextpad=0.2)
    return figure, numbers
