"""The instruction sets that an experiment trains on and is tested on: ours, or the MiniLLM suite from files.

"embedded" has five sets, of which three can be answered from memory; "language" has five whose answers must be worked
out, with nothing in common between training and test (`language_sets`).

The suite is what the field reports: trained on databricks-dolly, tested on Dolly, Self-Instruct's user tasks, Vicuna,
and the long references of S-NI and of Unnatural Instructions.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from lib.registry import Registry
from lib.sources import own_files
from lib.text import instruction_files, instructions, language_sets
from lib.text.instructions import SPLITS, Instruction

Name = Literal["embedded", "language", "minillm"]
VALIDATION = 1000  # the first rows of Dolly's training file
# Files under BENCHMARK_DIR, as the suite's own release names them.
TRAINING_FILE = "dolly/raw.jsonl"
TEST_FILES = {
    "dolly": "dolly/valid.jsonl",
    "selfinst": "self-inst/valid.jsonl",
    "vicuna": "vicuna/valid.jsonl",
    "sni": "sinst/11_/valid.jsonl",
    "unni": "uinst/11_/valid.jsonl",
}


@dataclass(frozen=True)
class Suite:
    """Sets by role; `load` returns the rows of one by split; `own_files`: they are the user's, and may change."""

    trained: tuple[str, ...]
    tested: tuple[str, ...]
    load: Callable[[str], Mapping[str, tuple[Instruction, ...]]]
    own_files: bool = False

    def every(self) -> list[Instruction]:
        """Return all rows of all sets and splits."""
        return [item for name in self.tested for split in SPLITS for item in self.load(name)[split]]


@functools.cache
def _minillm(name: str) -> Mapping[str, tuple[Instruction, ...]]:
    """Read a set of the MiniLLM suite; only Dolly has other splits than test. Raises `UserError` for missing files."""
    root = own_files.folder(TEST_FILES[name])
    train = instruction_files.read(name, root / TRAINING_FILE) if name == "dolly" else []
    test = instruction_files.read(name, root / TEST_FILES[name])
    return {"train": tuple(train[VALIDATION:]), "validation": tuple(train[:VALIDATION]), "test": tuple(test)}


# By the names that a case carries.
SUITES: Registry[Suite] = Registry(
    "suite of instruction sets",
    {
        "embedded": Suite(instructions.TRAINED, (*instructions.TRAINED, instructions.HELD_OUT), instructions.load),
        "language": Suite(language_sets.TRAINED, language_sets.NAMES, language_sets.load),
        "minillm": Suite(("dolly",), tuple(TEST_FILES), _minillm, own_files=True),
    },
)


def digest(name: Name) -> str:
    """Return the SHA-256 of all rows of all sets of a suite: data and vocabulary of a case follow from them."""
    return instructions.content_hash(SUITES[name].every())
