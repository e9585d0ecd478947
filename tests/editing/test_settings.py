"""The settings of all editing methods: no number without a bound, and none that is NaN or infinite."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from lib.editing.alphaedit import AlphaEditConfig
from lib.editing.defer import DeferConfig
from lib.editing.fine_tuning import EwcConfig, FineTuningConfig
from lib.editing.grace import GraceConfig
from lib.editing.lora import LoraConfig
from lib.editing.memit import MemitConfig
from lib.editing.mend_network import MendConfig
from lib.editing.rome import RomeConfig
from lib.editing.wise_losses import WiseConfig
from lib.profiles import EditingSizes
from lib.series.lemoe.workbench import BenchConfig

LOCATED = {RomeConfig: {"layer": 1}, MemitConfig: {"layers": (1,)}, AlphaEditConfig: {"layers": (1,)}}
CONFIGS = (*LOCATED, WiseConfig, FineTuningConfig, EwcConfig, LoraConfig, GraceConfig, DeferConfig, MendConfig)


def unbounded(schema: Any, path: str = "") -> list[str]:
    """Return where a JSON schema has a number without a lower bound, an enumeration aside."""
    if isinstance(schema, list):
        return [name for number, part in enumerate(schema) for name in unbounded(part, f"{path}[{number}]")]
    if not isinstance(schema, dict):
        return []
    found = [name for key, part in schema.items() for name in unbounded(part, f"{path}.{key}")]
    number = schema.get("type") in ("integer", "number")
    return [*found, path] if number and not schema.keys() & {"minimum", "exclusiveMinimum", "const", "enum"} else found


@pytest.mark.parametrize("config", [*CONFIGS, EditingSizes, BenchConfig])
def test_every_number_has_a_lower_bound(config: type[BaseModel]) -> None:
    assert not unbounded(config.model_json_schema())


@pytest.mark.parametrize("config", CONFIGS)
def test_no_rate_is_zero_negative_infinite_or_nan_and_no_number_of_steps_is_zero(config: type[BaseModel]) -> None:
    given = LOCATED.get(config, {})
    config(**given)
    rates = [name for name in config.model_fields if name.startswith(("rate", "gate_rate", "edit_rate"))]
    for name in rates:
        for value in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(ValidationError):
                config(**given, **{name: value})
    if "steps" in config.model_fields:
        with pytest.raises(ValidationError):
            config(**given, steps=0)


def test_named_settings_are_the_defaults_but_for_what_they_name() -> None:
    for config in (WiseConfig, FineTuningConfig, LoraConfig, GraceConfig, DeferConfig, MendConfig):
        default, tuned = config().model_dump(), config.tuned().model_dump()
        assert default != tuned
        assert config.tuned(**default) == config()
    rebuilt = RomeConfig.rebuilt(layer=1)
    assert rebuilt.model_copy(update={"averaged": "keys"}) == RomeConfig(layer=1)
