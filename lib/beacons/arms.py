"""The arms of the filters and of the re-weighted loss: which facts a training keeps, and how its losses are weighed."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.beacons import answers, distance, filtering, reweighting
from lib.beacons.cached_facts import chunks, target_places
from lib.beacons.facts import BeaconFact
from lib.beacons.methods import Handle
from lib.beacons.workbench import Workbench
from lib.editing.encoding import IGNORED
from lib.editing.upper_layers import UpperLayers

if TYPE_CHECKING:
    from lib.beacons.experiment import RunConfig


def chosen(
    config: "RunConfig", bench: Workbench, taken: Sequence[BeaconFact], known: pd.DataFrame | None, seed: int
) -> filtering.Kept:
    """Return which of the facts a filter keeps; "all" keeps all. Raises `UserError` as the filters do.

    Filter B's embeddings are means of E over the tokens of prompt and target, scaled to length 1, so that their spread
    and the distances are on one scale (our choice).
    """
    if config.filter == "all":
        return filtering.Kept(np.arange(len(taken)), math.nan)
    if known is None:
        raise ValueError("a filter needs what is known of the facts")
    count, weight = filtering.count(len(taken), config.kept), config.variance_weight
    told = known.loc[[fact.identity for fact in taken]]
    distances, losses = told["raw"].to_numpy(), told["loss"].to_numpy()
    if config.filter == "b":
        vectors = bench.raw.vectors([fact.prompt + fact.target for fact in taken])
        unit = torch.nn.functional.normalize(vectors, dim=1)
        return filtering.filter_b(distances, unit.cpu().numpy(), count, weight)
    if config.filter in ("a", "reversed"):
        return (filtering.filter_a if config.filter == "a" else filtering.reversed_a)(distances, count, weight)
    places = {
        "random": lambda: filtering.random_subset(len(taken), count, seed),
        "lowest_loss": lambda: filtering.lowest_loss(losses, count),
        "half_known": lambda: filtering.half_known([str(name) for name in told["known"]], count),
    }[config.filter]()
    return filtering.Kept(places, filtering.objective_a(distances[places], weight))


def weigher(
    config: "RunConfig", bench: Workbench, trained: Sequence[BeaconFact], once: UpperLayers, seed: int
) -> Callable[[Handle], Tensor] | None:
    """Return what gives the weights of facts (`once`: run once) at the start of every epoch; None for the plain loss.

    "distance": of the greedy answer as it is then; "flipped": with -alpha; "permuted": each fact takes another's, the
    same one's throughout; "token": of the best guess at each target token under teacher forcing. Raises `UserError`
    where a batch would hold one fact, whose normalised weight is always 1.
    """
    if config.weighing == "plain":
        return None
    reweighting.check_batch(min(config.batch, len(trained) % config.batch or config.batch))
    prompts, targets = [fact.prompt for fact in trained], [fact.target for fact in trained]

    def by_fact(handle: Handle) -> Tensor:
        said = answers.greedy(handle.model, bench.tokenizer, prompts, config.answer_tokens)
        found = distance.distance(bench.raw, said, targets)
        alpha = -config.alpha if config.weighing == "flipped" else config.alpha
        return reweighting.weights(found, alpha, config.least_weight)[order].to(handle.model.device)

    def by_token(_: Handle) -> Tensor:
        found, mask = guessed(bench, once)
        return reweighting.token_weights(found, mask, config.alpha, config.least_weight)

    order = torch.arange(len(trained))
    if config.weighing == "permuted":
        order = reweighting.permutation(len(trained), seed)
    return by_token if config.weighing == "token" else by_fact


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
