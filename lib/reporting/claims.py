"""A paper's claim as an object: what is compared, in which direction, by how much, and the verdict that the data give.

The comparisons of a claim are fixed before the run. A comparison says "the mean of a - b is > margin" (or "< margin"):
the margin is signed, so "at most 0.02 worse" is `">", -0.02`, and "equal within 0.02" is that together with `"<",
0.02`. A gate says what must be so for the claim to be testable here at all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib import intervals
from lib.intervals import Bounds, Interval, Sample, Side, Vector
from lib.intervals.samples import counted
from lib.reporting import tables

SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"
NOT_TESTABLE, NOT_JUDGED = "not testable at this size", "not judged"
HOLDS, FAILS = "holds", "fails"  # of gates
NOT_RECORDED = "not recorded"
# What a difference is counted in: a share or a score from 0 to 1; a score in points of 100; or another name.
SHARE_UNIT, POINTS_UNIT = "share", "points of 100"


@dataclass(frozen=True)
class Comparison:
    """One inequality of a claim: mean(a - b) `direction` `margin`, judged over training seeds.

    `bounds` are the least and the greatest mean difference that can be: `intervals.DIFFERENCE` of two shares,
    `intervals.SHARE` of a share against a number; `unit` is what it is counted in. Raises `ValueError` for another
    direction, for a margin that is not finite or not between the bounds.
    """

    name: str
    direction: Literal[">", "<"]
    margin: float = 0.0
    bounds: Bounds | None = None
    unit: str = SHARE_UNIT

    def __post_init__(self) -> None:
        if self.direction not in (">", "<"):
            raise ValueError(f"{self.name}: direction is '>' or '<', not {self.direction!r}")
        if not math.isfinite(self.margin):
            raise ValueError(f"{self.name}: the margin is {self.margin}")
        if self.bounds is not None and not self.bounds[0] < self.margin < self.bounds[1]:
            raise ValueError(f"{self.name}: the margin {self.margin:g} is not between the bounds {self.bounds}")

    def outcome(self, interval: Interval) -> str:
        """Supported: the interval lies beyond the margin; not supported: all of it falls short; else inconclusive."""
        sign = 1 if self.direction == ">" else -1
        nearest, farthest = sorted((sign * (interval.low - self.margin), sign * (interval.high - self.margin)))
        return SUPPORTED if nearest > 0 else NOT_SUPPORTED if farthest < 0 else INCONCLUSIVE


@dataclass(frozen=True)
class Gate:
    """What must be so for a claim to be testable here: the mean of a number over its seeds is above a bound.

    "An expert learns most of its edits", "the teacher is better than what the student reaches alone": where it fails,
    comparing says nothing about the claim. Where the bound is `inclusive`, a mean of exactly `above` holds, too. `over`
    says what one number was taken over that is a result of several seeds. Raises `ValueError` for a bound that is not
    finite.
    """

    name: str
    above: float = 0.0
    inclusive: bool = False
    over: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.above):
            raise ValueError(f"gate {self.name}: above {self.above}")

    def holds(self, mean: float) -> bool:
        """Whether a mean is on the right side of the bound."""
        return mean >= self.above if self.inclusive else mean > self.above

    @property
    def asked(self) -> str:
        """What is asked of the mean, as the table of a verdict has it."""
        return f"mean {'>=' if self.inclusive else '>'} {self.above:g}"

    @property
    def missed(self) -> str:
        """Where a mean lies that fails."""
        return f"{'below' if self.inclusive else 'not above'} {self.above:g}"


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
    gate: Gate | None = None
    level: float = 0.95

    def __post_init__(self) -> None:
        tables.check_stem(f"claims/{self.id}")
        names = [comparison.name for comparison in self.comparisons]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"claim {self.id}: needs comparisons with different names, got {names}")


@dataclass(frozen=True)
class Finding:
    """What the data say about one comparison: the mean difference, its Holm-corrected interval and its p-values.

    All four are None where there are no data, or none that spread. `seeds` is the number of training seeds; of fewer
    than three the interval is one over items, for the reader, and the comparison is not judged.
    """

    comparison: Comparison
    interval: Interval | None = None
    level: float | None = None
    p: float | None = None
    p_holm: float | None = None
    sample: str = NOT_RECORDED
    seeds: int = 0

    @property
    def judged(self) -> bool:
        """Whether the interval is one over training seeds."""
        return self.seeds >= intervals.MINIMUM_SEEDS

    @property
    def outcome(self) -> str:
        """The outcome of this comparison alone; inconclusive where there is no interval."""
        if self.seeds and not self.judged:
            return NOT_JUDGED
        return self.comparison.outcome(self.interval) if self.interval else INCONCLUSIVE

    @property
    def open(self) -> str:
        """Why an inconclusive comparison is open: how large an effect its interval rules out, or what is missing."""
        if self.interval is None:
            return f"{self.comparison.name}: {self.sample}"
        above = self.comparison.direction == ">"
        end = self.interval.high if above else self.interval.low
        if self.comparison.bounds is not None and end in self.comparison.bounds:
            return f"{self.comparison.name}: no effect is ruled out"
        return f"{self.comparison.name}: {'above' if above else 'below'} {end:.3f} is ruled out"


@dataclass(frozen=True)
class Verdict:
    """A judged claim; `gate` is what was measured for its gate, one number a seed, None where it is not recorded."""

    claim: Claim
    findings: tuple[Finding, ...]
    gate: Vector | None = None

    @property
    def gate_outcome(self) -> str:
        """Whether the gate `HOLDS`, `FAILS`, or is not recorded; a claim without one holds."""
        if self.claim.gate is None:
            return HOLDS
        if self.gate is None:
            return NOT_RECORDED
        return HOLDS if self.claim.gate.holds(float(self.gate.mean())) else FAILS

    @property
    def outcome(self) -> str:
        """What the claim comes to, the first that is so.

        Not testable at this size: a comparison has three seeds, and the gate fails. Not supported: an interval over
        seeds is wholly on the other side. Not judged: a comparison has fewer than three seeds. Supported: every
        interval is on its side and the gate holds. Else inconclusive.
        """
        outcomes = {finding.outcome for finding in self.findings}
        if self.gate_outcome == FAILS and any(finding.judged for finding in self.findings):
            return NOT_TESTABLE
        if NOT_SUPPORTED in outcomes:
            return NOT_SUPPORTED
        if NOT_JUDGED in outcomes:
            return NOT_JUDGED
        return SUPPORTED if outcomes == {SUPPORTED} and self.gate_outcome == HOLDS else INCONCLUSIVE

    @property
    def label(self) -> str:
        """The outcome as the reader sees it: of an open one how large an effect is ruled out, of a gate its number."""
        outcome = self.outcome
        if outcome == NOT_JUDGED:
            fewest = min(finding.seeds for finding in self.findings if finding.seeds)
            return f"{outcome}: {counted(fewest)}"
        if outcome == NOT_TESTABLE and self.claim.gate is not None and self.gate is not None:
            return f"{outcome} ({self.claim.gate.name}: {self.gate.mean():.3f}, {self.claim.gate.missed})"
        if outcome == INCONCLUSIVE:
            reasons = [finding.open for finding in self.findings if finding.outcome == INCONCLUSIVE]
            return f"{outcome} ({(reasons or ['the gate is not recorded'])[0]})"
        return outcome

    def table(self, stem: str = "") -> tables.Table:
        """The verdict as a table with a row per comparison, after one for the gate; its stem else is the claim's id."""
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
            frame=pd.DataFrame(self._gate_row() + rows, dtype=object),
            caption=f"{claim.text.rstrip('.')} ({claim.source}). Verdict: {self.label}.",
            stem=stem or f"claims/{claim.id}",
            formats={"difference": ".4f", "level (%)": ".2f", "p": tables.P_VALUE, "p (Holm)": tables.P_VALUE},
            details={
                "claim": claim.id,
                "text": claim.text,
                "source": claim.source,
                "notebook": claim.notebook,
                "verdict": self.label,
                "family_level": claim.level,
                **self._units(),
            },
        )

    def _units(self) -> dict[str, Any]:
        """Return the units of the comparisons that are counted in anything but shares."""
        units = {one.name: one.unit for one in self.claim.comparisons if one.unit != SHARE_UNIT}
        return {"units": units} if units else {}

    def _gate_row(self) -> list[dict[str, Any]]:
        gate = self.claim.gate
        if gate is None:
            return []
        row: dict[str, Any] = {
            "comparison": f"gate: {gate.name}",
            "claimed": gate.asked,
            "difference": None,
        }
        row |= {"level (%)": None, "over": NOT_RECORDED, "p": None, "p (Holm)": None, "outcome": self.gate_outcome}
        if self.gate is not None:
            row |= {"difference": float(self.gate.mean()), "over": gate.over or counted(len(self.gate))}
        return [row]

    def show(self) -> None:
        """Display the verdict in a notebook, as text and as HTML."""
        self.table().show()

    def save(self, profile: str, stem: str) -> None:
        """Write stem.csv, .md, .tex, .json; the name starts with "claim_" (else `ValueError`), for the scorecard."""
        if not stem.rsplit("/", 1)[-1].startswith("claim_"):
            raise ValueError(f"{stem}: the name of a verdict starts with claim_")
        self.table(stem).save(profile)


