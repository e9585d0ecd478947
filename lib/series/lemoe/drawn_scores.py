"""From records on draws of edits to what claims compare: scores with distant locality, falls, spreads over orders."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.intervals import Vector
from lib.records import Record
from lib.series.lemoe import evaluation


def final(record: Record) -> pd.DataFrame:
    """Return the scores after the last batch with locality on distant questions, indexed by (run, identity).

    `loc` is the share of the distant answer that is kept, `near` that of the question within the edits' domain; `avg`
    is the mean of rel, gen and loc. These are the numbers that compare with the paper's, whose questions are distant.
    """
    found = evaluation.final(record)
    kept = record.frames["distant"].set_index(["run", "identity"])["kept"]
    found = found.rename(columns={"loc": "near"}).assign(loc=kept)
    found["avg"] = found[["rel", "gen", "loc"]].mean(axis=1)
    return found


def by_place(record: Record, metric: str) -> Vector:
    """Return a score of every edit, (edits,), in the order of their runs and names: draws and rows then align."""
    return final(record)[metric].to_numpy(dtype=np.float64)


def fall_of_first(record: Record) -> pd.DataFrame:
    """Return rel of each edit of the first batch after its own batch and at the end: `learnt`, `kept` and `fall`.

    All runs of the record together, one row an edit. Raises `ValueError` where there is one batch only, or the scores
    of some batches are not recorded.
    """
    frame = record.frames["scores"]
    first = frame[frame["batch"] == 0]
    table = first.pivot(index=["run", "identity"], columns="batches", values="rel").sort_index()
    if 1 not in table.columns or table.shape[1] < 2:
        raise ValueError(f"{record.case}: the first batch is not scored both after itself and at the end")
    found = pd.DataFrame({"learnt": table[1], "kept": table[max(table.columns)]})
    return found.assign(fall=found["learnt"] - found["kept"])


def deviations(values: Sequence[float]) -> Vector:
    """Return how far each value lies from the mean of all, in the size of one more that is drawn: (values,).

    |x - mean| sqrt(n / (n - 1)), whose expectation for normal values is their mean distance from the true mean,
    0.798 sd, whatever n. Raises `ValueError` for fewer than two.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"values: at least two numbers are needed, got shape {array.shape}")
    return np.abs(array - array.mean()) * np.sqrt(len(array) / (len(array) - 1))


def learnt(record: Record) -> float:
    """Return the mean rel of every batch just after it was learnt; where only the end is scored, of all edits then."""
    frame = record.frames["scores"]
    if frame["batches"].nunique() == frame["batch"].nunique():
        return evaluation.learnt(record)
    return float(frame[frame["batches"] == frame["batches"].max()]["rel"].mean())
