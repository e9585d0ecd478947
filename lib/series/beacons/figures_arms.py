"""Pictures of what the base model knows, of the arms of filters and losses, and of the grid of methods."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib import intervals
from lib.beacons import knowledge
from lib.beacons.methods import METHODS
from lib.intervals import Interval
from lib.reporting import looks
from lib.reporting.figures import Drawn
from lib.reporting.looks import Look
from lib.reporting.sentences import number
from lib.series.beacons import evaluation
from lib.series.beacons.evaluation import Choice
from lib.series.beacons.figures import AROUND, ASKED, FAR, KINDS, Label, Runs, as_interval, place
from lib.series.beacons.telling import SCORED

RULERS = looks.numbered(knowledge.RULERS)
GRID = looks.numbered(list(METHODS))
HALVES = looks.numbered(["near half", "far half"])
BINS = np.linspace(0.0, 1.6, 33)


def distances(known: pd.DataFrame) -> Drawn:
    """Draw how d is distributed, a panel for each kind of fact, right answers on top of wrong ones.

    `known`, a row each: kind, raw, right.
    """
    kinds = known.groupby("kind", sort=False)
    figure, panels = plt.subplots(len(kinds), 1, figsize=(7, 5.6), sharex=True)
    numbers: dict[str, Any] = {"distance": BINS[:-1].tolist()}
    for axes, (kind, frame) in zip(np.atleast_1d(panels), kinds, strict=True):
        counted = [np.histogram(frame.loc[frame["right"] == right, "raw"].clip(0), BINS)[0] for right in (False, True)]
        wrong, right = ((one / len(frame)).tolist() for one in counted)
        numbers[kind] = {"wrong": wrong, "right": right}
        look = {"width": BINS[1], "align": "edge"}
        axes.bar(BINS[:-1], wrong, label="wrong", color=KINDS[kind].colour, **look)
        axes.bar(BINS[:-1], right, bottom=wrong, label="right", color="white", **look)
        axes.text(0.98, 0.8, f"{kind}: {len(frame)} facts", transform=axes.transAxes, ha="right", va="center")
    figure.supylabel("share of facts", fontsize=10)
    np.atleast_1d(panels)[-1].set(xlabel="semantic distance d of the first answer (white: right answers)")
    return figure, numbers


def distance_by_class(real: pd.DataFrame) -> Drawn:
    """Draw the mean distance of each of SliCK's classes by ruler, with its bootstrap interval over facts."""
    figure, axes = plt.subplots(figsize=(7, 4))
    numbers: dict[str, Any] = {}
    ends = []
    classes = [name for name in knowledge.CLASSES if (real["known"] == name).sum() > 1]
    for shift, (ruler, look) in enumerate(RULERS.items()):
        found = [intervals.mean_interval(real.loc[real["known"] == name, ruler]) for name in classes]
        x = [spot + 0.06 * (shift - 2) for spot in range(len(classes))]
        numbers[ruler] = looks.curve(axes, x, found, look, ruler)
        ends.append(Label(x[-1], found[-1].estimate, ruler, look))
    axes.set(xlabel="what the model knows of the fact", ylabel="mean distance d", ylim=(0, None))
    axes.set(xlim=(-0.4, len(classes) - 0.2))
    axes.set_xticks(range(len(classes)), classes)
    place(axes, ends)
    return figure, numbers


def filters(runs: Mapping[str, Runs], titles: Mapping[str, str], reference: str) -> Drawn:
    """Draw the arms of filters: right on the full set by both wordings, and right minus the arm `reference`."""
    figure, (level, gap) = plt.subplots(1, 2, figsize=(8.4, 4.8), sharey=True)
    numbers: dict[str, Any] = {}
    named = {_counted(titles[arm], several): several for arm, several in runs.items()}
    for shift, (name, score) in zip((0.12, -0.12), SCORED.items(), strict=True):
        found = [_level(several, score) for several in runs.values()]
        numbers[name] = _rows(level, named, found, ASKED[name], name, shift)
    apart = {arm: difference(several, runs[reference], "right") for arm, several in runs.items() if arm != reference}
    found = [apart.get(arm, Interval(0.0, 0.0, 0.0)) for arm in runs]
    numbers[f"minus {reference}"] = _rows(gap, named, found, ASKED["trained prompt"], "minus")
    gap.axvline(0, color="0.6", lw=0.8, zorder=0)
    level.set(xlabel="share right on the full set", xlim=(0, 1.02))
    gap.set(xlabel=f"share right minus {titles[reference]}")
    looks.head(level, "facts kept", va="top")
    _name(level, numbers, ASKED)
    return figure, numbers


def weighings(runs: Mapping[str, Runs], titles: Mapping[str, str], near: Choice, far: Choice) -> Drawn:
    """Draw the arms of losses: right minus the plain loss on all facts, and on the near and the far half apart."""
    plain, arms = runs["plain"], {arm: several for arm, several in runs.items() if arm != "plain"}
    figure, (whole, halves) = plt.subplots(1, 2, figsize=(8.4, 3.4), sharey=True)
    named = {_counted(titles[arm], several): several for arm, several in arms.items()}
    numbers: dict[str, Any] = {}
    found = [difference(several, plain, "right") for several in arms.values()]
    numbers["all facts"] = _rows(whole, named, found, ASKED["trained prompt"], "all facts")
    for shift, (name, choice) in zip((0.12, -0.12), {"near half": near, "far half": far}.items(), strict=True):
        found = [difference(several, plain, "right", choice) for several in arms.values()]
        numbers[name] = _rows(halves, named, found, HALVES[name], name, shift)
    for axes in (whole, halves):
        axes.axvline(0, color="0.6", lw=0.8, zorder=0)
    whole.set(xlabel="share right minus plain loss, all facts")
    halves.set(xlabel="share right minus plain loss, by half")
    looks.head(whole, "weights", va="top")
    _name(halves, numbers, HALVES)
    return figure, numbers


