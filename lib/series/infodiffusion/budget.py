"""What the records of the series cost on one thread: minutes of every kind of case, and the queue in its order.

Run as `python -m lib.series.infodiffusion.budget [--queue FILE]`: it prints a table, and writes the names of the cases
as `python -m lib.running.catalogue run --queue FILE` reads them. If the hours do not suffice, its end is left out.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from lib import errors, records
from lib.reporting import budgets
from lib.series.infodiffusion import cases
from lib.series.infodiffusion.rows import MODELS, VARIANTS
from lib.series.infodiffusion.run import WATCHED, RunConfig
from lib.series.infodiffusion.sweep import COMPARED_MOST, SweepConfig

PROFILE = "cpu"
LONGEST = 30.0  # minutes that no case may take
# Seconds on one thread of an idle machine, read from records of July's sizes: of a training step of 2,048 words of the
# pair, and of one sampling step of one sentence.
TRAINING = {"paraphrase": 0.35, "simplification": 0.42, "dialogue": 0.30, "question_generation": 0.29}
SAMPLING = {"paraphrase": 0.0023, "simplification": 0.0030, "dialogue": 0.0021, "question_generation": 0.0013}
# A training step of another row, to one of the pair.
RIVALS = {"gru": 0.4, "transformer": 0.7, "gpt2_base": 1.1, "gpt2_large": 2.1, "gpvae": 0.8, "levenshtein": 1.1}


def minutes(case: records.Case) -> float:
    """Return the minutes that a case takes on one thread: training, looks at validation, and what it writes."""
    if isinstance(case.config, SweepConfig):
        return _sweep(case.config) / 60
    config: RunConfig = case.config
    step, sample = TRAINING[config.task], SAMPLING[config.task]
    if config.model in RIVALS:
        return (config.training.steps * step * RIVALS[config.model] + 30) / 60
    walk = config.method.sampling.steps
    looks = len(config.watch_at) * WATCHED * (walk + 1)
    written = (config.test_pairs + config.whole_verses) * config.decoding.candidates * walk
    traced = config.shown * walk + config.traced_pairs * config.traced_steps
    return (config.training.steps * step + sample * (looks + written + traced)) / 60


def _sweep(config: SweepConfig) -> float:
    few = sum(steps for steps in config.steps if steps <= COMPARED_MOST)
    own = config.trained.method.sampling.steps * len(config.temperatures)
    compared = 2 if config.trained.method.process.schedule == "information" else 1
    steps = 2 * sum(config.steps) + compared * few + own
    return steps * config.pairs * config.candidates * SAMPLING[config.trained.task]


def queue(profile: str = PROFILE) -> dict[str, list[records.Case]]:
    """Return all cases by kind, in the order in which they are computed: what is dropped first stands last."""
    found = {case.name.removeprefix(f"{cases.SERIES}/"): case for case in cases.cases(profile)}
    kinds: dict[str, list[records.Case]] = {kind: [] for kind in KINDS}
    for name, case in found.items():
        kinds[_kind(name, case)].append(case)
    return kinds


KINDS = (
    "core: the pair on two tasks, three ablations (one seed)",
    "the pair, every task",
    "Transformer, for the gates",
    "ablations, five seeds",
    "rivals that a claim names, three seeds",
    "1.6: sampling steps and temperatures",
    "two by two: model and times",
    "lambda and schedules, one seed",
    "rivals on the other tasks, one seed",
)


def _kind(name: str, case: records.Case) -> str:
    first, model = name.split("/")[:2]
    if case.row == "core":
        return KINDS[0]
    if first == "ablation":
        return KINDS[3] if VARIANTS[model].replicated else KINDS[7]
    if first == "sampling":
        return KINDS[5]
    if model in cases.PAIR:
        return KINDS[1]
    if MODELS[model].only:
        return KINDS[6]
    if first == cases.RIVALS_TASK:
        return KINDS[4]
    return KINDS[2] if model == "transformer" else KINDS[8]


def detectable(spread: float, seeds: int, level: float = 0.95) -> float:
    """Return half the interval over so many seeds whose paired differences have that standard deviation."""
    return float(stats.t.ppf((1 + level) / 2, seeds - 1) * spread / np.sqrt(seeds))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write the queue; returns 1 where a case is too long."""
    parser = argparse.ArgumentParser(prog="python -m lib.series.infodiffusion.budget", description=__doc__)
    parser.add_argument("--queue", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    kinds = queue()
    told = budgets.table(kinds, minutes)
    print(told.to_string(index=False, float_format="{:.1f}".format))
    print(f"{told['minutes'].iloc[-1] / 60:.1f} hours of one thread; the longest case may take {LONGEST:g} minutes")
    for spread in (0.01, 0.025):
        widths = {seeds: f"{detectable(spread, seeds):.3f}" for seeds in (3, 5, 10)}
        print(f"differences that spread by {spread} between seeds are told from 0 beyond, by number of seeds: {widths}")
    if given.queue:
        budgets.write_queue(given.queue, kinds)
    return 1 if told["longest"].iloc[-1] > LONGEST else 0


if __name__ == "__main__":
    errors.command(main)
