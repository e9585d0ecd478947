"""Progress bars that a reader sees and a recorded output does not."""

import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")


def enabled() -> bool:
    """Whether bars are drawn: always, unless `REPRODUCTION_PROGRESS=0` (set in every recorded run)."""
    return os.environ.get("REPRODUCTION_PROGRESS", "1") != "0"


def bar(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over `items` behind a progress bar named `description`."""
    return iter(tqdm(items, desc=description, total=total, disable=not enabled(), leave=False))
