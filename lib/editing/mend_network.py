"""MEND's trained network: how the two factors of a gradient are transformed (arXiv 2110.11309, sec. 3.1)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lib import seeds
from lib.settings import Settings


class MendConfig(Settings):
    """MEND; defaults are those of its authors' code, `tuned` is ours.

    What still differs from that code: it stops by a validation split and keeps the best network (here `steps` are
    taken, or `Mend.train` is given edits to look at); the text that is to stay is another example's (here the edit's
    own locality prompt and answer); its first optimiser step has one update more than the others; it passes over
    updates whose gradient is not finite (here `DivergedError`), and refuses to normalise before its second token (here
    zero).
    """

    layers: tuple[NonNegativeInt, ...] = Field((29, 30, 31), min_length=1)  # last three blocks (here of 32)
    matrices: Literal["down", "all"] = "all"  # of a block's feed-forward part; those equal in shape share a network
    rank: PositiveInt = 1920  # of the network's two maps; no more than the factors' sizes together
    initial: Literal["normal", "xavier"] = "normal"  # V before training: of deviation one, or uniform by its sizes
    biases: Literal[1, 2] = 2  # of the network's two maps, those that have one (the paper: the first)
    c_edit: NonNegativeFloat = 0.1
    c_loc: NonNegativeFloat = 1.0
    rate: PositiveFloat = 1e-6  # of the network (Adam)
    edit_rate: PositiveFloat = 1e-4  # alpha of every weight at the start
    learnt: Literal["alpha", "logarithm"] = "alpha"  # as what an edit rate is trained
    # Adam's, of the edit rates. The code's setting of 1e-4 never acts: the network's optimiser holds them too, and
    # clears their gradient before their own takes its step.
    rate_of_rates: PositiveFloat = 1e-6
    direction: Literal["up", "down"] = "up"  # W + alpha delta'^T u' as in the code, or - as in the paper
    normalised: bool = True  # the network reads factors of mean zero and deviation one
    scaled_back: bool = False  # what the network adds is brought back to the factors' scale
    # Training edits from which mean and deviation are taken, once, for each weight; None: from all of training's as
    # they come, for weights of one shape together.
    measured: PositiveInt | None = None
    average: Literal["tokens", "edits"] = "tokens"  # loss of several edits: over all target tokens, or each edit's own
    drawn: Literal["in turn", "any"] = "in turn"  # edits of an update: all once before one comes again, or any
    together: PositiveInt = 1  # edits of one update in training
    accumulated: PositiveInt = 10  # updates of one optimiser step
    steps: PositiveInt = 100_000  # optimiser steps (the code's most, see above)
    look_every: PositiveInt = 20  # optimiser steps between looks at validation edits, where there are any
    patience: PositiveInt = 5  # looks without a lower validation loss, after which training stops
    clip: PositiveFloat = 100.0  # norm of the gradient of the network
    seed: NonNegativeInt = 0

    @classmethod
    def tuned(cls, **settings: Any) -> Self:
        """Return settings for small models on few cores, with some of them changed; each one's reason stands here.

        With the code's, a network that is hardly trained destroys a small model: its step is the product of factors of
        deviation one, whatever their size was, and points up the loss. Ours starts as gradient descent.
        """
        ours: dict[str, Any] = {
            "matrices": "down",  # what the other methods of the series change
            "rank": 256,  # 1920 is more than a small model's width
            "initial": "xavier",  # with normal V the first steps of U weigh as much as the factors themselves
            "biases": 1,  # the paper's equation 3; each weight's own offset does the second one's work
            "rate": 1e-4,  # a hundred times the published rate: there are a hundredth of its steps
            "learnt": "logarithm",  # so that a rate keeps its sign and can move by its own size
            "rate_of_rates": 1e-2,  # a hundredth of alpha a step
            "direction": "down",  # the paper's; "up" has to be unlearnt first
            "scaled_back": True,  # so that an untrained network leaves the gradient as it is
            "measured": 100,  # as they come, the first updates would be normalised by a handful of tokens
            "average": "edits",  # so that a batch's step is the sum of its edits' steps
            "drawn": "any",  # a run is shorter than one turn through the edits
            "steps": 1000,  # there is no validation split to stop by
        }
        return cls(**{**ours, **settings})

    @classmethod
    def validated(cls, **settings: Any) -> Self:
        """Return `tuned` for a training that a validation split stops, with some settings changed."""
        ours: dict[str, Any] = {
            "edit_rate": 1e-2,  # the best of four on the tuning split; from 1e-4 a rate needs hundreds of steps to rise
            "accumulated": 4,  # a step costs less than half as much, so that more of them fit under the cap
            "steps": 480,  # at most: as many as half an hour of one thread allows
        }
        return cls.tuned(**{**ours, **settings})


class Factors(NamedTuple):
    """A gradient's factors, one row a token: u (tokens, inputs) and delta (tokens, outputs); it is delta^T u."""

    inputs: Tensor
    deltas: Tensor


