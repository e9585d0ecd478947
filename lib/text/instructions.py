"""Five instruction sets from real sources, in the layout instruction / input / output, with fixed splits.

"facts": questions on countries and elements; "modern": King James verses in today's English; "simple": World English
verses in Basic English; "chat": the reply to a question in a chat; "describe": a country or an element by its data.
What a split means differs: in "facts" the question is unseen and its fact is not; verses, conversations and subjects
are in one split only, verses in the same one in both sets. `HELD_OUT` is trained on by neither teacher nor students.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from functools import partial

import pandas as pd

from lib.errors import UserError
from lib.facts import databases
from lib.text import bible, dialogue, instruction_sets
from lib.text.instruction_sets import Row
from lib.text.prompts import Instruction, render

SPLITS = ("train", "validation", "test")
NAMES = ("facts", "modern", "chat", "describe", "simple")
HELD_OUT = "simple"  # a second way of rewriting verses: near enough to what is trained to be answered at all
TRAINED = tuple(name for name in NAMES if name != HELD_OUT)

_SETS: Mapping[str, tuple[Callable[[], list[Row]], str]] = {
    "facts": (instruction_sets.fact_rows, databases.LICENCE),
    "modern": (partial(instruction_sets.verse_rows, "modern"), bible.LICENCE),
    "simple": (partial(instruction_sets.verse_rows, "simple"), bible.BASIC_LICENCE),
    "chat": (instruction_sets.chat_rows, dialogue.LICENCE),
    "describe": (instruction_sets.described_rows, databases.LICENCE),
}


@functools.cache
def load(name: str) -> Mapping[str, tuple[Instruction, ...]]:
    """Return the rows of a set by split, in a fixed order whose beginnings are fair samples of the split.

    The first n training rows of "facts" and "describe" go round all facts and subjects before one comes again. Raises
    `UserError` for an unknown name, and where a source is missing.
    """
    if name not in _SETS:
        raise UserError(f"no instruction set {name!r}: choose one of {', '.join(NAMES)}")
    rows: dict[str, list[Instruction]] = {split: [] for split in SPLITS}
    for row in _SETS[name][0]():
        place = rows[row.split]
        identity = f"{name}/{row.split}/{len(place)}/{row.group}"
        place.append(Instruction(row.instruction, row.input, row.output, name, identity, row.references))
    return {split: tuple(found) for split, found in rows.items()}


def texts(items: Iterable[Instruction]) -> list[str]:
    """Return prompts and outputs, each output with the blank before it: what a vocabulary is built on."""
    return [text for item in items for text in (render(item), f" {item.output}")]


def card() -> pd.DataFrame:
    """Return one row per set: rows of each split, words of prompt and output (mean), different outputs, licence."""
    rows = {}
    for name in NAMES:
        loaded = load(name)
        every = [item for split in SPLITS for item in loaded[split]]
        rows[name] = {
            **{split: len(loaded[split]) for split in SPLITS},
            "prompt words": sum(len(f"{item.instruction} {item.input}".split()) for item in every) / len(every),
            "output words": sum(len(item.output.split()) for item in every) / len(every),
            "outputs": len({item.output for item in every}),
            "references": sum(len(item.references) for item in every) / len(every),
            "trained on": "no" if name == HELD_OUT else "yes",
            "licence": _SETS[name][1],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("set")


def content_hash(items: Sequence[Instruction]) -> str:
    """Return the SHA-256 of instructions in their order: it goes into the fingerprints of records."""
    return hashlib.sha256(json.dumps([astuple(item) for item in items], ensure_ascii=False).encode()).hexdigest()
