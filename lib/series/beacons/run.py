"""What each kind of case of the series computes: one training with its reading, facts alone, the base model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lib import records
from lib.beacons import knowledge, training
from lib.beacons.cached_facts import Chosen
from lib.beacons.methods import attach
from lib.beacons.training import DivergedError
from lib.errors import UserError
from lib.records import Case, Outcome
from lib.series.beacons import features, reading, single_fact
from lib.series.beacons.arms import Candidates, Learnt
from lib.series.beacons.config import BackboneConfig, RunConfig
from lib.series.beacons.rows import FILTERS, WEIGHINGS
from lib.series.beacons.workbench import Workbench, workbench


@dataclass
class Results:
    """What the runs of one case leave: raw outputs as frames, small numbers as values.

    Each frame has a column `run`. "facts": identity, trained, loss (nats a token), raw, centred (distances of the
    answer to the trained prompt); "answers": identity, prompt (0 trained, from 1 on paraphrases), answer; "others":
    identity, before, answer; "curve": step, loss.
    """

    frames: dict[str, pd.DataFrame]
    values: dict[str, Any]


def train(case: Case) -> Outcome:
    """Compute a case of one training (`RunConfig`); filters choose by its input `known`."""
    known = FILTERS[case.config.filter].known(case)
    found = run(case.config, _bench(case, case.config), case.seed, known, records.workspace(case))
    return Outcome(values=found.values, frames=found.frames)


def learn_alone(case: Case) -> Outcome:
    """Compute a case of facts learnt alone (`AloneConfig`)."""
    frames, values = single_fact.run(case.config, _bench(case, case.config), case.seed)
    return Outcome(values=values, frames=frames)


def compare_gradients(case: Case) -> Outcome:
    """Compute a case of the directions in which facts pull (`GradientsConfig`)."""
    config, alone = case.config.training, case.config.alone
    bench = _bench(case, config)
    taken = bench.facts(config.pool, config.answer_tokens)[: config.count]
    frame, shifts = features.directions(config, bench, taken, alone, case.seed)
    frames = {"cosines": frame, "facts": pd.DataFrame({"identity": [fact.identity for fact in taken]})}
    return Outcome(values={}, frames=frames, published={"shifts": shifts})


def ask_base(case: Case) -> Outcome:
    """Compute a case of what the base model knows of facts (`KnownConfig`)."""
    config, bench = case.config, _bench(case, case.config)
    taken = bench.facts(config.pool, config.answer_tokens)[: config.count]
    frames = knowledge.frames(bench.model, bench.tokenizer, taken, config.answer_tokens, config.samples, case.seed)
    return Outcome(values={"facts": len(taken)}, frames=frames)


def read_text(case: Case) -> Outcome:
    """Compute a case of the base model's perplexity on general text (`TextConfig`)."""
    bench = _bench(case, case.config)
    found = reading.perplexity(bench, case.config.text_tokens, case.config.first_layer, cached=True)
    return Outcome(values={"perplexity": round(found, 4)})


def run(
    config: RunConfig, bench: Workbench, seed: int, known: pd.DataFrame | None, workspace: Path | None = None
) -> Results:
    """Train and read; equal arguments give equal results in an equal environment, also after a kill (`workspace`).

    `known` is what `knowledge.initial` says of the pool's first facts, indexed by identity, with their classes; filters
    choose by it. Raises `UserError` for fewer facts than the runs need, and as `training.train`.
    """
    pool = bench.facts(config.pool, config.answer_tokens)
    if (needed := config.count * config.runs) > len(pool):
        raise UserError(f"{needed} facts are needed, {config.pool} has {len(pool)}: ask for fewer")
    other = reading.OTHER[config.pool]
    before = bench.answers_before(other, config.others, config.answer_tokens) if config.others else ()
    parts: list[dict[str, pd.DataFrame]] = []
    values: dict[str, Any] = {"diverged": False}
    for number in range(config.runs):
        taken = pool[number * config.count : (number + 1) * config.count]
        kept = FILTERS[config.filter].keep(Candidates(config, bench, taken, known, seed))
        trained = [taken[place] for place in kept.places]
        place = None if workspace is None else workspace / f"run{number}"
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
        with attach(bench.model, config.method, config.adapter, config.steps, seed) as handle:
            once = bench.once(tuple(taken), handle.first_layer, handle.caches)
            learnt = Chosen(once, torch.tensor(kept.places, device=once.encoded.ids.device))
            weighted, curve = WEIGHINGS[config.weighing].loss(Learnt(config, bench, trained, learnt, seed)), []
            try:
                curve = training.train(
                    handle,
                    bench.tokenizer,
                    trained,
                    config.steps,
                    config.batch,
                    config.rate,
                    seed,
                    weighted,
                    workspace=place,
                    once=learnt,
                )
            except DivergedError:
                if not config.may_diverge:
                    raise
                values["diverged"] = True
            frames, found = reading.read(config, bench, handle, taken[: config.read], trained, once, before)
        frames["curve"] = pd.DataFrame({"step": range(1, len(curve) + 1), "loss": curve})
        parts.append({name: frame.assign(run=number) for name, frame in frames.items()})
        values |= found | {"parameters": handle.count}
        if kept.objective is not None:
            values |= {"objective": kept.objective, "nearest": kept.nearest, "farthest": kept.farthest}
    frames = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}
    return Results(frames, values)


def _bench(case: Case, config: BackboneConfig) -> Workbench:
    return workbench(config.backbone, config.layers, config.dtype, case.device)
