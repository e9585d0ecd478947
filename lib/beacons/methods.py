"""The fine-tuning methods of the grid: six of the peft library, a bottleneck adapter, and the weights themselves.

with attach(model, "lora", AdapterConfig(first_layer=24, rank=8), steps=80, seed=0) as handle:
    train(handle, tokenizer, facts, ...)     # the model itself is adapted, and restored at the end, bit for bit

All but prefix tuning act in the blocks from `first_layer` on; a prefix has keys and values in every layer, as the peft
library has it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lib import seeds
from lib.beacons.adalora import adalora
from lib.beacons.adapters import AdapterConfig, Build, Handle, Parts
from lib.beacons.bottleneck import bottleneck
from lib.beacons.peft_models import dora, ia3, loha, lora, prefix
from lib.causal_lm.layers import blocks
from lib.errors import UserError
from lib.registry import Registry, Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["METHODS", "AdapterConfig", "Method", "attach"]


@dataclass(frozen=True, kw_only=True)
class Method(Row):
    """A row of the grid; `upper` tells whether it acts in the upper blocks alone."""

    build: Build
    rate: float  # the best learning rate on the tuning pool (2.6 shows what was compared)
    upper: bool = True


def attach(model: "PreTrainedModel", method: str, config: AdapterConfig, steps: int, seed: int) -> Handle:
    """Put a method on a model, for a training of `steps` updates, its weights drawn from the stream of `seed`.

    Nothing but the method's parameters takes gradients. At the start the model computes what the base does, except with
    a prefix, which draws attention to itself. Raises `UserError` for an unknown method, a first layer that the model
    has not, a rank below 1, projections that are no linear maps, and AdaLoRA in fewer than two steps.
    """
    row = METHODS[method]
    if not 0 <= config.first_layer < len(blocks(model)):
        raise UserError(f"first_layer {config.first_layer}: the model has layers 0 to {len(blocks(model)) - 1}")
    if config.rank < 1:
        raise UserError(f"rank {config.rank}: give 1 or more")
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):  # peft draws from torch's global generator
        torch.manual_seed(seeds.seed_of("beacons/adapter", seed))
        try:
            parts = row.build(model, config, steps)
        except BaseException:
            for parameter, flag in required.items():
                parameter.requires_grad_(flag)
            raise
    for parameter in parts.parameters.values():
        parameter.requires_grad_(True)
    return Handle(model, method, config.first_layer, row.upper, parts, required)


def full(model: "PreTrainedModel", config: AdapterConfig, _: int) -> Parts:
    """Train every weight of the upper blocks, not embeddings, last norm or head; the base's are kept to restore."""
    found = {
        f"{number}.{name}": parameter
        for number, block in enumerate(blocks(model)[config.first_layer :], config.first_layer)
        for name, parameter in block.named_parameters()
    }
    base = {name: parameter.detach().clone() for name, parameter in found.items()}

    @torch.no_grad()
    def remove() -> None:
        for name, parameter in found.items():
            parameter.copy_(base[name])

    return Parts(found, remove)


METHODS: Registry[Method] = Registry(
    "method",
    {
        "lora": Method(title="LoRA", build=lora, rate=3e-3),
        "dora": Method(title="DoRA", build=dora, rate=3e-3),
        "adalora": Method(title="AdaLoRA", build=adalora, rate=1e-2),
        "ia3": Method(title="IA3", build=ia3, rate=1e-1),
        "loha": Method(title="LoHa", build=loha, rate=1e-2),
        "prefix": Method(title="prefix tuning", build=prefix, rate=3e-2, upper=False),
        "bottleneck": Method(title="bottleneck adapter", build=bottleneck, rate=3e-3),
        "full": Method(title="full fine-tuning (upper blocks)", build=full, rate=1e-3),
    },
)
