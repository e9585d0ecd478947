"""What every configuration shares: it is frozen, knows no field that it does not name, and holds no NaN or infinity."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Kind = TypeVar("Kind", bound=BaseModel)


class Settings(BaseModel):
    """The base of all configurations; each number of one says in its annotation or `Field` what it may be."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def of_kind(config: object, kind: type[Kind]) -> Kind:
    """Return a configuration that an argument `config` holds; `TypeError` for one of another kind."""
    if not isinstance(config, kind):
        raise TypeError(f"config is of type {type(config).__name__}: give one of {kind.__name__}")
    return config


Share = Annotated[float, Field(ge=0, le=1)]
