"""One training of the series, from a configuration to raw outputs.

Whatever this module and those that it imports reach can change a record, so they are what the fingerprints start from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict

from lib.beacons import arms, reading, training
from lib.beacons.cached_facts import Chosen
from lib.beacons.facts import Pool
from lib.beacons.methods import attach
from lib.beacons.training import DivergedError
from lib.beacons.workbench import Workbench
from lib.errors import UserError

Filter = Literal["all", "a", "b", "random", "lowest_loss", "half_known", "reversed"]
Weighing = Literal["plain", "distance", "flipped", "token", "permuted"]


class RunConfig(BaseModel):
    """All that decides the outcome of one training, besides data, code and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    pool: Pool
    count: int  # N, facts learnt together
    runs: int  # adapters trained one after another, each on the next N facts
    steps: int
    batch: int
    rate: float
    first_layer: int
    rank: int
    filter: Filter
    kept: float
    variance_weight: float
    weighing: Weighing
    alpha: float
    least_weight: float
    read: int  # the first so many facts of a run are asked afterwards
    paraphrases: int  # of each, besides the trained prompt
    others: int  # facts that were not trained on, asked before and after (locality)
    text_tokens: int  # of general text, for perplexity; 0: none
    answer_tokens: int
    may_diverge: bool  # read the last good weights, and say so, instead of failing
    backbone: str
    layers: int | None
    dtype: str


@dataclass
class Results:
    """What the runs of one case leave: raw outputs as frames, small numbers as values.

    Each frame has a column `run`. "facts": identity, trained, loss (nats a token), raw, centred (distances of the
    answer to the trained prompt); "answers": identity, prompt (0 trained, from 1 on paraphrases), answer; "others":
    identity, before, answer; "curve": step, loss.
    """

    frames: dict[str, pd.DataFrame]
    values: dict[str, Any]


def run(
    config: RunConfig, bench: Workbench, seed: int, known: pd.DataFrame | None, workspace: Path | None = None
) -> Results:
    """Train and read; equal arguments give equal results in an equal environment, also after a kill (`workspace`).

    `known` is what `knowledge.initial` says of the pool's first facts, indexed by identity, with their classes; filters
    choose by it. Raises `UserError` for fewer facts than the runs need, and as `training.train`.
    """
    pool = bench.facts(config.pool)
    if (needed := config.count * config.runs) > len(pool):
        raise UserError(f"{needed} facts are needed, {config.pool} has {len(pool)}: ask for fewer")
    before = bench.answers_before(reading.OTHER[config.pool], config.others) if config.others else ()
    parts: list[dict[str, pd.DataFrame]] = []
    values: dict[str, Any] = {"diverged": False}
    # The sizes that adapters are built from are the configuration's, whatever the profile says.
    sizes = bench.sizes.model_copy(update={"first_layer": config.first_layer, "rank": config.rank})
    for number in range(config.runs):
        taken = pool[number * config.count : (number + 1) * config.count]
        kept = arms.chosen(config, bench, taken, known, seed)
        trained = [taken[place] for place in kept.places]
        place = None if workspace is None else workspace / f"run{number}"
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
        with attach(bench.model, config.method, sizes, config.steps, seed) as handle:
            once = bench.once(tuple(taken), handle.first_layer, handle.caches)
            learnt = Chosen(once, torch.tensor(kept.places, device=once.encoded.ids.device))
            weigh, curve = arms.weigher(config, bench, trained, learnt, seed), []
            try:
                curve = training.train(
                    handle,
                    bench.tokenizer,
                    trained,
                    config.steps,
                    config.batch,
                    config.rate,
                    seed,
                    weigh,
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
        if config.filter != "all":
            values |= {"objective": kept.objective, "nearest": kept.nearest, "farthest": kept.farthest}
    frames = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}
    return Results(frames, values)
