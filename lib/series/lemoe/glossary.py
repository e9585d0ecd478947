"""What each row of the tables is: its family, what it changes, what it keeps besides the model, where it comes from."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from lib.registry import Row

NONE, MIXTURE, MEMORY = "no edit", "mixture of experts", "memory beside the model"
LOCATED, GRADIENT = "weights that hold the fact", "gradient steps"
FAMILIES = (MIXTURE, MEMORY, LOCATED, GRADIENT)


class Entry(NamedTuple):
    """One row in words."""

    family: str
    changes: str
    keeps: str
    source: str


NOTHING = "nothing"
MEMIT = Entry(
    LOCATED,
    "down projections of a few layers, in closed form, one edit at a time",
    NOTHING,
    "Meng et al. 2023",
)
MASS = MEMIT._replace(changes="as MEMIT, all edits in one change")
WISE = Entry(
    MEMORY,
    "copies of one down projection, a shard of edits each, merged into one; read where an activation is high",
    "the merged copy and those that wait",
    "Wang et al. 2024 (WISE)",
)
LEMOE = Entry(
    MIXTURE,
    "adds an expert a batch, then freezes it; a key chooses one expert for the whole prompt",
    "experts, keys, one projection",
    "Wang and Li 2024 (LEMoE)",
)
FT = Entry(
    GRADIENT,
    "one down projection, each weight held near its start; all target tokens are scored at the prompt's last place",
    NOTHING,
    "Meng et al. 2022, as a baseline",
)
ENTRIES = {
    "no_edit": Entry(NONE, NOTHING, NOTHING, "to compare with"),
    "ft_last": FT,
    "ft": FT._replace(changes="as above, each target token scored at its own place", source="the same, usual loss"),
    "ewc": Entry(
        GRADIENT,
        "one down projection; what earlier edits needed (by the Fisher information) is dear to change",
        NOTHING,
        "Kirkpatrick et al. 2017",
    ),
    "lora": Entry(
        GRADIENT, "one low-rank adaptor of linear maps, which every batch trains on", "the adaptor", "Hu et al. 2021"
    ),
    "rome": Entry(
        LOCATED, "one down projection, a change of rank one for each edit", NOTHING, "Meng et al. 2022 (ROME)"
    ),
    "memit": MEMIT,
    "memit_mass": MASS,
    "alphaedit": Entry(
        LOCATED, "as MEMIT, projected so that what plain text maps to stays", NOTHING, "Fang et al. 2024"
    ),
    "mend": Entry(
        GRADIENT,
        "one gradient step, which a network that was trained beforehand transforms",
        NOTHING,
        "Mitchell et al. 2021",
    ),
    "defer": Entry(
        MEMORY,
        "one replacement output of a layer and one gate for it, shared by all edits",
        "gate and output map",
        "Hartvigsen et al. 2022, as a baseline",
    ),
    "grace": Entry(
        MEMORY,
        "a codebook at one layer: a prompt within a small radius of an edit's key gets the edit's value",
        "a key and a value an edit",
        "Hartvigsen et al. 2022 (GRACE)",
    ),
    "wise": WISE,
    "wise_retrieve": WISE._replace(
        changes="as WISE-Merge, the copies apart; the one with the highest activation is read", keeps="all copies"
    ),
    "conventional": Entry(
        MIXTURE,
        "adds an expert a batch, then freezes it; a router, trained on by every batch, chooses for each token",
        "experts and router",
        "LEMoE's ablation",
    ),
    "memoe": Entry(
        MIXTURE,
        "a fixed set of experts and a router over tokens, all of which every batch trains on",
        "experts and router",
        "Wang and Li 2024 (MEMoE)",
    ),
    "lemoe": LEMOE,
    "lemoe_threshold": LEMOE._replace(
        changes="as LEMoE, but a prompt that is far from every edit gets no expert", source="ours"
    ),
    "memit_tuned": MEMIT._replace(changes="as MEMIT, with a smaller weight of the second moments"),
    "memit_mass_tuned": MASS._replace(changes="as MEMIT-MASS, with a smaller weight of the second moments"),
}


def families(rows: Mapping[str, Row]) -> dict[str, str]:
    """Return the family of each row by its title; a row without an entry takes that of the row it is named after."""
    return {row.title: _entry(name).family for name, row in rows.items()}


def frame(rows: Mapping[str, Row]) -> pd.DataFrame:
    """Return a line for each row: method, family, what it changes, what it keeps, who published it."""
    heads = {"changes": "changes or adds", "keeps": "keeps besides the model", "source": "published by"}
    lines = [{"method": row.title, **_entry(name)._asdict()} for name, row in rows.items()]
    return pd.DataFrame(lines, dtype=object).rename(columns=heads)


def _entry(name: str) -> Entry:
    """Return the entry of a row; of one without, such as another setting, that of the longest name it begins with."""
    found = [one for one in ENTRIES if name == one or name.startswith(f"{one}_")]
    return ENTRIES[max(found, key=len)] if found else Entry(NONE, "another setting", "–", "–")
