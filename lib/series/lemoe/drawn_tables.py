"""Tables of what is recorded on draws of edits; what is not recorded is a dash, and named by `verdicts.pending`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib import intervals, profiles, records
from lib.intervals import Interval
from lib.records import Record
from lib.series.lemoe import drawn_cases, drawn_scores, evaluation

# Of the edits after the last batch; "Loc" is of distant questions, "near Loc" of those within the edits' domain.
COLUMNS = {"rel": "Rel", "gen": "Gen", "loc": "Loc", "near": "near Loc", "avg": "Avg"}


def over_draws(runs: Sequence[Record], metric: str) -> Interval | float | None:
    """Return the mean of a score over draws: with Student's interval from three on, else alone; None without any."""
    items = [drawn_scores.final(run)[metric].dropna().to_numpy() for run in runs]
    return intervals.over_seeds_or_alone(items, intervals.SHARE)


def main(profile: str) -> pd.DataFrame:
    """Return Avg by row and T, of the draws that are recorded of each."""
    rows = []
    for row in drawn_cases.TABLE:
        cells = {}
        for count in drawn_cases.counts(row, profile):
            cases = [drawn_cases.column(row, count, draw, profile) for draw in drawn_cases.draws(row, count, profile)]
            cells[f"T = {count}"] = over_draws([run for case in cases if (run := records.available(case))], "avg")
        rows.append({"method": drawn_cases.title(row), **cells})
    return pd.DataFrame(rows, dtype=object)


def in_full(profile: str) -> pd.DataFrame:
    """Return every score by row at the T of the claims, with what a batch was learnt to and in how many looks."""
    rows, count = [], drawn_cases.longest(profile)
    for row in drawn_cases.TABLE:
        cases = [drawn_cases.column(row, count, draw, profile) for draw in drawn_cases.draws(row, count, profile)]
        runs = [run for case in cases if (run := records.available(case))]
        told = {"method": drawn_cases.title(row), "draws": len(runs)}
        told |= {title: over_draws(runs, metric) for metric, title in COLUMNS.items()}
        rows.append(told | {"learnt": _mean([drawn_scores.learnt(run) for run in runs]), "steps": steps(runs)})
    return pd.DataFrame(rows, dtype=object)


def locality(profile: str) -> pd.DataFrame:
    """Return what was tried to bring plain LEMoE's locality to 1.00, on the tuning split."""
    rows = []
    for name in drawn_cases.tried(profile):
        run = records.available(drawn_cases.locality(name, profile))
        runs = [run] if run else []
        scores = {title: over_draws(runs, metric) for metric, title in COLUMNS.items()}
        rows.append({"changed": name, **scores, "steps": steps(runs)})
    return pd.DataFrame(rows, dtype=object)


def orders(row: str, profile: str) -> pd.DataFrame:
    """Return Avg and what is learnt of an adaptor in each order of the first draw, and with each initial weights."""
    sizes, rows = profiles.profile(profile).editing, []
    for what, made in (("order", drawn_cases.ordered), ("initial weights", drawn_cases.weighted)):
        for seed in sizes.order_seeds:
            run = records.available(made(row, seed, profile))
            if run is not None:
                scores = drawn_scores.final(run)[["rel", "gen", "loc", "avg"]].mean()
                rows.append({"what": what, "seed": seed, **scores, "agreement": evaluation.agreement(run)})
    return pd.DataFrame(rows)


def steps(runs: Sequence[Record]) -> float | None:
    """Return the mean number of looks at a batch's loss; None for methods that do not note it."""
    found = [np.mean(run.values["steps"]) for run in runs if "steps" in run.values]
    return _mean(found)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
