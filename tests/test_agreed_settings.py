"""The defaults and bounds of the methods' configurations are those of `agreed_settings.json`: none changes unseen.

A configuration that is not listed there is nobody's business here: a new method needs no line in it.
"""

import json
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from tests import settings_walk

AGREED = Path(__file__).with_name("agreed_settings.json")
ROOMS = ("lib.beacons", "lib.diffusion", "lib.distillation", "lib.editing", "lib.lemoe", "lib.seq2seq")


def told(field: FieldInfo) -> dict[str, object]:
    """Return a field's default, and what its annotation and constraints say."""
    default = field.get_default(call_default_factory=True)
    return {
        "default": "none" if default is PydanticUndefined else to_jsonable_python(default),
        "type": str(field.annotation),
        "bounds": sorted(repr(one) for one in field.metadata if "function" not in repr(one)),
    }


def agreed() -> dict[str, dict[str, dict[str, object]]]:
    """Return all configurations of the methods as they are now."""
    return {
        f"{config.__module__}.{config.__qualname__}": {name: told(field) for name, field in config.model_fields.items()}
        for config in settings_walk.configurations()
        if config.__module__.startswith(ROOMS)
    }


LISTED = json.loads(AGREED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("config", sorted(LISTED))
def test_defaults_and_bounds_are_the_agreed_ones(config: str) -> None:
    assert agreed()[config] == LISTED[config]


if __name__ == "__main__":
    AGREED.write_text(json.dumps(agreed(), indent=1) + "\n", encoding="utf-8")
