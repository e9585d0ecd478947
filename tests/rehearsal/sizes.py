"""The sizes of a rehearsal of `paper`: its rows, models, files and kinds of settings, in steps that take seconds."""

import json
from typing import Any

SIZES: dict[str, Any] = {
    "device": "cpu",
    "editing.layer": 1,
    "editing.upper_layer": 2,
    "editing.located": [1, 2],
    "editing.runs": {"1": 2},
    "editing.most": 6,
    "editing.slow": 6,
    "editing.ablation": 4,
    "editing.batches": 2,
    "editing.passages": 4,
    "editing.seeds": [0, 1],
    "editing.longest": 2,
    "editing.steps": 2,
    "editing.expert_width": 16,
    "editing.moment_tokens": 1000,
    "editing.mend_steps": 1,
    "editing.unrelated": 8,
    "editing.tuning": 4,
}


def as_changes(sizes: dict[str, Any] | None = None) -> list[str]:
    """Return sizes as the commands take them after --set."""
    return [f"{name}={json.dumps(value, separators=(',', ':'))}" for name, value in (sizes or SIZES).items()]
