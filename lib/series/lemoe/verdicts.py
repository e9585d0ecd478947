"""The verdicts on draws of edits, from the records that are there; what is not there leaves its comparisons open.

Run as `python -m lib.series.lemoe.verdicts`: it prints a line for each claim, and how many cases are pending.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib import errors, profiles, records
from lib.intervals import Side
from lib.records import Record
from lib.reporting import claims
from lib.reporting.claims import Claim, Verdict
from lib.series.lemoe import drawn_cases, drawn_scores, evaluation, hypotheses

Pair = tuple[Side, Side | float] | None


def every(profile: str) -> list[Verdict]:
    """Return the verdicts on all claims of `hypotheses.every`, in their order."""
    settled = mend_settled(profile)
    found = [factors(profile), *(spread(row, profile) for row in drawn_cases.SPREAD)]
    for row in hypotheses.READINGS:
        found += [lifelong(hypotheses.lifelong(row, settled), row, profile), locality(row, profile)]
    found += [lifelong(hypotheses.beside_wise(), "learnt/lemoe", profile)]
    found += [*(forgetting(row, profile) for row in hypotheses.READINGS), batch(profile)]
    return [*found, *(routing(row, profile) for row in hypotheses.READINGS), order(profile)]


def pending(profile: str) -> list[str]:
    """Return the names of the cases on draws that nobody has computed yet."""
    return [case.name for case in drawn_cases.cases(profile) if not case.path.is_file()]


def mend_settled(profile: str) -> bool:
    """Tell whether validation stopped the training of MEND's network; not while it is not recorded."""
    found = records.available(drawn_cases.training(profile))
    return found is not None and bool(found.values["settled"])


def columns(row: str, profile: str, draws: Sequence[int] | None = None) -> list[Record] | None:
    """Return the records of a row at the T of the claims, one a draw; None where one is not recorded."""
    count = drawn_cases.longest(profile)
    chosen = drawn_cases.draws(row, count, profile) if draws is None else draws
    return records.whole([drawn_cases.column(row, count, draw, profile) for draw in chosen])


def compared(ones: list[Record] | None, others: list[Record] | None, metric: str) -> Pair:
    """Return a score of two rows, a vector of edits a draw, aligned by edit; None where either is not recorded."""
    if ones is None or others is None:
        return None
    pairs = [
        pd.concat([drawn_scores.final(run)[metric] for run in pair], axis=1, join="inner", keys=["one", "other"])
        for pair in zip(ones, others, strict=True)
    ]
    return [pair["one"].to_numpy() for pair in pairs], [pair["other"].to_numpy() for pair in pairs]


def factors(profile: str) -> Verdict:
    """Judge claim 1 but for the order."""
    runs = columns("learnt/conventional", profile)
    data: dict[str, Pair] = {"forgets": None, "routes differently": None}
    if runs is not None:
        data = {
            "forgets": ([drawn_scores.fall_of_first(run)["fall"].to_numpy() for run in runs], 0.0),
            "routes differently": _numbers([1 - evaluation.agreement(run) for run in runs], 0.0),
        }
    return _judge(hypotheses.factors(), data, runs)


def spread(row: str, profile: str) -> Verdict:
    """Judge claim 1, the order, for one adaptor."""
    seeds = profiles.profile(profile).editing.order_seeds
    orders = records.whole([drawn_cases.ordered(row, seed, profile) for seed in seeds])
    weights = records.whole([drawn_cases.weighted(row, seed, profile) for seed in seeds])
    claim = hypotheses.spread(row)
    names = [comparison.name for comparison in claim.comparisons]
    moved = None if orders is None else _deviations(orders)
    still = None if weights is None else _deviations(weights)
    data: dict[str, Pair] = {
        names[0]: None if moved is None else (moved, 0.0),
        names[1]: None if moved is None or still is None else (moved, still),
    }
    return _judge(claim, data, orders)


def lifelong(claim: Claim, row: str, profile: str) -> Verdict:
    """Judge a claim that a reading's Avg is above that of other rows."""
    rivals = {hypotheses.above(rival): rival for rival in (*hypotheses.rivals(True), "wise")}
    data: dict[str, Pair] = {}
    for comparison in claim.comparisons:
        rival = rivals[comparison.name]
        shared = drawn_cases.draws(rival, drawn_cases.longest(profile), profile)
        data[comparison.name] = compared(columns(row, profile, shared), columns(rival, profile, shared), "avg")
    return _judge(claim, data, columns(row, profile))


