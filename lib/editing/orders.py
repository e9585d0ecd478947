"""Orders in which edits arrive, as permutations that `lib.causal_lm.edits.in_batches` cuts into the batches meant.

LEMoE's order takes a batch from one cluster of the edits' embeddings: similarity is high within, low between batches.
K = batches and the encoder (all-MiniLM-L6-v2, `edit_vectors`) are our choices, the paper tells neither. Clusters are
made equal in size by a balanced assignment: each batch has as many places as `in_batches` gives it, a place costs the
squared distance to the centre of its cluster, and the assignment of all edits to all places of least total cost is
taken (Hungarian method), so an edit sits elsewhere than at its nearest centre only where that is full.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.cluster.vq import kmeans2
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from lib import seeds
from lib.errors import UserError

_STARTS = 8  # of K-means; the best of them is kept


class Similarity(NamedTuple):
    """Mean cosine over pairs of edits of one batch, and over pairs of different batches; NaN where there is none."""

    within: float
    between: float


def edit_vectors(texts: Sequence[str]) -> np.ndarray:
    """Return the mean of all-MiniLM-L6-v2's vectors of each text's tokens, (texts, 384), float64; 0 for empty texts."""
    from lib.causal_lm.backbones import encode_tokens

    pooled = [found.double().mean(0).numpy() if len(found) else np.zeros(384) for found in encode_tokens(texts)]
    return np.stack(pooled) if pooled else np.zeros((0, 384))


def given_order(vectors: np.ndarray, batches: int, seed: int) -> list[int]:
    """Return the edits as they come; only the number of `vectors` counts. `UserError` as below."""
    del seed
    _sizes(vectors, batches)
    return list(range(len(vectors)))


def random_order(vectors: np.ndarray, batches: int, seed: int) -> list[int]:
    """Return a uniformly random permutation of the edits; only the number of `vectors` counts. `UserError` as below."""
    _sizes(vectors, batches)
    return _random("order", seed).permutation(len(vectors)).tolist()


def kmeans_order(vectors: np.ndarray, batches: int, seed: int) -> list[int]:
    """Return an order with one K-means cluster a batch (K-means++, best of 8 starts), clusters in random order.

    `vectors` (edits, width) are brought to length 1. Raises `UserError` for fewer edits than batches.
    """
    return _balanced(_unit(vectors), _kmeans(vectors, batches, seed), batches, seed)


def hierarchical_order(vectors: np.ndarray, batches: int, seed: int) -> list[int]:
    """Return an order with one cluster of Ward's agglomerative clustering a batch, clusters in random order.

    `vectors` (edits, width) are brought to length 1. Raises `UserError` for fewer edits than batches.
    """
    _sizes(vectors, batches)
    unit = _unit(vectors)
    labels = cut_tree(linkage(unit, "ward"), n_clusters=batches)[:, 0] if len(unit) > 1 else np.zeros(1, int)
    centres = np.stack([unit[labels == cluster].mean(0) for cluster in range(batches)])
    return _balanced(unit, centres, batches, seed)


def adversarial_order(vectors: np.ndarray, batches: int, seed: int) -> list[int]:
    """Return an order that spreads each K-means cluster evenly over the batches, the opposite of `kmeans_order`.

    The edits, sorted by cluster and at random within it, are dealt to the batches in turn, so that the batches' numbers
    of edits from one cluster differ by one at most. Raises `UserError` for fewer edits than batches.
    """
    sizes = _sizes(vectors, batches)
    labels = cdist(_unit(vectors), _kmeans(vectors, batches, seed), "sqeuclidean").argmin(1)
    mixed = _random("deal", seed).permutation(len(labels))
    dealt = mixed[np.argsort(labels[mixed], kind="stable")]
    turns = np.argsort(-sizes, kind="stable")  # the larger batches first: they take what the last round has
    taken: list[list[int]] = [[] for _ in sizes]
    for turn, index in enumerate(dealt.tolist()):
        taken[turns[turn % batches]].append(index)
    return [index for batch in taken for index in sorted(batch)]


def similarity(vectors: np.ndarray, order: Sequence[int], batches: int) -> Similarity:
    """Return the mean cosine similarity of the edits within and between the batches of an order (Figure 3).

    `vectors` is (edits, width); a pair counts once. Raises `UserError` for an order that is no permutation.
    """
    if sorted(order) != list(range(len(vectors))):
        raise UserError(f"the order is no permutation of {len(vectors)} edits: name each edit once")
    sizes = _sizes(vectors, batches)
    unit = _unit(vectors)[list(order)]
    # The pairs of a set sum to (|sum of vectors|^2 - sum of |vector|^2) / 2: no matrix of all pairs is needed.
    parts = np.split(unit, np.cumsum(sizes)[:-1])
    within = sum((part.sum(0) ** 2).sum() - (part**2).sum() for part in parts) / 2
    every = ((unit.sum(0) ** 2).sum() - (unit**2).sum()) / 2
    pairs = sum(size * (size - 1) // 2 for size in sizes.tolist())
    others = len(unit) * (len(unit) - 1) // 2 - pairs
    return Similarity(
        float(within / pairs) if pairs else float("nan"), float((every - within) / others) if others else float("nan")
    )


def _sizes(vectors: np.ndarray, batches: int) -> np.ndarray:
    """Return the sizes of the batches that `in_batches` cuts, (batches,)."""
    if not 1 <= batches <= len(vectors):
        raise UserError(f"{len(vectors)} edits cannot fill {batches} batches: give more edits or fewer batches")
    return np.diff([len(vectors) * number // batches for number in range(batches + 1)])


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors at length 1, in float64; a vector of zeros stays."""
    found = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(lengths > 0, lengths, 1)


def _random(purpose: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(seeds.seed_of(purpose, seed))


def _kmeans(vectors: np.ndarray, batches: int, seed: int) -> np.ndarray:
    """Return the centres (batches, width) of the start with the least within-cluster sum of squares."""
    _sizes(vectors, batches)
    unit, best, least = _unit(vectors), np.empty(0), np.inf
    for start in range(_STARTS):
        with warnings.catch_warnings():  # edits that are equal leave a cluster empty: the assignment fills it
            warnings.simplefilter("ignore")
            centres, _ = kmeans2(unit, batches, iter=50, minit="++", rng=_random(f"start {start}", seed))
        spread = cdist(unit, centres, "sqeuclidean").min(1).sum()
        if spread < least:
            best, least = centres, spread
    return best


def _balanced(unit: np.ndarray, centres: np.ndarray, batches: int, seed: int) -> list[int]:
    """Return the order of the balanced assignment, the clusters in random order, edits of a batch in their own."""
    sizes = _sizes(unit, batches)
    centres = centres[_random("clusters", seed).permutation(batches)]
    places = np.repeat(np.arange(batches), sizes)
    edits, chosen = linear_sum_assignment(cdist(unit, centres, "sqeuclidean")[:, places])
    return edits[np.argsort(places[chosen], kind="stable")].tolist()
