"""How the cases of the Beacons series are made at a profile's size: configurations, data, names."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel

from lib import profiles
from lib.beacons import facts as pools
from lib.beacons.facts import Pool
from lib.beacons.methods import METHODS
from lib.profiles.sizes import BeaconSizes
from lib.records import Case, Outcome, digests
from lib.series.beacons import frames, workbench
from lib.series.beacons.config import AloneConfig, RunConfig

SERIES = "2_beacons"

PARAPHRASES = 1  # of each fact, asked after most trainings; the grid asks all three


def updates(count: int, sizes: BeaconSizes) -> int:
    """Return the steps in which each of `count` facts is seen as often as a fact alone is: `sizes.steps` times."""
    return sizes.steps * -(-count // min(sizes.batch, count))


def configuration(method: str, count: int, profile: str, **changes: Any) -> RunConfig:
    """Return the configuration of a method on N facts at a profile's size: plain training on the results pool."""
    sizes = sizes_of(profile)
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
        **backbone(profile),
    }
    if method == "full":
        settings["dtype"] = sizes.full_dtype
    return RunConfig.model_validate(settings | changes)


def alone_configuration(pool: Pool, targets: Literal["own", "shuffled"], count: int, profile: str) -> AloneConfig:
    """Return the configuration of a pool's first facts learnt alone at a profile's size, by LoRA."""
    sizes = sizes_of(profile)
    return AloneConfig(
        pool=pool,
        count=count,
        targets=targets,
        steps=sizes.steps,
        read_steps=sizes.read_steps,
        rate=METHODS["lora"].rate,
        paraphrases=PARAPHRASES,
        first_layer=sizes.first_layer,
        rank=sizes.rank,
        answer_tokens=sizes.answer_tokens,
        **backbone(profile),
    )


def case(
    name: str,
    config: BaseModel,
    data: dict[str, str],
    seed: int,
    profile: str,
    core: bool,
    compute: Callable[[Case], Outcome],
    inputs: Mapping[str, Case] | None = None,
) -> Case:
    """Return a case of the series by its name within it; in `smoke` all are core rows."""
    return Case(
        name=f"{SERIES}/{name}",
        profile=profile,
        config=config,
        data=data,
        seed=seed,
        compute=compute,
        row="core" if core or is_tiny(profile) else "extended",
        inputs=inputs or {},
        frames=frames.OF_COMPUTED[compute.__name__],
    )


def is_tiny(profile: str) -> bool:
    """Tell whether a profile's sizes come from `smoke`."""
    return profiles.origin(profile) == "smoke"


def sizes_of(profile: str) -> BeaconSizes:
    """Return the series' sizes in a profile."""
    return profiles.profile(profile).beacons


def backbone(profile: str) -> dict[str, Any]:
    """Return the fields of `BackboneConfig` in a profile."""
    chosen = profiles.profile(profile)
    return {"backbone": chosen.backbone, "layers": chosen.backbone_layers, "dtype": chosen.beacons.dtype}


def digest(pool: Pool) -> str:
    """Return the digest of a pool's facts."""
    return digests.kept(pools.digest, pool)


def text_digest() -> str:
    """Return the digest of the general text."""
    return digests.kept(workbench.text_digest)
