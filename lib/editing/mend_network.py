"""MEND's trained network: how the two factors of a gradient are transformed (arXiv 2110.11309, sec. 3.1)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from lib import seeds
from lib.settings import Settings


class MendConfig(Settings):
    """MEND; defaults are the paper's unless marked ours."""

    layers: tuple[int, ...] = Field((29, 30, 31), min_length=1)  # the paper: the last three blocks (here of 32)
    rank: int = Field(1920, ge=1)  # of the network's two maps; no more than the factors' sizes together
    c_edit: float = 0.1
    c_loc: float = 1.0
    rate: float = 1e-6  # of the network (Adam)
    edit_rate: float = Field(1e-4, gt=0)  # alpha of every layer at the start
    rate_of_rates: float = 1e-2  # Adam's, of log alpha (ours: the paper learns alpha itself, at 1e-4)
    normalised: bool = True  # the network reads factors of mean zero and deviation one
    measured: int = Field(100, ge=1)  # training edits from which mean and deviation are taken, once (ours)
    together: int = Field(1, ge=1)  # edits of one update in training
    accumulated: int = Field(10, ge=1)  # updates of one optimiser step
    steps: int = Field(1000, ge=1)  # optimiser steps (ours: the paper stops by a validation split)
    clip: float = 100.0  # norm of the gradient of the network
    seed: int = 0


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
