"""Paired differences over training seeds, as they come: items of every seed, or one number a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lib.intervals.estimates import (
    MINIMUM_SEEDS,
    Bounds,
    Interval,
    NoSpreadError,
    Vector,
    negligible,
    paired_bootstrap,
    paired_bootstrap_p_value,
    t_interval,
    t_p_value,
)
from lib.intervals.hierarchical import item_floor, seed_means

# One side of a comparison: items, (seeds, items) or a list of one vector a seed, or a number a seed, (seeds,).
Side = Sequence[ArrayLike] | Vector


@dataclass(frozen=True)
class Sample:
    """Differences of a comparison: each seed's mean, (seeds,), and the items of each seed where there are any.

    From three seeds on intervals and p-values are Student's over the seeds, with the floor of `item_floor`; of one or
    two seeds they are a paired bootstrap over the items, averaged over the seeds, which tells nothing of other seeds.
    """

    means: Vector
    items: tuple[Vector, ...] | None
    resamples: int = 10_000
    seed: int = 0

    @classmethod
    def of(cls, a: Side, b: Side | float, resamples: int = 10_000, seed: int = 0) -> "Sample":
        """Return the sample of a - b, aligned; b may be one number to compare with.

        Raises `ValueError` for unequal shapes, numbers of fewer than three seeds, unequal numbers of items of fewer
        than three, and values that are not finite.
        """
        ours = _entries(a)
        theirs = _entries(b) if np.iterable(b) else [np.full_like(one, b) for one in ours]
        shapes = [[one.shape for one in side] for side in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"pairs need equal shapes, got by seed {shapes[0]} and {shapes[1]}")
        differences = tuple(np.asarray(one - other) for one, other in zip(ours, theirs, strict=True))
        if not all(np.isfinite(one).all() for one in differences):
            raise ValueError("a difference that is not finite")
        few = len(differences) < MINIMUM_SEEDS
        if differences[0].ndim == 0:
            if few:
                raise ValueError(f"numbers of {counted(len(differences))}: three are needed, or the scores of items")
            return cls(np.array(differences), None, resamples, seed)
        if few and len({len(items) for items in differences}) > 1:
            raise ValueError("items of fewer than three seeds are averaged over them, and need equal numbers")
        return cls(seed_means(differences), differences, resamples, seed)

    @property
    def over_items(self) -> bool:
        """Whether there are too few seeds for an interval over them, so that it is one over items."""
        return len(self.means) < MINIMUM_SEEDS

    def interval(self, level: float, bounds: Bounds | None = None) -> Interval:
        """Return the interval of the mean difference; `bounds` as in `t_interval`, which see for what it raises."""
        if self.over_items:
            return paired_bootstrap(*self._averaged(), level, **self._drawn())
        return t_interval(self.means, level, self._floor(bounds), bounds)

    def p_value(self, margin: float, bounds: Bounds | None = None) -> float:
        """Return the two-sided p-value of "the mean difference equals `margin`", dual to `interval`."""
        if self.over_items:
            return paired_bootstrap_p_value(*self._averaged(), margin, **self._drawn())
        return t_p_value(self.means, margin, self._floor(bounds))

    def spreads(self, bounds: Bounds | None = None) -> bool:
        """Whether seeds or items tell how far another seed could lie; without that there is no interval."""
        try:
            if self.over_items:
                items = self._averaged()[0]
                return not negligible(float(np.ptp(items)), items)
            return self.p_value(0.0, bounds) >= 0
        except NoSpreadError:
            return False

    def told(self, bounds: Bounds | None = None) -> str:
        """Return what the sample is, for a reader."""
        told = counted(len(self.means))
        if self.over_items and self.items is not None:
            told = f"{len(self.items[0])} items of {told}"
        if not self.spreads(bounds):
            return f"{told}, all {self.means[0]:.3f}: nothing says how much they vary"
        return told if self.items is not None else f"{told} (no items, so no floor)"

    def _floor(self, bounds: Bounds | None) -> float:
        return 0.0 if self.items is None else item_floor(self.items, bounds)

    def _averaged(self) -> tuple[Vector, Vector]:
        items = np.mean(np.stack(self.items or ()), axis=0)
        return items, np.zeros_like(items)

    def _drawn(self) -> dict[str, Any]:
        return {"resamples": self.resamples, "seed": self.seed}


def counted(seeds: int) -> str:
    """Return a number of seeds in words."""
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def _entries(side: Side) -> list[Vector]:
    """One entry a seed, all numbers or all vectors of items."""
    if not np.iterable(side) or not len(side):
        raise ValueError(f"one entry a training seed is needed, got {side!r}")
    entries = [np.asarray(entry, dtype=np.float64) for entry in side]
    if len({entry.ndim for entry in entries}) > 1 or entries[0].ndim > 1:
        raise ValueError(f"seeds are numbers or vectors of items, got shapes {[entry.shape for entry in entries]}")
    return entries
