"""A paper's claim as an object: what is compared, in which direction, by how much, and the verdict that the data give.

The comparisons of a claim are fixed before the run. A comparison says "the mean of a - b is > margin" (or "< margin"):
the margin is signed, so "at most 0.02 worse" is `">", -0.02`, and "equal within 0.02" is that together with `"<",
0.02`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib import intervals
from lib.intervals import Interval, Vector
from lib.reporting import tables

SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"


@dataclass(frozen=True)
class Comparison:
    """One inequality of a claim: mean(a - b) `direction` `margin`, judged over training `seeds` or over test `items`.

    Raises `ValueError` for another direction or kind and a margin that is not finite.
    """

    name: str
    direction: Literal[">", "<"]
    margin: float = 0.0
    kind: Literal["seeds", "items"] = "seeds"

    def __post_init__(self) -> None:
        if self.direction not in (">", "<"):
            raise ValueError(f"{self.name}: direction is '>' or '<', not {self.direction!r}")
        if self.kind not in ("seeds", "items"):
            raise ValueError(f"{self.name}: kind is 'seeds' or 'items', not {self.kind!r}")
        if not math.isfinite(self.margin):
            raise ValueError(f"{self.name}: the margin is {self.margin}")

    def outcome(self, interval: Interval) -> str:
        """Supported: the interval lies beyond the margin; not supported: all of it falls short; else inconclusive."""
        sign = 1 if self.direction == ">" else -1
        nearest, farthest = sorted((sign * (interval.low - self.margin), sign * (interval.high - self.margin)))
        return SUPPORTED if nearest > 0 else NOT_SUPPORTED if farthest < 0 else INCONCLUSIVE


@dataclass(frozen=True)
class Claim:
    """A claim of a paper: its id, what it says in our words, where it stands, how it is tested, and in which notebook.

    `level` is the confidence of the claim as a whole. Raises `ValueError` without comparisons or with two of one name,
    and for an id that is no file name.
    """

    id: str
    text: str
    source: str
    comparisons: tuple[Comparison, ...]
    notebook: str
    level: float = 0.95

    def __post_init__(self) -> None:
        tables.check_stem(f"claims/{self.id}")
        names = [comparison.name for comparison in self.comparisons]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"claim {self.id}: needs comparisons with different names, got {names}")


@dataclass(frozen=True)
class Finding:
    """What the data say about one comparison: the mean difference, its Holm-corrected interval and its p-values.

    All four are None where there are no data.
    """

    comparison: Comparison
    interval: Interval | None = None
    level: float | None = None
    p: float | None = None
    p_holm: float | None = None
    sample: str = "not recorded"
    items_only: bool = False

    @property
    def outcome(self) -> str:
        """The outcome of this comparison alone, from its interval: inconclusive without one."""
        return self.comparison.outcome(self.interval) if self.interval else INCONCLUSIVE


@dataclass(frozen=True)
class Verdict:
    """A judged claim; `outcome` is "supported", "not supported" or "inconclusive"."""

    claim: Claim
    findings: tuple[Finding, ...]

    @property
    def items_only(self) -> bool:
        """Whether a comparison rests on the items of one training run, which says nothing about another run."""
        return any(finding.items_only for finding in self.findings)

    @property
    def outcome(self) -> str:
        """Supported: all intervals on their side, none "items only"; not supported: one on the other side."""
        outcomes = {finding.outcome for finding in self.findings}
        if NOT_SUPPORTED in outcomes:
            return NOT_SUPPORTED
        return SUPPORTED if outcomes == {SUPPORTED} and not self.items_only else INCONCLUSIVE

    @property
    def label(self) -> str:
        """The outcome as the reader sees it, with the mark "items only" where it applies."""
        return self.outcome + (" (items only: fewer than three training seeds)" if self.items_only else "")

    def table(self, stem: str) -> tables.Table:
        """The verdict as a table with a row per comparison."""
        claim = self.claim
        rows = [
            {
                "comparison": finding.comparison.name,
                "claimed": f"difference {finding.comparison.direction} {finding.comparison.margin:g}",
                "difference": finding.interval,
                "level (%)": None if finding.level is None else 100 * finding.level,
                "over": finding.sample,
                "p": finding.p,
                "p (Holm)": finding.p_holm,
                "outcome": finding.outcome,
            }
            for finding in self.findings
        ]
        return tables.Table(
            frame=pd.DataFrame(rows, dtype=object),
            caption=f"{claim.text.rstrip('.')} ({claim.source}). Verdict: {self.label}.",
            stem=stem,
            formats={"difference": ".4f", "level (%)": ".2f", "p": ".4f", "p (Holm)": ".4f"},
            details={
                "claim": claim.id,
                "text": claim.text,
                "source": claim.source,
                "notebook": claim.notebook,
                "verdict": self.outcome,
                "items_only": self.items_only,
                "family_level": claim.level,
            },
        )

    def show(self) -> None:
        """Display the verdict in a notebook, as text and as HTML."""
        self.table(f"claims/{self.claim.id}").show()

    def save(self, profile: str, stem: str) -> None:
        """Write stem.csv, .md, .tex, .json; the name starts with "claim_" (else `ValueError`), for the scorecard."""
        if not stem.rsplit("/", 1)[-1].startswith("claim_"):
            raise ValueError(f"{stem}: the name of a verdict starts with claim_")
        self.table(stem).save(profile)


def judge(
    claim: Claim, data: Mapping[str, tuple[ArrayLike, ArrayLike] | None], resamples: int = 10_000, seed: int = 0
) -> Verdict:
    """Judge a claim on `data`: per comparison the pair (a, b), aligned arrays; b may be one number to compare with.

    Shapes: (seeds,) or (seeds, items) for kind "seeds", (items,) for kind "items". Three seeds or more give a t
    interval over the seeds' mean differences. Items of one run, and (seeds, items) of one or two seeds, averaged over
    them, give a paired bootstrap over items: marked "items only", and never supported. None, for what nobody has
    recorded, leaves a comparison open. Levels are Holm-corrected over those with data. Raises `ValueError` for
    comparisons that `data` does not name, data without a comparison, unequal shapes, and (seeds,) of fewer than three.
    """
    names = {comparison.name for comparison in claim.comparisons}
    if set(data) != names:
        raise ValueError(f"claim {claim.id}: data for {sorted(data)}, comparisons {sorted(names)}")
    pairs = {name: pair for name, pair in data.items() if pair is not None}
    tests = {c.name: _test(c, *pairs[c.name], resamples, seed) for c in claim.comparisons if c.name in pairs}
    found = {}
    if tests:
        p_values = [test.p for test in tests.values()]
        corrected = zip(intervals.holm_levels(p_values, claim.level), intervals.holm(p_values), strict=True)
        for (name, test), (level, p_holm) in zip(tests.items(), corrected, strict=True):
            found[name] = test.interval(level), level, test.p, p_holm, test.sample, test.items_only
    return Verdict(
        claim, tuple(Finding(comparison, *found.get(comparison.name, ())) for comparison in claim.comparisons)
    )


@dataclass(frozen=True)
class _Test:
    """The test of one comparison before its level is known."""

    interval: Callable[[float], Interval]
    p: float
    sample: str
    items_only: bool


def _test(comparison: Comparison, a: ArrayLike, b: ArrayLike, resamples: int, seed: int) -> _Test:
    differences = _differences(comparison, a, b)
    margin = comparison.margin
    if comparison.kind == "seeds" and len(differences) >= intervals.MINIMUM_SEEDS:
        means = differences.reshape(len(differences), -1).mean(axis=1)
        p = intervals.t_p_value(means, margin)
        return _Test(lambda level: intervals.t_interval(means, level), p, f"{len(means)} seeds", False)
    if comparison.kind == "seeds" and differences.ndim == 1:
        raise ValueError(f"{comparison.name}: {len(differences)} seeds; three are needed, or the scores of items")
    items = differences.mean(axis=0) if differences.ndim == 2 else differences
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    zeros = np.zeros_like(items)
    p = intervals.paired_bootstrap_p_value(items, zeros, margin, **options)
    return _Test(
        lambda level: intervals.paired_bootstrap(items, zeros, level, **options), p, f"{len(items)} items", True
    )


def _differences(comparison: Comparison, a: ArrayLike, b: ArrayLike) -> Vector:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if b.ndim and a.shape != b.shape:
        raise ValueError(f"{comparison.name}: pairs need equal shapes, got {a.shape} and {b.shape}")
    if a.ndim not in ((1, 2) if comparison.kind == "seeds" else (1,)):
        raise ValueError(f"{comparison.name}: shape {a.shape} does not fit kind {comparison.kind!r}")
    return a - b
