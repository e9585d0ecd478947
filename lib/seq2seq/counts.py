"""A count that a user may get wrong: a step, a word or a candidate too few is refused in one line."""

from typing import Annotated

from pydantic import AfterValidator, Field

from lib.errors import UserError


def _at_least_one(value: int) -> int:
    if value < 1:
        raise UserError(f"a number of steps, words or sentences is {value}: it must be at least 1")
    return value


Count = Annotated[int, AfterValidator(_at_least_one), Field(ge=1)]
