"""The files and models of the user's that a profile's series need, by the names of their releases, and what is missing.

One series, and one task of the first, is used without the files of the others.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib import paths, profiles
from lib.errors import UserError
from lib.profiles.fields import SMOLLM2, Profile
from lib.series.infodiffusion.cases import tasks_named
from lib.series.infodiffusion.tasks import TASKS
from lib.series.lemoe import edit_files
from lib.sources import hub
from lib.sources.own_files import EDIT_FILES
from lib.text import suites

SPLITS = ("train.jsonl", "valid.jsonl", "test.jsonl")


@dataclass(frozen=True)
class Need:
    """A file or a model for the cases below `prefix`, under one of `names`; an optional one is of extra rows alone."""

    prefix: str
    names: tuple[str, ...]
    is_model: bool = False
    optional: bool = False

    @property
    def series(self) -> str:
        """Return the series of the cases."""
        return self.prefix.split("/")[0]

    @property
    def place(self) -> str:
        """Return where it is looked for, for a reader."""
        return " or ".join(self.names if self.is_model else (f"BENCHMARK_DIR/{name}" for name in self.names))

    def is_there(self) -> bool:
        """Tell whether one of the names is there."""
        if self.is_model:
            return any(_has_model(name) for name in self.names)
        root = os.environ.get("BENCHMARK_DIR", "")
        return bool(root) and any((Path(root) / name).is_file() for name in self.names)


def of(profile: str) -> list[Need]:
    """Return all that a profile needs of the user, in the order of the series."""
    return list(_needs(profiles.profile(profile)))


def _needs(chosen: Profile) -> Iterator[Need]:
    for task, sizes in chosen.diffusion.tasks.items():
        if sizes.data not in TASKS[task].sets:
            for split in SPLITS:
                yield Need(f"1_infodiffusion/{task}", (f"{sizes.data}/{split}",))
    if chosen.diffusion.published_shapes:
        for name in ("gpt2", "gpt2-large", "t5-base"):
            yield Need("1_infodiffusion", (name,), is_model=True, optional=True)
    backbones = dict.fromkeys((chosen.backbone, *chosen.editing.backbones))
    yield Need("2_beacons", (chosen.backbone,), is_model=True)
    wanted = edit_files.wanted(chosen.name)
    more = () if chosen.origin == "smoke" else edit_files.SLICES  # smoke has no rows on files of the user's
    for name in dict.fromkeys((*wanted, *more)):
        yield Need("3_lemoe", EDIT_FILES[name].names, optional=name not in wanted)
    for name in backbones:
        yield Need("3_lemoe", (name,), is_model=True)
    if suites.SUITES[chosen.distillation.suite].own_files:
        for name in (suites.TRAINING_FILE, *suites.TEST_FILES.values()):
            yield Need("4_hetero_kd", (name,))
    yield Need("4_hetero_kd", (chosen.backbone,), is_model=True)
    if chosen.distillation.style == "gpt2_checkpoint":
        yield Need("4_hetero_kd", ("gpt2",), is_model=True)


def require(prefixes: Sequence[str], profile: str) -> None:
    """Raise `UserError` that names, in one line, every file without which cases below `prefixes` cannot be listed.

    Files of edits are not wanted where there are records of them, which say what they were.
    """
    recorded = (paths.results(profile) / edit_files.SERIES).is_dir()
    lacking = [
        need
        for need in of(profile)
        if not (need.is_model or need.optional or (recorded and need.series == edit_files.SERIES))
        and _concerns(need, prefixes, profile)
        and not need.is_there()
    ]
    if lacking:
        named = ", ".join(need.names[0] for need in lacking)
        root = os.environ.get("BENCHMARK_DIR")
        remedy = "put them there" if root else "set BENCHMARK_DIR to the folder that holds them"
        where = f"{root}: " if root else ""
        raise UserError(f"{where}{len(lacking)} files of your own are missing: {named}: {remedy} (docs/paper_scale.md)")


def _concerns(need: Need, prefixes: Sequence[str], profile: str) -> bool:
    """Tell whether cases that begin so want a file; without prefixes all do."""
    inside = [prefix for prefix in prefixes if prefix.split("/")[0] == need.series]
    task = need.prefix.partition("/")[2]
    return (not prefixes or bool(inside)) and (not task or task in tasks_named(inside, profile))


def _has_model(name: str) -> bool:
    """Tell whether a model is a folder with weights, is in the hub's cache, or is fetched by `make setup`."""
    if name == SMOLLM2:
        return True
    folder = Path(hub.place(name))
    if folder.is_dir():
        return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    from huggingface_hub import try_to_load_from_cache  # slow to import

    weights = ("model.safetensors", "model.safetensors.index.json")
    return isinstance(try_to_load_from_cache(name, "config.json"), str) and any(
        isinstance(try_to_load_from_cache(name, file), str) for file in weights
    )
