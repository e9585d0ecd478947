"""Records of expensive computations: what notebooks and experiments call."""

from collections.abc import Iterable

from lib.records import digests
from lib.records.cache import load_weights, workspace
from lib.records.case import Case, Outcome
from lib.records.files import DamagedError, Record
from lib.records.store import available, committed, get, obtain, on_read, reads, status, stored, trained_weights

__all__ = [
    "Case",
    "DamagedError",
    "Outcome",
    "Record",
    "available",
    "committed",
    "digests",
    "get",
    "load_weights",
    "obtain",
    "on_read",
    "reads",
    "status",
    "stored",
    "trained_weights",
    "whole",
    "workspace",
]


def whole(cases: Iterable[Case]) -> list[Record] | None:
    """Return the records of several cases, each as `available` does, or None where one of them is not recorded."""
    found = [available(case) for case in cases]
    return None if any(record is None for record in found) else [record for record in found if record is not None]
