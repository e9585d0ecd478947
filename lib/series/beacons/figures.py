"""Pictures of facts alone and of facts learnt together; each returns its figure and the numbers that it shows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib import intervals
from lib.beacons.interference import Principal
from lib.beacons.methods import METHODS
from lib.intervals import Interval
from lib.records import Record
from lib.reporting import looks
from lib.reporting.figures import Drawn
from lib.reporting.looks import Look
from lib.reporting.sentences import number
from lib.series.beacons import evaluation, pushing
from lib.series.beacons.rows import BUDGETS, PAIR
from lib.series.beacons.telling import SCORED

Runs = Sequence[Record]

TAUGHT = looks.numbered(["own target", "shuffled target", "invented facts"])
STARTS = looks.numbered(pushing.STARTS)
ASKED = looks.numbered(["trained prompt", "paraphrase"])
KINDS = looks.numbered(["proper noun", "place", "time", "invented"])
PAIRS = looks.numbered(["same relation, other target", "other relation"])
SOON = {"share of readings right": "quick", "right on a paraphrase": "paraphrase"}
RIGHT_OF = tuple((12, height) for height in (0, 8, -8, 16, -16, 24, -24))  # points beside the end of a curve
LEFT_OF = tuple((-8, height) for height in (0, 8, -8, 16, -16))
AROUND = ((8, 0), (-8, 0), (0, 12), *((side, up) for up in (10, 18, -10, -18) for side in (8, -8)), (0, -12))
FAR = tuple((8, height) for height in range(28, 140, 10))  # where many points lie side by side


class Label(NamedTuple):
    """A name to be written beside a point of the data, in the colour of its look."""

    x: float
    y: float
    text: str
    look: Look


def place(
    axes: Axes,
    labels: Sequence[Label],
    offsets: Sequence[tuple[int, int]] = RIGHT_OF,
    avoid: Sequence[tuple[float, float]] = (),
    further: Sequence[tuple[int, int]] = (),
) -> None:
    """Write labels beside their points, each at the first of `offsets` (points) where it meets no other and no point.

    `avoid` are more points of the data. Where nothing is free a label may cover points; where it would meet a label
    everywhere, it takes one of the offsets `further`; where labels still overlap, `figures.save` refuses the figure.
    """
    figure = axes.get_figure()
    if figure is None or not labels:
        return
    figure.draw_without_rendering()
    points = axes.transData.transform([*((label.x, label.y) for label in labels), *avoid])
    taken: list[Any] = [text.get_window_extent() for text in axes.texts]
    for label in labels:
        boxes = {offset: _box(axes, label, offset) for offset in (*offsets, *further)}
        meets = {one: any(box.overlaps(other) for other in taken) for one, box in boxes.items()}
        high = {one: box.y1 > axes.bbox.y1 for one, box in boxes.items()}  # where the title stands
        below = [[one for one in some if not meets[one] and not high[one]] for some in (offsets, further)]
        apart = below[0] or below[1] or [one for one in boxes if not meets[one]]
        free = [one for one in apart if not boxes[one].count_contains(points)]
        chosen = (free or apart or list(offsets))[0]
        taken.append(_box(axes, label, chosen, keep=True))


def _box(axes: Axes, label: Label, offset: tuple[int, int], keep: bool = False) -> Any:
    """Return the box, in pixels, that a label takes at an offset (points); `keep` leaves it there."""
    side = "left" if offset[0] > 0 else "right" if offset[0] < 0 else "center"
    looks.direct_label(axes, label.x, label.y, label.text, label.look, xytext=offset, ha=side)
    text = axes.texts[-1]
    text.set_in_layout(False)  # else the axes would shrink, and the labels placed before would come too near
    box = text.get_window_extent().padded(1)
    if not keep:
        text.remove()
    return box


def trajectories(paths: Mapping[str, Sequence[pd.DataFrame]], edges: np.ndarray) -> Drawn:
    """Draw the mean distance over updates by third of d(0), the own target beside the control."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True)
    numbers: dict[str, Any] = {}
    for axes, name in zip(panels, ("own target", "shuffled target"), strict=True):
        numbers[name], starts = {}, []
        for third, look in STARTS.items():
            if parts := pushing.started(paths[name], third, edges):
                rate = pushing.rate(parts, "d")
                numbers[name][third] = looks.curve(axes, rate["step"], _rates(rate), look, third)
                starts.append(Label(0, rate["mean"].iloc[0], third, look))
        last = int(paths[name][0]["step"].max())
        axes.set(title=name, xlabel="updates", xlim=(-0.32 * last, 1.04 * last), ylim=(0, None))
        axes.set_xticks(range(0, last + 1, 2))
        place(axes, starts, LEFT_OF)
    panels[0].set_ylabel("mean distance d to what is taught")
    return figure, numbers


