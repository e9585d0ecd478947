"""Intervals, p-values and corrections: arrays in, numbers out; nothing here knows about models, files or claims.

Which one to use: over training seeds the t interval (a percentile bootstrap over three seeds covers far less than it
says) with the floor that `lib.intervals.hierarchical` takes from their items, over the items of a test set the
bootstrap. Everything is seeded by an argument, so equal input gives equal numbers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Vector = NDArray[np.float64]
# Least and greatest value of a measure; an end may be infinite.
Bounds = tuple[float, float]
SHARE: Bounds = (0.0, 1.0)
DIFFERENCE: Bounds = (-1.0, 1.0)  # of two shares

# Relative: a spread below it is that of sums in another order.
ROUNDING = 1e-12
# Fewer runs than this give no t interval worth printing.
MINIMUM_SEEDS = 3
# The resamples are drawn in batches of this many, which bounds the memory.
BATCH = 1000


class Interval(NamedTuple):
    """A number with its confidence interval; `low <= estimate <= high` for means."""

    estimate: float
    low: float
    high: float


class NoSpreadError(ValueError):
    """Equal values of all seeds and no items below them: how far another seed could lie is not known."""


def t_interval(
    differences: ArrayLike, level: float = 0.95, floor: float = 0.0, bounds: Bounds | None = None
) -> Interval:
    """Student's t interval of the mean of `differences` (shape: seeds), each the paired difference of one seed.

    `floor` is the least standard error of that mean (see `item_floor`); the interval is cut off at `bounds`, the range
    of the measure. Raises `ValueError` for fewer than three seeds, values that are not finite or have a mean outside
    the bounds, and a level outside (0, 1); `NoSpreadError` for equal values without a floor.
    """
    values = _vector(differences, "differences", MINIMUM_SEEDS)
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + _level(level)) / 2, len(values) - 1)) * _error(values, floor)
    least, most = _bounds(bounds)
    slack = ROUNDING * max(1.0, abs(mean))
    if not least - slack <= mean <= most + slack:
        raise ValueError(f"differences: their mean {mean} lies outside the bounds {bounds}")
    return Interval(mean, min(mean, max(least, mean - half)), max(mean, min(most, mean + half)))


def t_p_value(differences: ArrayLike, margin: float = 0.0, floor: float = 0.0) -> float:
    """Two-sided p-value of "the mean difference equals `margin`" over seeds (shape: seeds); dual to `t_interval`.

    That is, below 1 - level exactly where the interval of that level and `floor` leaves the margin out (a margin at an
    end of the bounds aside). Raises as `t_interval` does.
    """
    values = _vector(differences, "differences", MINIMUM_SEEDS)
    return float(2 * stats.t.sf(abs(values.mean() - margin) / _error(values, floor), len(values) - 1))


def negligible(error: float, values: Vector) -> bool:
    """Whether an error is no more than what rounding makes of equal values."""
    return bool(error <= ROUNDING * np.abs(values).max())


def mean_interval(
    values: ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0, bounds: Bounds | None = None
) -> Interval:
    """Percentile bootstrap interval of the mean of `values` (shape: items), for one row of a table.

    Values that are all equal have no resamples but themselves. Where they lie at an end of `bounds`, the range of the
    measure (all right, or all wrong), their interval is Student's on the error of `equal_error`, cut off there. Over
    training seeds use `t_interval` instead. Raises `ValueError` for fewer than two values.
    """
    values = _vector(values, "values", 2)
    mean = float(values.mean())
    equal = negligible(float(np.ptp(values)), values)
    at_end = bounds is not None and equal and any(abs(mean - end) <= ROUNDING * max(1.0, abs(end)) for end in bounds)
    if at_end and (error := equal_error(mean, len(values), bounds)):
        half, (least, most) = float(stats.t.ppf((1 + _level(level)) / 2, len(values) - 1)) * error, _bounds(bounds)
        return Interval(mean, min(mean, max(least, mean - half)), max(mean, min(most, mean + half)))
    return _percentiles(mean, _bootstrapped_means(values, resamples, seed), level)


def equal_error(value: float, count: int, bounds: Bounds | None) -> float:
    """Return the standard error of the mean of `count` equal values, with one more at each end of `bounds` joined.

    A rule of succession: what has not been seen may still come. 0 without finite bounds.
    """
    if bounds is None or not np.isfinite(bounds).all():
        return 0.0
    joined = np.array([value] * count + list(bounds))
    return float(joined.std(ddof=1) / np.sqrt(len(joined)))


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of mean(a - b) over items; `a` and `b` (shape: items) are aligned.

    Items are resampled in pairs, so what makes an item hard for both cancels out. Percentiles and not BCa (our choice):
    they stay defined when all differences are equal, and a p-value is read from the same resamples. Raises `ValueError`
    for unequal shapes.
    """
    differences = _differences(a, b)
    return _percentiles(float(differences.mean()), _bootstrapped_means(differences, resamples, seed), level)


