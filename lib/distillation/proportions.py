"""Proportions of the losses: L = sum of w_i L_i, with weights that are fixed, scheduled, or follow the training.

rule = proportions.rule("gradnorm", {"ce": 1.0, "output": 1.0, "middle": 1.0}, steps=400)
loss = rule.combine(losses)                  # backward; the rule's own parameters are the optimiser's too
rule.observe(values, norms)                  # once after every step; `norms` only where `rule.needs_norms`
log = rule.weights()                         # plain numbers, to be written down at every step
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lib.errors import UserError
from lib.registry import Registry


class Fixed(nn.Module):
    """Weights that stay as they were given; the parent of the other rules, all of which start from given weights."""

    needs_norms = False
    start: Tensor

    def __init__(self, start: Mapping[str, float]) -> None:
        """Take the weight of each loss by name; raises `UserError` for a negative or not finite one, and for all zero.

        A weight of zero switches its loss off under every rule.
        """
        super().__init__()
        if any(not 0 <= weight < float("inf") for weight in start.values()) or not any(start.values()):
            raise UserError(f"proportions {dict(start)}: give weights that are not negative, at least one above zero")
        self.names = tuple(name for name, weight in start.items() if weight)
        self.register_buffer("start", torch.tensor([start[name] for name in self.names], dtype=torch.float64))

    @classmethod
    def over(cls, start: Mapping[str, float], steps: int) -> "Fixed":
        """Return the rule for a training of so many steps; raises as the rule itself does."""
        del steps  # only a schedule knows how long it is
        return cls(start)

    def current(self) -> Tensor:
        """Return the weights in the order of `names`, (losses,), float64."""
        return self.start

    def penalty(self) -> Tensor:
        """Return what is added to the loss beside the weighted sum: zero but for uncertainty weighting."""
        return torch.zeros((), dtype=torch.float64)

    def combine(self, losses: Mapping[str, Tensor], share: float = 1.0) -> Tensor:
        """Return sum w_i L_i + share * penalty, a scalar of the losses' precision.

        The losses are those of a part of a step, already divided by the counts of the whole step; `share` is that
        part's share of the step (the shares of a step add up to 1). Raises `ValueError` where a weighted loss is
        missing.
        """
        if missing := [name for name in self.names if name not in losses]:
            raise ValueError(f"no loss {', '.join(missing)}; given are {', '.join(losses)}")
        weights = self.current()
        total = sum(weight * losses[name] for name, weight in zip(self.names, weights, strict=True))
        return (total + share * self.penalty()).to(losses[self.names[0]].dtype)

    def observe(self, losses: Mapping[str, float], norms: Mapping[str, float] | None = None) -> None:
        """Take note of the losses of a whole step, and of their gradients' norms where the rule needs them."""

    def weights(self) -> dict[str, float]:
        """Return the weights as they are now, by name."""
        return dict(zip(self.names, self.current().tolist(), strict=True))

    def _values(self, numbers: Mapping[str, float]) -> Tensor:
        return torch.tensor([numbers[name] for name in self.names], dtype=torch.float64)


class Linear(Fixed):
    """The weights go in a straight line to `end` over the steps of the training, and stay there."""

    end: Tensor
    step: Tensor

    def __init__(self, start: Mapping[str, float], end: Mapping[str, float], steps: int) -> None:
        """Take both ends by name; raises as `Fixed` does, and `ValueError` for no steps or other names at the end."""
        super().__init__(start)
        if steps < 1 or set(end) != set(start):
            raise ValueError(f"{steps} steps to {dict(end)}: name the losses of the start, {', '.join(start)}")
        self.steps = steps
        self.register_buffer("end", self._values(end))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @classmethod
    def over(cls, start: Mapping[str, float], steps: int) -> "Linear":
        """Return the rule under which the middle loss goes to zero over the training."""
        return cls(start, {**start, "middle": 0.0}, steps)

    def current(self) -> Tensor:
        """Return the weights of the coming step: `start` at the first, `end` after the last."""
        return torch.lerp(self.start, self.end, min(1.0, self.step.item() / self.steps))

    def observe(self, losses: Mapping[str, float], norms: Mapping[str, float] | None = None) -> None:
        """Count the step."""
        self.step += 1


class Uncertainty(Fixed):
    """Each loss is divided by a learnt variance (Kendall et al. 2018): sum w_i L_i - 1/2 sum log w_i, w = 1 / (2 s^2).

    The parameters are (log w) / speed. At the optimum w_i = 1 / (2 L_i), so an easy loss is raised, whatever it is good
    for. With Adam a parameter moves by the rate at each step at most: `speed` 10 lets some hundred steps suffice.
    """

    speed = 10.0

    def __init__(self, start: Mapping[str, float]) -> None:
        """Start at the given weights."""
        super().__init__(start)
        self.scaled = nn.Parameter(self.start.log() / self.speed)

    def current(self) -> Tensor:
        """Return the weights; the gradient of the loss reaches their logarithms."""
        return (self.speed * self.scaled).exp()

    def penalty(self) -> Tensor:
        """Return -1/2 sum log w_i: what keeps a variance from growing without end."""
        return -self.speed * self.scaled.sum() / 2


