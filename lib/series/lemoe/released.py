"""Rows of other authors with the settings that were released for models of 7 billion parameters, in place of ours.

`rows` and each configuration's `tuned` hold what small models on few cores need. A profile of the papers' size has
`released` instead: the classes' defaults, which are those of the authors' code, with what stands here. Its layers are
the profile's (`released_layers`), since they hang on a model's depth.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from lib.profiles import EditingSizes
from lib.series.lemoe.rows import Row

# By the names of files in EasyEdit, which WISE's release is part of and LEMoE's protocol follows:
# hparams/<method>/llama-7b.yaml, which are for LLaMA-2-7B; those for Mistral-7B say the same.
_LOCATED: Mapping[str, Any] = {"steps": 25, "decay": 1e-3}
_MEMIT: Mapping[str, Any] = {**_LOCATED, "clamp": 4.0, "weight": 15_000.0}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "ft_last": {"radius": None},  # FT: `norm_constraint: false`
    "ft": {"radius": None, "loss": "teacher_forcing"},
    "lora": {},
    # `rebuilt` stays: one key throughout. Theirs has no second moments (`mom2_adjustment: false`), ours always has.
    "rome": {**_LOCATED, "averaged": "all", "prefixes": ((5, 10), (10, 10))},
    "memit": _MEMIT,
    "memit_mass": _MEMIT,
    "alphaedit": {"steps": 25, "rate": 0.1},  # AlphaEdit's hparams/AlphaEdit/Llama3-8B.json: none for LLaMA-2
    "mend": {},  # the steps are the profile's: `max_iters: 100000` updates, ten an optimiser step
    "defer": {"rate": 7e-5, "gate_rate": 7e-5},  # one rate for both
    "grace": {"steps": 50, "where": "last"},  # `replace_last`; GRACE's own config: 100 steps, `replace_prompt`
    "wise": {"shard": 500},  # `save_freq: 500`, `merge_freq: 1000`
    "wise_retrieve": {"shard": 500},
}


def settings(name: str, row: Row, sizes: EditingSizes) -> BaseModel:
    """Return the configuration of a row at a profile's size: the released one where the profile asks for it."""
    if not sizes.released or name not in SETTINGS:
        return row.configure(sizes)
    own = {**row.sized(sizes), **SETTINGS[name]}
    if layers := sizes.released_layers.get(name):
        own |= {"layers": layers} if "layers" in row.settings.model_fields else {"layer": layers[-1]}
    return row.settings(**own)
