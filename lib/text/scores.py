"""All scores of one system's sentences, item by item, as the InfoDiffusion authors report them."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd

from lib import intervals
from lib.text import bertscore, kept_scores, mbr, metrics

# As the authors: quality from all candidates by minimum Bayes risk, diversity from three.
DIVERSITY = 3
NAMES = {
    "bleu": "BLEU",
    "rouge_l": "ROUGE-L",
    "bertscore": f"BERTScore ({bertscore.ENCODER})",
    "dist_1": "Dist-1",
    "self_bleu": "Self-BLEU",
    "diverse_4": "Diverse-4",
    "length": "Length (words)",
}
QUALITY = ("bleu", "rouge_l", "bertscore")
DIVERSITY_AND_LENGTH = ("dist_1", "self_bleu", "diverse_4", "length")
# In a table the caption names the encoder, so that the column is as narrow as its numbers.
SHORT = NAMES | {"bertscore": "BERTScore", "length": "Length"}

# Which end of a score is the better one, where one is; Dist-1 falls with the length of a sentence.
BETTER: dict[str, Literal["highest", "lowest"]] = {
    **dict.fromkeys(QUALITY, "highest"),
    "self_bleu": "lowest",
    "diverse_4": "highest",
}


def compare(
    systems: Mapping[str, Sequence[Sequence[str]]],
    references: Sequence[str],
    released: bool = False,
    close: bool = True,
) -> dict[str, pd.DataFrame]:
    """Return the scores of several systems on the same references: of each one row per item, the columns of `NAMES`.

    A system is the sentences drawn for each item. BLEU, ROUGE-L, BERTScore, Dist-1 and length are those of the
    candidate that minimum Bayes risk chooses; Self-BLEU and Diverse-4 are over the first three candidates, and NaN
    where there is but one. Without `close` there is no BERTScore, whose encoder takes most of the time. The released
    differs in three things (`released`): BLEU takes the reference as hypothesis and the candidate as its
    reference, minimum Bayes risk likewise, and Self-BLEU counts each pair once. Raises `ValueError` when items and
    references differ in number, and for none.
    """
    if not len(references):
        raise ValueError("no references: give one at least")
    role: mbr.Role = "reference" if released else "hypothesis"
    chosen = {name: _chosen(tuple(map(tuple, candidates)), role) for name, candidates in systems.items()}
    for candidates in systems.values():
        if len(candidates) != len(references):
            raise ValueError(f"{len(candidates)} items but {len(references)} references")
    found = {name: _scores(candidates, chosen[name], references, released) for name, candidates in systems.items()}
    if close:
        place = list(NAMES).index("bertscore")
        for name, scores in kept_scores.bertscores(chosen, references).items():
            found[name].insert(place, "bertscore", scores)
    return found


@lru_cache(maxsize=128)  # a notebook scores the same sentences for a table and for a claim
def _chosen(candidates: tuple[tuple[str, ...], ...], role: mbr.Role) -> tuple[str, ...]:
    return tuple(mbr.select(candidates, role))


def _scores(
    candidates: Sequence[Sequence[str]],
    chosen: Sequence[str],
    references: Sequence[str],
    released: bool,
) -> pd.DataFrame:
    several = [list(texts[:DIVERSITY]) for texts in candidates]
    alone = min(len(texts) for texts in several) < 2
    nothing = np.full(len(references), np.nan)
    return pd.DataFrame(
        {
            "bleu": metrics.bleu(references, chosen) if released else metrics.bleu(chosen, references),
            "rouge_l": metrics.rouge_l(chosen, references),
            "dist_1": metrics.dist_1(chosen),
            "self_bleu": nothing if alone else metrics.self_bleu(several, "released" if released else "ordered"),
            "diverse_4": nothing if alone else metrics.diverse_4(several),
            "length": metrics.length(chosen),
        }
    )


def summary(scores: pd.DataFrame) -> dict[str, object]:
    """Return the mean of every column with its interval over items, None for a column without numbers.

    All columns but the length are shares: where all items have none or all of it the interval is not empty
    (`intervals.mean_interval`).
    """
    return {
        name: None
        if column.isna().any()
        else intervals.mean_interval(column, bounds=None if name == "length" else intervals.SHARE)
        for name, column in scores.items()
    }
