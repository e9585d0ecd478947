"""Filters that keep k of n facts by their semantic distance, and the subsets that they are compared with.

Both filters are readings of ours of "minimise the average distance while maximising the variance" (claim 3 of the
abstract): A looks at the distances alone, B sets near targets against diverse knowledge. All functions are pure: arrays
in, positions of the kept facts out, in rising order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from lib import seeds
from lib.errors import UserError
from lib.intervals import Vector

Places = NDArray[np.int64]

# From the half known to what is hardly to be taught (SliCK's classes); the order of the control "half known".
HALF_KNOWN_FIRST = ("maybe known", "weakly known", "highly known", "unknown")
STARTS = 8  # random starts of filter B's exchange, besides the nearest facts


class Kept(NamedTuple):
    """What a filter keeps: positions (k,), its objective, and for filter A the split into nearest and farthest."""

    places: Places
    objective: float | None = None  # None: of no filter
    nearest: int | None = None
    farthest: int | None = None


def count(facts: int, share: float) -> int:
    """Return how many of `facts` a filter keeps; raises `UserError` where that is none or all of them, or no number."""
    if not np.isfinite(share):
        raise UserError(f"the share of facts to keep is {share}: set `kept` between 0 and 1")
    kept = round(facts * share)
    _check(kept, facts)
    return kept


def objective_a(distances: ArrayLike, weight: float) -> float:
    """Return mean(d) - weight * Var(d), population variance, of the distances (k,) of a subset (our reading A).

    Raises `ValueError` for no distance, one that is not finite, and a weight that is negative or not finite.
    """
    values = _vector(distances, "distances")
    if not len(values):
        raise ValueError("distances: a subset holds one at least")
    return float(values.mean() - _weight(weight) * values.var())


def filter_a(distances: ArrayLike, kept: int, weight: float) -> Kept:
    """Return the subset of `kept` distances (n,) that minimises `objective_a`, exactly; `weight` >= 0.

    In each distance alone the objective is concave, so an item between two that were left out could be exchanged for
    one of them without loss: some best subset is the j nearest and the k - j farthest, and the k + 1 splits are all
    there is to look at. Of equal ones the split with more near facts is taken; equal distances keep their order. Raises
    `UserError` for keeping none or all, `ValueError` for distances that are not finite, and for a weight that is
    negative or not finite.
    """
    values, order = _sorted(distances, kept, weight)
    ranked = values[order]
    splits = [np.concatenate([ranked[:near], ranked[len(ranked) - kept + near :]]) for near in range(kept, -1, -1)]
    found = [objective_a(split, weight) for split in splits]
    near = kept - int(np.argmin(found))
    places = np.concatenate([order[:near], order[len(order) - kept + near :]])
    return Kept(np.sort(places), min(found), near, kept - near)


def reversed_a(distances: ArrayLike, kept: int, weight: float) -> Kept:
    """Return the subset of `kept` distances (n,) that *maximises* `objective_a`, exactly: far, and alike in distance.

    The control that says whether the direction of filter A matters. If the best subset left out an item between two of
    its own, exchanging one of the two for it would not lose: it is an unbroken run of the sorted distances, and the
    n - k + 1 runs are all there is to look at. Raises as `filter_a`.
    """
    values, order = _sorted(distances, kept, weight)
    ranked = values[order]
    found = [objective_a(ranked[start : start + kept], weight) for start in range(len(ranked) - kept + 1)]
    start = len(found) - 1 - int(np.argmax(found[::-1]))  # of equal ones the farthest
    return Kept(np.sort(order[start : start + kept]), max(found))


def objective_b(distances: ArrayLike, embeddings: ArrayLike, weight: float) -> float:
    """Return mean(d) - weight * trace of the population covariance of embeddings (k, width) (our reading B).

    Raises as `objective_a`, and `ValueError` for embeddings of another number, or not finite.
    """
    values = _vector(distances, "distances")
    if not len(values):
        raise ValueError("distances: a subset holds one at least")
    return float(np.mean(values) - _weight(weight) * _rows(embeddings, len(values)).var(axis=0).sum())


def filter_b(distances: ArrayLike, embeddings: ArrayLike, kept: int, weight: float) -> Kept:
    """Return a subset of `kept` of distances (n,) and embeddings (n, width) with a low `objective_b`.

    By exchange, not exactly: from the nearest facts and from fixed random subsets, the best exchange of one kept fact
    for one left out is made until none helps; the best end is returned. On small cases the tests find the optimum of
    all subsets. Raises as `filter_a`, and `ValueError` for embeddings of another number, not finite, or so large that
    their products are not.
    """
    values, order = _sorted(distances, kept, weight)
    vectors = _rows(embeddings, len(values))
    with np.errstate(over="ignore", invalid="ignore"):  # told in our words
        centred = vectors - vectors.mean(axis=0)  # leaves the covariance as it is, and keeps the sums small
        gram = centred @ centred.T
        largest = np.abs(gram).max() * max(weight, 1.0) * len(gram)
    if not np.isfinite(largest):
        raise ValueError("embeddings, or `weight` times their products, are too large: scale them")
    starts = [order[:kept], *(_drawn("beacons/filter_b", number, len(values), kept) for number in range(STARTS))]
    ends = [_exchanged(values, gram, start, weight) for start in starts]
    found = [objective_b(values[end], vectors[end], weight) for end in ends]
    best = int(np.argmin(found))
    return Kept(ends[best], found[best])


def random_subset(facts: int, kept: int, seed: int) -> Places:
    """Return `kept` of `facts` positions drawn without replacement; raises `UserError` for keeping none or all."""
    _check(kept, facts)
    return _drawn("beacons/random_subset", seed, facts, kept)


def lowest_loss(losses: ArrayLike, kept: int) -> Places:
    """Return the positions of the `kept` lowest initial losses (n,), nats a token; raises as `random_subset`."""
    values = _vector(losses, "losses")
    _check(kept, len(values))
    return np.sort(np.argsort(values, kind="stable")[:kept])


def half_known(classes: Sequence[str], kept: int) -> Places:
    """Return `kept` positions of facts that the model half knows: maybe, weakly, then highly known, then unknown ones.

    Within a class the given order stands. (Gekhman 2024: facts that may be known are learnt fast and do no harm.)
    Raises as `random_subset`, and `ValueError` for an unknown class.
    """
    if unknown := set(classes) - set(HALF_KNOWN_FIRST):
        raise ValueError(f"classes are {', '.join(HALF_KNOWN_FIRST)}, not {', '.join(sorted(unknown))}")
    _check(kept, len(classes))
    ranks = np.array([HALF_KNOWN_FIRST.index(name) for name in classes])
    return np.sort(np.argsort(ranks, kind="stable")[:kept])


def _exchanged(distances: Vector, gram: Vector, start: Places, weight: float) -> Places:
    """Exchange kept for left-out facts, the best pair first, until the objective falls no more.

    It ends as well where rounding would lead it round in a circle: at the first subset that was there before. With G
    the Gram matrix, the trace of the covariance is mean(G_ii) - sum(G_ij) / k^2, over the kept.
    """
    inside = np.zeros(len(distances), dtype=bool)
    inside[start] = True
    kept, squares = len(start), np.diag(gram)
    seen: set[bytes] = set()
    while True:
        own, other = np.flatnonzero(inside), np.flatnonzero(~inside)
        sums = gram[:, own].sum(axis=1)  # of each fact with all that are kept
        change = (distances - weight * squares) / kept
        # Of the double sum: out goes a kept fact o with 2 sums_o - G_oo, in comes p with 2 (sums_p - G_op) + G_pp.
        double = (squares - 2 * sums)[own][:, None] + (squares + 2 * sums)[other] - 2 * gram[np.ix_(own, other)]
        gains = change[other] - change[own][:, None] + weight * double / kept**2
        best = np.unravel_index(int(np.argmin(gains)), gains.shape)
        if gains[best] > -1e-12 or inside.tobytes() in seen:
            return own
        seen.add(inside.tobytes())
        inside[own[best[0]]], inside[other[best[1]]] = False, True


def _drawn(purpose: str, number: int, facts: int, kept: int) -> Places:
    order = torch.randperm(facts, generator=seeds.generator(purpose, number))
    return np.sort(order[:kept].numpy())


def _sorted(distances: ArrayLike, kept: int, weight: float) -> tuple[Vector, Places]:
    values = _vector(distances, "distances")
    _check(kept, len(values))
    largest = float(np.abs(values).max())
    if not np.isfinite(largest * largest * len(values) * max(_weight(weight), 1.0)):
        raise ValueError("distances, or `weight` times their squares, are too large: scale them")
    return values, np.argsort(values, kind="stable")


def _weight(weight: float) -> float:
    if not 0 <= weight < np.inf:
        raise ValueError(f"the weight of the variance is {weight}: give a finite number of 0 or more")
    return weight


def _vector(values: ArrayLike, name: str) -> Vector:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name}: one finite number for each fact is needed, got shape {array.shape}")
    return array


def _rows(embeddings: ArrayLike, facts: int) -> Vector:
    vectors = np.asarray(embeddings, dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != facts:
        raise ValueError(f"{facts} distances need as many embeddings (n, width), got {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError("embeddings hold a number that is not finite")
    return vectors


def _check(kept: int, facts: int) -> None:
    if not 0 < kept < facts:
        what = "nothing" if kept <= 0 else "everything"
        raise UserError(f"the filter would keep {what} ({kept} of {facts} facts): set `kept` between 0 and 1")