def judge(
    claim: Claim,
    data: Mapping[str, tuple[Side, Side | float] | None],
    gate: ArrayLike | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Verdict:
    """Judge a claim on `data`: per comparison the pair (a, b), aligned; b may be one number to compare with.

    Each side holds items, as an array (seeds, items) or a list of one vector a seed, or a number a seed (seeds,). From
    three seeds on the interval is Student's over the seeds' mean differences, its standard error floored by what the
    items allow (`intervals.item_floor`); numbers a seed have no floor, and where they are all equal nothing tells how
    far another seed would lie: no interval, and the comparison is inconclusive. Items of one or two seeds, averaged
    over them, give a paired bootstrap over items, which is shown and not judged. None, for what nobody has recorded,
    leaves a comparison open. `gate` are the numbers of the claim's gate, one a seed, or one number. Levels are
    Holm-corrected over the comparisons with an interval.

    Raises `ValueError` for comparisons that `data` does not name, data without a comparison, unequal shapes, (seeds,)
    of fewer than three, a gate's numbers without a gate, and numbers that are not finite.
    """
    wanted = {comparison.name for comparison in claim.comparisons}
    if set(data) != wanted:
        raise ValueError(f"claim {claim.id}: data for {sorted(data)}, comparisons {sorted(wanted)}")
    samples = {}
    for name, pair in data.items():
        if pair is not None:
            try:
                samples[name] = Sample.of(*pair, resamples, seed)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    spread = [c for c in claim.comparisons if c.name in samples and samples[c.name].spreads(c.bounds)]
    p_values = {c.name: samples[c.name].p_value(c.margin, c.bounds) for c in spread}
    given = list(p_values.values())
    levels = dict(zip(p_values, intervals.holm_levels(given, claim.level), strict=True)) if given else {}
    adjusted = dict(zip(p_values, intervals.holm(given), strict=True)) if given else {}
    findings = []
    for one in claim.comparisons:
        sample, finding = samples.get(one.name), Finding(one)
        if sample is not None:
            finding = replace(finding, sample=sample.told(one.bounds), seeds=len(sample.means))
            if level := levels.get(one.name):
                interval = sample.interval(level, one.bounds)
                finding = replace(finding, interval=interval, level=level, p=p_values[one.name])
                finding = replace(finding, p_holm=adjusted[one.name])
        findings.append(finding)
    return Verdict(claim, tuple(findings), _gate_values(claim, gate))


def _gate_values(claim: Claim, found: ArrayLike | None) -> Vector | None:
    if found is None:
        return None
    if claim.gate is None:
        raise ValueError(f"claim {claim.id}: numbers for a gate, and it has none")
    values = np.atleast_1d(np.asarray(found, dtype=np.float64))
    if values.ndim > 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"claim {claim.id}: its gate takes one finite number a seed, got {values.tolist()}")
    return values
