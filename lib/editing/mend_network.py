"""MEND's trained network: how the two factors of a gradient are transformed (arXiv 2110.11309, sec. 3.1)."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lib import seeds
from lib.settings import Settings


class MendConfig(Settings):
    """MEND; defaults are the paper's and its code's unless marked ours.

    The code starts V at standard normal numbers, learns alpha itself, adds alpha times what the network puts out
    without bringing it back to the factors' scale, and edits both maps of a block. With those, a network that is hardly
    trained destroys a small model; ours starts as gradient descent: see `Transformation`, `rate_of_rates`, `layers`.
    """

    layers: tuple[NonNegativeInt, ...] = Field((29, 30, 31), min_length=1)  # last three blocks (here of 32)
    rank: PositiveInt = 1920  # of the network's two maps; no more than the factors' sizes together
    c_edit: NonNegativeFloat = 0.1
    c_loc: NonNegativeFloat = 1.0
    rate: PositiveFloat = 1e-6  # of the network (Adam)
    edit_rate: PositiveFloat = 1e-4  # alpha of every layer at the start
    rate_of_rates: PositiveFloat = 1e-2  # Adam's, of log alpha (ours: the paper learns alpha itself, at 1e-4)
    normalised: bool = True  # the network reads factors of mean zero and deviation one
    measured: PositiveInt = (
        100  # training edits from which mean and deviation are taken, once (ours: all, as they come)
    )
    together: PositiveInt = 1  # edits of one update in training
    accumulated: PositiveInt = 10  # updates of one optimiser step
    steps: PositiveInt = 1000  # optimiser steps (ours: the paper stops by a validation split)
    clip: PositiveFloat = 100.0  # norm of the gradient of the network
    seed: NonNegativeInt = 0

    @classmethod
    def tuned(cls, **settings: Any) -> Self:
        """Return settings for small models on few cores, with some of them changed; each one's reason stands here."""
        ours: dict[str, Any] = {
            "rank": 256,  # 1920 is more than a small model's width
            "rate": 1e-4,  # a hundred times the published rate: there are a hundredth of its steps
        }
        return cls(**{**ours, **settings})


class Factors(NamedTuple):
    """A gradient's factors, one row a token: u (tokens, inputs) and delta (tokens, outputs); it is delta^T u."""

    inputs: Tensor
    deltas: Tensor


class Transformation(nn.Module):
    """The trained network of the chosen weights, equal in shape: g(z) with z the pair (u, delta), and the edit rates.

    h = z + ReLU(s_1 * (U_1 V_1 z + b) + o_1) and g = h + ReLU(s_2 * U_2 V_2 h + o_2), eq. 3; scale s and offset o are
    each layer's own. U and the offsets start at zero, so g starts as the identity. With `normalised`, z is the pair at
    mean zero and deviation one and what g adds is scaled back, so that an untrained g is gradient descent all the same.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: MendConfig, inputs: int, outputs: int) -> None:
        """Build an untrained transformation for weights (outputs, inputs)."""
        super().__init__()
        self.config, self.inputs, self.outputs = config, inputs, outputs
        size, layers = inputs + outputs, len(config.layers)
        rank = min(config.rank, size)
        stream = seeds.generator("mend", config.seed)
        self.down = nn.ParameterList(
            nn.init.xavier_uniform_(torch.empty(rank, size), generator=stream) for _ in range(2)
        )
        self.up = nn.ParameterList(torch.zeros(size, rank) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(size))
        self.scale = nn.Parameter(torch.ones(2, layers, size))
        self.offset = nn.Parameter(torch.zeros(2, layers, size))
        self.log_rates = nn.Parameter(torch.full((layers,), config.edit_rate).log())
        self.register_buffer("mean", torch.zeros(layers, size))
        self.register_buffer("deviation", torch.ones(layers, size))

    def forward(self, factors: Factors, number: int) -> Factors:
        """Return the transformed factors of the layer that stands at place `number` of `config.layers`."""
        pair = torch.cat(factors, -1)
        start = (pair - self.mean[number]) / self.deviation[number]
        hidden = start
        for step, (down, up) in enumerate(zip(self.down, self.up, strict=True)):
            before = hidden @ down.T @ up.T + (self.bias if step == 0 else 0)
            # ReLU by clamp, which has a gradient at zero, where all of it starts; that of relu is zero there.
            hidden = hidden + (self.scale[step, number] * before + self.offset[step, number]).clamp(min=0)
        # What g adds, at the scale of the pair: exactly nothing while g is the identity.
        pair = pair + (hidden - start) * self.deviation[number]
        return Factors(*pair.split([self.inputs, self.outputs], -1))

    @torch.no_grad()
    def measure(self, found: Sequence[Factors], number: int) -> None:
        """Take mean and deviation of a layer's pairs from the factors of some edits."""
        pairs = torch.cat([torch.cat(factors, -1) for factors in found]).double()
        deviation = pairs.std(0, correction=0)
        self.mean[number] = pairs.mean(0)
        # Inputs that hardly ever move would be blown up; u and delta differ by orders of magnitude, so each by itself.
        for part in deviation.split([self.inputs, self.outputs]):
            part.clamp_(min=max(1e-2 * part.mean().item(), 1e-12))
        self.deviation[number] = deviation
