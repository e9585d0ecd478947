"""Cases whose facts are a draw of the seed's own, and the tuning pool's filters by other readings of distance."""

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

import pandas as pd

from lib import records
from lib.beacons import answers, distance, draws, knowledge, training
from lib.beacons.facts import BeaconFact, Pool, fitting
from lib.beacons.methods import attach
from lib.records import Case, Outcome
from lib.series.beacons import arms, single_fact
from lib.series.beacons.config import BackboneConfig, RunConfig
from lib.series.beacons.run import run
from lib.series.beacons.workbench import Workbench, workbench

if TYPE_CHECKING:
    from collections.abc import Callable

Ruler = Literal["raw", "centred", "encoder", "hidden", "expected"]
Moment = Literal["before", "after an epoch"]


class ReadingConfig(RunConfig):
    """A training whose filter reads distance in another way."""

    ruler: Ruler
    moment: Moment  # after an epoch: of plain training on all facts, with the adapter that is then thrown away


class DrawnWorkbench(Workbench):
    """A workbench whose facts, of whatever pool is asked for, are the draw of a seed."""

    def __init__(self, bench: Workbench, seed: int) -> None:
        """Share the backbone and what has been made of it with `bench`."""
        self.__dict__ = {name: made for name, made in vars(bench).items() if name not in ("facts", "answers_before")}
        self._seed = seed

    @cached_property
    def facts(self) -> "Callable[[Pool, int], tuple[BeaconFact, ...]]":
        """Return the facts of the draw whose targets have at most so many tokens."""
        return lru_cache(maxsize=4)(lambda _, longest: tuple(fitting(draws.draw(self._seed), self.tokenizer, longest)))


def train_drawn(case: Case) -> Outcome:
    """Compute a case of one training (`RunConfig`) on facts of the seed's own; filters choose by its input `known`."""
    known = known_drawn(case.inputs["known"]) if "known" in case.inputs else None
    found = run(case.config, _drawn(case, case.config), case.seed, known, records.workspace(case))
    return Outcome(values=found.values, frames=found.frames)


def learn_drawn(case: Case) -> Outcome:
    """Compute a case of facts of the seed's own, each learnt alone (`AloneConfig`)."""
    frames, values = single_fact.run(case.config, _drawn(case, case.config), case.seed)
    return Outcome(values=values, frames=frames)


def ask_drawn(case: Case) -> Outcome:
    """Compute a case of what the base model knows of facts of the seed's own (`KnownConfig`)."""
    config, bench = case.config, _drawn(case, case.config)
    taken = bench.facts(config.pool, config.answer_tokens)[: config.count]
    frames = knowledge.frames(bench.model, bench.tokenizer, taken, config.answer_tokens, config.samples, case.seed)
    return Outcome(values={"facts": len(taken)}, frames=frames)


def known_drawn(known: Case) -> pd.DataFrame:
    """Return what the record of a case of `ask_drawn` says, a row per identity, its class as `known`."""
    record = records.get(known)
    named = {fact.identity: fact for fact in draws.drawable()}
    frame = record.frames["facts"].set_index("identity")
    return frame.join(knowledge.classes(record.frames["answers"], [named[identity] for identity in frame.index]))


def train_reading(case: Case) -> Outcome:
    """Compute a case of one training on what a filter keeps by another reading of distance (`ReadingConfig`)."""
    config = case.config
    bench = workbench(config.backbone, config.layers, config.dtype, case.device)
    known = arms.known_facts(case.inputs["known"])
    read = known[config.ruler] if config.moment == "before" else after_an_epoch(config, bench, case.seed)
    found = run(config, bench, case.seed, known.assign(raw=read), records.workspace(case))
    return Outcome(values=found.values, frames=found.frames)


def after_an_epoch(config: RunConfig, bench: Workbench, seed: int) -> pd.Series:
    """Return d of each fact's answer after one epoch of plain training on all of them, by identity, by the raw ruler.

    Raises as `training.train`.
    """
    taken = bench.facts(config.pool, config.answer_tokens)[: config.count]
    steps = -(-config.count // config.batch)
    with attach(bench.model, config.method, config.adapter, config.steps, seed) as handle:
        once = bench.once(tuple(taken), handle.first_layer, handle.caches)
        training.train(handle, bench.tokenizer, taken, steps, config.batch, config.rate, seed, once=once)
        said = answers.greedy(handle.model, bench.tokenizer, [fact.prompt for fact in taken], config.answer_tokens)
    apart = distance.distance(bench.raw, said, [fact.target for fact in taken])
    return pd.Series(apart.double().tolist(), index=[fact.identity for fact in taken], name="raw")


def _drawn(case: Case, config: BackboneConfig) -> DrawnWorkbench:
    return DrawnWorkbench(workbench(config.backbone, config.layers, config.dtype, case.device), case.seed)
