"""What the cases on draws of edits cost on one thread: minutes of every kind, and the queue in its order.

Run as `python -m lib.series.lemoe.budget [--queue FILE]`: it prints a table, and writes the names of the cases as
`python -m lib.running.catalogue run --queue` reads them. If the hours do not suffice, its end is left out.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from lib import errors, records
from lib.reporting import budgets
from lib.series.lemoe import drawn_cases
from lib.series.lemoe.drawn import DrawConfig
from lib.series.lemoe.mend_training import TrainingConfig
from lib.series.lemoe.run import RunConfig

PROFILE = "cpu"
LONGEST = 30.0  # minutes that no case may take
CORE = 25.0  # minutes that the core rows may take, two side by side

# Seconds on one thread, from the provenance of the records of the main table ("cost: seconds_an_edit" and "seconds").
LOADING = 8.0
SCORED = 0.14  # an edit, its rephrases and its question, asked once
GENERATED = 0.1  # an edit's own continuation
DISTANT = 0.5  # a distant question, before and after
# A full-batch step of an adaptor at layer 18 of 30: fixed, and for each edit of the batch.
STEP, STEP_OF_EDIT = 0.06, 0.03
# Steps until a batch is learnt: a trial on the tuning split took 21, 22 and 31 for batches of ten edits.
LEARNT, LEARNT_OF_EDIT = 10.0, 2.0
MEND_STEP, MEND_LOOK = 2.3, 16.0  # of its training: four updates, forty validation edits
# An edit of the other rows: where batches are of one or two edits (T = 1, 10), and where they are of twenty or more.
SECONDS: Mapping[str, tuple[float, float]] = {
    "no_edit": (0.0, 0.0),
    "ft_last": (4.2, 0.9),
    "ft": (2.5, 0.9),
    "ewc": (0.4, 0.2),
    "lora": (2.8, 4.0),
    "rome": (4.2, 4.1),
    "memit": (4.1, 4.0),
    "memit_tuned": (4.5, 4.5),
    "memit_mass": (3.8, 4.5),
    "memit_mass_tuned": (4.5, 4.5),
    "alphaedit": (4.1, 4.1),
    "validated/mend": (0.1, 0.1),
    "defer": (10.0, 1.5),
    "grace": (0.9, 0.6),
    "wise": (7.5, 1.4),
    "wise_retrieve": (7.5, 1.5),
}
# An edit of a file's, to one of ours: their targets and questions are longer.
LONGER = {"facts": 1.0, "tuning": 1.0, "zsre": 1.5, "counterfact": 1.0, "selfcheckgpt": 12.0}


def minutes(case: records.Case, most: bool = False) -> float:
    """Return the minutes that a case takes on one thread, as expected or, with `most`, where every cap is reached."""
    if isinstance(case.config, TrainingConfig):
        settings = case.config.settings
        looks = 1 + settings.steps / settings.look_every
        return (LOADING + settings.steps * MEND_STEP + looks * MEND_LOOK) / 60
    run: RunConfig = case.config.run if isinstance(case.config, DrawConfig) else case.config
    edits, batches = run.count * run.runs, min(run.batches, run.count)
    readings = (batches + 1) / 2 if run.every_batch else 1
    scored = edits * ((1 + readings) * SCORED + (GENERATED if run.generate else 0))
    distant = edits * DISTANT if isinstance(case.config, DrawConfig) else 0
    work = learning(run, batches, most) + scored
    return (LOADING + LONGER[run.edits] * work + distant) / 60


def learning(run: RunConfig, batches: int, most: bool) -> float:
    """Return the seconds that a run's edits take to be learnt."""
    if run.row in SECONDS:
        alone, together = SECONDS[run.row]
        return run.count * run.runs * (alone if run.count / batches < 5 else together)
    cap: int = run.settings.model_dump()["steps"]
    steps = cap if most else min(cap, LEARNT + LEARNT_OF_EDIT * run.count / batches)
    return run.runs * steps * (batches * STEP + run.count * STEP_OF_EDIT)


KINDS = (
    "core to be: one draw of what claims compare, T = 100",
    "MEND's network",
    "locality, tuning split",
    "T = 100, the draws of the rows that claims name",
    "T = 100 in another order",
    "batch editing",
    "orders of one draw, and initial weights",
    "T = 1 and 10, rows that claims name",
    "T = 200",
    "other rows, T = 1 to 100",
    "slices of the user's files",
)
# What a run from scratch is to compute anew, once these cases take the place of those of before.
CORE_ROWS = ("no_edit", *drawn_cases.READINGS, *drawn_cases.ADAPTORS, "ft_last", "ewc", "grace", "defer")


def queue(profile: str = PROFILE) -> dict[str, list[records.Case]]:
    """Return all cases on draws by kind, in the order in which they are computed: what is dropped first stands last."""
    kinds: dict[str, list[records.Case]] = {kind: [] for kind in KINDS}
    for case in drawn_cases.cases(profile):
        kinds[_kind(case, profile)].append(case)
    return kinds


def _kind(case: records.Case, profile: str) -> str:
    group = case.name.split("/")[2]
    alone = {
        "network": KINDS[1],
        "locality": KINDS[2],
        "at_once": KINDS[5],
        "orders": KINDS[6],
        "weights": KINDS[6],
        "slices": KINDS[10],
    }
    if group in alone:
        return alone[group]
    row, count, longest = case.config.run.row, case.config.run.count, drawn_cases.longest(profile)
    if count > longest:
        return KINDS[8]
    if count == longest and row in CORE_ROWS and case.seed == 0:
        return KINDS[0]
    if row in drawn_cases.OTHER_ORDER:
        return KINDS[4]
    if row not in drawn_cases.NAMED:
        return KINDS[9]
    return KINDS[3] if count == longest else KINDS[7]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write the queue; returns 1 where a case, or the core rows, would take too long."""
    parser = argparse.ArgumentParser(prog="python -m lib.series.lemoe.budget", description=__doc__)
    parser.add_argument("--queue", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    kinds = queue()
    told = budgets.table(kinds, minutes, partial(minutes, most=True))
    print(told.to_string(index=False, float_format="{:.1f}".format))
    core = told["minutes"].iloc[0] / 2
    print(f"{told['minutes'].iloc[-1] / 60:.1f} hours of one thread; the longest case may take {LONGEST:g} minutes")
    print(f"core rows to be: {core:.0f} minutes, two side by side; {CORE:g} are allowed")
    print(
        f"adaptors: {LEARNT:g} steps a batch and {LEARNT_OF_EDIT:g} an edit; the longest takes all that its cap allows"
    )
    if given.queue:
        budgets.write_queue(given.queue, kinds)
    return 1 if told["longest"].iloc[-1] > LONGEST or core > CORE else 0


if __name__ == "__main__":
    errors.command(main)
