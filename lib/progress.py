"""Progress bars that a reader sees and a recorded output does not."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")


def enabled() -> bool:
    """Whether bars are drawn: in a notebook and on a terminal, unless `REPRODUCTION_PROGRESS=0` (recorded runs)."""
    shown = "ipykernel" in sys.modules or sys.stderr.isatty()
    return shown and os.environ.get("REPRODUCTION_PROGRESS", "1") != "0"


def bar(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over `items` behind a progress bar named `description`."""
    return iter(tqdm(items, desc=description, total=total, disable=not enabled(), leave=False))
