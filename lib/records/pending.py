"""Records that one step of the work made stale and a later one computes anew; until then they are shown, and say so."""

from functools import lru_cache
from typing import NamedTuple

from lib import paths
from lib.errors import UserError


class Pending(NamedTuple):
    """Which step made a record stale, and which computes it."""

    stale_since: str
    computed_by: str


def listed() -> dict[tuple[str, str], Pending]:
    """Return what `data/results/pending` lists, by profile and case; raises `UserError` for a line of other words."""
    file = paths.DATA / "results" / "pending"
    return _read(file.read_text(encoding="utf-8")) if file.is_file() else {}


@lru_cache(maxsize=4)
def _read(text: str) -> dict[tuple[str, str], Pending]:
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if len(words) != 4:
            raise UserError(
                f"data/results/pending, line {number}: profile, case, step that made it stale, step that computes it"
            )
        found[words[0], words[1]] = Pending(words[2], words[3])
    return found
