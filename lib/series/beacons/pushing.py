"""Who is pushed away: scores of trajectories of facts alone, from the records' raw outputs (claim 1).

A fact is pushed away at a step when its distance to the taught target is more than `EPS` above where it started *and*
its answer is wrong (our definition). A distance of 0 can only rise and one near the top only fall, so shares are read
by where facts started, and compared with the shuffled control at equal starts.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import DegenerateDataWarning

from lib import intervals, records
from lib.beacons import answers
from lib.intervals import Interval
from lib.series.beacons import evaluation

EPS = 0.01  # a rise that is more than rounding; another answer seldom moves the distance by less
STARTS = ("near", "middle", "far")  # thirds of the facts by d(0), of all conditions together


def trajectories(record: records.Record, ruler: str = "raw") -> pd.DataFrame:
    """Return the readings of a record of facts alone with their scores, a row per fact and step, d by `ruler`.

    Columns: identity, step, d, start (d at step 0), loss, answer, x, y, right (target or alias in the answer), pushed,
    lighter (the target's loss is below where it started).
    """
    readings = record.frames["readings"]
    named = evaluation.taught(record)
    right = [answers.is_right(row.answer, named[row.identity]) for row in readings.itertuples(index=False)]
    frame = readings.assign(d=readings[ruler], right=right)
    first = frame[frame["step"] == 0].set_index("identity")
    start, loss = (frame["identity"].map(first[column]) for column in ("d", "loss"))
    return frame.assign(start=start, pushed=is_pushed(frame["d"], start, frame["right"]), lighter=frame["loss"] < loss)[
        ["identity", "step", "d", "start", "loss", "answer", "x", "y", "right", "pushed", "lighter"]
    ]


def is_pushed(distances: ArrayLike, starts: ArrayLike, right: ArrayLike) -> np.ndarray:
    """Return whether d > d(0) + `EPS` and the answer is wrong, for arrays of one shape.

    Raises `ValueError` for distances or starts that are not finite.
    """
    return (_finite(distances, "distances") > _finite(starts, "starts") + EPS) & ~np.asarray(right, dtype=bool)


def _finite(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: a distance is not finite, or a fact was not read at step 0")
    return array


def by_fact(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per fact, by identity: start, ever (pushed after any step read), finally (after the last one).

    Also lighter (of the steps at which it was pushed, the share at which the loss was below where it started; NaN for a
    fact never pushed), quick (share of the steps read, but the first, with a right answer) and right (at the end).
    """
    later = frame[frame["step"] > 0].sort_values("step", kind="stable").groupby("identity", sort=False)
    pushed = frame[frame["pushed"]].groupby("identity")["lighter"].mean()
    return pd.DataFrame(
        {
            "start": later["start"].first(),
            "ever": later["pushed"].any(),
            "finally": later["pushed"].last(),
            "quick": later["right"].mean(),
            "right": later["right"].last(),
            "lighter": pushed.astype(float),
        }
    ).loc[list(later.groups)]


def thirds(starts: Sequence[ArrayLike]) -> np.ndarray:
    """Return the two edges that cut all distances d(0) of several conditions, each (facts,), into thirds.

    Raises `ValueError` for one that is not finite, as all that reads them does.
    """
    return np.quantile(np.concatenate([_finite(values, "starts") for values in starts]), [1 / 3, 2 / 3])


def start_of(starts: ArrayLike, edges: np.ndarray) -> np.ndarray:
    """Return the name of the third, of `STARTS`, in which each d(0) lies; an edge belongs to the lower one."""
    return np.asarray(STARTS)[np.searchsorted(edges, _finite(starts, "starts"), side="left")]


def excess(ours: pd.DataFrame, control: pd.DataFrame, edges: np.ndarray, share: str = "ever") -> pd.Series:
    """Return how much more often our facts are pushed than the control's that started alike: of one seed, by fact.

    Both frames are those of `by_fact`. The mean is the excess: the control's shares by third are averaged with our
    facts' numbers there; a third without a fact of the control is left out on both sides. 0 is what regression to the
    mean alone would give. A row is the excess and what its fact moves it by, among ours and in the control (the
    influence of an observation), so that rows spread as the excess does when facts are drawn anew; sorted by identity.
    Raises `ValueError` where no third has facts of both.
    """
    mine, theirs = (frame.assign(third=start_of(frame["start"], edges)) for frame in (ours, control))
    rates = theirs.groupby("third")[share].mean()
    mine = mine[mine["third"].isin(rates.index)]
    if mine.empty:
        raise ValueError("no facts of ours started where facts of the control did")
    gaps = mine[share].astype(float) - mine["third"].map(rates)
    weights = mine["third"].value_counts(normalize=True) / theirs["third"].value_counts()
    residuals = (theirs[share] - theirs["third"].map(rates)) * theirs["third"].map(weights).fillna(0.0)
    facts = ours.index.union(control.index).sort_values()
    moved = ((gaps - gaps.mean()) / len(gaps)).reindex(facts, fill_value=0.0) - residuals.reindex(facts, fill_value=0.0)
    return float(gaps.mean()) + len(facts) * moved.astype(float)


def rate(frames: Sequence[pd.DataFrame], column: str = "pushed") -> pd.DataFrame:
    """Return the mean of a column over facts after each step, with its interval: step, mean, low, high.

    Over training seeds (a frame of `trajectories` each) the t interval of the seeds' means, floored by their facts and
    within the column's range; with fewer than three the bootstrap over facts, each averaged over the seeds that have
    it. The mean alone for a single fact, and where nothing spreads before the first update.
    """
    bounds = evaluation.BOUNDS["raw"] if column == "d" else intervals.SHARE
    wide = [frame.pivot(index="identity", columns="step", values=column).astype(float) for frame in frames]
    rows = []
    for step in wide[0].columns:
        parts = [frame[step].dropna() for frame in wide]
        # Before the first update nothing has been drawn: equal facts there are certainty.
        found = evaluation.over_seeds_or_facts(parts, bounds if step else None)
        rows.append((int(step), *(found if isinstance(found, Interval) else [found] * 3)))
    return pd.DataFrame(rows, columns=["step", "mean", "low", "high"])


def started(frames: Sequence[pd.DataFrame], third: str, edges: np.ndarray) -> list[pd.DataFrame]:
    """Return, of the frames of some seeds, the facts that started in a third; seeds without any are left out."""
    parts = [frame[start_of(frame["start"], edges) == third] for frame in frames]
    return [part for part in parts if len(part)]


def related(x: ArrayLike, y: ArrayLike, given: Sequence[ArrayLike] = ()) -> Interval | None:
    """Return the rank correlation of x and y, (facts,), given covariates, with its bootstrap interval.

    None where it is not defined: a constant, too few facts, covariates that determine each other.
    """
    with warnings.catch_warnings():
        # Resamples that are constant have no correlation; they are left out, and scipy need not say so.
        warnings.simplefilter("ignore", DegenerateDataWarning)
        try:
            return intervals.partial_correlation(x, y, list(given))
        except ValueError:
            return None


def over_seeds(parts: Sequence[pd.Series], bounds: intervals.Bounds = intervals.SHARE) -> Interval | float | None:
    """Return the mean of a score over facts and seeds, each series one seed's facts; None where there is no fact.

    With three seeds or more, all with facts, its t interval over them; else the mean alone.
    """
    found = [part.astype(float).dropna() for part in parts if len(part)]
    if not found or not all(map(len, found)):
        return None
    whole = len(found) == len(parts)
    return intervals.over_seeds_or_alone(found, bounds) if whole else float(intervals.seed_means(found).mean())


def share(values: ArrayLike) -> Interval:
    """Return the share of facts with its interval over them, within [0, 1]; unknown ones are left out.

    A single fact (tiny runs have some such groups) tells nothing of others: its interval has no width.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if len(known) == 1:
        return Interval(*(3 * [float(known[0])]))
    return intervals.mean_interval(known, bounds=intervals.SHARE)
