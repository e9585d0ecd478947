"""The rows that stop by one rule: ours, and the three that LEMoE is built against.

A batch is learnt when every one of its target tokens is the most likely one, as in FT-EWC's released code; at most
`cap` steps are taken. Rows of other authors keep the steps that they released. MEND's network is trained until its
validation edits say so (`mend_training`).
"""

import dataclasses
from typing import Any

from lib.editing.mend import Mend
from lib.editing.mend_network import MendConfig
from lib.registry import Registry
from lib.series.lemoe.rows import METHODS, Row, lemoe_row, lemoe_with_rejection

# The paper's wording: a trained projection, learned keys, the router's gradient straight through the gate.
WORDED: dict[str, Any] = {
    "projection": "shared",
    "keys": "learned",
    "gate": "straight_through",
    "auxiliary_weight": 1.0,
}


def stopping(row: Row, title: str = "", order: str = "") -> Row:
    """Return a row that stops when a batch is learnt, under another title and order where they are given."""
    return dataclasses.replace(
        row,
        core=False,
        title=title or row.title,
        order=order or row.order,
        sized=lambda sizes: {**row.sized(sizes), "steps": sizes.cap, "until_right": True},
    )


STOPPED: Registry[Row] = Registry(
    "row with a stop rule",
    {
        "learnt/conventional": stopping(METHODS["conventional"]),
        "learnt/conventional_clustered": stopping(
            METHODS["conventional"], "conventional MoE, clustered order", "kmeans"
        ),
        "learnt/conventional_random": stopping(METHODS["conventional"], "conventional MoE, random order", "random"),
        "learnt/memoe": stopping(METHODS["memoe"]),
        "learnt/lemoe": stopping(METHODS["lemoe"], "LEMoE (frozen projection, mean keys)"),
        "learnt/lemoe_random": stopping(METHODS["lemoe"], "LEMoE, random order", "random"),
        "learnt/lemoe_paper": stopping(lemoe_row("LEMoE in the paper's wording", **WORDED)),
        "learnt/lemoe_null": stopping(
            lemoe_row("LEMoE with a null expert (ours)", lemoe_with_rejection, ("unrelated",), rejection="null")
        ),
        "learnt/lemoe_threshold": stopping(METHODS["lemoe_threshold"]),
        "learnt/lemoe_locality_loss": stopping(
            lemoe_row(
                "LEMoE that sees unrelated text (ours)",
                lemoe_with_rejection,
                ("unrelated",),
                rejection="locality_loss",
            )
        ),
        "validated/mend": Row(
            title="MEND",
            settings=MendConfig,
            named=MendConfig.validated,
            sized=lambda sizes: {
                "layers": tuple(range(sizes.upper_layer - 1, sizes.upper_layer + 2)),
                "steps": sizes.mend_cap,
            },
            build=lambda bench, config: Mend(bench.model, bench.tokenizer, bench.transformation(config)),
        ),
    },
)

# What may bring plain LEMoE's locality to the paper's 1.00, on the tuning split: changes of "learnt/lemoe".
LOCALITY: dict[str, tuple[str, dict[str, Any]]] = {
    "as it is": ("learnt/lemoe", {}),
    "rate 1e-3": ("learnt/lemoe", {"rate": 1e-3}),
    "rate 3e-4": ("learnt/lemoe", {"rate": 3e-4, "steps": 400}),
    "weight decay 0.3": ("learnt/lemoe", {"decay": 0.3}),
    "weight decay 3": ("learnt/lemoe", {"decay": 3.0}),
    "width 128": ("learnt/lemoe", {"expert_width": 128}),
    "width 1536": ("learnt/lemoe", {"expert_width": 1536}),
    "added norm at most the layer's own": ("learnt/lemoe", {"norm_limit": 1.0}),
    "added norm at most half of it": ("learnt/lemoe", {"norm_limit": 0.5}),
    "unrelated text, weight 1": ("learnt/lemoe_locality_loss", {}),
    "unrelated text, weight 10": ("learnt/lemoe_locality_loss", {"locality_weight": 10.0}),
    "all of it": (
        "learnt/lemoe_locality_loss",
        {"rate": 1e-3, "decay": 0.3, "norm_limit": 1.0, "locality_weight": 10.0},
    ),
    "all of it, and a null expert": ("learnt/lemoe_null", {"rate": 1e-3, "decay": 0.3, "norm_limit": 1.0}),
    # The rule itself: a loss that is low, in place of tokens that are right.
    "stop at a loss of 0.1": ("learnt/lemoe", {"until_right": False, "enough": 0.1}),
    "stop at a loss of 0.01": ("learnt/lemoe", {"until_right": False, "enough": 0.01}),
}
