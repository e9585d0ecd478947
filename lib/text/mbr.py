"""Minimum Bayes risk choice among the candidates decoded for one source."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lib.text import metrics

Role = Literal["hypothesis", "reference"]  # of the candidate that is judged


def choose(candidates: Sequence[Sequence[str]], role: Role = "hypothesis") -> list[int]:
    """Return the number of the candidate of highest summed BLEU against the others, for each source (sheet, Metrics).

    The candidate is the hypothesis and each of the others in turn its reference, or the other way round, as in the
    released code (`role`); a repeated candidate counts as often as it occurs. Among equals (to 12 digits) the first is
    taken. Raises `ValueError` for a source without candidates, `TypeError` for a text in their place.
    """
    return [best(texts, role) for texts in candidates]


def select(candidates: Sequence[Sequence[str]], role: Role = "hypothesis") -> list[str]:
    """Return the chosen text of each source; `ValueError` for a source without candidates."""
    return [texts[number] for texts, number in zip(candidates, choose(candidates, role), strict=True)]


def best(texts: Sequence[str], role: Role = "hypothesis") -> int:
    """Return the number of the chosen candidate of one source; `ValueError` for none."""
    if not texts:
        raise ValueError("a source without candidates")
    scores = metrics.pairwise_bleu(texts)
    np.fill_diagonal(scores, 0.0)
    return int(scores.sum(axis=1 if role == "hypothesis" else 0).round(12).argmax())
