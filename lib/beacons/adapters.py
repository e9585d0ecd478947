"""What a method of fine-tuning puts on a model, and the handle by which it is trained and taken off again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from lib.causal_lm.layers import blocks
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class AdapterConfig:
    """Where an adapter stands, and how large it is."""

    first_layer: int  # the lowest block that is adapted
    rank: int  # of LoRA and its kin; the other methods take their sizes from it


@dataclass(frozen=True)
class Parts:
    """What a method puts on a model: its parameters by name, and how it is taken off again.

    A method that does more in training than to learn its parameters overrides the rest.
    """

    parameters: dict[str, nn.Parameter]
    remove: Callable[[], None]

    def penalty(self) -> Tensor | float:
        """Return what the method adds to the loss."""
        return 0.0

    def after_step(self, step: int) -> None:
        """Do what the method does after step number `step` >= 1, while the gradients are still there."""

    def state(self) -> dict[str, Tensor]:
        """Return all that training changes, by name, not copied."""
        return {f"parameter/{name}": value.detach() for name, value in self.parameters.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` returned; raises `KeyError` where a parameter is missing."""
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state[f"parameter/{name}"])


# Puts a method on a model: of the model, the place and size of the adapter, and the number of steps of the training.
Build = Callable[["PreTrainedModel", AdapterConfig, int], Parts]


@dataclass
class Handle:
    """A model with one method attached; `detach` (or the end of a `with` block) restores the model bit for bit."""

    model: "PreTrainedModel"
    method: str
    first_layer: int
    caches: bool  # whether what lies below `first_layer` is the base model's, so that it can be run once
    parts: Parts
    required: dict[nn.Parameter, bool]  # which parameters of the model itself took gradients before

    @property
    def count(self) -> int:
        """Return the number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters."""
        return list(self.parts.parameters.values())

    def detach(self) -> None:
        """Take the method off; the model is as before, bit for bit."""
        self.parts.remove()
        for parameter, required in self.required.items():
            parameter.requires_grad_(required)
            parameter.grad = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


def projections(model: "PreTrainedModel", first_layer: int) -> dict[str, nn.Linear]:
    """Return the feed-forward projections of the blocks from `first_layer` on, by name, in the model's order.

    Raises `UserError` for a model whose feed-forward parts have no linear maps of these names.
    """
    upper = {module for block in blocks(model)[first_layer:] for module in block.mlp.children()}
    found = {
        name: module
        for name, module in model.named_modules()
        if module in upper and isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in PROJECTIONS
    }
    if not found:
        raise UserError(f"{type(model).__name__}: no linear maps {', '.join(PROJECTIONS)} in its feed-forward parts")
    return found
