"""A profile of one's own: a file that names a profile to start from, and what differs.

    from = "paper"
    backbone = "../models/llama-2-7b"
    [diffusion]
    tokens = 32768
    [diffusion.tasks.paraphrase]
    training_steps = 1000

The file is TOML, or JSON of the same shape. What holds a profile's sizes in Python holds them here; "all" stands for
None. The profile is called as its file is, and so is the folder of its records.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lib import paths, strict_json
from lib.errors import UserError
from lib.profiles.fields import Profile

SUFFIXES = (".toml", ".json")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
WORDS = ("name", "about", "origin")  # of a profile, that are no sizes
REMEDY = "notebook 0 lists them, as in editing.steps=60"


def is_file(text: str) -> bool:
    """Tell whether a profile is given as a file."""
    return text.endswith(SUFFIXES)


def read(path: Path, built_in: Mapping[str, Profile]) -> Profile:
    """Return the profile that a file describes; `UserError` naming the file, the size and the remedy."""
    place, name = paths.relative(path), path.stem
    if not NAME.fullmatch(name) or name in built_in:
        taken = "is a profile of the project" if name in built_in else "is to name a folder"
        raise UserError(f"{place}: {name!r} {taken}: call the file by small letters, digits, _ and -, as in mine.toml")
    content = _content(path, place)
    start = content.pop("from", None)
    if not isinstance(start, str) or start not in built_in:
        given = "missing" if start is None else strict_json.clip(repr(start))
        raise UserError(f"{place}: from: {given}: name the profile to start from, one of {', '.join(built_in)}")
    about = content.pop("about", f"{start} with what {path.name} changes")
    base = built_in[start].model_copy(update={"name": name, "about": str(about)})
    found = changed(base, dict(_sizes(content, base)), place)
    return found.model_copy(update={"backbone": model(found.backbone, path.parent)})


def model(name: str, place: Path) -> str:
    """Return where a model is: a folder, absolute since notebooks work elsewhere, or its name on the hub as it is."""
    folder = place / Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def changed(profile: Profile, sizes: Mapping[str, Any], place: str) -> Profile:
    """Return a profile with other sizes, each named as in `editing.steps`; `UserError` that begins with `place`."""
    content = json.loads(profile.model_dump_json())
    for size, value in sizes.items():
        holder, last = find(content, size, place)
        holder[last] = value
    try:
        return Profile.model_validate_json(json.dumps(content), strict=True)  # true is not 1, and "60" no number
    except ValidationError as error:
        problem = error.errors()[0]
        where = strict_json.clip(".".join(map(str, problem["loc"])))
        raise UserError(f"{place}: {where}: {problem['msg']}: correct it") from error


def find(content: dict[str, Any], size: str, place: str) -> tuple[dict[str, Any], str]:
    """Return what holds a size in a profile as JSON has it, and its key; `UserError` for what is no size."""
    *rooms, last = size.split(".")
    holder: Any = content
    for room in rooms:
        holder = holder.get(room) if isinstance(holder, dict) else None
    if not isinstance(holder, dict) or last not in holder or size in WORDS:
        raise UserError(f"{place}: profiles have no size {strict_json.clip(size)!r}: {REMEDY}")
    return holder, last


def _sizes(content: Mapping[str, Any], held: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each size that a file sets, named as in `editing.steps`, and its value.

    Tables are followed where a profile has sizes or tasks; `runs = {1 = 5}` is one size.
    """
    for key, value in content.items():
        inner = held.get(key) if isinstance(held, Mapping) else getattr(held, key, None)
        holds_sizes = hasattr(inner, "model_fields_set") or (isinstance(inner, Mapping) and key == "tasks")
        if isinstance(value, Mapping) and holds_sizes:
            yield from _sizes(value, inner, f"{before}{key}.")
        else:
            yield f"{before}{key}", None if value == "all" else value


def _content(path: Path, place: str) -> dict[str, Any]:
    text = strict_json.read_text(path)
    if path.suffix == ".json":
        content = strict_json.parse(text, place)
    else:
        try:
            content = tomllib.loads(text)
            json.dumps(content)
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{place}: broken TOML ({error}): mend it") from error
        except (TypeError, RecursionError) as error:
            raise UserError(f"{place}: a date, a time, or too deep: sizes are numbers, texts and lists") from error
    if not isinstance(content, dict):
        raise UserError(f"{place}: {strict_json.kind(content)} where sizes are expected: see docs/paper_scale.md")
    return content


def in_force(built_in: Mapping[str, Profile]) -> Profile | None:
    """Return the profile of the file that `REPRODUCTION_PROFILE` names, None where it names none.

    It is handed on through the environment, so that jobs, notebooks and nodes of a cluster have it too.
    """
    text = os.environ.get("REPRODUCTION_PROFILE", "")
    return read(Path(text), built_in) if is_file(text) else None


def use_absolute_backbones() -> None:
    """Make the folders that `BACKBONE` names absolute, parted as those of PATH are: notebooks work elsewhere."""
    if text := os.environ.get("BACKBONE", ""):
        os.environ["BACKBONE"] = os.pathsep.join(model(name, Path.cwd()) for name in text.split(os.pathsep))
