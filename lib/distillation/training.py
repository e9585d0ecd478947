"""The training loop of every arm: a step count, gradient accumulation that changes nothing, exact resume after a kill.

What an arm learns from is its own business: the loop asks it for the losses of a batch, as shares of the batch's mean,
and for the weights they are added up with.
"""

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lib import progress, seeds
from lib.causal_lm import training_states
from lib.distillation import proportions
from lib.errors import UserError
from lib.settings import Settings, Share


class TrainingConfig(Settings):
    """The budget and the optimiser; a budget is a number of steps, never a clock.

    Decay and clipping are the field's for students of GPT-2's size (sheet, "Protocol"). "muon" takes Muon for the
    matrices of the student's blocks and AdamW for all else (our choice: from scratch, in a few hundred steps, AdamW
    alone learns half as fast); "adamw" takes AdamW for everything.
    """

    steps: PositiveInt
    batch: PositiveInt  # rows of a step
    rate: PositiveFloat  # of AdamW
    optimiser: Literal["adamw", "muon"] = "adamw"
    matrix_rate: PositiveFloat = 2e-2  # of Muon
    weight_decay: NonNegativeFloat = 0.01
    warm_up: Share = 0.05  # of the steps; then a cosine to zero
    clip: PositiveFloat = 1.0
    micro_batches: PositiveInt = 1  # parts of a batch whose gradients are accumulated; the result is the same


class DivergedError(UserError):
    """A loss or its gradient is not a number."""


class Arm(Protocol):
    """What is trained, and on what: one method of the comparison."""

    @property
    def module(self) -> nn.Module:
        """All that is trained, and the proportions."""

    @property
    def rule(self) -> proportions.Fixed:
        """How the losses are added up, part of the module."""

    @property
    def matrices(self) -> Sequence[Tensor]:
        """Of the blocks: what Muon trains."""

    @property
    def shared(self) -> Sequence[Tensor]:
        """Weights at which rules that need them read the losses' gradients."""

    def prepare(self, step: int, rows: Sequence[int], parts: int) -> Sequence[Any]:
        """Return the batch of a step in at most so many parts, each of which knows the counts of the whole batch."""

    def losses(self, part: Any) -> dict[str, Tensor]:
        """Return each loss of a part, divided by the count of the whole batch: parts add up to the batch's mean."""


@dataclass
class Trained:
    """What training leaves: a row of losses and weights for every step, and the seconds it took."""

    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def rate_factor(step: int, config: TrainingConfig) -> float:
    """Return the share of the peak rate at a step: linear warm-up, then a cosine to zero."""
    warm = max(1, round(config.warm_up * config.steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))


def optimisers(arm: Arm, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Return AdamW, without decay for vectors and numbers, and before it Muon where the configuration says so."""
    matrices = {id(value) for value in arm.matrices} if config.optimiser == "muon" else set()
    trained = [value for value in arm.module.parameters() if value.requires_grad]
    rest = [value for value in trained if id(value) not in matrices]
    groups = [
        {"params": [value for value in rest if value.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [value for value in rest if value.ndim <= 1], "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([group for group in groups if group["params"]], config.rate, betas=(0.9, 0.98))
    ]
    if matrices:
        chosen = [value for value in trained if id(value) in matrices]
        found.insert(0, torch.optim.Muon(chosen, config.matrix_rate, weight_decay=config.weight_decay, momentum=0.95))
    return found


def train(
    arm: Arm,
    order: Sequence[Sequence[int]],
    config: TrainingConfig,
    seed: int,
    workspace: Path | None = None,
    save_every: int = 100,
    watch: Callable[[int], None] | None = None,
    watch_at: Collection[int] = (),
    until: int | None = None,
) -> Trained:
    """Train `arm.module` in place on the rows of `order`, one entry a step; equal arguments give equal weights.

    With a `workspace` the state is saved there every `save_every` steps and training resumes from it, bit for bit: what
    step n draws comes from streams of (seed, n) alone. `watch` is called with the number of steps taken after those in
    `watch_at`; its time is not counted. `until` stops after so many of the steps: they are the first of the whole
    training. Raises `DivergedError` naming the step, `ValueError` for too short an order, or saving every 0 steps.
    """
    last = config.steps if until is None else min(until, config.steps)
    if len(order) < last or save_every < 1:
        raise ValueError(f"{last} steps, saved every {save_every}, and batches for {len(order)}")
    parameters = [value for value in arm.module.parameters() if value.requires_grad]
    state = State(arm, optimisers(arm, config))
    if workspace is not None:
        state.load(workspace)
    arm.module.train()
    for step in progress.bar(range(state.step, last), f"training, {last} steps"):
        began = time.perf_counter()
        torch.manual_seed(seeds.seed_of("dropout", seed, step))
        row = advance(arm, state.optimisers, parameters, order[step], step, config)
        state.step, state.seconds = step + 1, state.seconds + time.perf_counter() - began
        state.curve.append(row)
        if watch is not None and step + 1 in watch_at:
            arm.module.eval()
            watch(step + 1)
            arm.module.train()
        if workspace is not None and (step + 1) % save_every == 0:
            state.save(workspace)
    arm.module.eval()
    return Trained(state.curve, state.seconds)


def advance(
    arm: Arm,
    chosen: Sequence[torch.optim.Optimizer],
    parameters: Sequence[Tensor],
    rows: Sequence[int],
    step: int,
    config: TrainingConfig,
) -> dict[str, float]:
    """Take one optimiser step; returns the mean of each loss, and its weight. Raises `DivergedError`."""
    means: dict[str, float] = {}
    gradients: dict[str, list[Tensor]] = {}
    weights, parts = arm.rule.weights(), arm.prepare(step, rows, config.micro_batches)
    for part in parts:
        losses = arm.losses(part)
        for name, loss in losses.items():
            means[name] = means.get(name, 0.0) + loss.item()
            if not math.isfinite(means[name]):
                raise DivergedError(f"step {step + 1}: the {name} loss is {means[name]}: lower the rate or its weight")
        if arm.rule.needs_norms:
            for name, found in proportions.gradients(losses, arm.shared).items():
                sofar = gradients.get(name)
                gradients[name] = [a + b for a, b in zip(sofar, found, strict=True)] if sofar else found
        arm.rule.combine(losses, 1 / len(parts)).backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
    if not torch.isfinite(norm):
        raise DivergedError(f"step {step + 1}: the gradient is {norm.item()}: lower the rate or a loss's weight")
    for optimiser in chosen:
        peak = config.matrix_rate if isinstance(optimiser, torch.optim.Muon) else config.rate
        for group in optimiser.param_groups:
            group["lr"] = peak * rate_factor(step, config)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    norms = {name: proportions.norm(found) for name, found in gradients.items()}
    arm.rule.observe(means, norms if arm.rule.needs_norms else None)
    return {"step": step + 1, **means, **{f"weight_{name}": weight for name, weight in weights.items()}}


@dataclass
class State:
    """All that a later step depends on: saved as safetensors and JSON, never pickled."""

    arm: Arm
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the state as one file, in one step."""
        told = {"step": self.step, "seconds": self.seconds, "curve": self.curve}
        training_states.save(folder, told, self.optimisers, model=self.arm.module.state_dict())

    def load(self, folder: Path) -> None:
        """Take up the saved state, if there is a whole one; a damaged file is named and training starts anew."""
        found = training_states.load(folder, self.optimisers)
        if found is not None:
            told, parts = found
            self.arm.module.load_state_dict(parts["model"])
            self.step, self.seconds, self.curve = told["step"], told["seconds"], told["curve"]
