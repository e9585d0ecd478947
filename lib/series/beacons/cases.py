"""The cases of the Beacons series at a profile's size: what is known, facts alone and together, arms, grid, tuning."""

from typing import Any, Literal, get_args

import pandas as pd

from lib.beacons.facts import Pool
from lib.beacons.methods import METHODS
from lib.records import Case
from lib.series.beacons import arms, drawn_cases, reading, run
from lib.series.beacons.building import (
    alone_configuration,
    backbone,
    case,
    configuration,
    digest,
    is_tiny,
    sizes_of,
    text_digest,
    updates,
)
from lib.series.beacons.config import Filter, GradientsConfig, KnownConfig, RunConfig, TextConfig, Weighing
from lib.series.beacons.rows import BUDGETS, COMPARED, FILTERS, PAIR, WEIGHINGS, Budget

Alone = Literal["real", "shuffled", "invented"]
SHOWN = 10  # facts that full fine-tuning learns alone, one training each


def cases(profile: str) -> list[Case]:
    """Return every case of the series at a profile's size."""
    sizes = sizes_of(profile)
    smoke, first = is_tiny(profile), sizes.seeds[0]
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
    found += drawn_cases.cases(profile)
    return list({one.name: one for one in found}.values())


def counts(method: str, profile: str) -> list[int]:
    """Return the numbers of facts N that a method learns together; LoRA's facts alone are cases of their own."""
    return [count for count in sizes_of(profile).counts if count > 1 or method != "lora"]


def many_seeds(method: str, profile: str) -> tuple[int, ...]:
    """Return the seeds of facts learnt together: all, but for the method of `smoke` on which no claim rests."""
    seeds = sizes_of(profile).seeds
    return seeds if method == "lora" or not is_tiny(profile) else seeds[:1]


def grid_counts(profile: str) -> tuple[int, ...]:
    """Return the columns of the grid: all N, in `smoke` the largest."""
    counted = sizes_of(profile).counts
    return counted[-1:] if is_tiny(profile) else counted


def middle(profile: str) -> int:
    """Return the N of the grid at which methods are held against each other in detail; LoRA's cells there are core."""
    columns = grid_counts(profile)
    return columns[len(columns) // 2]


def arm_seeds(arm: str, profile: str) -> tuple[int, ...]:
    """Return the seeds of an arm of filters or re-weighted losses: all where a claim rests on it, else the first."""
    seeds = sizes_of(profile).seeds
    return seeds if arm in COMPARED else seeds[:1]


def known(pool: Pool, profile: str) -> Case:
    """Return the case that asks the base model about facts before any training (SliCK's classes, distance, loss)."""
    sizes = sizes_of(profile)
    config = KnownConfig(
        pool=pool,
        count=max(sizes.facts, sizes.pool) if is_tiny(profile) else None,
        samples=sizes.samples,
        answer_tokens=sizes.answer_tokens,
        **backbone(profile),
    )
    name = "facts" if pool == "results" else pool
    return case(f"known/{name}", config, {"facts": digest(pool)}, 0, profile, True, run.ask_base)


def base(profile: str) -> Case:
    """Return the case of the base model's perplexity on general text, which trainings of the grid are held against."""
    sizes = sizes_of(profile)
    config = TextConfig(text_tokens=sizes.text_tokens, first_layer=sizes.first_layer, **backbone(profile))
    return case("base/text", config, {"text": text_digest()}, 0, profile, True, run.read_text)


def known_facts(profile: str) -> pd.DataFrame:
    """Return what the record of `known` says of the results pool, a row per identity, with the classes as `known`."""
    return arms.known_facts(known("results", profile))


def alone_seeds(which: Alone, profile: str) -> tuple[int, ...]:
    """Return the seeds of the trajectories: all for those that claims rest on, the first for invented facts."""
    seeds = sizes_of(profile).seeds
    return seeds[:1] if which == "invented" else seeds


def alone(which: Alone, seed: int, profile: str) -> Case:
    """Return the case of facts learnt alone by LoRA, an adapter each, read on the way (claims 1 and 2)."""
    sizes = sizes_of(profile)
    pool: Pool = "invented" if which == "invented" else "results"
    targets: Literal["own", "shuffled"] = "shuffled" if which == "shuffled" else "own"
    config = alone_configuration(pool, targets, sizes.facts, profile)
    data = {"facts": digest(pool)}
    return case(f"alone/{which}/seed{seed}", config, data, seed, profile, True, run.learn_alone)


def many(method: str, budget: Budget, count: int, seed: int, profile: str) -> Case:
    """Return the case of N facts learnt together, under one of the two budgets (claim 2).

    Where both budgets are the same number of steps, there is one case, "per_fact". Several adapters are trained on
    small N, so that half of the facts learnt alone are among them.
    """
    sizes = sizes_of(profile)
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
    sizes = sizes_of(profile)
    count = sizes.facts
    training = configuration("lora", count, profile, steps=updates(count, sizes))
    config, data = GradientsConfig(training=training, alone=sizes.steps), {"facts": digest("results")}
    return case(f"gradients/N{count}", config, data, seed, profile, True, run.compare_gradients)


def filtered(arm: Filter, seed: int, profile: str) -> Case:
    """Return the case of LoRA on the facts that a filter keeps, or on all of them, in equal steps (claim 3)."""
    sizes = sizes_of(profile)
    changes: dict[str, Any] = {"filter": arm}
    if arm != "all":
        changes |= {"kept": sizes.kept, "variance_weight": sizes.variance_weight}
    config = configuration("lora", sizes.pool, profile, steps=sizes.arm_steps, read=sizes.pool, **changes)
    return _trained(f"filter/{arm}/seed{seed}", config, seed, profile, True)


def reweighted(arm: Weighing, seed: int, profile: str) -> Case:
    """Return the case of LoRA under a re-weighted loss (claim 4); the plain loss is the filters' arm "all"."""
    sizes = sizes_of(profile)
    if arm == "plain":
        return filtered("all", seed, profile)
    changes = {"weighing": arm, "alpha": sizes.alpha, "least_weight": sizes.least_weight}
    config = configuration("lora", sizes.pool, profile, steps=sizes.arm_steps, read=sizes.pool, **changes)
    return _trained(f"reweight/{arm}/seed{seed}", config, seed, profile, True)


def grid(method: str, count: int, seed: int, profile: str) -> Case:
    """Return the case of a cell of the grid (2.6): a method on N facts, read in every way.

    The steps are the per-fact budget of N facts, at most those of an arm; beyond an arm's pool they grow with N, so
    that a fact is seen as often as there. No claim rests on it: extended rows, but for LoRA at the middle N, so that a
    run of the core rows has a cell to show.
    """
    sizes = sizes_of(profile)
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
    sizes = sizes_of(profile)
    changes = {"pool": "tuning", "rate": rate, "steps": sizes.arm_steps, "may_diverge": True}
    config = configuration(method, sizes.tuning, profile, **changes)
    return _trained(f"tuning/{method}/{rate:.0e}", config, sizes.seeds[0], profile, False)


def _trained(name: str, config: RunConfig, seed: int, profile: str, core: bool) -> Case:
    """Return the case of one training with its reading."""
    data = {"facts": digest(config.pool)}
    if config.others:
        data["others"] = digest(reading.OTHER[config.pool])
    if config.text_tokens:
        data["text"] = text_digest()
    inputs = {} if config.filter == "all" else {"known": known("results", profile)}
    return case(name, config, data, seed, profile, core, run.train, inputs)
