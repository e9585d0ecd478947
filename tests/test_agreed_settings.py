"""Defaults, bounds and named settings of the methods' configurations are those of `agreed_settings.json`: none changes
unseen.

A configuration that is not listed there is nobody's business here: a new method needs no line in it.
"""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from lib.settings import Settings
from tests import settings_walk

AGREED = Path(__file__).with_name("agreed_settings.json")
NAMED = ("paper", "tuned")
ROOMS = ("lib.beacons", "lib.diffusion", "lib.distillation", "lib.editing", "lib.lemoe", "lib.seq2seq")


def told(field: FieldInfo) -> dict[str, object]:
    """Return a field's default, and what its annotation and constraints say."""
    default = field.get_default(call_default_factory=True)
    return {
        "default": "none" if default is PydanticUndefined else to_jsonable_python(default),
        "type": str(field.annotation),
        "bounds": sorted(repr(one) for one in field.metadata if "function" not in repr(one)),
    }


def named(config: type[Settings], way: str) -> dict[str, object]:
    """Return what settings of a name, such as `tuned`, set otherwise than the defaults."""
    found, default = getattr(config, way)().model_dump(mode="json"), config().model_dump(mode="json")
    return {name: value for name, value in found.items() if value != default[name]}


@functools.cache
def agreed() -> dict[str, dict[str, Any]]:
    """Return all configurations of the methods as they are now, and their named settings."""
    configs = {
        f"{config.__module__}.{config.__qualname__}": config
        for config in settings_walk.configurations()
        if config.__module__.startswith(ROOMS)
    }
    fields = {name: {one: told(field) for one, field in row.model_fields.items()} for name, row in configs.items()}
    ways = ((name, row, way) for name, row in configs.items() for way in NAMED if hasattr(row, way))
    return fields | {f"{name}.{way}": named(row, way) for name, row, way in ways}


LISTED = json.loads(AGREED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("config", sorted(LISTED))
def test_defaults_and_bounds_are_the_agreed_ones(config: str) -> None:
    assert agreed()[config] == LISTED[config]


if __name__ == "__main__":
    AGREED.write_text(json.dumps(agreed(), indent=1) + "\n", encoding="utf-8")
