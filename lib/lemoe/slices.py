"""The field's own edits, from the user's files: which slices we report on, and what is in them."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from lib.benchmark_files import Slice
from lib.editing import readers
from lib.editing.edits import Edit

SLICES = {
    "zsre": Slice("zsre_sample.json", "ZsRE", "39000b9dd8e5f91ad7f6672edb6f90c32f4f520bcb907c67aee4f0c8b7d4dc09"),
    "counterfact": Slice(
        "counterfact_sample.json", "CounterFact", "f9f87e39e0ae2d55cbeba0c45302f64e571d452b6031f70d83343533a7cc661f"
    ),
    "selfcheckgpt": Slice(
        "selfcheckgpt_sample.json", "SelfCheckGPT", "445127275aed83e34bd718a4fb84531578542314443aabcf72b09d825f569f2b"
    ),
}
_READERS: dict[str, Callable[[Path], list[Edit]]] = {
    "zsre": readers.read_zsre,
    "counterfact": readers.read_counterfact,
    "selfcheckgpt": readers.read_selfcheckgpt,
}


@lru_cache(maxsize=4)
def edits(name: str) -> tuple[Edit, ...]:
    """Return the edits of a slice, in the order of its file; raises `UserError` where that is not there."""
    return tuple(_READERS[name](SLICES[name].path()))
