"""Intervals, p-values and corrections: arrays in, numbers out."""

from lib.intervals.estimates import (
    BATCH,
    MINIMUM_SEEDS,
    Interval,
    Vector,
    holm,
    holm_levels,
    mean_interval,
    paired_bootstrap,
    paired_bootstrap_p_value,
    partial_correlation,
    spearman_interval,
    t_interval,
    t_p_value,
)

__all__ = [
    "BATCH",
    "MINIMUM_SEEDS",
    "Interval",
    "Vector",
    "holm",
    "holm_levels",
    "mean_interval",
    "paired_bootstrap",
    "paired_bootstrap_p_value",
    "partial_correlation",
    "spearman_interval",
    "t_interval",
    "t_p_value",
]
