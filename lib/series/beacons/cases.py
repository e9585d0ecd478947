"""The cases of the Beacons series at a profile's size: what is known, facts alone and together, arms, grid, tuning."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import pandas as pd
from pydantic import BaseModel

from lib import profiles
from lib.beacons import facts as pools
from lib.beacons.facts import Pool
from lib.beacons.methods import METHODS
from lib.profiles.sizes import BeaconSizes
from lib.records import Case, Outcome, digests
from lib.series.beacons import arms, frames, reading, run, workbench
from lib.series.beacons.config import AloneConfig, Filter, GradientsConfig, KnownConfig, RunConfig, TextConfig, Weighing
from lib.series.beacons.rows import BUDGETS, COMPARED, FILTERS, PAIR, WEIGHINGS, Budget

SERIES = "2_beacons"

Alone = Literal["real", "shuffled", "invented"]
PARAPHRASES = 1  # of each fact, asked after most trainings; the grid asks all three
SHOWN = 10  # facts that full fine-tuning learns alone, one training each


def cases(profile: str) -> list[Case]:
    """Return every case of the series at a profile's size."""
    sizes = _sizes(profile)
    smoke, first = _tiny(profile), sizes.seeds[0]
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
    weighed = [arm for arm in WEIGHINGS if arm != "plain"]
    found += [reweighted(arm, seed, profile) for arm in weighed for seed in arm_seeds(arm, profile)]
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
    return seeds if method == "lora" or not _tiny(profile) else seeds[:1]


def grid_counts(profile: str) -> tuple[int, ...]:
    """Return the columns of the grid: all N, in `smoke` the largest."""
    counted = _sizes(profile).counts
    return counted[-1:] if _tiny(profile) else counted


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


def known(pool: Pool, profile: str) -> Case:
    """Return the case that asks the base model about facts before any training (SliCK's classes, distance, loss)."""
    sizes = _sizes(profile)
    config = KnownConfig(
        pool=pool,
        count=max(sizes.facts, sizes.pool) if _tiny(profile) else None,
        samples=sizes.samples,
        answer_tokens=sizes.answer_tokens,
        **_backbone(profile),
    )
    name = "facts" if pool == "results" else pool
    return _case(f"known/{name}", config, {"facts": _digest(pool)}, 0, profile, True, run.ask_base)


def base(profile: str) -> Case:
    """Return the case of the base model's perplexity on general text, which trainings of the grid are held against."""
    sizes = _sizes(profile)
    config = TextConfig(text_tokens=sizes.text_tokens, first_layer=sizes.first_layer, **_backbone(profile))
    return _case("base/text", config, {"text": _text()}, 0, profile, True, run.read_text)


def known_facts(profile: str) -> pd.DataFrame:
    """Return what the record of `known` says of the results pool, a row per identity, with the classes as `known`."""
    return arms.known_facts(known("results", profile))


def alone_seeds(which: Alone, profile: str) -> tuple[int, ...]:
    """Return the seeds of the trajectories: all for those that claims rest on, the first for invented facts."""
    seeds = _sizes(profile).seeds
    return seeds[:1] if which == "invented" else seeds


def alone(which: Alone, seed: int, profile: str) -> Case:
    """Return the case of facts learnt alone by LoRA, an adapter each, read on the way (claims 1 and 2)."""
    sizes = _sizes(profile)
    pool: Pool = "invented" if which == "invented" else "results"
    config = AloneConfig(
        pool=pool,
        count=sizes.facts,
        targets="shuffled" if which == "shuffled" else "own",
        steps=sizes.steps,
        read_steps=sizes.read_steps,
        rate=METHODS["lora"].rate,
        paraphrases=PARAPHRASES,
        first_layer=sizes.first_layer,
        rank=sizes.rank,
        answer_tokens=sizes.answer_tokens,
        **_backbone(profile),
    )
    data = {"facts": _digest(pool)}
    return _case(f"alone/{which}/seed{seed}", config, data, seed, profile, True, run.learn_alone)


def many(method: str, budget: Budget, count: int, seed: int, profile: str) -> Case:
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