def difference(ours: Runs, theirs: Runs, score: str, choice: Choice | None = None) -> Interval:
    """Return a score minus another arm's on facts that both were asked: over seeds, of fewer than three over facts."""
    count = min(len(ours), len(theirs))
    pairs = zip(ours[:count], theirs[:count], strict=True)
    sides = [(evaluation.chosen(one, score, choice), evaluation.chosen(other, score, choice)) for one, other in pairs]
    parts = [(one - other).dropna() for one, other in sides]
    return as_interval(evaluation.over_seeds_or_facts(parts, intervals.DIFFERENCE))


def grid(runs: Mapping[tuple[str, int], Runs], counts: Sequence[int]) -> Drawn:
    """Draw the grid of methods by number of facts as two maps, right on the trained prompt and on paraphrases."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    numbers: dict[str, Any] = {"methods": [row.title for row in METHODS.values()], "N": list(counts)}
    for axes, (title, score) in zip(panels, SCORED.items(), strict=True):
        cells = [[_cell(runs.get((method, count), []), score) for count in counts] for method in METHODS]
        numbers[title] = cells
        shares = np.array([[np.nan if cell is None else cell for cell in row] for row in cells])
        axes.imshow(shares, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            text = "–" if np.isnan(share) else f"{share:.2f}"
            axes.text(column, row, text, ha="center", va="center", color="black" if share > 0.55 else "white")
        axes.set(title=title, xlabel="N facts learnt together")
        axes.set_xticks(range(len(counts)), [str(count) for count in counts])
        axes.set_yticks(range(len(METHODS)), [row.title.split(" (")[0] for row in METHODS.values()])
        axes.grid(visible=False)
    looks.head(panels[0], "method")
    return figure, numbers


def learnt_and_kept(runs: Mapping[str, Runs], base: float) -> Drawn:
    """Draw right answers with their intervals over the perplexity of general text, a point for each method."""
    figure, axes = plt.subplots(figsize=(7.4, 4.2))
    numbers: dict[str, Any] = {"base": {"perplexity": base}}
    labels, bars = [], []
    for method, several in runs.items():
        x = float(np.mean([run.values["perplexity"] for run in several]))
        found = _level(several, "right")
        title = METHODS[method].title.split(" (")[0]
        numbers[method] = looks.curve(axes, [x], [found], GRID[method], title)
        labels.append(Label(x, found.estimate, title, GRID[method]))
        bars += [(x, y) for y in np.linspace(found.low, found.high, 30)]
    axes.axvline(base, color="0.5", ls=":", lw=1)
    axes.annotate("base model", (base, 0.02), xytext=(5, 0), textcoords="offset points", color="0.35", fontsize=9)
    seen = [base, *(label.x for label in labels)]
    low, high = 0.85 * min(seen), 2.2 * max(seen)
    axes.set(xscale="log", xlim=(low, high), ylim=(0, 1.06))
    axes.set(xlabel="perplexity of general text (lower is better)", ylabel="share right (higher is better)")
    ticks = [tick for tick in (20, 50, 100, 200, 500, 1000) if low <= tick <= high]
    if len(ticks) > 1:
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    place(axes, labels, AROUND, bars, FAR)
    return figure, numbers


def _cell(several: Runs, score: str) -> float | None:
    return float(np.mean([evaluation.mean(run, score) for run in several])) if several else None


def _level(several: Runs, score: str) -> Interval:
    found = [evaluation.chosen(run, score) for run in several]
    return as_interval(evaluation.over_seeds_or_facts(found, evaluation.BOUNDS[score]))


def _counted(title: str, several: Runs) -> str:
    return f"{title}\n({number(len(several), 'seed')})"


def _rows(
    axes: Axes, runs: Mapping[str, Runs], found: Sequence[Interval], look: Look, label: str, up: float = 0.0
) -> dict[str, list[float]]:
    """Draw the intervals of arms, `runs` by the names of the rows, as `looks.rows`; return what was drawn.

    Points of an arm of few seeds, whose interval is one over facts, are open.
    """
    hollow = [name for name, several in runs.items() if len(several) < intervals.MINIMUM_SEEDS]
    drawn = looks.rows(axes, list(runs), found, look, up=up, hollow=hollow, zero=False, label=label)
    axes.set_ylim(-0.6, len(runs) - 0.2)
    return drawn


def _name(axes: Axes, numbers: Mapping[str, Any], named: Mapping[str, Look]) -> None:
    """Write the names of two series above and below their points of the top row, towards the middle of the panel."""
    middle = sum(axes.get_xlim()) / 2
    for (name, look), up in zip(named.items(), (9, -9), strict=True):
        x, y = numbers[name]["estimate"][0], numbers[name]["row"][0]
        looks.direct_label(axes, x, y, name, look, xytext=(0, up), ha="left" if x < middle else "right")
