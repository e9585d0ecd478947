"""How big everything is: four profiles as typed, frozen data, and one table that shows them."""

import pandas as pd

from lib.errors import UserError
from lib.profiles import cpu, gpu, paper, smoke
from lib.profiles.fields import Profile
from lib.sizes import BeaconSizes, DiffusionSizes, DistillationSizes, EditingSizes, TaskSizes

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

PROFILES: dict[str, Profile] = {chosen.PROFILE.name: chosen.PROFILE for chosen in (smoke, cpu, gpu, paper)}


def profile(name: str) -> Profile:
    """Return a profile; raises `UserError` for an unknown name."""
    if name not in PROFILES:
        raise UserError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


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
