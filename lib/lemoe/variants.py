"""Variants of LEMoE that are compared with it: routing, ablations, numbers of experts, and settings for tuning."""

import dataclasses
from typing import Any

from lib.lemoe.editor import OracleEditor
from lib.lemoe.methods import METHODS, Row, lemoe_row

# The router learns by straight-through gradients and the auxiliary loss wherever something of it is learnt.
_LEARNT: dict[str, Any] = {"keys": "learned", "gate": "straight_through", "auxiliary": 1.0}
_ROUTING = (
    lemoe_row("shared", "shared projection, learnt throughout", **{**_LEARNT, "projection": "shared"}),
    lemoe_row("after_first", "projection frozen after the first batch", **_LEARNT, projection="frozen_after_first"),
    lemoe_row("per_expert", "a projection for each expert", **_LEARNT, projection="per_expert"),
    lemoe_row("frozen", "frozen random projection, learnt keys", **_LEARNT, projection="frozen"),
    lemoe_row("mean_keys", "frozen random projection, keys at the batch's mean"),
    lemoe_row("unforced", "as the last, new expert not forced in training", forced=False),
    lemoe_row("oracle", "an oracle that knows the batch", editor=OracleEditor),
    lemoe_row("softmax", "as the last but one, gate of the softmax value", gate="softmax"),
)
ROUTING: dict[str, Row] = {row.name: row for row in _ROUTING}

_ABLATIONS = (
    lemoe_row("entity", "anchor: the entity", anchor="entity"),
    lemoe_row("token", "anchor: the last token", anchor="token"),
    lemoe_row("layer_6", "layer 6", layer=6),
    lemoe_row("layer_12", "layer 12", layer=12),
    lemoe_row("layer_24", "layer 24", layer=24),
    lemoe_row("width_128", "experts of width 128", expert_width=128),
    lemoe_row("width_1536", "experts of width 1,536", expert_width=1536),
    lemoe_row("lora", "LoRA experts of rank 8", expert="lora"),
    lemoe_row("null", "way out: a null key (ours)", ours=True, way_out="null"),
    lemoe_row("locality_loss", "way out: a locality term in the loss (ours)", ours=True, way_out="locality_loss"),
)
ABLATIONS: dict[str, Row] = {row.name: row for row in _ABLATIONS}
EXPERTS = (1, 2, 10, 20)  # numbers of experts besides the profile's own
STEPS = (100,)  # of an expert on its batch, besides the profile's own

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


def _tuned(row: Row, title: str, settings: dict[str, Any]) -> Row:
    """Return a row of the registry with settings that the tuning split prefers to the published ones."""
    return dataclasses.replace(
        row,
        name=f"{row.name}_tuned",
        title=f"{row.title}, {title}",
        configure=lambda sizes: row.configure(sizes).model_copy(update=settings),
    )


# Where the tuning split prefers another setting to the published one, both are shown.
_TUNED = tuple(_tuned(METHODS[name], "weight 1,000", TUNING["memit_1000"][1]) for name in ("memit", "memit_mass"))
TUNED: dict[str, Row] = {row.name: row for row in _TUNED}