def locality(row: str, profile: str) -> Verdict:
    """Judge a claim on the locality of a reading."""
    runs, claim = columns(row, profile), hypotheses.locality(row)
    found = None if runs is None else ([drawn_scores.by_place(run, "loc") for run in runs], 0.0)
    return _judge(claim, {claim.comparisons[0].name: found}, runs)


def forgetting(row: str, profile: str) -> Verdict:
    """Judge a claim on the falls of first batches: of as many edits each, but not the same ones."""
    claim, count = hypotheses.forgetting(row), drawn_cases.longest(profile)
    data: dict[str, Pair] = {}
    least: list[np.ndarray] = []
    for comparison, rival in zip(claim.comparisons, hypotheses.FALLS, strict=True):
        shared = drawn_cases.draws(rival, count, profile)
        ours, theirs = columns(row, profile, shared), columns(rival, profile, shared)
        data[comparison.name] = None
        if ours is not None and theirs is not None:
            one, other = ([drawn_scores.fall_of_first(run) for run in side] for side in (ours, theirs))
            data[comparison.name] = (
                [table["fall"].to_numpy() for table in one],
                [table["fall"].to_numpy() for table in other],
            )
            least += [np.array([table["learnt"].mean() for table in side]) for side in (one, other)]
    return claims.judge(claim, data, np.min(least, axis=0) if least else None)


def routing(row: str, profile: str) -> Verdict:
    """Judge a claim on a reading's routes against conventional ones, both in clustered order."""
    runs, rivals = columns(row, profile), columns("learnt/conventional_clustered", profile)
    data: dict[str, Pair] = {name: compared(runs, rivals, name.lower()) for name in ("Rel", "Gen")}
    data["agreement"] = None
    if runs is not None and rivals is not None:
        agreed = [[evaluation.agreement(run) for run in side] for side in (runs, rivals)]
        data["agreement"] = _numbers(agreed[0], agreed[1])
    return _judge(hypotheses.routing(row), data, runs)


def order(profile: str) -> Verdict:
    """Judge claim 4; its gate is of the random order."""
    claim, random = hypotheses.order(), columns("learnt/lemoe_random", profile)
    pair = compared(columns("learnt/lemoe", profile), random, "avg")
    return _judge(claim, {claim.comparisons[0].name: pair}, random)


def batch(profile: str) -> Verdict:
    """Judge claim 5; the lesser Rel of both, draw by draw, is its gate's number."""
    claim, draws = hypotheses.batch(), profiles.profile(profile).editing.close_draws
    both = [records.whole([drawn_cases.at_once(row, draw, profile) for draw in draws]) for row in drawn_cases.AT_ONCE]
    learnt = [[drawn_scores.learnt(run) for run in runs] for runs in both if runs is not None]
    gate = np.min(learnt, axis=0) if len(learnt) == len(both) else None
    return claims.judge(claim, {claim.comparisons[0].name: compared(both[0], both[1], "avg")}, gate)


def _judge(claim: Claim, data: dict[str, Pair], gated: list[Record] | None) -> Verdict:
    """Judge with the gate "a batch is learnt", of the records that it is measured on."""
    return claims.judge(claim, data, None if gated is None else [drawn_scores.learnt(run) for run in gated])


def _numbers(ones: Sequence[float], others: Sequence[float] | float) -> Pair:
    """Return numbers a seed as a pair; None of fewer than three, which nothing could be judged on."""
    found = np.asarray(ones, dtype=np.float64)
    if len(found) < 3:
        return None
    return found, others if isinstance(others, float) else np.asarray(others, dtype=np.float64)


def _deviations(runs: Sequence[Record]) -> np.ndarray:
    return drawn_scores.deviations([float(drawn_scores.final(run)["avg"].mean()) for run in runs])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what each claim comes to, and what is still to be computed."""
    parser = argparse.ArgumentParser(prog="python -m lib.series.lemoe.verdicts", description=__doc__)
    parser.add_argument("--profile", default="cpu")
    given = parser.parse_args(arguments)
    for verdict in every(given.profile):
        print(f"{verdict.claim.text}: {verdict.label}")
    missing = pending(given.profile)
    print(f"{len(missing)} cases are pending", *missing[:1], sep=", from ")
    return 0


if __name__ == "__main__":
    errors.command(main)
