"""One fact alone: what a fresh adapter of its own makes of the answer, the distance and the loss, step after step."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from lib import seeds
from lib.beacons import answers, distance
from lib.beacons.batched_lora import Group, train_alone
from lib.beacons.cached_facts import mean_by_sequence, target_places
from lib.beacons.facts import BeaconFact
from lib.beacons.interference import principal
from lib.causal_lm.encoding import IGNORED
from lib.errors import UserError
from lib.series.beacons.config import AloneConfig
from lib.series.beacons.workbench import Workbench


def run(config: AloneConfig, bench: Workbench, seed: int) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Train every fact alone and read it on the way; equal arguments give equal outputs in an equal environment.

    Frames: "readings", a row per fact and step read: identity, step, answer (greedy, to the trained prompt), loss (nats
    a target token), raw, centred, expected (distances to the *taught* target), and x, y: the shift of the last prompt
    token's hidden state, after the final norm, from the base model's, in the plane of its first two principal
    components over all facts and steps; "answers": identity, prompt (0 trained, from 1 on paraphrases), answer, after
    the last update; "facts": identity, taught (the target). Values: "explained", the shares of the variance of x and
    y. Raises `UserError` for too few facts and as `train_alone`; `ValueError` for reading past the last step.
    """
    if max(config.read_steps) > config.steps:
        raise ValueError(f"read after {max(config.read_steps)} of {config.steps} steps")
    facts = list(bench.facts(config.pool, config.answer_tokens)[: config.count])
    if len(facts) < config.count:
        raise UserError(f"{config.count} facts are needed, {config.pool} has {len(facts)}: ask for fewer")
    if config.targets == "shuffled":
        facts = shuffled(facts, seed)
    read, last, states = [], [], []

    def on_step(step: int, group: Group) -> None:
        asked = [facts[place] for place in group.places]
        if step in config.read_steps:
            frame, state = readings(bench, group, asked, config.answer_tokens)
            read.append(frame.assign(step=step))
            states.append(state)
        if step == config.steps:
            last.append(_asked_again(config, bench, asked))

    train_alone(bench.model, bench.tokenizer, facts, config.steps, config.rate, config.adapter, seed, on_step)
    frame = pd.concat(read, ignore_index=True)
    shifts = _shifts(frame, torch.cat(states).numpy())
    plane = principal(shifts)
    frame = frame.assign(x=plane.places[:, 0].round(4), y=plane.places[:, 1].round(4))
    order = {fact.identity: number for number, fact in enumerate(facts)}
    frame = frame.sort_values(
        ["identity", "step"], key=lambda column: column.map(order) if column.name == "identity" else column
    )
    frames = {
        "readings": frame.reset_index(drop=True),
        "answers": pd.concat(last, ignore_index=True),
        "facts": pd.DataFrame([(fact.identity, fact.target) for fact in facts], columns=["identity", "taught"]),
    }
    return frames, {"explained": [round(float(share), 4) for share in plane.explained]}


def shuffled(facts: Sequence[BeaconFact], seed: int) -> list[BeaconFact]:
    """Return the facts with each other's targets and aliases: another target for every fact, of the same kind.

    Targets keep their frequencies. A kind in which one target takes more than half cannot be shuffled so; then all
    kinds are shuffled together. Raises `UserError` where that cannot be either.
    """
    found = list(facts)
    kinds: dict[str, list[int]] = {}
    for place, fact in enumerate(facts):
        kinds.setdefault(fact.kind, []).append(place)
    within = list(kinds.values())
    parts = within if all(_fits([facts[place] for place in part]) for part in within) else [list(range(len(facts)))]
    for number, part in enumerate(parts):
        for place, other in zip(part, _others([facts[place] for place in part], seed, number), strict=True):
            found[place] = dataclasses.replace(facts[place], target=other.target, aliases=other.aliases)
    return found


@torch.no_grad()
def readings(bench: Workbench, group: Group, asked: Sequence[BeaconFact], longest: int) -> tuple[pd.DataFrame, Tensor]:
    """Return what a group's facts say now, while their adapters are on, and the last prompt token's hidden states.

    Columns: identity, answer, loss, raw, centred, expected; states (facts, width), float32, after the final norm.
    """
    said = answers.greedy(bench.model, bench.tokenizer, [fact.prompt for fact in asked], longest, batch_size=None)
    targets = [fact.target for fact in asked]
    sequence, place = target_places(group.part.encoded)
    labels = group.part.encoded.labels
    logits, states = _logits(bench, group, labels != IGNORED)
    labels = labels[labels != IGNORED]
    losses = functional.cross_entropy(logits, labels, reduction="none")
    frame = pd.DataFrame(
        {
            "identity": [fact.identity for fact in asked],
            "answer": said,
            "loss": mean_by_sequence(losses, sequence, len(asked)).tolist(),
            "raw": distance.distance(bench.raw, said, targets).tolist(),
            "centred": distance.distance(bench.centred, said, targets).tolist(),
            "expected": distance.expected(bench.table, logits, labels, sequence, len(asked)).tolist(),
        }
    )
    return frame, states[place == 0].float().cpu()


def _logits(bench: Workbench, group: Group, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits that predict the target tokens, and the hidden states that they come from, (places, ...)."""
    seen: list[Tensor] = []

    def note(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0])

    places = is_target.roll(-1, 1)
    hook = bench.model.get_output_embeddings().register_forward_pre_hook(note)
    try:
        logits = group.part.logits(places)
    finally:
        hook.remove()
    return logits, seen[0] if seen[0].ndim == 2 else seen[0][places]


def _asked_again(config: AloneConfig, bench: Workbench, asked: Sequence[BeaconFact]) -> pd.DataFrame:
    rows = []
    for number in range(1 + config.paraphrases):
        wordings = [(fact.prompt, *fact.paraphrases)[number] for fact in asked]
        said = answers.greedy(bench.model, bench.tokenizer, wordings, config.answer_tokens, batch_size=None)
        rows += [(fact.identity, number, answer) for fact, answer in zip(asked, said, strict=True)]
    return pd.DataFrame(rows, columns=["identity", "prompt", "answer"])


def _shifts(frame: pd.DataFrame, states: np.ndarray) -> np.ndarray:
    """Return each state (readings, width) minus the one of the same fact at its first reading."""
    first = frame.groupby("identity")["step"].transform("idxmin")
    return states - states[first.to_numpy()]


def _fits(part: Sequence[BeaconFact]) -> bool:
    return 2 * _most(part) <= len(part)


def _most(part: Sequence[BeaconFact]) -> int:
    return max(Counter(fact.target for fact in part).values())


def _others(part: Sequence[BeaconFact], seed: int, number: int) -> list[BeaconFact]:
    """Return for each fact another with another target: equal targets side by side, then moved on past the most."""
    if not _fits(part):
        raise UserError("more than half of the facts have one target, so targets cannot be shuffled: take other facts")
    draw = torch.randperm(len(part), generator=seeds.generator("beacons/shuffled", seed, number)).tolist()
    rank: dict[str, int] = {}
    for place in draw:
        rank.setdefault(part[place].target, len(rank))
    order = sorted(draw, key=lambda place: rank[part[place].target])
    moved = [*order[_most(part) :], *order[: _most(part)]]
    found = dict(zip(order, moved, strict=True))
    return [part[found[place]] for place in range(len(part))]