class Network(nn.Module):
    """The trained network g of weights that are equal in shape, and their edit rates.

    With z the pair (u, delta), h = z + ReLU(s_1 * (U_1 V_1 z + b_1) + o_1) and
    g = h + ReLU(s_2 * (U_2 V_2 h + b_2) + o_2), eq. 3 (there without b_2); scale s and offset o are each weight's own.
    U, b and o start at zero, so g starts as the identity. With `normalised`, z is the pair at mean zero and deviation
    one; with `scaled_back`, what g adds to it is brought back to the pair's scale and added to the pair.
    """

    mean: Tensor
    deviation: Tensor
    centre: Tensor
    squares: Tensor
    seen: Tensor

    def __init__(
        self, config: MendConfig, inputs: int, outputs: int, weights: int, stream: torch.Generator | None = None
    ) -> None:
        """Build an untrained network for a number of weights (outputs, inputs)."""
        super().__init__()
        self.config, self.inputs, self.outputs = config, inputs, outputs
        size = inputs + outputs
        rank = min(config.rank, size)
        stream = stream or seeds.generator("mend", config.seed)
        initial = nn.init.xavier_uniform_ if config.initial == "xavier" else nn.init.normal_
        self.down = nn.ParameterList(initial(torch.empty(rank, size), generator=stream) for _ in range(2))
        self.up = nn.ParameterList(torch.zeros(size, rank) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(config.biases, size))
        self.scale = nn.Parameter(torch.ones(2, weights, size))
        self.offset = nn.Parameter(torch.zeros(2, weights, size))
        rates = torch.full((weights,), config.edit_rate)
        self.rates = nn.Parameter(rates.log() if config.learnt == "logarithm" else rates)
        sets = 1 if config.measured is None else weights
        self.register_buffer("mean", torch.zeros(sets, size))
        self.register_buffer("deviation", torch.ones(sets, size))
        self.register_buffer("centre", torch.zeros(size, dtype=torch.float64))  # mean of what was seen
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))  # of the distances from it, summed
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))  # tokens

    def steps(self) -> Tensor:
        """Return, (weights,), what the product of the factors is multiplied with and then taken from a weight."""
        rates = self.rates.exp() if self.config.learnt == "logarithm" else self.rates
        return rates if self.config.direction == "down" else -rates

    def forward(self, factors: Factors, number: int) -> Factors:
        """Return the transformed factors of the network's weight `number`."""
        pair = torch.cat(factors, -1)
        mean, deviation = (value[number if len(value) > 1 else 0] for value in (self.mean, self.deviation))
        start = (pair - mean) / deviation
        hidden = start
        for step, (down, up) in enumerate(zip(self.down, self.up, strict=True)):
            before = hidden @ down.T @ up.T + (self.bias[step] if step < self.config.biases else 0)
            # ReLU by clamp, which has a gradient at zero, where all of it starts; that of relu is zero there.
            hidden = hidden + (self.scale[step, number] * before + self.offset[step, number]).clamp(min=0)
        if self.config.scaled_back:
            # What g adds, at the scale of the pair: exactly nothing while g is the identity.
            hidden = pair + (hidden - start) * deviation
        return Factors(*hidden.split([self.inputs, self.outputs], -1))

    @torch.no_grad()
    def measure(self, found: Sequence[Factors], number: int) -> None:
        """Take mean and deviation of one weight's pairs from the factors of some edits."""
        pairs = torch.cat([torch.cat(factors, -1) for factors in found]).double()
        deviation = pairs.std(0, correction=0)
        self.mean[number] = pairs.mean(0)
        # Inputs that hardly ever move would be blown up; u and delta differ by orders of magnitude, so each by itself.
        for part in deviation.split([self.inputs, self.outputs]):
            part.clamp_(min=max(1e-2 * part.mean().item(), 1e-12))
        self.deviation[number] = deviation

    @torch.no_grad()
    def observe(self, factors: Factors) -> None:
        """Add an update's factors to the mean and deviation (over n - 1, plus 1e-7) of all that were seen."""
        pairs = torch.cat(factors, -1).double()
        added = len(pairs)
        if added == 0:
            return
        # Two parts' means and squares make the whole's (Chan et al., 1979).
        apart, whole = pairs.mean(0) - self.centre, self.seen + added
        self.squares += pairs.var(0, correction=0) * added + apart.square() * self.seen * added / whole
        self.centre += apart * added / whole
        self.seen.copy_(whole)
        self.mean[0] = self.centre
        self.deviation[0] = (self.squares / (whole - 1).clamp(min=1)).sqrt() + 1e-7


