"""Alignment modules A: what carries a student's state into the teacher's width before the two are compared."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lib import seeds
from lib.errors import UserError

Kind = Literal["per_pair", "shared", "mlp", "none", "frozen"]


class Alignment(nn.Module):
    """One module A for all mapped pairs, or one for each; trained with the student and thrown away after it.

    `per_pair`: a linear map for each pair; `shared`: one for all; `mlp`: for each pair two linear maps with a GELU
    between them, of the teacher's width inside; `none`: the state as it is; `frozen`: `per_pair` that stays as it was
    drawn, the control that tells whether the module must learn anything.
    """

    def __init__(self, kind: Kind, layers: Sequence[int], student_width: int, teacher_width: int, seed: int) -> None:
        """Draw the modules for the student layers of a map; raises `UserError` for an unknown kind."""
        super().__init__()
        if kind not in get_args(Kind):
            raise UserError(f"no alignment module {kind!r}: there are {', '.join(get_args(Kind))}")
        self.kind = kind
        names = {"none": [], "shared": ["all"]}.get(kind, [str(layer) for layer in layers])
        stream = seeds.generator("alignment", seed)
        self.maps = nn.ModuleDict({name: _drawn(kind, student_width, teacher_width, stream) for name in names})
        self.maps.requires_grad_(kind != "frozen")

    def forward(self, layer: int, states: Tensor) -> Tensor:
        """Return the states (..., student width) of a student layer in the teacher's width."""
        if self.kind == "none":
            return states
        return self.maps["all" if self.kind == "shared" else str(layer)](states)


def _drawn(kind: Kind, student_width: int, teacher_width: int, stream: torch.Generator) -> nn.Module:
    """Return a linear map, or two, that keep the size of what they are given: variance 1 / inputs, no offset."""
    widths = [student_width, teacher_width, teacher_width] if kind == "mlp" else [student_width, teacher_width]
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
        nn.init.normal_(linear.weight, std=inputs**-0.5, generator=stream)
        nn.init.zeros_(linear.bias)
        parts += [nn.GELU(), linear] if parts else [linear]
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)
