"""Training losses that weigh facts, or target tokens, by their semantic distance, and their controls.

L = sum_i w_i CE_i / sum_i w_i with w_i = stopgrad(max(1 + alpha z_i, w_min)), z the distance scaled to mean 0 and
standard deviation 1 over the training facts (our definition; claim 4 of the abstract). All functions are pure.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from lib import seeds
from lib.beacons.cached_facts import Chosen, fact_losses, mean_by_sequence, target_places
from lib.errors import UserError

# Added to the standard deviation: distances that are all equal then give weights of exactly 1.
EPS = 1e-6


def fact_loss(part: Chosen, weights: Tensor) -> Tensor:
    """Return sum_i w_i CE_i / sum_i w_i of a batch, in nats, for weights of facts (sequences,).

    Raises `ValueError` for weights that are negative, not finite, or all 0.
    """
    _check_weights(weights)
    return (weights * fact_losses(part)).sum() / weights.sum()


def token_loss(part: Chosen, weights: Tensor) -> Tensor:
    """Return sum_i mean_t w_it CE_it / sum_i mean_t w_it of a batch, in nats, means over each fact's target tokens.

    The weights (sequences, longest target) hold those of a fact's own tokens first. Raises as `fact_loss`.
    """
    _check_weights(weights)
    places, count = target_places(part.encoded), len(weights)
    losses, _, sequence = part.losses()
    weighed = mean_by_sequence(losses * weights[places], sequence, count)
    return weighed.sum() / token_mass(part, weights)


def fact_mass(_: Chosen, weights: Tensor) -> Tensor:
    """Return what `fact_loss` divides by, which parts of a batch add up to the batch's."""
    return weights.sum()


def token_mass(part: Chosen, weights: Tensor) -> Tensor:
    """Return what `token_loss` divides by, which parts of a batch add up to the batch's."""
    places = target_places(part.encoded)
    return mean_by_sequence(weights[places], places[0], len(weights)).sum()


def standardised(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return z = (d - mean) / (sd + EPS) of distances of any shape, population sd, over the places of a mask.

    Outside the mask z is 0. Raises `ValueError` for a mask of another shape or that marks nothing, and for a distance
    under it that is not finite.
    """
    if mask is None:
        mask = torch.ones_like(values, dtype=torch.bool)
    if mask.shape != values.shape:
        raise ValueError(f"a mask of shape {tuple(mask.shape)} for distances of shape {tuple(values.shape)}")
    if not mask.any():
        raise ValueError("no distance is marked by the mask")
    chosen = values[mask]
    if not chosen.isfinite().all():
        raise ValueError("distances hold a number that is not finite")
    z = (values - chosen.mean()) / (chosen.std(correction=0) + EPS)
    return torch.where(mask, z, torch.zeros_like(z))


def weights(distances: Tensor, alpha: float, least: float) -> Tensor:
    """Return the weight of each fact, (n,), from its distance, (n,); no gradient flows through them.

    A negative `alpha` flips the sign: near facts weigh more. Raises `ValueError` for a `least` that is not above 0,
    with which all weights of a batch could vanish, and as `standardised` and for an `alpha` that is not finite.
    """
    _check_scale(alpha, least)
    return (1 + alpha * standardised(distances.detach())).clamp(min=least)


def token_weights(distances: Tensor, mask: Tensor, alpha: float, least: float) -> Tensor:
    """Return the weight of each target token, (n, tokens), z taken over all tokens that `mask` marks; 0 elsewhere.

    Raises as `weights` and `standardised`.
    """
    _check_scale(alpha, least)
    found = (1 + alpha * standardised(distances.detach(), mask)).clamp(min=least)
    return found * mask


def token_distances(embeddings: Tensor, guesses: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - cos(E[guess], E[target]) for each place; embeddings (vocabulary, width), ids of any one shape.

    A guess is the model's best token under teacher forcing; the rows are the frozen base model's, so a right guess has
    distance 0 up to rounding. Raises `ValueError` for embeddings that are not finite at these places.
    """
    found = 1 - functional.cosine_similarity(embeddings[guesses], embeddings[targets], dim=-1)
    if not found.isfinite().all():
        raise ValueError("embeddings hold a number that is not finite")
    return found


def permutation(facts: int, seed: int) -> Tensor:
    """Return a random permutation of positions, (facts,), that leaves no fact in its place (one cycle through all).

    The control of the re-weighted loss: fact i takes the weight of fact p(i) at every refresh, so that the weights have
    the same values, last as long, and tell nothing of the fact. Raises `UserError` for fewer than two facts.
    """
    if facts < 2:
        raise UserError("permuted weights need at least two facts: give more")
    order = torch.randperm(facts, generator=seeds.generator("beacons/permuted_weights", seed))
    found = torch.empty_like(order)
    found[order] = order.roll(-1)
    return found


def check_batch(facts: int) -> None:
    """Raise `UserError` for a batch of one fact: normalised weights cancel, so the weighted loss is the plain one."""
    if facts < 2:
        raise UserError("a batch of one fact: its normalised weight is always 1; set `batch` to 2 or more")


def _check_scale(alpha: float, least: float) -> None:
    if not 0 < least < math.inf:
        raise ValueError(f"the least weight is {least}: it must be a finite number above 0")
    if not math.isfinite(alpha):
        raise ValueError(f"alpha is {alpha}: give a finite number")


def _check_weights(weights: Tensor) -> None:
    if not (weights.isfinite().all() and (weights >= 0).all() and (weights > 0).any()):
        raise ValueError("weights must be finite, none below 0 and some above it")
