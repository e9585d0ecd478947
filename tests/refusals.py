"""What every configuration refuses: numbers that cannot be, field by field."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from lib.errors import UserError
from lib.settings import Settings


def assert_refuses(config: Settings, shares: tuple[str, ...] = (), zeros: tuple[str, ...] = ()) -> int:
    """Try -1, NaN, infinities and a text in each number of a valid configuration; returns how many were tried.

    Named `shares` refuse what is above 1 too; all but these and `zeros` refuse 0.
    """
    tried = 0
    for name, value in dict(config).items():
        several = isinstance(value, tuple)
        first = value[0] if several and value else value
        if isinstance(first, bool) or not isinstance(first, int | float):
            continue
        wrong: list[Any] = [-1, math.nan, math.inf, -math.inf, "many"]
        wrong += [1.001, 2, 9] if name in shares else [0] * (name not in zeros)
        wrong += [0.5] if isinstance(first, int) else []
        for one in wrong:
            changed = dict(config) | {name: (one, *value[1:]) if several else one}
            with pytest.raises((ValidationError, UserError)):
                pytest.fail(f"{type(config).__name__} takes {name}={one}: {type(config)(**changed)}")
            tried += 1
    return tried
