"""Figures of the sampling process: over its steps, over temperatures, and when words are settled."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lib import intervals
from lib.intervals import Interval
from lib.reporting import looks, sentences
from lib.reporting.figures import Drawn
from lib.reporting.looks import Look
from lib.series.infodiffusion.figures import LOOKS, panels_of

RESAMPLES = 1000

# task: (model's title, sampler): steps and their intervals
Walks = Mapping[str, Mapping[tuple[str, str], Mapping[int, Interval]]]


def over_steps(
    walks: Walks,
    measure: str,
    plateaus: Mapping[str, Mapping[str, tuple[float, float]]],
    seeds: Mapping[str, int] | None = None,
) -> Drawn:
    """Draw a measure over sampling steps, a panel a task, with its training `seeds` above; DDIM has open markers.

    `plateaus` are the paper's, of a task by title: the steps at which a curve stops rising, drawn as a bar below.
    """
    figure, panels = panels_of(len(walks), (5, 3.6))
    numbers: dict[str, Any] = {}
    for axes, (task, lines) in zip(panels, walks.items(), strict=False):
        numbers[task] = {}
        for (title, sampler), found in lines.items():
            look = LOOKS[title]
            look = Look(look.colour, "-" if sampler == "ddim" else ":", look.marker)
            label = f"{title}, {'DDIM' if sampler == 'ddim' else sampler}"
            values, hollow = list(found.values()), sampler == "ddim"
            numbers[task][label] = looks.curve(axes, list(found), values, look, label, hollow=hollow)
        for height, (title, ends) in enumerate(plateaus.get(task, {}).items()):
            y, across = 0.05 + 0.07 * height, axes.get_xaxis_transform()
            mark = {"marker": "|", "markersize": 9, "markeredgewidth": 2.5, "markevery": 1}
            axes.plot(ends, [y, y], color=LOOKS[title].colour, lw=3, transform=across, **mark)
            left = (0.85 * ends[0], y)
            axes.annotate(f"{title} in the paper", left, xycoords=across, ha="right", va="center", fontsize=8)
            numbers[task][f"the paper's plateau, {title}"] = list(ends)
        axes.set(title=_titled(task, seeds), xscale="log", xlabel="sampling steps", ylabel=measure, ylim=(0, None))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, numbers


def tradeoff(
    lines: Mapping[str, Mapping[str, Mapping[float, tuple[Interval, Interval]]]],
    seeds: Mapping[str, int] | None = None,
) -> Drawn:
    """Draw BLEU over Diverse-4, a panel a task, of each model a line over the temperature of its sampling noise.

    `lines`: task: title: temperature: (Diverse-4, BLEU); `seeds`: the training seeds of a task, told above its panel.
    """
    figure, panels = panels_of(len(lines), (5, 3.6))
    numbers: dict[str, Any] = {}
    for axes, (task, models) in zip(panels, lines.items(), strict=False):
        for title, found in models.items():
            across, up = (np.array([pair[k] for pair in found.values()]) for k in (0, 1))
            reach = [np.stack([one[:, 0] - one[:, 1], one[:, 2] - one[:, 0]]) for one in (across, up)]
            axes.errorbar(
                across[:, 0],
                up[:, 0],
                reach[1],
                reach[0],
                label=title,
                capsize=2,
                elinewidth=0.8,
                **LOOKS[title].line(),
            )
            numbers.setdefault(task, {})[title] = {"temperature": list(found), "diverse_4": across, "bleu": up}
        axes.set(title=_titled(task, seeds), xlabel="Diverse-4 of three candidates", ylabel="BLEU of one candidate")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, numbers


def settled_share(words: Mapping[str, pd.DataFrame], groups: Sequence[str], bins: int = 50) -> Drawn:
    """Draw which share of the words of each group is settled by each share of the sampling steps, with 95 % bands.

    `words` by title, rows `item`, `group` and `share`; the band is a bootstrap over sentences.
    """
    figure, panels = panels_of(len(groups), (5, 3.2))
    edges = np.linspace(0, 1, bins + 1)[1:]
    numbers: dict[str, Any] = {"share of the steps": edges}
    for axes, group in zip(panels, groups, strict=False):
        numbers[group] = {}
        for title, frame in words.items():
            chosen = frame[frame["group"] == group]
            if chosen["item"].nunique() < 2:
                continue
            middle, low, high = _cumulated(chosen, edges)
            axes.fill_between(edges, low, high, color=LOOKS[title].colour, alpha=0.25, linewidth=0)
            look = LOOKS[title].line() | {"markevery": 0.2}
            axes.plot(edges, middle, label=title, **look)
            numbers[group][title] = {"settled": middle, "low": low, "high": high}
        axes.set(title=group, xlabel="share of all sampling steps", ylabel="share of words settled")
    drawn = [one["low"].min() for group in groups for one in numbers[group].values()]
    for axes in panels[: len(groups)]:  # most words are settled early: the axes begin where the first band does
        axes.set_ylim(np.floor(10 * min(drawn, default=0.0)) / 10, 1.01)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, numbers


def _cumulated(words: pd.DataFrame, edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """The share of words settled by each edge, and its 95 % band: sentences are drawn anew, with all their words."""
    reached = words["share"].to_numpy()[:, None] <= edges + 1e-9
    by_item = pd.DataFrame(reached).groupby(words["item"].to_numpy()).agg(["sum"]).to_numpy(float)
    counts = words.groupby("item").size().to_numpy(float)
    drawn = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    means = by_item[drawn].sum(1) / counts[drawn].sum(1)[:, None]
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return reached.mean(0), low, high


def by_information(words: Mapping[str, pd.DataFrame], classes: int = 8) -> Drawn:
    """Draw the mean settling step (share of all) of words by information, in classes of equal size, with intervals.

    `words` by title, rows `item`, `information` (nats) and `share`. The interval is over the sentences' means.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4))
    limits = np.quantile(pd.concat(list(words.values()))["information"], np.linspace(0, 1, classes + 1))
    numbers: dict[str, Any] = {}
    for title, frame in words.items():
        place = np.digitize(frame["information"], limits[1:-1])
        x, found = [], []
        for _, part in frame.groupby(place):
            means = part.groupby("item")["share"].mean()
            if len(means) > 1:
                x.append(float(part["information"].mean()))
                found.append(intervals.mean_interval(means))
        numbers[title] = looks.curve(axes, x, found, LOOKS[title], title)
    axes.set(xlabel="information H(w) (nats)", ylabel="mean settling step (share of all steps)", ylim=(0, None))
    axes.margins(x=0.22)
    ends = {title: (one["x"][-1], one["estimate"][-1]) for title, one in numbers.items() if one["x"]}
    looks.name_ends(axes, ends, LOOKS)
    return figure, numbers


def _titled(task: str, seeds: Mapping[str, int] | None) -> str:
    return task if seeds is None else f"{task} ({sentences.number(seeds[task], 'seed')})"


def seconds(found: Mapping[str, Mapping[int, float]]) -> Drawn:
    """Draw the time of a sentence over sampling steps, by title."""
    figure, axes = plt.subplots(figsize=(5.6, 3.6))
    for title, times in found.items():
        axes.plot(list(times), list(times.values()), label=title, **LOOKS[title].line())
    axes.set(xscale="log", yscale="log", xlabel="sampling steps", ylabel="time per sentence (seconds)")
    axes.legend()
    return figure, {title: {"steps": list(times), "seconds": list(times.values())} for title, times in found.items()}
