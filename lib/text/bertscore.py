"""A BERTScore-like metric: greedy matching of the contextual vectors of tokens (Zhang et al., 2020)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lib import backbones

if TYPE_CHECKING:
    from torch import Tensor

ENCODER = "all-MiniLM-L6-v2"  # named beside every score: the authors use microsoft/deberta-xlarge-mnli


def bertscore(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """F1 of greedy token matching over MiniLM's last layer, (n,); no idf weights, no rescaling by a baseline.

    Raises `ValueError` unless both have the same number of sentences.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    # Each different text is encoded once.
    texts = list(dict.fromkeys([*hypotheses, *references]))
    vectors = dict(zip(texts, backbones.encode_tokens(texts), strict=True))
    pairs = zip(hypotheses, references, strict=True)
    return np.array([greedy_f1(vectors[text], vectors[reference])[2] for text, reference in pairs], dtype=float)


def greedy_f1(hypothesis: "Tensor", reference: "Tensor") -> tuple[float, float, float]:
    """Return precision, recall and F1 of token vectors (n, d) against (m, d): means of each token's best cosine.

    All three are 0 when a side has no token, and F1 is 0 when precision or recall is not positive (our choice).
    """
    if not len(hypothesis) or not len(reference):
        return 0.0, 0.0, 0.0
    cosine = _unit(hypothesis) @ _unit(reference).T
    precision, recall = float(cosine.amax(dim=1).mean()), float(cosine.amax(dim=0).mean())
    if min(precision, recall) <= 0:
        return precision, recall, 0.0
    return precision, recall, 2 * precision * recall / (precision + recall)


def _unit(vectors: "Tensor") -> "Tensor":
    """Scale rows to length 1, in double precision so that equal texts score 1 exactly enough; a zero row stays zero."""
    vectors = vectors.double()
    return vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-12)