def gradients(seed: int, profile: str) -> Case:
    """Return the case of the directions in which facts pull: gradients' cosines, shifts of hidden states."""
    sizes = _sizes(profile)
    count = sizes.facts
    training = configuration("lora", count, profile, steps=updates(count, sizes))
    config, data = GradientsConfig(training=training, alone=sizes.steps), {"facts": _digest("results")}
    return _case(f"gradients/N{count}", config, data, seed, profile, True, run.compare_gradients)


def filtered(arm: Filter, seed: int, profile: str) -> Case:
    """Return the case of LoRA on the facts that a filter keeps, or on all of them, in equal steps (claim 3)."""
    sizes = _sizes(profile)
    changes: dict[str, Any] = {"filter": arm}
    if arm != "all":
        changes |= {"kept": sizes.kept, "variance_weight": sizes.variance_weight}
    config = configuration("lora", sizes.pool, profile, steps=sizes.arm_steps, read=sizes.pool, **changes)
    return _trained(f"filter/{arm}/seed{seed}", config, seed, profile, True)


def reweighted(arm: Weighing, seed: int, profile: str) -> Case:
    """Return the case of LoRA under a re-weighted loss (claim 4); the plain loss is the filters' arm "all"."""
    sizes = _sizes(profile)
    if arm == "plain":
        return filtered("all", seed, profile)
    changes = {"weighing": arm, "alpha": sizes.alpha, "least_weight": sizes.least_weight}
    config = configuration("lora", sizes.pool, profile, steps=sizes.arm_steps, read=sizes.pool, **changes)
    return _trained(f"reweight/{arm}/seed{seed}", config, seed, profile, True)


def grid(method: str, count: int, seed: int, profile: str) -> Case:
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


def tuning(method: str, rate: float, profile: str) -> Case:
    """Return the case of a method at one learning rate on the tuning pool; a rate that diverges is recorded as such."""
    sizes = _sizes(profile)
    changes = {"pool": "tuning", "rate": rate, "steps": sizes.arm_steps, "may_diverge": True}
    config = configuration(method, sizes.tuning, profile, **changes)
    return _trained(f"tuning/{method}/{rate:.0e}", config, sizes.seeds[0], profile, False)


def configuration(method: str, count: int, profile: str, **changes: Any) -> RunConfig:
    """Return the configuration of a method on N facts at a profile's size: plain training on the results pool."""
    sizes = _sizes(profile)
    settings = {
        "method": method,
        "pool": "results",
        "count": count,
        "runs": 1,
        "batch": min(sizes.batch, count),
        "rate": METHODS[method].rate,
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
        settings["dtype"] = sizes.full_dtype
    return RunConfig.model_validate(settings | changes)


def _trained(name: str, config: RunConfig, seed: int, profile: str, core: bool) -> Case:
    """Return the case of one training with its reading."""
    data = {"facts": _digest(config.pool)}
    if config.others:
        data["others"] = _digest(reading.OTHER[config.pool])
    if config.text_tokens:
        data["text"] = _text()
    inputs = {} if config.filter == "all" else {"known": known("results", profile)}
    return _case(name, config, data, seed, profile, core, run.train, inputs)


def _case(
    name: str,
    config: BaseModel,
    data: dict[str, str],
    seed: int,
    profile: str,
    core: bool,
    compute: Callable[[Case], Outcome],
    inputs: Mapping[str, Case] | None = None,
) -> Case:
    return Case(
        name=f"{SERIES}/{name}",
        profile=profile,
        config=config,
        data=data,
        seed=seed,
        compute=compute,
        row="core" if core or _tiny(profile) else "extended",
        inputs=inputs or {},
        frames=frames.OF_COMPUTED[compute.__name__],
    )


def _tiny(profile: str) -> bool:
    return profiles.origin(profile) == "smoke"


def _sizes(profile: str) -> BeaconSizes:
    return profiles.profile(profile).beacons


def _backbone(profile: str) -> dict[str, Any]:
    chosen = profiles.profile(profile)
    return {"backbone": chosen.backbone, "layers": chosen.backbone_layers, "dtype": chosen.beacons.dtype}


def _digest(pool: Pool) -> str:
    return digests.kept(pools.digest, pool)


def _text() -> str:
    return digests.kept(workbench.text_digest)
