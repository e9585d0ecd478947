"""When each word of a sentence is settled while it is decoded (InfoDiffusion, Figure 5 and Table 3)."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


def settling_steps(words: ArrayLike) -> NDArray[np.int64]:
    """Return for every place the first step, from 1, after which its word never changes again.

    `words` (steps, places) are the words of the estimate of x0 after every sampling step. Raises `ValueError` for
    another shape or no step.
    """
    words = np.asarray(words)
    if words.ndim != 2 or not len(words):
        raise ValueError(f"words are (steps, places) with at least one step, not {words.shape}")
    unsettled = words != words[-1]
    last_change = np.where(unsettled.any(0), len(words) - unsettled[::-1].argmax(0), 0)
    return last_change + 1


def unfold(trace: pd.DataFrame, item: int) -> NDArray[np.object_]:
    """Return the words (steps, places) of one item of a record's trace; `KeyError` for an item that is not there."""
    rows = trace[trace["item"] == item]
    if rows.empty:
        raise KeyError(f"the trace holds no item {item}")
    return rows.pivot(index="step", columns="place", values="word").to_numpy(dtype=object)


def sentence_places(final: ArrayLike, end: str, pad: str) -> NDArray[np.int64]:
    """Return the places of the words of a decoded sentence: those before the first `end`, without `pad`."""
    final = np.asarray(final)
    ends = np.flatnonzero(final == end)
    return np.array([k for k in range(ends[0] if len(ends) else len(final)) if final[k] != pad], dtype=np.int64)
