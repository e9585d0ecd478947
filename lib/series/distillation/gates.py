"""Whether the claims can be tested here: the teacher has something to teach, and its output teaches it.

Both are differences in held-out loss (nats a token, test rows of all language sets) to a student that learns the rows
with their own answers alone, at the step where its validation loss is least: more steps only make it worse, so that
the last one would be too easy to beat. Both have to hold by their intervals over the training seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lib import intervals
from lib.intervals import Interval
from lib.reporting.claims import Gate
from lib.series.distillation import evaluation

GATE = Gate(
    "nats by which the teacher, and what its output teaches, beat a student without it: the least lower end",
    over="intervals over seeds",
)


@dataclass(frozen=True)
class Taught:
    """By how many nats a token the teacher, and a student of its output, are better than a student without it."""

    teacher: Interval
    output: Interval

    @property
    def margin(self) -> float:
        """Return the smaller lower end: the number for `GATE`."""
        return min(self.teacher.low, self.output.low)

    @property
    def passes(self) -> bool:
        """Whether the student counts for the claims."""
        return GATE.holds(self.margin)


def judged(alone: Sequence[pd.DataFrame], teacher: pd.DataFrame, output: Sequence[pd.DataFrame]) -> Taught:
    """Return the gate of a student from losses by set and identity (column `loss`), one frame a training seed.

    `alone`: at its best step. Raises `ValueError` for fewer than three seeds, unequal numbers of them, or other rows.
    """
    return Taught(gained(alone, [teacher] * len(alone)), gained(alone, output))


def gained(before: Sequence[pd.DataFrame], after: Sequence[pd.DataFrame]) -> Interval:
    """Return the mean loss before minus after, every set counting alike, with its t interval over seeds."""
    sets = before[0].index.unique("set")
    a, b = evaluation.paired(before, after, sets, "loss")
    return intervals.over_seeds(a - b)
