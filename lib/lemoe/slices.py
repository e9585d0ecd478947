"""The field's own edits, from the user's files under BENCHMARK_DIR: which files we report on, and what is in them."""

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lib import files
from lib.editing import readers
from lib.editing.edits import Edit
from lib.errors import UserError


class Slice(NamedTuple):
    """A file of a benchmark: its name, its reader, how a table calls it, and the SHA-256 of what we report on."""

    file: str
    read: Callable[[Path], list[Edit]]
    title: str
    sha256: str


SLICES = {
    "zsre": Slice(
        "zsre_sample.json",
        readers.read_zsre,
        "ZsRE",
        "39000b9dd8e5f91ad7f6672edb6f90c32f4f520bcb907c67aee4f0c8b7d4dc09",
    ),
    "counterfact": Slice(
        "counterfact_sample.json",
        readers.read_counterfact,
        "CounterFact",
        "f9f87e39e0ae2d55cbeba0c45302f64e571d452b6031f70d83343533a7cc661f",
    ),
    "selfcheckgpt": Slice(
        "selfcheckgpt_sample.json",
        readers.read_selfcheckgpt,
        "SelfCheckGPT",
        "445127275aed83e34bd718a4fb84531578542314443aabcf72b09d825f569f2b",
    ),
}


@lru_cache(maxsize=4)
def edits(name: str) -> tuple[Edit, ...]:
    """Return the edits of a slice, in the order of its file.

    Raises `UserError` where BENCHMARK_DIR is unset, does not hold the file, or holds another than the one we report on.
    """
    wanted = SLICES[name]
    root = os.environ.get("BENCHMARK_DIR")
    if root is None:
        raise UserError(
            f"the slice of {wanted.title} is your own file: set BENCHMARK_DIR to the folder of {wanted.file}"
        )
    path = Path(root) / wanted.file
    if not path.is_file():
        raise UserError(f"{path}: no such file: BENCHMARK_DIR must hold {wanted.file}")
    if files.sha256(path) != wanted.sha256:
        raise UserError(f"{path}: not the file that was reported on: change its SHA-256 in lib/lemoe/slices.py")
    return tuple(wanted.read(path))
