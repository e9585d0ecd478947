"""A bottleneck adapter, which the peft library lacks: a small network after each feed-forward part, h + U gelu(D h).

Houlsby (2019) gives the network, Pfeiffer (2021) its place; the width is our choice.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.beacons.adapters import AdapterConfig, Parts
from lib.causal_lm.layers import blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Bottleneck(nn.Module):
    """h + U gelu(D h + a) + b, h the output (..., width) of a feed-forward part; U and b start at zero: no change."""

    def __init__(self, width: int, narrow: int) -> None:
        """Draw D as torch draws a linear map, from the global generator."""
        super().__init__()
        self.down = nn.Linear(width, narrow)
        self.up = nn.Linear(narrow, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the adapted output, in the shape and precision of `hidden`."""
        inputs = hidden.to(self.down.weight.dtype)  # float32 in a model of any precision
        return hidden + self.up(functional.gelu(self.down(inputs))).to(hidden.dtype)


class Bottlenecks:
    """One adapter after each of some modules, put on by hooks: the modules themselves stay as they are."""

    def __init__(self, modules: Sequence[nn.Module], width: int, narrow: int, device: torch.device) -> None:
        """Hook an adapter of inner width `narrow` onto each module, whose output is (..., width), in float32."""
        self.adapters = nn.ModuleList([Bottleneck(width, narrow) for _ in modules]).to(device)
        self._hooks = [
            module.register_forward_hook(lambda _, arguments, output, adapter=adapter: adapter(output))
            for module, adapter in zip(modules, self.adapters, strict=True)
        ]

    def remove(self) -> None:
        """Take the adapters off."""
        for hook in self._hooks:
            hook.remove()


def bottleneck(model: "PreTrainedModel", config: AdapterConfig, _: int) -> Parts:
    """Put an adapter of inner width 4 times the rank, about as many parameters as LoRA's, after each upper MLP."""
    modules = [block.mlp for block in blocks(model)[config.first_layer :]]
    found = Bottlenecks(modules, model.config.hidden_size, 4 * config.rank, model.device)
    return Parts(dict(found.adapters.named_parameters()), found.remove)
