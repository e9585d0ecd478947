"""What every configuration shares: it is frozen, knows no field that it does not name, and holds no NaN or infinity."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """The base of all configurations; each number of one says in its annotation or `Field` what it may be."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Share = Annotated[float, Field(ge=0, le=1)]
