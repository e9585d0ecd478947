"""Alignment modules A: what carries a student's state into the teacher's width before the two are compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib import seeds
from lib.registry import Registry

__all__ = ["ALIGNMENTS", "Alignment", "Kind", "linear", "mlp"]


def linear(inputs: int, outputs: int, stream: torch.Generator) -> nn.Linear:
    """Return a linear map that keeps the size of what it is given: weights of variance 1 / inputs, no offset."""
    found = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.normal_(found.weight, std=inputs**-0.5, generator=stream)
    nn.init.zeros_(found.bias)
    return found


def mlp(inputs: int, outputs: int, stream: torch.Generator) -> nn.Sequential:
    """Return two linear maps with a GELU between them, of the outputs' width inside."""
    return nn.Sequential(linear(inputs, outputs, stream), nn.GELU(), linear(outputs, outputs, stream))


@dataclass(frozen=True)
class Kind:
    """What a map is (drawn for two widths), the name of the one that a student layer goes through, whether it learns.

    Layers whose map has one name share it.
    """

    drawn: Callable[[int, int, torch.Generator], nn.Module]
    name: Callable[[int], str] = str
    learns: bool = True


# By the names that a case carries. "none" leaves a state as it is; "frozen", maps that stay as they were drawn, is the
# control that tells whether a module must learn anything.
ALIGNMENTS: Registry[Kind] = Registry(
    "alignment module",
    {
        "per_pair": Kind(linear),
        "shared": Kind(linear, name=lambda _: "all"),
        "mlp": Kind(mlp),
        "none": Kind(nn.Identity),
        "frozen": Kind(linear, learns=False),
    },
)


class Alignment(nn.Module):
    """One module A for all mapped pairs, or one for each; trained with the student and thrown away after it."""

    def __init__(self, kind: str, layers: Sequence[int], student_width: int, teacher_width: int, seed: int) -> None:
        """Draw the modules for the student layers of a map; raises `UserError` for an unknown kind."""
        super().__init__()
        self._kind = ALIGNMENTS[kind]
        stream = seeds.generator("alignment", seed)
        self.maps = nn.ModuleDict(
            {
                name: self._kind.drawn(student_width, teacher_width, stream)
                for name in dict.fromkeys(map(self._kind.name, layers))
            }
        )
        self.maps.requires_grad_(self._kind.learns)

    def forward(self, layer: int, states: Tensor) -> Tensor:
        """Return the states (..., student width) of a layer in the teacher's width, in its map's precision."""
        found = self.maps[self._kind.name(layer)]
        return found(states.to(next(found.parameters(), states).dtype))
