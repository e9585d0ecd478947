"""Variants of LEMoE that are compared with it: routing, ablations, numbers of experts, and settings for tuning."""

import dataclasses
from typing import Any

from lib.api.editing_bench import MEMIT_WEIGHT
from lib.registry import Registry
from lib.series.lemoe.rows import METHODS, Row, lemoe_row, lemoe_with_oracle, lemoe_with_rejection
from lib.series.lemoe.stopped import STOPPED

# The router learns by straight-through gradients and the auxiliary loss wherever something of it is learnt.
LEARNT: dict[str, Any] = {"keys": "learned", "gate": "straight_through", "auxiliary_weight": 1.0}
ROUTING: Registry[Row] = Registry(
    "variant of routing",
    {
        "routing/shared": lemoe_row("shared projection, learnt throughout", projection="shared", **LEARNT),
        "routing/after_first": lemoe_row(
            "projection frozen after the first batch", projection="frozen_after_first", **LEARNT
        ),
        "routing/per_expert": lemoe_row("a projection for each expert", projection="per_expert", **LEARNT),
        "routing/frozen": lemoe_row("frozen random projection, learnt keys", projection="frozen", **LEARNT),
        "routing/mean_keys": lemoe_row("frozen random projection, keys at the batch's mean"),
        "routing/unforced": lemoe_row("as the last, new expert not forced in training", force_new_expert=False),
        "routing/oracle": lemoe_row("an oracle that knows the batch", lemoe_with_oracle),
        "routing/softmax": lemoe_row("as the last but one, gate of the softmax value", gate="softmax"),
    },
)
ABLATIONS: Registry[Row] = Registry(
    "ablation",
    {
        "ablation/entity": lemoe_row("anchor: the entity", anchor="entity"),
        "ablation/token": lemoe_row("anchor: the last token", anchor="token"),
        "ablation/layer_6": lemoe_row("layer 6", layer=6),
        "ablation/layer_12": lemoe_row("layer 12", layer=12),
        "ablation/layer_24": lemoe_row("layer 24", layer=24),
        "ablation/width_128": lemoe_row("experts of width 128", expert_width=128),
        "ablation/width_1536": lemoe_row("experts of width 1,536", expert_width=1536),
        "ablation/lora": lemoe_row("LoRA experts of rank 8", expert="lora"),
        "ablation/null": lemoe_row(
            "way out: a null key (ours)", lemoe_with_rejection, ("unrelated",), rejection="null"
        ),
        "ablation/locality_loss": lemoe_row(
            "way out: a locality term in the loss (ours)",
            lemoe_with_rejection,
            ("unrelated",),
            rejection="locality_loss",
        ),
    },
)
EXPERTS = (1, 2, 10, 20)  # numbers of experts besides the profile's own
STEPS = (100,)  # of an expert on its batch, besides the profile's own


def tuned(row: Row, title: str, **settings: Any) -> Row:
    """Return a row with settings that the tuning split prefers to the published ones."""
    title = f"{row.title}, {title}"
    return dataclasses.replace(row, title=title, sized=lambda sizes: {**row.sized(sizes), **settings})


# Where the tuning split prefers another setting to the published one, both are shown.
TUNED: Registry[Row] = Registry(
    "tuned method",
    {
        "memit_tuned": tuned(METHODS["memit"], f"weight {MEMIT_WEIGHT:,.0f}", weight=MEMIT_WEIGHT),
        "memit_mass_tuned": tuned(METHODS["memit_mass"], f"weight {MEMIT_WEIGHT:,.0f}", weight=MEMIT_WEIGHT),
    },
)

ROWS: Registry[Row] = METHODS | TUNED | ROUTING | ABLATIONS | STOPPED  # what a configuration's `row` may name

# Settings compared on the tuning split; the registry holds what came out best by Avg.
TUNING: dict[str, tuple[str, dict[str, Any]]] = {
    "lemoe_layer_6": ("lemoe", {"layer": 6}),
    "lemoe_layer_12": ("lemoe", {"layer": 12}),
    "lemoe_layer_18": ("lemoe", {}),
    "lemoe_layer_24": ("lemoe", {"layer": 24}),
    "lemoe_15_steps": ("lemoe", {"steps": 15, "rate": 5e-3}),
    "lemoe_10_steps": ("lemoe", {"steps": 10, "rate": 1e-2}),
    "ft_radius_1e-3": ("ft", {"radius": 1e-3}),
    "ft_radius_5e-3": ("ft", {"radius": 5e-3}),
    "ft_radius_2e-2": ("ft", {}),
    "ft_last_5e-4": ("ft_last", {}),
    "ft_last_5e-3": ("ft_last", {"radius": 5e-3}),
    "ft_last_2e-2": ("ft_last", {"radius": 2e-2}),
    # MEND learns on this very split: one step of it, so that hardly anything but the rate it starts from is compared.
    "mend_1e-4": ("mend", {"steps": 1}),
    "mend_1e-2": ("mend", {"steps": 1, "edit_rate": 1e-2}),
    "mend_3e-2": ("mend", {"steps": 1, "edit_rate": 3e-2}),
    "mend_1e-1": ("mend", {"steps": 1, "edit_rate": 1e-1}),
    "lora_2e-4": ("lora", {"rate": 2e-4}),
    "lora_5e-4": ("lora", {}),
    "lora_2e-3": ("lora", {"rate": 2e-3}),
    "grace_1": ("grace", {"radius": 1.0}),
    "grace_5": ("grace", {}),
    "grace_10": ("grace", {"radius": 10.0}),
    "grace_20": ("grace", {"radius": 20.0}),
    "wise_5_20_10": ("wise", {}),
    "wise_1_4_2": ("wise", {"alpha": 1.0, "beta": 4.0, "gamma": 2.0}),
    "wise_20_80_40": ("wise", {"alpha": 20.0, "beta": 80.0, "gamma": 40.0}),
    "defer_1e-3": ("defer", {}),
    "defer_1e-2": ("defer", {"rate": 1e-2}),
    "alphaedit_2e-2": ("alphaedit", {}),
    "alphaedit_2e-1": ("alphaedit", {"threshold": 2e-1}),  # at 2e-3 no direction would be left to write into
    "memit_15000": ("memit_mass", {}),
    "memit_1000": ("memit_mass", {"weight": 1000.0}),
    "memit_100": ("memit_mass", {"weight": 100.0}),
}
