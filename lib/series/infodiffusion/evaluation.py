"""From the records of the series to numbers: scores of every row on a task, and when a curve reaches its plateau."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib import intervals, profiles, records
from lib.intervals import Interval
from lib.series.infodiffusion import cases, gates
from lib.series.infodiffusion.run import WATCHED
from lib.series.infodiffusion.sweep import CLAMPED, WARM
from lib.text import metrics, scores
from lib.text.pairs import PairSet

COPY, REFERENCE = "copy the source", "reference"


def on_test(
    runs: Mapping[str, records.Record],
    pairs: PairSet,
    split: str = "test",
    most: int | None = None,
    close: bool = True,
) -> dict[str, pd.DataFrame]:
    """Return the scores per item of every run (title: record), of copying the source, and of the references.

    With `most`, only so many candidates of each item are looked at: 1 is what a single draw yields. Without `close`
    there is no BERTScore, which takes most of the time.

    Items are the first test sentences of `pairs`, as many as all runs have written for `split`. Runs of `paper`, or of
    a profile that starts from it, are scored as the released script does. Raises as `scores.compare`, and `ValueError`
    without any run.
    """
    written = {title: cases.candidates(run, split) for title, run in runs.items()}
    count = min(map(len, written.values()))
    systems = {title: [texts[:most] for texts in candidates[:count]] for title, candidates in written.items()}
    sources, references = pairs.sources("test")[:count], pairs.targets("test")[:count]
    systems |= {COPY: [[text] for text in sources], REFERENCE: [[text] for text in references]}
    released = all(profiles.origin(run.profile) == "paper" for run in runs.values())
    return scores.compare(systems, references, released=released, close=close)


def recorded(name: str, model: str, profile: str) -> list[records.Record]:
    """Return the records of a row on a task, one a training seed, as many as there are; core ones are computed."""
    every = [cases.case(name, model, seed, profile) for seed in cases.seeds_of(name, model, profile)]
    return [record for one in every if (record := records.available(one))]


def over_seeds(
    name: str, models: Sequence[str], profile: str, most: int | None = None, close: bool = True
) -> dict[str, list[pd.DataFrame]]:
    """Return the scores of rows on the test sentences of a task, a table a training seed that all of them have.

    `most` and `close` as in `on_test`.
    """
    runs, pairs = {model: recorded(name, model, profile) for model in models}, cases.task(name, profile).pairs
    found: dict[str, list[pd.DataFrame]] = {model: [] for model in models}
    for several in zip(*runs.values(), strict=False):
        scored = on_test(dict(zip(models, several, strict=True)), pairs, most=most, close=close)
        for model in models:
            found[model].append(scored[model])
    return found


def testable(name: str, profile: str) -> gates.Task | None:
    """Return the margins of a task's gate, on validation sentences; None where its rows are not recorded yet."""
    held_out = cases.task(name, profile).pairs["validation"]
    held_out = held_out.select(range(min(WATCHED, len(held_out))))
    copied = float(metrics.bleu(list(held_out["src"]), list(held_out["trg"])).mean())
    pair = {model: recorded(name, model, profile) for model in cases.PAIR}
    return gates.of_records(pair, recorded(name, "transformer", profile), copied)


def margin(task: gates.Task | None) -> float | None:
    """Return the number for the gate of a claim, None where it is not recorded."""
    return None if task is None else task.margin


def by_group(values: ArrayLike, pairs: PairSet) -> np.ndarray:
    """Return the means of test items over the groups (verse, conversation, subject) of `pairs`, (groups,).

    Items of one group are not independent: two questions on one country share its name. Files of the user's name no
    groups: there it is the items of one source. Groups in sorted order.
    """
    test = pairs["test"]
    groups = test["group" if "group" in test.column_names else "src"][: len(np.asarray(values))]
    return pd.Series(np.asarray(values, dtype=float)).groupby(list(groups)).mean().to_numpy()


def swept(record: records.Record, references: Sequence[str]) -> pd.DataFrame:
    """Return BLEU (of the first candidate) and Diverse-4 of a sweep: rows sampler, steps, item, bleu, diverse_4."""
    frame = record.frames["outputs"].sort_values(["sampler", "steps", "item", "candidate"])
    rows = []
    for (sampler, steps), part in frame.groupby(["sampler", "steps"]):
        texts = [list(found) for _, found in part.groupby("item")["text"]]
        bleu = metrics.bleu([several[0] for several in texts], list(references[: len(texts)]))
        diverse = metrics.diverse_4(texts)
        rows += [
            {"sampler": sampler, "steps": steps, "item": item, "bleu": b, "diverse_4": d}
            for item, (b, d) in enumerate(zip(bleu, diverse, strict=True))
        ]
    return pd.DataFrame(rows)


def walked_throughout(record: records.Record) -> tuple[str, str]:
    """Return the samplers that a sweep walked in every number of steps: the model's own, with fresh noise, and DDIM.

    Claim 3 is judged on these two; the others are compared in few steps.
    """
    clamps = record.config["trained"]["method"]["sampling"].get("clamp", "none") == "nearest"
    return (CLAMPED if clamps else "ancestral"), "ddim"


