"""How many draws of edits decide a claim: an estimate from the records of before, printed as a table.

Run as `python -m lib.series.lemoe.power`. The records of before have one set of edits, T = 50 or 100, and thirty steps
whatever a batch holds: what they say of spreads is taken over, what they say of effects is only shown.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from lib import errors, profiles, records
from lib.intervals import Vector
from lib.records import Record
from lib.reporting.claims import Claim
from lib.series.lemoe import cases, drawn_cases, drawn_scores, evaluation, hypotheses

PROFILE = "cpu"
MOST = 30  # draws that are looked at


@dataclass(frozen=True)
class Seen:
    """What records of before say of one comparison: the mean of each seed, (seeds,), and how far its items spread.

    `item_sd` is the standard deviation of the items' differences within a seed; None where a seed gives one number.
    """

    means: Vector
    item_sd: float | None

    @classmethod
    def of(cls, differences: Sequence[Vector]) -> "Seen":
        """Return what differences of items say, a vector a seed."""
        within = np.sqrt(np.mean([one.var(ddof=1) for one in differences]))
        return cls(np.array([one.mean() for one in differences]), float(within))

    @property
    def effect(self) -> float:
        """Return the mean difference."""
        return float(self.means.mean())

    @property
    def seed_sd(self) -> float | None:
        """Return the standard deviation between seeds; None for fewer than three."""
        return float(self.means.std(ddof=1)) if len(self.means) >= 3 else None

    def half_width(self, draws: int, items: int, level: float) -> float:
        """Return half of Student's interval over so many draws of so many items.

        The standard error is that of the seeds' means or what the items allow, the larger, as in `claims.judge`.
        """
        floor = 0.0 if self.item_sd is None else self.item_sd / np.sqrt(draws * items)
        error = max((self.seed_sd or 0.0) / np.sqrt(draws), floor)
        return float(stats.t.ppf((1 + level) / 2, draws - 1) * error)

    def needed(self, margin: float, items: int, level: float) -> int | None:
        """Return the fewest draws whose interval around the effect leaves out the margin; None if `MOST` do not."""
        apart = abs(self.effect - margin)
        return next((n for n in range(3, MOST + 1) if self.half_width(n, items, level) < apart), None)


def table(profile: str = PROFILE) -> pd.DataFrame:
    """Return a row for each comparison of which records say anything."""
    rows, count = [], drawn_cases.longest(profile)
    for claim, found, draws, items in seen(profile, count):
        level = 1 - (1 - claim.level) / len(claim.comparisons)  # Holm's first, the widest
        for comparison in claim.comparisons:
            if comparison.name not in found:
                continue
            one = found[comparison.name]
            rows.append(
                {
                    "claim": claim.id.removeprefix("drawn_"),
                    "comparison": f"{comparison.name} {comparison.direction} {comparison.margin:g}",
                    "seen": one.effect,
                    "sd, seeds": one.seed_sd,
                    "sd, items": one.item_sd,
                    "draws": draws[comparison.name],
                    "half width": one.half_width(draws[comparison.name], items, level),
                    "draws needed": one.needed(comparison.margin, items, level),
                }
            )
    return pd.DataFrame(rows)


Estimate = tuple[Claim, dict[str, Seen], dict[str, int], int]


def seen(profile: str, count: int) -> Iterator[Estimate]:
    """Yield each claim with what is seen of its comparisons, their planned draws, and the items of a draw."""
    sizes = profiles.profile(profile).editing

    def planned(claim: Claim, rows: Sequence[str]) -> dict[str, int]:
        draws = [len(drawn_cases.draws(row, count, profile)) for row in rows]
        return dict(zip((one.name for one in claim.comparisons), draws, strict=True))

    def seeds(method: str, order: str) -> list[Record]:
        return [records.committed(cases.ordered(method, order, seed, profile)) for seed in sizes.seeds]

    random, clustered = seeds("conventional", "random"), seeds("conventional", "kmeans")
    ours, shuffled = seeds("lemoe", "kmeans"), seeds("lemoe", "random")
    worded = [records.committed(cases.routed("routing/shared", seed, profile)) for seed in sizes.seeds]
    claim, batch = hypotheses.factors(), count // sizes.batches
    moved = Seen(np.array([1 - evaluation.agreement(run) for run in random]), None)
    found = {"forgets": Seen.of([evaluation.forgotten(run).to_numpy() for run in random]), "routes differently": moved}
    yield claim, found, planned(claim, ["learnt/conventional"] * 2), batch
    for row, runs in zip(drawn_cases.SPREAD, (random, shuffled), strict=True):
        claim = hypotheses.spread(row)
        moved = Seen(drawn_scores.deviations([float(evaluation.final(run)["avg"].mean()) for run in runs]), None)
        name = claim.comparisons[0].name
        yield claim, {name: moved}, {name: len(sizes.order_seeds)}, 1
    for row, old in (("learnt/lemoe", "lemoe"), ("learnt/lemoe_paper", "routing/shared")):
        claim, rivals = hypotheses.lifelong(row, mend_settled=True), hypotheses.rivals(mend_settled=True)
        one = table_record("lemoe", count, profile) if old == "lemoe" else worded[0]
        names = [hypotheses.above(rival) for rival in rivals]
        found = {
            name: between(one, of_before(rival, profile), "avg") for name, rival in zip(names, rivals, strict=True)
        }
        yield claim, found, planned(claim, rivals), count
        claim = hypotheses.forgetting(row)
        fall = drawn_scores.fall_of_first(one)["fall"].to_numpy()
        found = {
            comparison.name: apart(fall, drawn_scores.fall_of_first(of_before(rival, profile))["fall"].to_numpy())
            for comparison, rival in zip(claim.comparisons, hypotheses.FALLS, strict=True)
        }
        yield claim, found, planned(claim, hypotheses.FALLS), batch
        claim, runs = hypotheses.routing(row), ours if old == "lemoe" else worded
        found = {name: paired(runs, clustered, name.lower()) for name in ("Rel", "Gen")}
        pairs = zip(runs, clustered, strict=True)
        agreed = [evaluation.agreement(one) - evaluation.agreement(other) for one, other in pairs]
        found["agreement"] = Seen(np.array(agreed), None)
        yield claim, found, planned(claim, [row] * 3), count
    claim = hypotheses.order()
    yield claim, {claim.comparisons[0].name: paired(ours, shuffled, "avg")}, planned(claim, ["learnt/lemoe"]), count
    claim = hypotheses.batch()
    both = [records.committed(cases.at_once(method, profile)) for method in ("lemoe", "memoe")]
    name = claim.comparisons[0].name
    yield claim, {name: between(*both, "avg")}, {name: len(sizes.close_draws)}, count


def table_record(method: str, count: int, profile: str) -> Record:
    """Return the record of a method of the main table at T, or at the T of the ablations where it ends there."""
    found = cases.main(method, count, profile)
    sizes = profiles.profile(profile).editing
    return records.committed(found if found.path.is_file() else cases.main(method, sizes.ablation, profile))


def of_before(row: str, profile: str) -> Record:
    """Return the record of before of a row on draws."""
    return table_record(row.rpartition("/")[2], drawn_cases.longest(profile), profile)


def between(one: Record, other: Record, metric: str) -> Seen:
    """Return what one seed of two rows says of a score, by the edits that both have."""
    ours, theirs = evaluation.paired(one, other, metric)
    return Seen.of([ours - theirs])


def paired(ones: Sequence[Record], others: Sequence[Record], metric: str) -> Seen:
    """Return what several seeds of two rows say of a score."""
    ours, theirs = evaluation.over_seeds(ones, others, metric)
    return Seen.of([one - other for one, other in zip(ours, theirs, strict=True)])


def apart(one: Vector, other: Vector) -> Seen:
    """Return what two vectors of different items say: the difference of their means, the sum of their variances."""
    return Seen(np.array([one.mean() - other.mean()]), float(np.sqrt(one.var(ddof=1) + other.var(ddof=1))))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the estimate."""
    argparse.ArgumentParser(prog="python -m lib.series.lemoe.power", description=__doc__).parse_args(arguments)
    found = table().astype(object)
    print(found.where(found.notna(), "-").to_string(index=False, float_format="{:.3f}".format))
    return 0


if __name__ == "__main__":
    errors.command(main)
