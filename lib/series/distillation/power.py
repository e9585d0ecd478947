"""How many seeds the claims need, from the records that there are: `python -m lib.series.distillation.power`.

What counts is how much ours minus output only varies between training seeds. Before the language rows are recorded
that is read from the records of the older sets, which have three seeds, sampled and greedy answers, and no held-out
loss: the cross-entropy at the end of the training stands for it. From six seeds on it is read from the language rows.
"""

import argparse
import math
from collections.abc import Sequence
from statistics import stdev

import numpy as np
import pandas as pd
from scipy import stats

from lib import errors, paths, profiles, records
from lib.series.distillation import cases, evaluation, language_cases, language_scores
from lib.series.distillation.evaluation import GREEDY, REWRITING
from lib.series.distillation.language_cases import MAIN, MANY_SEEDS, OURS, OUTPUT
from lib.series.distillation.world import Splits

MOST_SPREAD, FIRST, MORE = 0.05, 6, 18  # nats: where the first six seeds differ by more, 18 are computed instead of ten
SEEDS = (3, 6, 10, 18)
POWER = 0.8
AT_THE_END = 50  # steps of a training whose cross-entropy is averaged


def detectable(spread: float, seeds: int, comparisons: int = 1, level: float = 0.95, power: float = POWER) -> float:
    """Return the mean difference that so many seeds find with that power, where one seed's differ by `spread` (sd).

    Two-sided Student's t at the first of Holm's levels; the two quantiles are added, which is right to 1 % from six
    seeds on. Raises `ValueError` for fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError(f"{seeds} seeds do not spread")
    alpha = (1 - level) / comparisons
    quantiles = stats.t.ppf(1 - alpha / 2, seeds - 1) + stats.t.ppf(power, seeds - 1)
    return float(quantiles * spread / math.sqrt(seeds))


def needed(differences: Sequence[float], planned: int) -> int:
    """Return how many seeds a comparison needs by the rule that was fixed before: told by its first six."""
    return MORE if len(differences) >= FIRST and stdev(differences[:FIRST]) > MOST_SPREAD else planned


def measured(profile: str) -> dict[str, list[float]]:
    """Return the differences ours minus another row in held-out loss, by comparison, of the seeds recorded for both."""
    found = {}
    for student in MAIN:
        for other in (name for name in MANY_SEEDS if name != OURS):
            pairs = []
            for seed in language_cases.seeds(student, OURS, profile):
                both = [records.stored(language_cases.arm(student, row, seed, profile)) for row in (OURS, other)]
                if both[0] is not None and both[1] is not None:
                    pairs.append([_mean(language_scores.losses_of(one)) for one in both if one is not None])
            if pairs:
                found[f"{student}: ours minus {other}"] = [ours - its for ours, its in pairs]
    return found


def before(profile: str) -> dict[str, list[float]]:
    """Return the same differences of the older rows, by measure: what is known before the language rows are."""
    seeds = profiles.profile(profile).distillation.seeds
    items = {item.identity: item for item in Splits.load(cases.data_config(profile)).test}
    both = [[_older(cases.main(method, seed, profile)) for method in (OURS, OUTPUT)] for seed in seeds]
    losses = [[frames["curve"]["ce"].tail(AT_THE_END).mean() for frames in pair] for pair in both]
    found = {"training cross-entropy at the end (nats)": [float(a - b) for a, b in losses]}
    for name, greedy, sets in (
        ("greedy ROUGE-L, rewriting sets", True, REWRITING),
        ("sampled ROUGE-L, four sets", False, ("facts", "modern", "chat", "describe")),
    ):
        scores = [[_rouge(frames["outputs"], items, greedy, sets) for frames in pair] for pair in both]
        found[name] = [a - b for a, b in scores]
    return found


def table(found: dict[str, list[float]], comparisons: int) -> pd.DataFrame:
    """Return a row a comparison: seeds, mean, spread, and what 3, 6, 10 and 18 seeds find with a power of 80 %."""
    rows = []
    for name, values in found.items():
        row = {"difference": name, "seeds": len(values), "mean": float(np.mean(values))}
        if len(values) > 1:
            row["sd"] = stdev(values)
            row |= {f"{seeds} seeds find": detectable(row["sd"], seeds, comparisons) for seeds in SEEDS}
        rows.append(row)
    return pd.DataFrame(rows)


def _older(case: records.Case) -> dict[str, pd.DataFrame]:
    """Return the frames of a record as it was committed, current or not: spreads are read off it, no verdict."""
    record = records.committed(case)
    return {name: record.frames[name] for name in ("curve", "outputs")}


def _rouge(outputs: pd.DataFrame, items: dict, greedy: bool, sets: Sequence[str]) -> float:
    chosen = outputs[(outputs["split"] == "test") & ((outputs["seed"] == GREEDY) == greedy)]
    chosen = chosen[chosen["set"].isin(sets)]
    told = [
        evaluation.rouge_l(text, items[one].references)
        for text, one in zip(chosen["text"], chosen["identity"], strict=True)
    ]
    return float(pd.Series(told).groupby(chosen["set"].to_numpy()).mean().mean())


def _mean(losses: pd.DataFrame) -> float:
    return float(losses["loss"].groupby(level="set").mean().mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the estimate, and how many seeds the rule asks for."""
    parser = argparse.ArgumentParser(prog="python -m lib.series.distillation.power", description=__doc__)
    parser.add_argument("--profile", default="cpu")
    given = parser.parse_args(arguments)
    number = "{:.3f}".format
    print(f"From records of the older sets, {paths.relative(cases.main(OURS, 0, given.profile).path.parents[1])}:")
    print(table(before(given.profile), len(MAIN)).to_string(index=False, float_format=number))
    found = measured(given.profile)
    planned = len(language_cases.sizes_of(given.profile)[1].seeds)
    if not found:
        print(f"No row of the language sets is recorded yet: {planned} seeds are planned.")
        return 0
    print("From the language rows, held-out loss (nats a token):")
    print(table(found, len(MAIN)).to_string(index=False, float_format=number))
    for name, values in found.items():
        told = needed(values, planned) if len(values) >= FIRST else f"{planned} until {FIRST} are recorded"
        print(f"{name}: {told} seeds")
    return 0


if __name__ == "__main__":
    errors.command(main)
