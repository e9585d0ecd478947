"""What cases cost on one thread, as a table by kind, and the queue in which they are computed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from lib import files
from lib.records import Case

Minutes = Callable[[Case], float]


def table(kinds: Mapping[str, Sequence[Case]], minutes: Minutes, longest: Minutes | None = None) -> pd.DataFrame:
    """Return a row a kind, and one of all: cases, their minutes, and minutes of the longest (by `longest` if given)."""
    every = [case for listed in kinds.values() for case in listed]
    return pd.DataFrame(
        [
            {
                "kind": kind,
                "cases": len(listed),
                "minutes": sum(map(minutes, listed)),
                "longest": max(map(longest or minutes, listed)),
            }
            for kind, listed in {**kinds, "all": every}.items()
        ]
    )


def write_queue(file: Path, kinds: Mapping[str, Sequence[Case]]) -> None:
    """Write the names of the cases, a line each below the name of their kind, as `catalogue run --queue` reads them."""
    lines = [line for kind, listed in kinds.items() for line in (f"# {kind}", *(case.name for case in listed))]
    files.write_text(file, "\n".join(lines) + "\n")