def paired_bootstrap_p_value(
    a: ArrayLike, b: ArrayLike, margin: float = 0.0, resamples: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p-value of "mean(a - b) equals `margin`", from the resamples of `paired_bootstrap`; never exactly 0.

    It is the smallest 1 - level whose interval leaves the margin out, to within one resample.
    """
    means = _bootstrapped_means(_differences(a, b), resamples, seed)
    tail = min((means <= margin).sum(), (means >= margin).sum())
    return float(min(1.0, 2 * (tail + 1) / (resamples + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values in the order given: compare each with the level of the whole family.

    Raises `ValueError` for an empty list or a value outside [0, 1].
    """
    values = _p_values(p_values)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return adjusted.tolist()


def holm_levels(p_values: Sequence[float], level: float = 0.95) -> list[float]:
    """Level of each comparison's own interval such that the interval leaves its margin out exactly if Holm rejects.

    The k-th smallest of m p-values is given 1 - alpha / (m - k + 1). From the first one that is not rejected on the
    level stays what it was there, because Holm stops there. Order and errors as in `holm`.
    """
    values = _p_values(p_values)
    alpha, levels, divisor = 1 - _level(level), np.empty_like(values), len(values)
    for index in np.argsort(values, kind="stable"):
        levels[index] = 1 - alpha / divisor
        if values[index] <= alpha / divisor:
            divisor = max(divisor - 1, 1)
        else:
            # Holm stops here; the p-values still to come are larger and fail at this level too.
            levels[values >= values[index]] = levels[index]
            break
    return levels.tolist()


def spearman_interval(
    x: ArrayLike, y: ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Spearman's rank correlation of `x` and `y` (shape: items) with a percentile bootstrap interval over items.

    Raises `ValueError` for fewer than four items, unequal lengths or a constant input.
    """
    return partial_correlation(x, y, [], level, resamples, seed)


def partial_correlation(
    x: ArrayLike,
    y: ArrayLike,
    given: Sequence[ArrayLike],
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Partial rank correlation of `x` and `y` (shape: items) given covariates, with a percentile bootstrap over items.

    From the inverse P of the matrix of rank correlations: -P_xy / sqrt(P_xx P_yy). Raises `ValueError` as
    `spearman_interval` does, and for covariates that determine each other or `x` or `y`.
    """
    columns = [_vector(values, "each variable", 4 + len(given)) for values in (x, y, *given)]
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"variables of unequal length: {[len(column) for column in columns]}")
    if any(np.ptp(column) == 0 for column in columns):
        raise ValueError("a constant variable has no correlation")
    if np.linalg.matrix_rank(_rank_correlations(*columns)) < len(columns) and given:
        raise ValueError("the covariates determine each other, or x or y: drop one")
    drawn = _bootstrapped(columns, _partial, resamples, seed)
    return _percentiles(float(_partial(*columns)), drawn[np.isfinite(drawn)], level)


def _rank_correlations(*columns: Vector, axis: int = -1) -> Vector:
    """Rank correlations over the last axis of arrays of shape (..., items), as (..., variables, variables)."""
    ranks = np.stack([stats.rankdata(column, axis=axis) for column in columns], axis=-2)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    # A resample in which a variable is constant gives NaN; the caller leaves it out.
    with np.errstate(invalid="ignore", divide="ignore"):
        ranks /= np.linalg.norm(ranks, axis=-1, keepdims=True)
    return ranks @ np.swapaxes(ranks, -1, -2)


def _partial(*columns: Vector, axis: int = -1) -> Vector:
    matrix = _rank_correlations(*columns, axis=axis)
    if len(columns) == 2:
        return matrix[..., 0, 1]
    known = np.isfinite(matrix).all(axis=(-1, -2), keepdims=True)
    inverse = np.linalg.pinv(np.where(known, matrix, np.eye(len(columns))), hermitian=True)
    values = -inverse[..., 0, 1] / np.sqrt(inverse[..., 0, 0] * inverse[..., 1, 1])
    return np.where(known[..., 0, 0], values, np.nan)  # type: ignore[index]  # an array, as `matrix` is


def _bootstrapped_means(values: Vector, resamples: int, seed: int) -> Vector:
    return _bootstrapped([values], np.mean, resamples, seed)


def _bootstrapped(columns: Sequence[Vector], statistic: Callable[..., Vector], resamples: int, seed: int) -> Vector:
    """The statistic on `resamples` draws of items with replacement, the same items in every column."""
    result = stats.bootstrap(
        columns,
        statistic,
        n_resamples=resamples,
        batch=BATCH,
        vectorized=True,
        paired=len(columns) > 1,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return result.bootstrap_distribution


def _percentiles(estimate: float, drawn: Vector, level: float) -> Interval:
    tail = (1 - _level(level)) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high))


def _differences(a: ArrayLike, b: ArrayLike) -> Vector:
    a, b = _vector(a, "a", 2), _vector(b, "b", 2)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal lengths, got {len(a)} and {len(b)}")
    return a - b


def _vector(values: ArrayLike, name: str, minimum: int) -> Vector:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < minimum:
        raise ValueError(f"{name}: need one row of at least {minimum} values, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: not finite at position {int(np.argmin(np.isfinite(array)))}")
    return array


def _error(values: Vector, floor: float) -> float:
    """The standard error of the mean of seeds, at least `floor`."""
    if not 0 <= floor < np.inf:
        raise ValueError(f"a floor of the standard error is finite and at least 0, got {floor}")
    error = float(stats.sem(values))
    if negligible(max(error, floor), values):
        raise NoSpreadError(f"{len(values)} equal seeds at {values[0]:g} and no items: nothing says how much they vary")
    return max(error, floor)


def _bounds(bounds: Bounds | None) -> Bounds:
    least, most = (-np.inf, np.inf) if bounds is None else bounds
    if not least < most:
        raise ValueError(f"bounds are the least and the greatest value of a measure, got {bounds}")
    return least, most


def _p_values(values: Sequence[float]) -> Vector:
    array = _vector(values, "p_values", 1)
    if ((array < 0) | (array > 1)).any():
        raise ValueError(f"p_values outside [0, 1]: {array.tolist()}")
    return array


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, got {level}")
    return level
