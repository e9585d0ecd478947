"""Schemas of the frames that records hold: which columns, of which type, in which range, and what tells rows apart.

Each series declares its own in `frames.py`, one mapping from names of frames to schemas for each kind of its cases.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError, SchemaErrors

Schemas = Mapping[str, type["Frame"]]
ROUNDING = 1e-6  # a divergence that is zero may come out this far below it


class Frame(pa.DataFrameModel):
    """A frame of a record: exactly the columns of its class, none coerced, NaN only where a column allows it.

    `rows` of a subclass names the columns that tell its rows apart.
    """

    def __init_subclass__(cls, rows: Sequence[str] = (), **options: Any) -> None:
        cls.Config = type("Config", (cls.Config,), {"strict": True, "coerce": False, "unique": list(rows) or None})
        super().__init_subclass__(**options)


def check(frames: Mapping[str, pd.DataFrame], schemas: Schemas, case: str) -> None:
    """Raise `ValueError`, naming case, frame and every fault, for a frame without a schema or unlike its own.

    A schema whose frame a case does not leave is no fault: some leave it only in some configurations.
    """
    faults = [f"{name}: no schema" for name in frames if name not in schemas]
    for name, frame in frames.items():
        if name in schemas:
            faults += [f"{name}: {fault}" for fault in _faults(frame, schemas[name])]
    if faults:
        raise ValueError(f"{case}: {'; '.join(faults)}")


def share(**options: Any) -> Any:
    """Field of a column of shares or means of shares, 0 to 1."""
    return pa.Field(ge=0, le=1, **options)


def percent(**options: Any) -> Any:
    """Field of a column of scores from 0 to 100."""
    return pa.Field(ge=0, le=100, **options)


def count(least: int = 0, **options: Any) -> Any:
    """Field of a column of whole numbers from `least` on."""
    return pa.Field(ge=least, **options)


def loss(**options: Any) -> Any:
    """Field of a column of losses, divergences or norms: not below zero, but for rounding."""
    return pa.Field(ge=-ROUNDING, **options)


def cosine_distance(**options: Any) -> Any:
    """Field of a column of distances 1 - cosine, 0 to 2, but for rounding."""
    return pa.Field(ge=-ROUNDING, le=2 + ROUNDING, **options)


def _faults(frame: pd.DataFrame, schema: type[Frame]) -> list[str]:
    if frame.empty:  # without a value no column has a type to be wrong
        columns = list(schema.to_schema().columns)
        same = set(frame.columns) in (set(), set(columns))
        return [] if same else [f"columns {list(frame.columns)}, not {columns}"]
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        several = cases.groupby(["column", "check"], sort=False, dropna=False)["failure_case"]
        return [f"{column}: {what}: {list(found[:3])}" for (column, what), found in several]
    except SchemaError as error:
        return [str(error)]
    return []
