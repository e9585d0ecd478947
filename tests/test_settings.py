"""All configurations refuse what cannot be: every number has a lower bound, shares have both; no NaN, no infinity."""

import math
import re
from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt, ValidationError

from lib.settings import Settings, Share
from tests.settings_walk import configurations, filled, numbers

# Fields that may be any number, and why.
EXEMPT: dict[str, str] = {}
SHARES = re.compile(r"(^|_)(share|shares|kept|dropout|fraction|probability|smoothing|top_p|on_policy)$")
CONFIGURATIONS = configurations()
FIELDS = [
    pytest.param(config, name, id=f"{config.__module__.removeprefix('lib.')}.{config.__qualname__}.{name}")
    for config in CONFIGURATIONS
    for name, field in config.model_fields.items()
    if numbers(field)
]


@pytest.mark.parametrize(("config", "name"), FIELDS)
def test_every_number_has_a_lower_bound_and_a_share_an_upper_one(config, name):
    field = config.model_fields[name]
    exempt = EXEMPT.get(f"{config.__qualname__}.{name}")
    for number in numbers(field):
        assert number.lower or exempt, f"{name}{number.place}: {number.type.__name__} without a lower bound"
        if SHARES.search(name) and number.type is float:
            assert number.upper, f"{name}{number.place}: a share without an upper bound"


@pytest.mark.parametrize(("config", "name"), FIELDS)
def test_no_number_is_nan_infinite_or_a_word(config, name):
    for value in (math.nan, math.inf, -math.inf, "many"):
        with pytest.raises(ValidationError) as caught:
            config.model_validate({name: filled(config.model_fields[name].annotation, value)})
        problems = [error for error in caught.value.errors() if error["loc"][:1] == (name,)]
        assert any(problem["type"] != "missing" for problem in problems), value


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda config: config.__qualname__)
def test_they_are_frozen_and_know_no_other_field(config):
    assert config.model_config["frozen"] is True
    assert config.model_config["allow_inf_nan"] is False
    with pytest.raises(ValidationError, match="no_such_field"):
        config.model_validate({"no_such_field": 1})


def test_the_walk_finds_numbers_wherever_they_stand():
    class Found(Settings):
        bare: int
        bounded: PositiveInt
        share: Share
        maybe: Annotated[float, Field(gt=0)] | None
        named: Literal[1, 2]
        several: tuple[PositiveInt, float]
        by_name: dict[str, Annotated[int, Field(ge=0, le=3)]]
        outside: Annotated[list[int], Field(min_length=1)]
        stated: float = Field(gt=0, lt=1)
        flag: bool = False

    found = {name: [(one.lower, one.upper) for one in numbers(field)] for name, field in Found.model_fields.items()}
    assert found == {
        "bare": [(False, False)],
        "bounded": [(True, False)],
        "share": [(True, True)],
        "maybe": [(True, False)],
        "named": [],
        "several": [(True, False), (False, False)],
        "by_name": [(True, True)],
        "outside": [(False, False)],
        "stated": [(True, True)],
        "flag": [],
    }
    assert len(CONFIGURATIONS) > 40
