"""When a claim of the series can be tested here: conditions on the rows that it starts from, fixed before the runs.

No number that a claim compares plays a part in its gate.
"""

from collections.abc import Sequence

import pandas as pd

from lib.records import Record
from lib.reporting.claims import Gate
from lib.series.beacons import evaluation

# More than half of the facts go from wrong to right alone: else there is no learning on the way of which to be pushed.
LEARNT = Gate("share of facts right at the end minus before", above=0.5)
# More than half are right alone: else what learning together costs is cut off by what could be lost at all.
RIGHT_ALONE = Gate("share of facts right alone", above=0.5)
EXPRESSED_ALONE = Gate("share of facts right alone on a paraphrase", above=0.5)
# Plain training leaves a tenth of the facts or more to be won.
ROOM = Gate("room above plain training (1 minus its share right)", above=0.1)


def learnt(paths: Sequence[pd.DataFrame]) -> list[float]:
    """Return for `LEARNT` a number a seed, from the frames of `pushing.trajectories`."""
    shares = [frame.groupby("step")["right"].mean() for frame in paths]
    return [float(right.iloc[-1] - right.iloc[0]) for right in shares]


def alone(runs: Sequence[Record], score: str) -> list[float]:
    """Return for `RIGHT_ALONE` ("right") or `EXPRESSED_ALONE` ("paraphrase") a number a seed, of facts alone."""
    return [evaluation.mean(run, score) for run in runs]


def room(plain: Sequence[Record]) -> list[float]:
    """Return for `ROOM` a number a seed, of plain training."""
    return [1 - evaluation.mean(run, "right") for run in plain]
