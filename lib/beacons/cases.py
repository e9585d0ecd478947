"""The cases of the Beacons series at a profile's size: what is known, facts alone and together, arms, grid, tuning."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
from pydantic import BaseModel

from lib import profiles, records
from lib.beacons import experiment, features, knowledge, reading, single_fact
from lib.beacons.experiment import Filter, RunConfig, Weighing
from lib.beacons.facts import Pool, content_hash, facts
from lib.beacons.methods import METHODS, attach
from lib.beacons.single_fact import AloneConfig
from lib.beacons.variants import BUDGETS, COMPARED, FILTERS, PAIR, RATES, WEIGHINGS, Budget
from lib.beacons.workbench import Workbench
from lib.sizes import BeaconSizes
from lib.text import factbook

SERIES = "2_beacons"
CODE = ("lib.beacons.experiment",)

Alone = Literal["real", "shuffled", "invented"]
PARAPHRASES = 1  # of each fact, asked after most trainings; the grid asks all three
SHOWN = 10  # facts that full fine-tuning learns alone, one training each


@lru_cache(maxsize=2)
def workbench(profile: str, dtype: str) -> Workbench:
    """Load the backbone of a profile in a precision, once in a process."""
    chosen = profiles.profile(profile)
    sizes = chosen.beacons.model_copy(update={"dtype": dtype})
    return Workbench(chosen.backbone, chosen.backbone_layers, chosen.device, sizes)


def cases(profile: str) -> list[records.Case]:
    """Return every case of the series at a profile's size."""
    sizes = _sizes(profile)
    smoke, first = profile == "smoke", sizes.seeds[0]
    found = [known(pool, profile) for pool in ("results", "invented")] + [base(profile)]
    found += [alone(which, seed, profile) for which in get_args(Alone) for seed in alone_seeds(which, profile)]
    found += [
        many(method, budget, count, seed, profile)
        for method in PAIR
        for budget in BUDGETS
        for count in counts(method, profile)
        for seed in many_seeds(method, profile)
    ]
    found.append(gradients(first, profile))
    found += [filtered(arm, seed, profile) for arm in FILTERS for seed in arm_seeds(arm, profile)]
    arms = [arm for arm in WEIGHINGS if arm != "plain"]
    found += [reweighted(arm, seed, profile) for arm in arms for seed in arm_seeds(arm, profile)]
    found += [
        grid(method, count, seed, profile)
        for method in METHODS
        for count in grid_counts(profile)
        for seed in (sizes.seeds[:1] if smoke else sizes.seeds)
    ]
    found += [tuning(method, rate, profile) for method in (PAIR if smoke else METHODS) for rate in sizes.rates]
    return list({case.name: case for case in found}.values())


def counts(method: str, profile: str) -> list[int]:
    """Return the numbers of facts N that a method learns together; LoRA's facts alone are cases of their own."""
    return [count for count in _sizes(profile).counts if count > 1 or method != "lora"]


def many_seeds(method: str, profile: str) -> tuple[int, ...]:
    """Return the seeds of facts learnt together: all, but for the method of `smoke` on which no claim rests."""
    seeds = _sizes(profile).seeds
    return seeds if method == "lora" or profile != "smoke" else seeds[:1]


def grid_counts(profile: str) -> tuple[int, ...]:
    """Return the columns of the grid: all N, in `smoke` the largest."""
    counted = _sizes(profile).counts
    return counted[-1:] if profile == "smoke" else counted