def push_rate(paths: Mapping[str, Sequence[pd.DataFrame]]) -> Drawn:
    """Draw the share of facts that are pushed away over updates, a panel for each kind of teaching, with its band.

    Hollow points: fewer seeds than an interval over them needs, so that the band is one over facts.
    """
    figure, panels = plt.subplots(1, len(paths), figsize=(8, 3.2), sharey=True)
    numbers: dict[str, Any] = {}
    for axes, (name, several) in zip(np.atleast_1d(panels), paths.items(), strict=True):
        rate, look = pushing.rate(several), TAUGHT[name]
        axes.fill_between(rate["step"], rate["low"], rate["high"], color=look.colour, alpha=0.2, lw=0)
        hollow = looks.OPEN if len(several) < intervals.MINIMUM_SEEDS else {}
        axes.plot(rate["step"], rate["mean"], label=name, **look.line() | hollow)
        axes.set(title=f"{name}\n({number(len(several), 'seed')})", xlabel="updates")
        numbers[name] = {column: rate[column].tolist() for column in rate}
    axes.set_ylim(0, max(0.05, 1.05 * max(max(one["high"]) for one in numbers.values())))
    np.atleast_1d(panels)[0].set_ylabel("share of facts pushed away")
    return figure, numbers


def accuracy(facts: pd.DataFrame) -> Drawn:
    """Draw the shares of right answers by fifths of d(0), and by fifths of the initial loss, with intervals over facts.

    `facts`, a row each: start, loss, quick, paraphrase.
    """
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True)
    titles = {"start": "initial distance d(0)", "loss": "initial loss (nats a token)"}
    numbers: dict[str, Any] = {}
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        fifths = facts.groupby(pd.qcut(facts[column].rank(method="first"), 5, labels=False))
        numbers[title] = {}
        for (name, score), look in zip(SOON.items(), ASKED.values(), strict=True):
            found = [pushing.share(part) for _, part in fifths[score]]
            numbers[title][name] = looks.curve(axes, fifths[column].mean(), found, look, name)
        axes.set(xlabel=f"{title}, mean of a fifth")
    lows = [low for one in numbers.values() for curve in one.values() for low in curve["low"]]
    panels[0].set(ylabel="share right", ylim=(np.floor(10 * min(lows)) / 10 - 0.1, 1.08))
    named = zip(numbers[titles["start"]].items(), ASKED.values(), strict=True)
    lower, upper = sorted(named, key=lambda one: one[0][1]["estimate"][3])
    for ((name, drawn), look), up, end in ((lower, -9, "low"), (upper, 9, "high")):
        looks.direct_label(panels[0], drawn["x"][3], drawn[end][3], name, look, xytext=(0, up), ha="center")
    return figure, numbers


