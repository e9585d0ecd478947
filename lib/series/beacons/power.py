"""How many seeds the claims need: reckoned from the records that were there before, three seeds on a hundred facts.

Run as `python -m lib.series.beacons.power`. It prints, for each comparison of `hypotheses`, what those records gave,
how far single seeds with facts of their own would spread, and with what chance the planned seeds decide it: an interval
wholly on the side of the margin on which the old mean lies. The records decide nothing else: new seeds have new facts.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from lib import errors, records
from lib.intervals import item_floor
from lib.intervals.samples import Sample
from lib.reporting.claims import Comparison
from lib.series.beacons import cases, evidence
from lib.series.beacons.building import sizes_of

PROFILE = "cpu"
WANTED = 0.8  # chance of deciding a comparison
MOST = 40  # seeds that are looked at


def spread(means: Sequence[float], items: Sequence[Sequence[float]], count: int) -> float:
    """Return the standard deviation, between seeds, of a mean over `count` facts that each seed draws anew.

    The old seeds shared their facts: their means spread by adapter and order alone, to which the draw of facts adds the
    variance of a mean of `count` of them. What of it the means show already counts twice, so this is rather too much.
    """
    drawn = np.mean([np.var(one, ddof=1) for one in items]) / count
    return float(np.sqrt(np.var(means, ddof=1) + drawn))


def power(effect: float, sd: float, seeds: int, level: float) -> float:
    """Return the chance that a t interval of that level lies wholly on the side of an effect that is `effect` away."""
    if sd == 0:
        return float(effect != 0)
    bound = stats.t.ppf((1 + level) / 2, seeds - 1)
    return float(stats.nct.sf(bound, seeds - 1, abs(effect) * np.sqrt(seeds) / sd))


def needed(effect: float, sd: float, level: float) -> int | None:
    """Return the least number of seeds, from three on, that decides with the chance `WANTED`; None beyond `MOST`."""
    return next((seeds for seeds in range(3, MOST + 1) if power(effect, sd, seeds, level) >= WANTED), None)


def decided(effect: float, sd: float, level: float, seeds: int) -> float | None:
    """Return the least effect, in steps of .005, that so many seeds decide with the chance `WANTED`; None beyond 1."""
    return next((size / 200 for size in range(1, 201) if power(size / 200, sd, seeds, level) >= WANTED), None)


def row(comparison: Comparison, pair: evidence.Pair, level: float, seeds: int, count: int) -> dict[str, object]:
    """Return the estimate for one comparison of old records, with `count` facts a seed."""
    sample = Sample.of(*pair)
    mean = float(sample.means.mean())
    effect = mean - comparison.margin
    items = sample.items or ()
    # Equal facts of equal seeds are no certainty: never less than the floor that the verdict's own interval has.
    least = item_floor(items, comparison.bounds) * np.sqrt(len(items))
    sd = max(spread(sample.means.tolist(), [one.tolist() for one in items], count), least)
    return {
        "comparison": comparison.name,
        "claimed": f"{comparison.direction} {comparison.margin:g}",
        "before": mean,
        "sd of a seed": sd,
        "power": power(effect, sd, seeds, level),
        "decides from": decided(effect, sd, level, seeds),
        "seeds needed": needed(effect, sd, level),
    }


def old(profile: str = PROFILE) -> dict[str, evidence.Rows]:
    """Return the records that were there before, by notebook and row as in `evidence.NEEDED`.

    The directions' controls had one seed; of those the main rows' spread is taken (see `table`).
    """
    sizes = sizes_of(profile)
    most = max(sizes.counts)

    def got(make: object, *names: str) -> list[records.Record]:
        return [records.committed(make(*names, seed, profile)) for seed in sizes.seeds]  # type: ignore[operator]

    together = {
        budget: [records.committed(cases.many("lora", budget, most, seed, profile)) for seed in sizes.seeds]
        for budget in cases.BUDGETS
    }
    alone = {which: got(cases.alone, which) for which in ("real", "shuffled")}
    filters = {arm: got(cases.filtered, arm) for arm in ("all", "random", "a", "b")}
    weighed = {arm: got(cases.reweighted, arm) for arm in ("plain", "permuted", "distance")}
    return {
        "2.2": alone,
        "2.3": {"alone": alone["real"], **together},
        "2.4": filters | {"reversed": filters["random"]},
        "2.5": weighed | {"flipped": weighed["permuted"]},
    }


def table(profile: str = PROFILE) -> pd.DataFrame:
    """Return a row a comparison: claim, what the old records gave, and what the planned seeds can tell.

    "before" is the old mean, "decides from" the least distance from the margin that is decided with the chance
    `WANTED`. The direction controls are reckoned with the random subset and the permuted weights in their place, whose
    distance from the main rows is no forecast; their spread is.
    """
    sizes, rows = sizes_of(profile), []
    for notebook, found in old(profile).items():
        count = sizes.drawn if notebook in ("2.2", "2.3") else sizes.pool
        seeds = len(evidence.seeds_of(notebook, profile))
        for tested in evidence.NEEDED[notebook][1](found):
            level = 1 - (1 - tested.claim.level) / len(tested.claim.comparisons)  # Holm's strictest
            for comparison in tested.claim.comparisons:
                pair = tested.data[comparison.name]
                if pair is not None:
                    told = row(comparison, pair, level, seeds, count)
                    rows.append({"claim": tested.claim.id, "seeds": seeds, **told})
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the estimates."""
    argparse.ArgumentParser(prog="python -m lib.series.beacons.power", description=__doc__).parse_args(arguments)
    found = table()
    with pd.option_context("display.width", 200, "display.max_colwidth", 70):
        print(found.to_string(index=False, float_format="{:.3f}".format, na_rep=f"> {MOST}"))
    print(f"facts that each seed draws: {sizes_of(PROFILE).drawn} and {sizes_of(PROFILE).pool} (filters and weighings)")
    return 0


if __name__ == "__main__":
    errors.command(main)