class DynamicAverage(Fixed):
    """Dynamic weight averaging (Liu et al. 2019): a loss that falls more slowly than the others gets more weight.

    w_i = K start_i softmax_i(r / temperature), where r_i is the mean of L_i over the last `window` steps over that of
    the window before (the paper's are epochs), and one for a loss that was zero there: nothing tells how fast it falls.
    Until two windows are full the weights are those of the start.
    """

    seen: Tensor

    def __init__(self, start: Mapping[str, float], window: int = 10, temperature: float = 2.0) -> None:
        """Take the given weights; raises as `Fixed` does, and `ValueError` for a window or temperature not above 0."""
        super().__init__(start)
        if window < 1 or not 0 < temperature < math.inf:
            raise ValueError(f"window {window}, temperature {temperature}: both must be above 0")
        self.window, self.temperature = window, temperature
        self.register_buffer("seen", torch.zeros(0, len(self.names), dtype=torch.float64))

    def current(self) -> Tensor:
        """Return the weights of the coming step."""
        if len(self.seen) < 2 * self.window:
            return self.start
        before, last = self.seen.split(self.window)
        rates = _ratio(last.mean(0), before.mean(0))
        return self.start * len(self.names) * torch.softmax(rates / self.temperature, dim=0)

    def observe(self, losses: Mapping[str, float], norms: Mapping[str, float] | None = None) -> None:
        """Keep the losses of the last two windows."""
        self.seen = torch.cat([self.seen, self._values(losses)[None]])[-2 * self.window :]

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *others: object) -> None:
        # The number of steps seen is part of the state, and may differ from that of a new rule.
        self.seen = torch.zeros_like(state_dict[prefix + "seen"])
        super()._load_from_state_dict(state_dict, prefix, *others)


class GradNorm(Fixed):
    """GradNorm (Chen et al. 2018): the weighted gradients of all losses come to equal norms, slow losses to larger
    ones.

    After each step the weights descend along sum |G_i - mean(G) r_i^alpha|, with G_i = w_i times the norm of L_i's
    gradient at the shared weights, r_i = (L_i / L_i at the first step) over its mean, and the target held constant
    (equations 1 and 2). The first step of a loss is the first at which it is not zero (one that is not taken of the
    student's own responses may begin so). Norms are read in units of their mean, so that `rate` needs no tuning; the
    weights keep their sum.
    """

    needs_norms = True
    now: Tensor
    first: Tensor
    least = 1e-3  # of a weight, in units of the mean weight

    def __init__(self, start: Mapping[str, float], alpha: float = 0.12, rate: float = 0.025) -> None:
        """Take the given weights; alpha 0.12 and rate 0.025 are the paper's. `ValueError` for a negative one."""
        super().__init__(start)
        if not (0 <= alpha < math.inf and 0 <= rate < math.inf):
            raise ValueError(f"alpha {alpha}, rate {rate}: neither may be negative or without end")
        self.alpha, self.rate = alpha, rate
        self.register_buffer("now", self.start.clone())
        self.register_buffer("first", torch.zeros_like(self.start))

    def current(self) -> Tensor:
        """Return the weights of the coming step."""
        return self.now

    def observe(self, losses: Mapping[str, float], norms: Mapping[str, float] | None = None) -> None:
        """Move the weights one step; raises `ValueError` without norms."""
        if norms is None:
            raise ValueError("GradNorm needs the norm of each loss's gradient")
        values, sizes = self._values(losses), self._values(norms)
        self.first.copy_(torch.where(self.first == 0, values, self.first))
        unit = self.start.mean()
        weights = self.now / unit
        sizes = sizes / (weights * sizes).mean().clamp_min(torch.finfo(sizes.dtype).tiny)
        rates = _ratio(values, self.first)
        target = _ratio(rates, rates.mean()) ** self.alpha  # the mean of G is 1 in these units
        moved = (weights - self.rate * torch.sign(weights * sizes - target) * sizes).clamp_min(self.least)
        self.now.copy_(moved * (len(moved) / moved.sum()) * unit)


# By the names that a case carries.
PROPORTIONS: Registry[type[Fixed]] = Registry(
    "rule of proportions",
    {
        "fixed": Fixed,
        "linear": Linear,
        "uncertainty": Uncertainty,
        "dynamic": DynamicAverage,
        "gradnorm": GradNorm,
    },
)


def rule(name: str, start: Mapping[str, float], steps: int) -> Fixed:
    """Return a rule by name, for a training of so many steps; raises `UserError` as the registry and `Fixed` do."""
    return PROPORTIONS[name].over(start, steps)


def gradients(losses: Mapping[str, Tensor], shared: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """Return each loss's gradient at the shared weights, unweighted; the graph stays for the backward pass.

    Gradients of the parts of a step add up, norms do not: hence not the norms. A loss that does not depend on a weight
    has a zero gradient there.
    """
    found = {}
    for name, loss in losses.items():
        parts = torch.autograd.grad(loss, list(shared), retain_graph=True, allow_unused=True)
        found[name] = [
            torch.zeros_like(weight) if part is None else part for part, weight in zip(parts, shared, strict=True)
        ]
    return found


def norm(parts: Sequence[Tensor]) -> float:
    """Return the Euclidean norm of all numbers of some tensors together."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part) for part in parts])).item()


def _ratio(values: Tensor, units: Tensor) -> Tensor:
    """Return values / units, and one where the unit is zero."""
    return torch.where(units == 0, 1, values / units)
