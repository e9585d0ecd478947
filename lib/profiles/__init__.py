"""How big everything is: four profiles as typed, frozen data, and one table that shows them."""

import json
import os
from functools import lru_cache
from pathlib import Path

import pandas as pd

from lib import strict_json
from lib.errors import UserError
from lib.profiles import cpu, gpu, own, paper, smoke
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
    "named",
    "origin",
    "profile",
    "table",
]

PROFILES: Registry[Profile] = Registry(
    "profile", {"smoke": smoke.PROFILE, "cpu": cpu.PROFILE, "gpu": gpu.PROFILE, "paper": paper.PROFILE}
)


def named(text: str) -> str:
    """Return the name of the profile that a command is given: of the project, or a file of one's own; see `own`.

    From here on this process and its children know the file's by that name, and folders in `BACKBONE` are absolute.
    Raises `UserError` for an unknown profile, and a file that makes none.
    """
    own.use_absolute_backbones()
    if not own.is_file(text):
        return profile(text).name  # an unknown one is told before anything else
    before = os.environ.get("REPRODUCTION_PROFILE", "")
    os.environ["REPRODUCTION_PROFILE"] = str(Path(text).absolute())
    try:
        chosen = _own()
    except UserError:
        os.environ["REPRODUCTION_PROFILE"] = before
        raise
    assert chosen is not None
    return chosen.name


def profile(name: str) -> Profile:
    """Return a profile, of the project or the file in force; raises `UserError` for an unknown name.

    What starts from `paper` has the models that BACKBONE names.
    """
    changes = os.environ.get("REPRODUCTION_SET", "")
    mine = None if name in PROFILES else _own()
    chosen = mine if mine is not None and mine.name == name else PROFILES[name]
    chosen = _changed(chosen, changes) if changes else chosen
    return paper.with_backbones(chosen) if chosen.origin == "paper" else chosen


def origin(name: str) -> str:
    """Return the profile of the project that a profile starts from, itself or another; raises as `profile`."""
    return profile(name).origin


def _own() -> Profile | None:
    """Return the profile of one's own that is in force; its file is read again when it changed."""
    text = os.environ.get("REPRODUCTION_PROFILE", "")
    stamp = Path(text).stat().st_mtime_ns if own.is_file(text) and Path(text).is_file() else 0
    return _read(text, stamp)


@lru_cache(maxsize=16)
def _read(*_: str | int) -> Profile | None:
    return own.in_force(PROFILES)


@lru_cache(maxsize=16)
def _changed_from(base: str, changes: str) -> Profile:
    """Return a profile with other sizes: `editing.steps=60 beacons.seeds=[0]`, values as JSON.

    Raises `UserError` for what is no size, for a value that does not fit it, and for a size that is set twice.
    """
    chosen, content, sizes = Profile.model_validate_json(base), json.loads(base), {}
    for change in changes.split():
        size, _, value = change.partition("=")
        own.find(content, size, strict_json.clip(change))
        if size in sizes:
            raise UserError(f"{strict_json.clip(change)}: {size} is set twice: leave one")
        try:
            sizes[size] = strict_json.parse(value, size)
        except UserError:
            sizes[size] = value  # a word needs no quotation marks
    return own.changed(chosen, sizes, strict_json.clip(changes))


def _changed(chosen: Profile, changes: str) -> Profile:
    return _changed_from(chosen.model_dump_json(), changes)


def table() -> pd.DataFrame:
    """Return every size of every profile, one's own too: one row per setting, one column per profile."""
    columns, mine = {}, _own()
    for name, chosen in {**PROFILES, **({mine.name: mine} if mine else {})}.items():
        told = chosen.model_dump()
        sizes = told.pop("diffusion")
        language = told["distillation"].pop("language") or {}
        tasks = {f"diffusion, {task}: {key}": v for task, own in sizes.pop("tasks").items() for key, v in own.items()}
        sizes = tasks | {f"diffusion: {key}": value for key, value in sizes.items()}
        for room in ("editing", "beacons", "distillation"):
            sizes |= {f"{room}: {key}": value for key, value in told.pop(room).items()}
        sizes |= {f"distillation, language: {key}": value for key, value in language.items()}
        columns[name] = {key: "all" if value is None else str(value) for key, value in (told | sizes).items()}
    return pd.DataFrame(columns).fillna("none").drop(index=list(own.WORDS))
