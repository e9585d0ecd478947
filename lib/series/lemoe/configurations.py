"""How a case of the LEMoE series is configured at a profile's size, what it reads, and how it is named."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from lib import profiles, records
from lib.editing.mend import MendConfig
from lib.records import digests
from lib.series.lemoe import edit_files, edit_sets, file_runs, frames, locality, released, run
from lib.series.lemoe.edit_files import SERIES
from lib.series.lemoe.rows import Row
from lib.series.lemoe.run import RunConfig
from lib.series.lemoe.stopped import STOPPED
from lib.series.lemoe.variants import ROWS
from lib.series.lemoe.workbench import BenchConfig
from lib.sources.own_files import EDIT_FILES


def configuration(
    row: str, edits: str | None, count: int, profile: str, backbone: str | None = None, **changes: Any
) -> RunConfig:
    """Return the configuration of a row at a profile's size, with some fields of it changed.

    `edits` is a set's name, and by default the profile's first one; `backbone` is the profile's by default.
    """
    chosen, one = profiles.profile(profile), ROWS[row]
    edits = edits or chosen.editing.sets[0]
    settings = released.settings(row, one, chosen.editing)
    if "steps" in type(settings).model_fields and row not in STOPPED:  # whose cap is a size of its own
        settings = settings.model_copy(update={"steps": min(settings.steps, chosen.editing.longest)})
    config = {
        "method": row.rpartition("/")[2],
        "row": row,
        "settings": settings,
        "edits": edits,
        "count": count,
        "runs": 1,
        "batches": 1 if one.at_once else chosen.editing.batches,
        "order": one.order,
        "digest": edit_files.digest(edits, profile) if edits in EDIT_FILES else None,
        "backbone": backbone or chosen.backbone,
        "layers": chosen.backbone_layers,
        "dtype": chosen.editing.dtype,
        "bench": bench(one.needs, profile, _tuning(edits, one, profile)),
        "every_batch": True,
        "generate": False,
        "perplexity": False,
    }
    return RunConfig(**{**config, **changes})


def changed(config: RunConfig, **settings: Any) -> RunConfig:
    """Return a configuration with some of its method's settings changed."""
    changed = {**config.settings.model_dump(), **settings}
    return config.model_copy(update={"settings": type(config.settings).model_validate(changed)})


def bench(needs: tuple[str, ...], profile: str, tuning: str | None = None) -> BenchConfig:
    """Return what a workbench prepares at a profile's size for rows with these needs, and which file they learn on."""
    sizes = profiles.profile(profile).editing
    moments = {"moment_layers": sizes.located, "moment_tokens": sizes.moment_tokens} if "moments" in needs else {}
    learnt = {"training_set": tuning, "training_digest": edit_files.digest(tuning, profile)} if tuning else {}
    return BenchConfig(**moments, **learnt, unrelated=sizes.unrelated if "unrelated" in needs else 0)


def _tuning(edits: str, row: Row, profile: str) -> str | None:
    """Return the file that a row learns on besides its edits, None for our facts and where it learns on none."""
    sizes = profiles.profile(profile).editing
    in_tables = edits in EDIT_FILES and edits in (*sizes.sets, sizes.long_set)
    learns = "unrelated" in row.needs or row.settings is MendConfig
    return (EDIT_FILES[edits].training or None) if in_tables and learns else None


def place(config: RunConfig, profile: str) -> str:
    """Return what a case's name says of a file of the user's and of another model than the profile's, "/" first."""
    parts = [edit_files.label(config.edits, config.digest)] if config.digest else []
    if config.backbone != profiles.profile(profile).backbone:
        parts.append(re.sub(r"[^\w-]+", "_", Path(config.backbone).name, flags=re.ASCII))
    return "".join(f"/{part}" for part in parts)


def tiny(profile: str) -> bool:
    """Tell whether a profile has the sizes of `smoke`, which runs without files of the user's, or starts from it."""
    return profiles.origin(profile) == "smoke"


def of_own(name: str) -> dict[str, str]:
    """Return the digest of a set of our own."""
    return {"edits": digests.kept(edit_sets.digest, name)}


def data(config: RunConfig) -> dict[str, str]:
    """Return the digests of what a run reads; that of a file of the user's is found without loading it."""
    edits = {"edits": config.digest} if config.digest else of_own(config.edits)
    learnt = {"tuning": config.bench.training_digest} if config.bench.training_digest else {}
    return edits | learnt | {"texts": digests.kept(edit_sets.texts_digest)}


def case(name: str, config: RunConfig, seed: int, profile: str, core: bool = False) -> records.Case:
    """Return the case of a run under its name."""
    if "seed" in type(config.settings).model_fields:  # of fresh weights and draws, besides the order of the edits
        config = changed(config, seed=seed)
    name = name if name.endswith(f"seed{seed}") else f"{name}/seed{seed}"
    compute = file_runs.edit_and_score if config.digest else run.edit_and_score
    return made(name, profile, config, data(config), compute, seed, core)


def made(
    name: str,
    profile: str,
    config: BaseModel,
    data: Mapping[str, str],
    compute: Callable[[records.Case], records.Outcome],
    seed: int = 0,
    core: bool = False,
) -> records.Case:
    """Return a case of the series; in smoke each is a core one."""
    row: Literal["core", "extended"] = "core" if core or tiny(profile) else "extended"
    schemas = frames.STUDIED if isinstance(config, locality.LocalityConfig) else frames.EDITED
    return records.Case(f"{SERIES}/{name}", profile, config, data, seed, compute, row, frames=schemas)
