"""Records of expensive computations: what notebooks and experiments call."""

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
    "workspace",
]
