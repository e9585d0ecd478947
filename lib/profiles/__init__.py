"""How big everything is: four profiles as typed, frozen data, and one table that shows them."""

import json
import os
from functools import lru_cache
from typing import Any

import pandas as pd
from pydantic import ValidationError

from lib import strict_json
from lib.errors import UserError
from lib.profiles import cpu, gpu, paper, smoke
from lib.profiles.fields import Profile
from lib.profiles.sizes import BeaconSizes, DiffusionSizes, DistillationSizes, EditingSizes, TaskSizes
from lib.registry import Registry

__all__ = [
    "PROFILES",
    "BeaconSizes",
    "DiffusionSizes",
    "DistillationSizes",
    "EditingSizes",
    "Profile",
    "TaskSizes",
    "profile",
    "table",
]

PROFILES: Registry[Profile] = Registry(
    "profile", {"smoke": smoke.PROFILE, "cpu": cpu.PROFILE, "gpu": gpu.PROFILE, "paper": paper.PROFILE}
)


def profile(name: str) -> Profile:
    """Return a profile, `paper` with the models that BACKBONE names; raises `UserError` for an unknown name."""
    changes = os.environ.get("REPRODUCTION_SET", "")
    chosen = _changed(name, changes) if changes else PROFILES[name]
    return paper.with_backbones(chosen) if name == "paper" else chosen


@lru_cache(maxsize=16)
def _changed(name: str, changes: str) -> Profile:
    """Return a profile with other sizes: `editing.steps=60 beacons.seeds=[0]`, values as JSON.

    Raises `UserError` for what is no size, for a value that does not fit it, and for a size that is set twice.
    """
    content = json.loads(PROFILES[name].model_dump_json())
    known = set()
    for change in changes.split():
        size, _, value = change.partition("=")
        *rooms, last = size.split(".")
        place: Any = content
        for room in rooms:
            place = place.get(room) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place or size in ("name", "about"):
            no_size = f"profiles have no size {strict_json.clip(size)!r}"
            raise UserError(f"{strict_json.clip(change)}: {no_size}: notebook 0 lists them, as in editing.steps=60")
        if size in known:
            raise UserError(f"{strict_json.clip(change)}: {size} is set twice: leave one")
        known.add(size)
        try:
            place[last] = strict_json.parse(value, size)
        except UserError:
            place[last] = value  # a word needs no quotation marks
    try:
        return Profile.model_validate_json(json.dumps(content), strict=True)  # true is not 1, and "60" no number
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise UserError(
            f"{strict_json.clip(changes)}: {strict_json.clip(place)}: {problem['msg']}: correct it"
        ) from error


def table() -> pd.DataFrame:
    """Return every size of every profile: one row per setting, one column per profile."""
    columns = {}
    for name, chosen in PROFILES.items():
        told = chosen.model_dump()
        sizes = told.pop("diffusion")
        tasks = {f"diffusion, {task}: {key}": v for task, own in sizes.pop("tasks").items() for key, v in own.items()}
        sizes = tasks | {f"diffusion: {key}": value for key, value in sizes.items()}
        for room in ("editing", "beacons", "distillation"):
            sizes |= {f"{room}: {key}": value for key, value in told.pop(room).items()}
        columns[name] = {key: "all" if value is None else str(value) for key, value in (told | sizes).items()}
    return pd.DataFrame(columns).drop(index=["name", "about"])
