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


def excess(ours: pd.DataFrame, control: pd.DataFrame, edges: np.ndarray, share: str = "ever") -> float:
    """Return how much more often our facts are pushed than the control's that started alike: one number for a seed.

    Both frames are those of `by_fact`. The control's shares by third are averaged with our facts' numbers there; a
    third without a fact of the control is left out on both sides. 0 is what regression to the mean alone would give.
    Raises `ValueError` where no third has facts of both.
    """
    mine, theirs = (frame.assign(third=start_of(frame["start"], edges)) for frame in (ours, control))
    rates = theirs.groupby("third")[share].mean()
    mine = mine[mine["third"].isin(rates.index)]
    if mine.empty:
        raise ValueError("no facts of ours started where facts of the control did")
    return float(mine[share].mean() - mine["third"].map(rates).mean())


def rate(frames: Sequence[pd.DataFrame], column: str = "pushed") -> pd.DataFrame:
    """Return the mean of a column over facts after each step, with its interval: step, mean, low, high.

    Over training seeds (a frame of `trajectories` each) the t interval of the seeds' means; with fewer than three the
    bootstrap over facts, each averaged over the seeds that have it; the mean alone for a single fact.
    """
    wide = [frame.pivot(index="identity", columns="step", values=column).astype(float) for frame in frames]
    rows = []
    for step in wide[0].columns:
        if len(wide) >= intervals.MINIMUM_SEEDS:
            found = intervals.t_interval([frame[step].mean() for frame in wide])
        else:
            values = pd.concat([frame[step] for frame in wide], axis=1).mean(axis=1)
            mean = float(values.mean())
            found = intervals.mean_interval(values) if len(values) > 1 else Interval(mean, mean, mean)
        rows.append((int(step), *found))
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


def over_seeds(parts: Sequence[pd.Series]) -> Interval | float | None:
    """Return the mean of a score over facts and seeds, each series one seed's facts; None where there is no fact.

    With three seeds or more its t interval over them; else the mean alone.
    """
    means = [float(part.mean()) for part in parts if len(part)]
    if not means or not np.isfinite(means).all():
        return None
    whole = len(means) == len(parts) >= intervals.MINIMUM_SEEDS
    return intervals.t_interval(means) if whole else float(np.mean(means))
