"""The arms of the filters and of the re-weighted loss: which facts a training keeps, and how its losses are weighed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import records
from lib.beacons import answers, distance, filtering, knowledge, reweighting
from lib.beacons.adapters import Handle
from lib.beacons.cached_facts import chunks, target_places
from lib.beacons.facts import BeaconFact, facts
from lib.beacons.filtering import Kept
from lib.beacons.training import WeightedLoss
from lib.causal_lm.encoding import IGNORED
from lib.causal_lm.upper_layers import UpperLayers
from lib.records import Case
from lib.series.beacons.config import RunConfig
from lib.series.beacons.workbench import Workbench


def known_facts(known: Case) -> pd.DataFrame:
    """Return what the record of a case of known facts says of its pool, a row per identity, its class as `known`."""
    record = records.get(known)
    named = {fact.identity: fact for fact in facts(known.config.pool)}
    frame = record.frames["facts"].set_index("identity")
    return frame.join(knowledge.classes(record.frames["answers"], [named[identity] for identity in frame.index]))


def known_before(case: Case) -> pd.DataFrame:
    """Return what is known of a training's facts before it, from the case that it has as its input `known`."""
    return known_facts(case.inputs["known"])


def nothing_known(_: Case) -> None:
    """Read nothing: no filter chooses."""


@dataclass(frozen=True)
class Candidates:
    """The facts that a filter chooses among, and what it may choose by: what is known of them, by identity."""

    config: RunConfig
    bench: Workbench
    facts: Sequence[BeaconFact]
    known: pd.DataFrame | None
    seed: int


def keep_all(among: Candidates) -> Kept:
    """Keep all facts: plain training."""
    return Kept(np.arange(len(among.facts)))


def near_of_high_variance(among: Candidates) -> Kept:
    """Keep what filter A keeps; raises `UserError` as it does."""
    return filtering.filter_a(_distances(among), _count(among), among.config.variance_weight)


def far_of_low_variance(among: Candidates) -> Kept:
    """Keep what the reverse of filter A keeps; raises `UserError` as it does."""
    return filtering.reversed_a(_distances(among), _count(among), among.config.variance_weight)


def near_of_diverse_knowledge(among: Candidates) -> Kept:
    """Keep what filter B keeps; raises `UserError` as it does.

    Its embeddings are means of E over the tokens of prompt and target, scaled to length 1, so that their spread and the
    distances are on one scale (our choice).
    """
    vectors = among.bench.raw.vectors([fact.prompt + fact.target for fact in among.facts])
    unit = torch.nn.functional.normalize(vectors, dim=1).cpu().numpy()
    return filtering.filter_b(_distances(among), unit, _count(among), among.config.variance_weight)


def random_subset(among: Candidates) -> Kept:
    """Keep facts at random; raises `UserError` as `filtering.random_subset`."""
    return _judged(among, filtering.random_subset(len(among.facts), _count(among), among.seed))


def lowest_loss(among: Candidates) -> Kept:
    """Keep the facts of the lowest initial loss; raises `UserError` as `filtering.lowest_loss`."""
    return _judged(among, filtering.lowest_loss(_known(among)["loss"].to_numpy(), _count(among)))


def half_known(among: Candidates) -> Kept:
    """Keep what the model half knows; raises `UserError` as `filtering.half_known`."""
    return _judged(among, filtering.half_known([str(name) for name in _known(among)["known"]], _count(among)))


def _known(among: Candidates) -> pd.DataFrame:
    if among.known is None:
        raise ValueError("a filter needs what is known of the facts")
    return among.known.loc[[fact.identity for fact in among.facts]]


def _distances(among: Candidates) -> np.ndarray:
    return _known(among)["raw"].to_numpy()


def _count(among: Candidates) -> int:
    return filtering.count(len(among.facts), among.config.kept)


def _judged(among: Candidates, places: filtering.Places) -> Kept:
    """Return what a control keeps, with filter A's objective, which it does not minimise."""
    return Kept(places, filtering.objective_a(_distances(among)[places], among.config.variance_weight))


@dataclass(frozen=True)
class Learnt:
    """The facts that a training is about to learn, in its order; `once`: run once through the lower layers."""

    config: RunConfig
    bench: Workbench
    facts: Sequence[BeaconFact]
    once: UpperLayers
    seed: int


def plain_loss(_: Learnt) -> None:
    """Weigh nothing."""


def by_distance(learnt: Learnt) -> WeightedLoss:
    """Weigh each fact by the distance of its greedy answer as it is then.

    Raises `UserError`, as all weighings do, where a batch would hold one fact, whose normalised weight is always 1.
    """
    return _by_fact(learnt, learnt.config.alpha, torch.arange(len(learnt.facts)))


def flipped(learnt: Learnt) -> WeightedLoss:
    """Weigh as `by_distance` with -alpha: near facts weigh more."""
    return _by_fact(learnt, -learnt.config.alpha, torch.arange(len(learnt.facts)))


def permuted(learnt: Learnt) -> WeightedLoss:
    """Weigh as `by_distance`, where each fact takes another's weight, the same one's throughout."""
    return _by_fact(learnt, learnt.config.alpha, reweighting.permutation(len(learnt.facts), learnt.seed))


def by_token(learnt: Learnt) -> WeightedLoss:
    """Weigh each target token by the distance of the best guess at it under teacher forcing."""
    _check_batches(learnt)

    def weights(_: Handle) -> Tensor:
        distances, mask = guessed(learnt.bench, learnt.once)
        return reweighting.token_weights(distances, mask, learnt.config.alpha, learnt.config.least_weight)

    return WeightedLoss(weights, reweighting.token_loss, reweighting.token_mass)


def _by_fact(learnt: Learnt, alpha: float, order: Tensor) -> WeightedLoss:
    _check_batches(learnt)
    config, tokenizer = learnt.config, learnt.bench.tokenizer
    prompts, targets = [fact.prompt for fact in learnt.facts], [fact.target for fact in learnt.facts]

    def weights(handle: Handle) -> Tensor:
        said = answers.greedy(handle.model, tokenizer, prompts, config.answer_tokens)
        distances = distance.distance(learnt.bench.raw, said, targets)
        return reweighting.weights(distances, alpha, config.least_weight)[order].to(handle.model.device)

    return WeightedLoss(weights, reweighting.fact_loss, reweighting.fact_mass)


def _check_batches(learnt: Learnt) -> None:
    reweighting.check_batch(min(learnt.config.batch, len(learnt.facts) % learnt.config.batch or learnt.config.batch))


@torch.no_grad()
def guessed(bench: Workbench, whole: UpperLayers) -> tuple[Tensor, Tensor]:
    """Return the distance of the best guess at each target token, (facts, longest target), and which places are one."""
    lengths = (whole.encoded.labels != IGNORED).sum(1)
    found = torch.zeros(len(lengths), int(lengths.max()), device=lengths.device)
    for rows, part in chunks(whole):
        is_target = part.encoded.labels != IGNORED
        guesses = part.logits(is_target.roll(-1, 1)).argmax(-1)
        sequence, place = target_places(part.encoded)
        apart = reweighting.token_distances(bench.table, guesses, part.encoded.labels[is_target])
        found[rows.to(found.device)[sequence], place] = apart
    return found, torch.arange(found.shape[1], device=found.device) < lengths[:, None]
