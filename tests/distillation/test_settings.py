"""Every number of every configuration of the series refuses what it cannot be."""

import math
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from lib.distillation.decoding import DecodingConfig
from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.training import TrainingConfig
from lib.errors import UserError
from lib.series.distillation.arms import RunConfig, StudentConfig
from lib.series.distillation.run import CostConfig, KeepConfig
from lib.series.distillation.slices import SliceConfig
from lib.series.distillation.world import DataConfig, TeacherConfig

TRAINING = {"steps": 8, "batch": 4, "rate": 1e-3}
DATA = {"suite": "embedded", "examples": 4, "validation": 2, "test": 2, "longest": (8, 4)}
RUN = {
    "objective": {},
    "student": {"width": 8, "layers": 2, "heads": 2},
    "data": DATA,
    "training": TRAINING,
    "decoding": {"tokens": 4},
    "decoding_seeds": (10,),
    "watch_at": (2, 8),
    "top_k": 4,
    "cache_gib": 1.0,
}
GIVEN: dict[type[BaseModel], dict[str, Any]] = {
    ObjectiveConfig: {},
    TrainingConfig: TRAINING,
    DecodingConfig: {"tokens": 4},
    DataConfig: DATA,
    StudentConfig: RUN["student"],
    RunConfig: RUN,
    SliceConfig: RUN | {"slice": "dolly", "who": "teacher"},
    KeepConfig: {"rules": ("uniform",), "student": 2, "top_k": 4, "cache_gib": 1.0},
    CostConfig: {"rows": {"sft": RUN}, "steps": 2},
    TeacherConfig: {
        "backbone": "tiny",
        "layers": 4,
        "layer": 2,
        "data": DATA,
        "training": TRAINING,
        "decoding": {"tokens": 4},
        "decoding_seeds": (10,),
    },
}
ZERO_TOO = {  # what may be zero
    "ce",
    "output",
    "middle",
    "on_policy",
    "compared_after",
    "weight_decay",
    "warm_up",
    "no_repeat_ngram_size",
    "decoding_seeds",
    "layer",
    "cache_gib",
}
SHARES = {"on_policy", "compared_after", "warm_up", "top_p"}  # at most 1


def numbers(config: type[BaseModel]) -> Iterator[tuple[str, type, bool]]:
    """The fields that hold numbers, with their kind, and whether in a tuple."""
    for name, field in config.model_fields.items():
        outer = typing.get_origin(field.annotation)
        parts = [getattr(part, "__origin__", part) for part in (field.annotation, *typing.get_args(field.annotation))]
        if outer is not dict and (kinds := [part for part in parts if part in (int, float)]):
            yield name, kinds[0], outer is tuple


CASES = [(config, *found) for config in GIVEN for found in numbers(config)]


@pytest.mark.parametrize(
    ("config", "name", "kind", "several"), CASES, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_number_refuses_what_it_cannot_be(config: type[BaseModel], name: str, kind: type, several: bool) -> None:
    given = GIVEN[config]
    wrong: list[float] = [-1, -1e30, math.nan, math.inf, -math.inf]
    wrong += [0] * (name not in ZERO_TOO) + [1.5] * (kind is int) + [1.001, 9] * (name in SHARES)
    config(**given)
    for value in wrong:
        for told in [(value,), (value, 4)] if several else [value]:
            with pytest.raises(ValidationError, match=name):
                config(**{**given, name: told})


def test_all_numbers_are_tried() -> None:
    assert len(CASES) == 40
    assert {name for config, name, *_ in CASES if config is ObjectiveConfig} == ZERO_TOO & set(
        ObjectiveConfig.model_fields
    )


@pytest.mark.parametrize(
    ("divergence", "wrong"),
    [
        ("jensen_shannon", {"beta": 1.1}),
        ("skewed_kl", {"alpha": 1.5}),
        ("skewed_kl", {"alpha": -0.1}),
        ("skewed_kl", {"alpha": math.nan}),
        ("skewed_reverse_kl", {"alpha": 2.0}),
        ("adaptive_kl", {"mu": 9.0}),
        ("alpha_beta", {"alpha": 0.0, "beta": 0.0}),
        ("alpha_beta", {"alpha": math.inf}),
        ("forward_kl", {"temperature": 2.0}),
    ],
)
def test_settings_of_a_divergence_are_its_own_and_in_its_range(divergence: str, wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=r"settings|must lie in|not both zero"):
        ObjectiveConfig(output=1.0, divergence=divergence, settings=wrong)


def test_settings_that_a_divergence_has_are_taken() -> None:
    assert ObjectiveConfig(divergence="alpha_beta", settings={"alpha": 2.0, "beta": 0.0}).settings["alpha"] == 2
    with pytest.raises(UserError, match="unknown divergence 'kl'"):
        ObjectiveConfig(divergence="kl", settings={"alpha": 2.0})


def test_validation_after_the_last_step_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"watch_at \[9\]: the training has 8 steps"):
        RunConfig(**{**RUN, "watch_at": (2, 9)})