class Transformation(nn.Module):
    """The trained networks of the chosen weights, one for each shape among them."""

    def __init__(self, config: MendConfig, shapes: Sequence[tuple[int, int]]) -> None:
        """Build untrained networks for weights of these shapes, (outputs, inputs) each."""
        super().__init__()
        self.config, self.shapes = config, tuple(shapes)
        stream = seeds.generator("mend", config.seed)
        kinds = list(dict.fromkeys(self.shapes))
        self.networks = nn.ModuleList(
            Network(config, inputs, outputs, self.shapes.count((outputs, inputs)), stream) for outputs, inputs in kinds
        )
        # Each weight's network, and its number there.
        self.places = [(kinds.index(shape), self.shapes[:n].count(shape)) for n, shape in enumerate(self.shapes)]

    def network(self, number: int) -> tuple[Network, int]:
        """Return the network of the weight at place `number` of `shapes`, and the weight's number there."""
        place, within = self.places[number]
        found = self.networks[place]
        assert isinstance(found, Network)
        return found, within

    def forward(self, factors: Factors, number: int) -> Factors:
        """Return the transformed factors of the weight that stands at place `number` of `shapes`."""
        network, within = self.network(number)
        result: Factors = network(factors, within)
        return result

    def steps(self) -> Tensor:
        """Return, (weights,), what the product of the factors is multiplied with and then taken from a weight."""
        found = [network.steps() for network in self.networks if isinstance(network, Network)]
        return torch.stack([found[place][within] for place, within in self.places])


@dataclass
class Looks:
    """Validation losses of a training, by optimiser step, and the network at the lowest: it stops when patience ends.

    `settled` tells whether it stopped so, before all steps were taken.
    """

    patience: int
    losses: dict[int, float] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    settled: bool = False

    def note(self, step: int, loss: float, network: nn.Module) -> bool:
        """Note the loss after a number of steps; tell whether training is to stop."""
        if not self.losses or loss < min(self.losses.values()):
            self.best = copy.deepcopy(network.state_dict())
        self.losses[step] = loss
        order = list(self.losses)
        lowest = order.index(min(order, key=self.losses.__getitem__))
        self.settled = len(order) - 1 - lowest >= self.patience
        return self.settled