def plateau_step(steps: Sequence[int], values: ArrayLike, share: float = 0.95) -> int:
    """Return the first of `steps` from which on all `values` reach `share` of the last one; values (steps,).

    Our definition of the step at which a curve reaches its plateau.
    """
    enough = np.asarray(values) >= share * np.asarray(values)[-1]
    return int(steps[len(enough) - int(np.argmin(enough[::-1])) if not enough.all() else 0])


def plateau_interval(steps: Sequence[int], items: ArrayLike, resamples: int = 2000, seed: int = 0) -> Interval:
    """Return `plateau_step` of the mean curve of `items` (items, steps), with its bootstrap interval over items."""
    items = np.asarray(items, dtype=float)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(items), size=(resamples, len(items)))
    found = [plateau_step(steps, items[rows].mean(0)) for rows in drawn]
    low, high = np.quantile(found, [0.025, 0.975], method="nearest")
    return Interval(plateau_step(steps, items.mean(0)), float(low), float(high))


def order_correlation(frame: pd.DataFrame, x: str, y: str) -> Interval:
    """Return the mean over sentences of Spearman's correlation of two columns within each, with its interval.

    `frame` has a column `item`. Sentences of fewer than four words, or in which a column is constant, take no part
    (our choice): the bootstrap is over the sentences left, and all three numbers are NaN for fewer than two.
    """
    found = []
    for _, part in frame.groupby("item"):
        if len(part) >= 4 and part[x].nunique() > 1 and part[y].nunique() > 1:
            found.append(part[x].corr(part[y], method="spearman"))
    return intervals.mean_interval(np.array(found)) if len(found) > 1 else Interval(np.nan, np.nan, np.nan)


def widest_spread(settled: Sequence[pd.DataFrame], first: int = 50, least: int = 8) -> int:
    """Return the item, of the first ones, whose words settle furthest apart: by the deviation of their settling steps.

    `settled` has the frame of each model, rows `item` and `step`; the deviation is averaged over the models. Items of
    fewer words than `least` count only where there are no others: a few words are apart by chance.
    """
    steps = [frame[frame["item"] < first].groupby("item")["step"] for frame in settled]
    spreads = pd.concat([one.std() for one in steps], axis=1).mean(axis=1, skipna=False).fillna(0)
    long = pd.concat([one.size() for one in steps], axis=1).min(axis=1, skipna=False) >= least
    return int((spreads[long] if long.any() else spreads).idxmax())


def minus(
    by_seed: Mapping[str, Sequence[pd.DataFrame]], metric: str, pairs: PairSet | None = None
) -> tuple[Interval, str]:
    """Return the first row's mean minus the second's, paired, with its 95 % interval, and what it is over, in words.

    `by_seed` has two rows, of each the scores per item a training seed; with `pairs`, items of one group are averaged
    first (`by_group`). Raises `ValueError` where nothing is recorded.
    """
    sides = [
        [one[metric] if pairs is None else by_group(one[metric], pairs) for one in rows] for rows in by_seed.values()
    ]
    sample = intervals.Sample.of(*([np.asarray(one, float) for one in side] for side in sides))
    return sample.interval(0.95, intervals.DIFFERENCE), sample.told(intervals.DIFFERENCE)


def walk(sweeps: Sequence[pd.DataFrame], sampler: str, metric: str) -> dict[int, Interval]:
    """Return a measure over sampling steps (step: interval) by one sampler, over the seeds of `swept`."""
    tables = [_by_steps(sweep, sampler, metric) for sweep in sweeps]
    steps = sorted(set.intersection(*(set(map(int, table.columns)) for table in tables)))
    return {step: _share([table[step] for table in tables]) for step in steps}


def more_steps(sweeps: Sequence[pd.DataFrame], sampler: str, few: int, many: int) -> tuple[Interval, str]:
    """Return BLEU in `many` sampling steps minus in `few`, paired, with its interval, and what it is over."""
    tables = [_by_steps(sweep, sampler, "bleu") for sweep in sweeps]
    sample = intervals.Sample.of(*([table[steps].to_numpy() for table in tables] for steps in (many, few)))
    return sample.interval(0.95, intervals.DIFFERENCE), sample.told(intervals.DIFFERENCE)


def temperatures(sweeps: Sequence[pd.DataFrame], record: records.Record) -> dict[float, tuple[Interval, Interval]]:
    """Return Diverse-4 and BLEU at each temperature of a sweep; where none was tried, at the model's own, 1."""
    names = [name for name in sweeps[0]["sampler"].unique() if str(name).startswith(WARM)]
    if names:
        found = {float(name.removeprefix(WARM)): [one[one["sampler"] == name] for one in sweeps] for name in names}
    else:
        own, steps = walked_throughout(record)[0], record.config["trained"]["method"]["sampling"]["steps"]
        found = {1.0: [one[(one["sampler"] == own) & (one["steps"] == steps)] for one in sweeps]}
    return {
        warmth: (_share([part["diverse_4"] for part in parts]), _share([part["bleu"] for part in parts]))
        for warmth, parts in sorted(found.items())
    }


def _by_steps(sweep: pd.DataFrame, sampler: str, metric: str) -> pd.DataFrame:
    return sweep[sweep["sampler"] == sampler].pivot(index="item", columns="steps", values=metric)


def _share(by_seed: Sequence[ArrayLike]) -> Interval:
    return intervals.over_seeds_or_items(by_seed, intervals.SHARE)
