"""The rows that step 11's claims rest on: every seed with facts of its own; and filters by other readings of distance.

They are recorded rows beside those of `cases`, which their notebooks show until all of these are computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from lib.beacons import draws
from lib.records import Case, Outcome, digests
from lib.series.beacons import drawn, run
from lib.series.beacons.building import (
    alone_configuration,
    backbone,
    case,
    configuration,
    digest,
    is_tiny,
    sizes_of,
    updates,
)
from lib.series.beacons.config import Filter, KnownConfig, RunConfig, Weighing
from lib.series.beacons.drawn import Moment, ReadingConfig, Ruler
from lib.series.beacons.rows import BUDGETS, FILTERS, WEIGHINGS, Budget

TARGETS: dict[str, Literal["own", "shuffled"]] = {"real": "own", "shuffled": "shuffled"}
# Rows that no claim compares with: the first seeds do.
CONTROLS: tuple[Filter | Weighing, ...] = ("lowest_loss", "half_known", "token")
FEW = 3
LEARNT = 10  # draws of claims 1 and 2; the arms, whose differences are smaller, take all (`power`)
KNOWN_TUNING = "drawn_known/tuning"
MOST_TUNING = 100  # facts of other readings: the tuning pool has 120, some of whose targets are too long


@dataclass(frozen=True)
class Reading:
    """Another reading of "semantic distance" that a filter may go by."""

    title: str
    ruler: Ruler = "raw"
    moment: Moment = "before"
    kept: float | None = None  # None: the profile's share
    arms: tuple[Filter, ...] = ("a", "reversed")


READINGS: dict[str, Reading] = {
    "plain": Reading("no filter: plain training", arms=("all",)),
    "random": Reading("random subset", arms=("random",)),
    "raw": Reading("raw embeddings (the series' own)"),
    "centred": Reading("centred embeddings", ruler="centred"),
    "encoder": Reading("sentence encoder", ruler="encoder"),
    "hidden": Reading("last hidden states", ruler="hidden"),
    "expected": Reading("expected embedding under teacher forcing", ruler="expected"),
    "after_an_epoch": Reading("raw, measured after an epoch of plain training", moment="after an epoch"),
    "quarter": Reading("raw, a quarter kept", kept=0.25, arms=("a", "reversed", "random")),
    "three_quarters": Reading("raw, three quarters kept", kept=0.75, arms=("a", "reversed", "random")),
}


def cases(profile: str) -> list[Case]:
    """Return all cases of draws and of other readings at a profile's size."""
    sizes = sizes_of(profile)
    found = [known(seed, profile) for seed in sizes.draws]
    found += [alone(which, seed, profile) for which in TARGETS for seed in learnt_seeds(profile)]
    found += [many(budget, seed, profile) for budget in BUDGETS for seed in learnt_seeds(profile)]
    found += [filtered(arm, seed, profile) for arm in FILTERS for seed in seeds_of(arm, profile)]
    found += [reweighted(arm, seed, profile) for arm in WEIGHINGS for seed in seeds_of(arm, profile)]
    found += [known_tuning(profile)]
    found += [
        reading(name, arm, seed, profile)
        for name, row in READINGS.items()
        for arm in row.arms
        for seed in reading_seeds(profile)
    ]
    return found


def learnt_seeds(profile: str) -> tuple[int, ...]:
    """Return the seeds of facts learnt alone and together."""
    return sizes_of(profile).draws[:LEARNT]


def seeds_of(arm: Filter | Weighing, profile: str) -> tuple[int, ...]:
    """Return the seeds of an arm: all, but for controls that no claim names."""
    seeds = sizes_of(profile).draws
    return seeds[:FEW] if arm in CONTROLS else seeds


def reading_seeds(profile: str) -> tuple[int, ...]:
    """Return the seeds of other readings: three, in `smoke` one."""
    return sizes_of(profile).seeds[: 1 if is_tiny(profile) else FEW]


def known(seed: int, profile: str) -> Case:
    """Return the case that asks the base model about the draw's facts of the arms."""
    return _case(f"drawn_known/seed{seed}", _known("results", sizes_of(profile).pool, profile), seed, profile)