def middle(profile: str) -> int:
    """Return the N of the grid at which methods are held against each other in detail; LoRA's cells there are core."""
    columns = grid_counts(profile)
    return columns[len(columns) // 2]


def arm_seeds(arm: str, profile: str) -> tuple[int, ...]:
    """Return the seeds of an arm of filters or re-weighted losses: all where a claim rests on it, else the first."""
    seeds = _sizes(profile).seeds
    return seeds if arm in COMPARED else seeds[:1]


def updates(count: int, sizes: BeaconSizes) -> int:
    """Return the steps in which each of `count` facts is seen as often as a fact alone is: `sizes.steps` times."""
    return sizes.steps * -(-count // min(sizes.batch, count))


def known(pool: Pool, profile: str) -> records.Case:
    """Return the case that asks the base model about facts before any training (SliCK's classes, distance, loss)."""
    sizes = _sizes(profile)
    count = max(sizes.facts, sizes.pool) if profile == "smoke" else None  # None: all

    def compute(_: Path) -> records.Outcome:
        bench = workbench(profile, sizes.dtype)
        taken = bench.facts(pool)[:count]
        told = knowledge.frames(bench.model, bench.tokenizer, taken, sizes.answer_tokens, sizes.samples, seed=0)
        return records.Outcome(values={"facts": len(taken)}, frames=told)

    config = {"count": count, "samples": sizes.samples, "answer_tokens": sizes.answer_tokens, **_backbone(profile)}
    name = "facts" if pool == "results" else pool
    code = ("lib.beacons.knowledge", "lib.beacons.workbench")
    return _case(f"known/{name}", config, {"facts": _digest(pool)}, 0, profile, True, compute, code)


def base(profile: str) -> records.Case:
    """Return the case of the base model's perplexity on general text, which trainings of the grid are held against."""
    sizes = _sizes(profile)

    def compute(_: Path) -> records.Outcome:
        bench = workbench(profile, sizes.dtype)
        with attach(bench.model, "lora", bench.sizes, steps=1, seed=0) as fresh:  # a fresh adapter changes nothing
            found = reading.perplexity(bench, sizes.text_tokens, fresh)
        return records.Outcome(values={"perplexity": round(found, 4)})

    config = {"text_tokens": sizes.text_tokens, "first_layer": sizes.first_layer, **_backbone(profile)}
    code = ("lib.beacons.reading",)
    return _case("base/text", config, {"text": _text()}, 0, profile, True, compute, code)


def known_facts(profile: str) -> pd.DataFrame:
    """Return what the record of `known` says of the results pool, a row per identity, with the classes as `known`."""
    record = records.get(known("results", profile))
    named = {fact.identity: fact for fact in facts("results")}
    frame = record.frames["facts"].set_index("identity")
    told = knowledge.classes(record.frames["answers"], [named[identity] for identity in frame.index])
    return frame.join(told)


def alone_seeds(which: Alone, profile: str) -> tuple[int, ...]:
    """Return the seeds of the trajectories: all for those that claims rest on, the first for invented facts."""
    seeds = _sizes(profile).seeds
    return seeds[:1] if which == "invented" else seeds


def alone(which: Alone, seed: int, profile: str) -> records.Case:
    """Return the case of facts learnt alone by LoRA, an adapter each, read on the way (claims 1 and 2)."""
    sizes = _sizes(profile)
    pool: Pool = "invented" if which == "invented" else "results"
    config = AloneConfig(
        pool=pool,
        count=sizes.facts,
        targets="shuffled" if which == "shuffled" else "own",
        steps=sizes.steps,
        read_steps=sizes.read_steps,
        rate=RATES["lora"],
        paraphrases=PARAPHRASES,
        first_layer=sizes.first_layer,
        rank=sizes.rank,
        answer_tokens=sizes.answer_tokens,
        **_backbone(profile),
    )

    def compute(_: Path) -> records.Outcome:
        frames, values = single_fact.run(config, workbench(profile, config.dtype), seed)
        return records.Outcome(values=values, frames=frames)

    data = {"facts": _digest(pool)}
    return _case(f"alone/{which}/seed{seed}", config, data, seed, profile, True, compute, ("lib.beacons.single_fact",))


def many(method: str, budget: Budget, count: int, seed: int, profile: str) -> records.Case:
    """Return the case of N facts learnt together, under one of the two budgets (claim 2).

    Where both budgets are the same number of steps, there is one case, "per_fact". Several adapters are trained on
    small N, so that half of the facts learnt alone are among them.
    """
    sizes = _sizes(profile)
    steps = updates(count, sizes) if budget == "per_fact" else sizes.steps
    if steps == updates(count, sizes):
        budget = "per_fact"
    runs = max(1, min(SHOWN, sizes.facts // 2 // count))
    config = configuration(method, count, profile, steps=steps, runs=runs)
    # The claim rests on LoRA; of full fine-tuning the core has a few facts alone and the largest N.
    first = seed == sizes.seeds[0]
    largest = first and budget == "total" and count == max(sizes.counts)
    core = largest or (count <= sizes.facts if method == "lora" else first and count == 1)
    return _trained(f"many/{method}/{budget}/N{count}/seed{seed}", config, seed, profile, core)


def gradients(seed: int, profile: str) -> records.Case:
    """Return the case of the directions in which facts pull: gradients' cosines, shifts of hidden states."""
    sizes = _sizes(profile)
    count = sizes.facts
    config = configuration("lora", count, profile, steps=updates(count, sizes))

    def compute(_: Path) -> records.Outcome:
        bench = workbench(profile, config.dtype)
        taken = bench.facts(config.pool)[:count]
        frame, shifts = features.directions(config, bench, taken, sizes.steps, seed)
        frames = {"cosines": frame, "facts": pd.DataFrame({"identity": [fact.identity for fact in taken]})}
        return records.Outcome(values={}, frames=frames, published={"shifts": shifts})

    told = {"training": config.model_dump(mode="json"), "alone": sizes.steps}
    code = ("lib.beacons.features", "lib.beacons.experiment")
    return _case(f"gradients/N{count}", told, {"facts": _digest("results")}, seed, profile, True, compute, code)


def filtered(arm: Filter, seed: int, profile: str) -> records.Case:
    """Return the case of LoRA on the facts that a filter keeps, or on all of them, in equal steps (claim 3)."""
    sizes = _sizes(profile)
    changes: dict[str, Any] = {"filter": arm}
    if arm != "all":
        changes |= {"kept": sizes.kept, "variance_weight": sizes.variance_weight}
    config = configuration("lora", sizes.pool, profile, steps=sizes.arm_steps, read=sizes.pool, **changes)
    return _trained(f"filter/{arm}/seed{seed}", config, seed, profile, True)


def reweighted(arm: Weighing, seed: int, profile: str) -> records.Case:
    """Return the case of LoRA under a re-weighted loss (claim 4); the plain loss is the filters' arm "all"."""
    sizes = _sizes(profile)
    if arm == "plain":
        return filtered("all", seed, profile)
    changes = {"weighing": arm, "alpha": sizes.alpha, "least_weight": sizes.least_weight}
    config = configuration("lora", sizes.pool, profile, steps=sizes.arm_steps, read=sizes.pool, **changes)
    return _trained(f"reweight/{arm}/seed{seed}", config, seed, profile, True)


def grid(method: str, count: int, seed: int, profile: str) -> records.Case:
    """Return the case of a cell of Table B1: a method on N facts, read in every way.

    The steps are the per-fact budget of N facts, at most those of an arm; beyond an arm's pool they grow with N, so
    that a fact is seen as often as there. No claim rests on it: extended rows, but for LoRA at the middle N, so that a
    run of the core rows has a cell to show.
    """
    sizes = _sizes(profile)
    most = max(sizes.arm_steps, -(-sizes.arm_steps * count // sizes.pool))
    core = method == "lora" and count == middle(profile)
    config = configuration(
        method,
        count,
        profile,
        steps=min(updates(count, sizes), most),
        runs=max(1, min(SHOWN, sizes.facts // 2 // count)),
        paraphrases=3,
        others=sizes.tuning,
        text_tokens=sizes.text_tokens,
    )
    return _trained(f"grid/{method}/N{count}/seed{seed}", config, seed, profile, core)


def tuning(method: str, rate: float, profile: str) -> records.Case:
    """Return the case of a method at one learning rate on the tuning pool; a rate that diverges is recorded as such."""
    sizes = _sizes(profile)
    changes = {"pool": "tuning", "rate": rate, "steps": sizes.arm_steps, "may_diverge": True}
    config = configuration(method, sizes.tuning, profile, **changes)
    return _trained(f"tuning/{method}/{rate:.0e}", config, sizes.seeds[0], profile, False)


def configuration(method: str, count: int, profile: str, **changes: Any) -> RunConfig:
    """Return the configuration of a method on N facts at a profile's size: plain training on the results pool."""
    sizes = _sizes(profile)
    told = {
        "method": method,
        "pool": "results",
        "count": count,
        "runs": 1,
        "batch": min(sizes.batch, count),
        "rate": RATES[method],
        "first_layer": sizes.first_layer,
        "rank": sizes.rank,
        "filter": "all",
        "kept": 1.0,
        "variance_weight": 0.0,
        "weighing": "plain",
        "alpha": 0.0,
        "least_weight": 1.0,
        "read": min(count, sizes.facts),
        "paraphrases": PARAPHRASES,
        "others": 0,
        "text_tokens": 0,
        "answer_tokens": sizes.answer_tokens,
        "may_diverge": False,
        **_backbone(profile),
    }
    if method == "full":
        told["dtype"] = sizes.full_dtype
    return RunConfig.model_validate(told | changes)


def _trained(name: str, config: RunConfig, seed: int, profile: str, core: bool) -> records.Case:
    """Return the case of one training with its reading."""
    data = {"facts": _digest(config.pool)}
    if config.others:
        data["others"] = _digest(reading.OTHER[config.pool])
    if config.text_tokens:
        data["text"] = _text()
    if config.filter != "all":
        data["known"] = known("results", profile).fingerprint()["total"]

    def compute(workspace: Path) -> records.Outcome:
        told = known_facts(profile) if config.filter != "all" else None
        found = experiment.run(config, workbench(profile, config.dtype), seed, told, workspace)
        return records.Outcome(values=found.values, frames=found.frames)

    return _case(name, config, data, seed, profile, core, compute, CODE)


def _case(
    name: str,
    config: BaseModel | dict[str, Any],
    data: dict[str, str],
    seed: int,
    profile: str,
    core: bool,
    compute: Callable[[Path], records.Outcome],
    code: tuple[str, ...],
) -> records.Case:
    case = records.Case(
        name=f"{SERIES}/{name}",
        profile=profile,
        config=config,
        data=data,
        code=code,
        seed=seed,
        compute=lambda: compute(records.workspace(case)),
        row="core" if core or profile == "smoke" else "extended",
    )
    return case


def _sizes(profile: str) -> BeaconSizes:
    return profiles.profile(profile).beacons


def _backbone(profile: str) -> dict[str, Any]:
    chosen = profiles.profile(profile)
    return {"backbone": chosen.backbone, "layers": chosen.backbone_layers, "dtype": chosen.beacons.dtype}


@lru_cache(maxsize=4)
def _digest(pool: Pool) -> str:
    return content_hash(facts(pool))


@lru_cache(maxsize=1)
def _text() -> str:
    return factbook.content_hash(factbook.passages("unrelated"))
