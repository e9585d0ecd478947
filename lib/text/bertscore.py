"""A BERTScore-like metric: greedy matching of the contextual vectors of tokens (Zhang et al., 2020)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lib.causal_lm import backbones
from lib.text import metrics

if TYPE_CHECKING:
    from torch import Tensor

ENCODER = "all-MiniLM-L6-v2"  # named beside every score: the authors use microsoft/deberta-xlarge-mnli


def token_vectors(texts: Iterable[str]) -> dict[str, "Tensor"]:
    """Return {text: vectors (tokens, 384)} of MiniLM's last layer, each different text encoded once."""
    different = list(dict.fromkeys(texts))
    return dict(zip(different, backbones.encode_tokens(different), strict=True))


def bertscore(
    hypotheses: Sequence[str], references: Sequence[str], vectors: "Mapping[str, Tensor] | None" = None
) -> np.ndarray:
    """F1 of greedy token matching over MiniLM's last layer, (n,); no idf weights, no rescaling by a baseline.

    `vectors` are those of `token_vectors` for all these texts, to encode the texts of several systems only once.
    Raises `ValueError` unless both have the same number of sentences and `vectors` has all of them, and `TypeError` for
    what is no text.
    """
    metrics.check_pairs(hypotheses, references)
    known = token_vectors([*hypotheses, *references]) if vectors is None else vectors
    if missing := {*hypotheses, *references} - known.keys():
        raise ValueError(f"vectors: {len(missing)} texts have none, such as {min(missing)!r}")
    pairs = zip(hypotheses, references, strict=True)
    return np.array([greedy_f1(known[text], known[reference])[2] for text, reference in pairs], dtype=float)


def greedy_f1(hypothesis: "Tensor", reference: "Tensor") -> tuple[float, float, float]:
    """Return precision, recall and F1 of token vectors (n, d) against (m, d): means of each token's best cosine.

    All three are 0 when a side has no token, and F1 is 0 when precision or recall is not positive (our choice). Raises
    `ValueError` for vectors of unlike widths, and for those that are not finite.
    """
    if hypothesis.ndim != 2 or reference.ndim != 2 or hypothesis.shape[1] != reference.shape[1]:
        raise ValueError(f"vectors {tuple(hypothesis.shape)} and {tuple(reference.shape)}: give two of equal width")
    for name, side in (("hypothesis", hypothesis), ("reference", reference)):
        if not side.isfinite().all():
            raise ValueError(f"{name} holds a number that is not finite")
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