def alone(which: str, seed: int, profile: str) -> Case:
    """Return the case of a draw's facts learnt alone, towards their own or each other's targets (claims 1 and 2)."""
    config = alone_configuration("results", TARGETS[which], sizes_of(profile).drawn, profile)
    return _case(f"drawn_alone/{which}/seed{seed}", config, seed, profile)


def many(budget: Budget, seed: int, profile: str) -> Case:
    """Return the case of the draw's first N facts learnt together, N the largest; those learnt alone are asked."""
    sizes = sizes_of(profile)
    count = max(sizes.counts)
    steps = updates(count, sizes) if budget == "per_fact" else sizes.steps
    config = configuration("lora", count, profile, steps=steps, read=min(count, sizes.drawn))
    return _case(f"drawn_many/{budget}/N{count}/seed{seed}", config, seed, profile)


def filtered(arm: Filter, seed: int, profile: str) -> Case:
    """Return the case of LoRA on what a filter keeps of a draw's first facts, or on all, in equal steps (claim 3)."""
    sizes = sizes_of(profile)
    changes: dict[str, Any] = {"filter": arm}
    if arm != "all":
        changes |= {"kept": sizes.kept, "variance_weight": sizes.variance_weight}
    return _case(f"drawn_filter/{arm}/seed{seed}", _arm(profile, **changes), seed, profile)


def reweighted(arm: Weighing, seed: int, profile: str) -> Case:
    """Return the case of LoRA under a re-weighted loss (claim 4); the plain loss is the filters' arm "all"."""
    sizes = sizes_of(profile)
    if arm == "plain":
        return filtered("all", seed, profile)
    config = _arm(profile, weighing=arm, alpha=sizes.alpha, least_weight=sizes.least_weight)
    return _case(f"drawn_reweight/{arm}/seed{seed}", config, seed, profile)


def known_tuning(profile: str) -> Case:
    """Return the case that asks the base model about the tuning pool: all rulers of `READINGS`."""
    count = sizes_of(profile).pool if is_tiny(profile) else None
    data = {"facts": digest("tuning")}
    return case(KNOWN_TUNING, _known("tuning", count, profile), data, 0, profile, False, run.ask_base)


def reading(name: str, arm: Filter, seed: int, profile: str) -> Case:
    """Return the case of LoRA on what an arm keeps of the tuning pool by a reading of distance."""
    sizes, row = sizes_of(profile), READINGS[name]
    changes: dict[str, Any] = {"pool": "tuning", "filter": arm}
    if arm != "all":
        changes |= {"kept": row.kept or sizes.kept, "variance_weight": sizes.variance_weight}
    count = min(sizes.pool, MOST_TUNING)
    config = ReadingConfig(**dict(_arm(profile, count, **changes)), ruler=row.ruler, moment=row.moment)
    inputs, data = {"known": known_tuning(profile)}, {"facts": digest("tuning")}
    label = f"other_distances/{name}/{arm}/seed{seed}"
    return case(label, config, data, seed, profile, False, drawn.train_reading, inputs)


def _known(pool: Literal["results", "tuning"], count: int | None, profile: str) -> KnownConfig:
    sizes = sizes_of(profile)
    return KnownConfig(
        pool=pool, count=count, samples=sizes.samples, answer_tokens=sizes.answer_tokens, **backbone(profile)
    )


def _arm(profile: str, count: int | None = None, **changes: Any) -> RunConfig:
    sizes = sizes_of(profile)
    count = count or sizes.pool
    return configuration("lora", count, profile, steps=sizes.arm_steps, read=count, **changes)


# How each kind of configuration is computed on a draw.
_COMPUTED: dict[str, Callable[[Case], Outcome]] = {
    "KnownConfig": drawn.ask_drawn,
    "AloneConfig": drawn.learn_drawn,
    "RunConfig": drawn.train_drawn,
}


def _case(name: str, config: Any, seed: int, profile: str) -> Case:
    """Return a case on a draw."""
    chooses = getattr(config, "filter", "all") != "all"
    inputs = {"known": known(seed, profile)} if chooses else {}
    data = {"facts": digests.kept(draws.digest)}
    return case(name, config, data, seed, profile, False, _COMPUTED[type(config).__name__], inputs)