def interference(
    single: Mapping[str, Runs], learnt: Mapping[tuple[str, str, int], Runs], counts: Sequence[int]
) -> Drawn:
    """Draw what learning together costs over N, of the trained prompt and of paraphrases: methods by budgets."""
    figure, panels = plt.subplots(2, 2, figsize=(8, 6), sharex=True, sharey="row")
    numbers: dict[str, Any] = {}
    for row, method in zip(panels, PAIR, strict=True):
        for axes, (budget, budget_title) in zip(row, BUDGETS.items(), strict=True):
            there = [n for n in counts if learnt[method, budget, n]]
            scores = SCORED if there else {}
            title = f"{METHODS[method].title.split(' (')[0]}, {budget_title}"
            numbers[title], ends = {}, []
            for shift, (name, score) in zip((1, 1.1), scores.items(), strict=False):
                look = ASKED[name]
                found = [cost(single[method], learnt[method, budget, n], score) for n in there]
                drawn = looks.curve(axes, [shift * n for n in there], found, look, name)
                numbers[title][name] = drawn | {"N": there}
                ends += [Label(x, y, name, look) for x, y in zip(drawn["x"][-1:], drawn["estimate"][-1:], strict=True)]
            axes.set(title=title, xscale="log", xlim=(0.7 * min(counts), 9 * max(counts)))
            axes.set_xticks(counts, [str(n) for n in counts])
            axes.minorticks_off()
            axes.axhline(0, color="0.6", lw=0.8, zorder=0)
            place(axes, ends)
    figure.supxlabel("N facts learnt together", fontsize=10)
    figure.supylabel("share right alone minus share right among N", fontsize=10)
    return figure, numbers


def cost(single: Runs, together: Runs, score: str) -> Interval:
    """Return what learning together costs of a score, over seeds; of fewer than three seeds without any width."""
    lost = [evaluation.lost(*seed, score) for seed in zip(single[: len(together)], together, strict=True)]
    return as_interval(intervals.over_seeds_or_alone(lost, intervals.DIFFERENCE))


def as_interval(found: Interval | float | None) -> Interval:
    """Return a number without an interval as one without any width; raises `ValueError` for none."""
    if found is None:
        raise ValueError("nothing is recorded of what is to be drawn")
    return found if isinstance(found, Interval) else Interval(found, found, found)


def gradient_cosines(groups: Mapping[str, pd.DataFrame]) -> Drawn:
    """Draw how the cosines of two facts' gradients are distributed, before and after learning, by pairs of facts."""
    edges = np.linspace(-1, 1, 41)
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
    numbers: dict[str, Any] = {"cosine": ((edges[1:] + edges[:-1]) / 2).tolist()}
    for axes, when in zip(panels, ("before", "after"), strict=True):
        for name, look in PAIRS.items():
            counted = np.histogram(groups[name][when], edges)[0]
            shares = (counted / max(1, counted.sum())).tolist()
            numbers[f"{name}, {when}"] = shares
            axes.plot(numbers["cosine"], shares, label=name, **look.line() | {"marker": ""})
        axes.axvline(0, color="0.6", lw=0.8, zorder=0)
        axes.set(title=f"{when} learning", xlabel="cosine of two facts' gradients", xlim=(-1, 1))
    panels[0].set(ylabel="share of pairs", ylim=(0, None))
    for (name, look), height in zip(PAIRS.items(), (0.3, 0.8), strict=True):
        text = name.replace(", ", ",\n")
        panels[0].text(0.62, height, text, color=look.colour, transform=panels[0].transAxes, fontsize=9)
    return figure, numbers


def feature_shifts(found: Mapping[str, Principal], kinds: Sequence[str]) -> Drawn:
    """Draw each fact's shift in the plane of the first two components, alone and together; `kinds` are the facts'."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    numbers: dict[str, Any] = {}
    for axes, (name, plane) in zip(panels, found.items(), strict=True):
        for kind in dict.fromkeys(kinds):
            chosen = [number for number, one in enumerate(kinds) if one == kind]
            x, y = plane.places[chosen, 0].tolist(), plane.places[chosen, 1].tolist()
            axes.plot(x, y, label=kind, **KINDS[kind].points())
            numbers[f"{name}, {kind}"] = {"first": x, "second": y}
        axes.set(title=f"learnt {name}", xlabel=f"first component ({plane.explained[0]:.0%} of variance)")
        axes.set_ylabel(f"second component ({plane.explained[1]:.0%} of variance)")
        axes.locator_params(nbins=5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure, numbers


def _rates(rate: pd.DataFrame) -> list[Interval]:
    return [Interval(row.mean, row.low, row.high) for row in rate.itertuples(index=False)]
