"""The training loop of every arm: a step count, gradient accumulation that changes nothing, exact resume after a kill.

What an arm learns from is its own business: the loop asks it for the losses of a batch, as shares of the batch's mean,
and for the weights they are added up with.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lib import errors, progress, seeds
from lib.causal_lm import processes, sharding, training_states
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
    # What saves memory and changes no result: parts of a batch (in each process) whose gradients are accumulated; the
    # layers' inner states computed a second time instead of kept; and, of several processes, each holding a share of
    # the weights, gradients and moments.
    micro_batches: PositiveInt = 1
    checkpointing: bool = False
    sharded: bool = False


class DivergedError(errors.DivergedError, UserError):
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
    device: torch.device | str = "cpu",
) -> Trained:
    """Train `arm.module` in place on the rows of `order`, one entry a step; equal arguments give equal weights.

    With a `workspace` the state is saved there every `save_every` steps and training resumes from it, bit for bit: what
    step n draws comes from streams of (seed, n) alone. `watch` is called with the number of steps taken after those in
    `watch_at`; its time is not counted. `until` stops after so many of the steps: they are the first of the whole
    training. Of several processes (`lib.causal_lm.processes`), each on its own `device` of that type, every one takes
    parts of every batch, so that their number changes no result but by rounding and dropout; the first one saves.
    Raises `DivergedError` naming the step, `ValueError` for too short an order, or saving every 0 steps, `UserError`
    for layers that cannot be computed again, and for what cannot be shared out.
    """
    last = config.steps if until is None else min(until, config.steps)
    if len(order) < last or save_every < 1:
        raise ValueError(f"{last} steps, saved every {save_every}, and batches for {len(order)}")
    if config.checkpointing:
        recompute(arm.module)
    team = sharding.team(device) if config.sharded else processes.team(device)
    if config.sharded and team.count > 1:
        check_sharded(arm, config, watch is not None)
    state = State(arm, config, team)
    if workspace is not None:
        with team.first():
            state.load(workspace)
    arm.module.train()
    for step in progress.bar(range(state.step, last), f"training, {last} steps"):
        began = time.perf_counter()
        rank = (team.rank,) if team.rank else ()
        torch.manual_seed(seeds.seed_of("dropout", seed, step, *rank))
        row = advance(state, order[step], step)
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


def recompute(module: nn.Module) -> None:
    """Let transformers' layers keep their inputs alone for the backward pass; `UserError` where there are none."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [one for one in module.modules() if isinstance(one, GradientCheckpointingLayer)]
    if not layers:
        raise UserError("checkpointing: no layer of the model can be computed again; leave it off")
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(torch.utils.checkpoint.checkpoint, use_reentrant=False)


def check_sharded(arm: Arm, config: TrainingConfig, watched: bool) -> None:
    """Raise `UserError` for what needs whole weights: Muon, norms of gradients, writing between the steps."""
    needs = {
        "optimiser='muon'": config.optimiser == "muon" and bool(arm.matrices),
        "proportions by gradients' norms": arm.rule.needs_norms,
        "answers while it trains": watched,
        "on-policy batches": bool(getattr(getattr(arm, "config", None), "on_policy", 0)),
    }
    if told := [name for name, needed in needs.items() if needed]:
        raise UserError(f"sharded: {', '.join(told)} cannot be had of divided weights; leave sharded off")


class Losses(nn.Module):
    """The losses of an arm as a forward pass, which is what processes share."""

    def __init__(self, arm: Arm) -> None:
        """Take the arm, whose weights stay its own."""
        super().__init__()
        self.module = arm.module
        self._arm = (arm,)  # in a tuple: not a submodule, but what reads the one above

    def forward(self, part: Any, share: float) -> tuple[dict[str, Tensor], Tensor]:
        """Return each loss of a part, and what they add up to where the part is such a share of its step."""
        (arm,) = self._arm
        losses = arm.losses(part)
        return losses, arm.rule.combine(losses, share)


def advance(state: "State", rows: Sequence[int], step: int) -> dict[str, float]:
    """Take one optimiser step; returns the mean of each loss, and its weight. Raises `DivergedError`."""
    arm, config, weights = state.arm, state.config, state.arm.rule.weights()
    means, norms = descend(state, rows, step)
    for name, mean in means.items():
        if not math.isfinite(mean):
            raise DivergedError(f"step {step + 1}: the {name} loss is {mean}: lower the rate or its weight")
    norm = sharding.whole(torch.nn.utils.clip_grad_norm_(state.parameters, config.clip))
    if not torch.isfinite(norm):
        raise DivergedError(f"step {step + 1}: the gradient is {norm.item()}: lower the rate or a loss's weight")
    for optimiser in state.optimisers:
        peak = config.matrix_rate if isinstance(optimiser, torch.optim.Muon) else config.rate
        for group in optimiser.param_groups:
            group["lr"] = peak * rate_factor(step, config)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    arm.rule.observe(means, norms if arm.rule.needs_norms else None)
    return {"step": step + 1, **means, **{f"weight_{name}": weight for name, weight in weights.items()}}


def descend(state: "State", rows: Sequence[int], step: int) -> tuple[dict[str, float], dict[str, float]]:
    """Leave the gradient of a step in the weights; returns the mean of each loss, and the norms that the rule needs.

    Every loss is a share of the mean over the whole batch, so parts and processes change nothing but rounding.
    """
    arm, config, team = state.arm, state.config, state.team
    parts = arm.prepare(step, rows, config.micro_batches * team.count)
    portion = team.portion(len(parts))
    own = parts[portion.rows]
    found: list[Mapping[str, Tensor]] = []
    gradients: dict[str, list[Tensor]] = {}
    for number, part in enumerate(own):
        with nullcontext() if number == len(own) - 1 else team.without_mean(state.losses):
            losses, total = state.losses(part, 1 / len(parts))
            if arm.rule.needs_norms:
                for name, more in proportions.gradients(losses, arm.shared).items():
                    sofar = gradients.get(name)
                    gradients[name] = [a + b for a, b in zip(sofar, more, strict=True)] if sofar else more
            (total if portion.weight == 1 else portion.weight * total).backward()
        found.append({name: loss.detach() for name, loss in losses.items()})
    if config.sharded and team.count > 1:  # each pass gathers weights of all: those with fewer parts take part as well
        for _ in range(-(-len(parts) // team.count) - len(own)):
            (0 * state.losses(own[-1], 0.0)[1]).backward()
    # Read together after the last pass: a GPU need not be waited for at every part.
    told = torch.stack([torch.stack(list(losses.values())) for losses in found]).tolist()
    means = {name: sum((row[place] for row in told), 0.0) for place, name in enumerate(found[0])}
    if team.count > 1:
        shared = team.mean(portion.weight * torch.tensor(list(means.values()), dtype=torch.float64, device=team.device))
        means = dict(zip(means, shared.tolist(), strict=True))
        gradients = {name: [team.mean(portion.weight * one) for one in every] for name, every in gradients.items()}
    return means, {name: proportions.norm(every) for name, every in gradients.items()}


@dataclass
class State:
    """All that a later step depends on: saved as safetensors and JSON, never pickled."""

    arm: Arm
    config: TrainingConfig
    team: processes.Team = field(default_factory=processes.Team)
    step: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Let the processes share the losses' gradients, or what is trained as well."""
        self.losses = self.team.wrap(Losses(self.arm))
        self.parameters = [value for value in self.arm.module.parameters() if value.requires_grad]
        self.optimisers = optimisers(self.arm, self.config)

    def save(self, folder: Path) -> None:
        """Write the state as one file, in one step; of several processes the first one writes, and all wait."""
        told = {"step": self.step, "seconds": self.seconds, "curve": self.curve}
        model = {name: sharding.whole(value) for name, value in self.arm.module.state_dict().items()}
        remembered: list[Any] = [sharding.Whole(one) for one in self.optimisers]
        if self.team.rank == 0:
            training_states.save(folder, told, remembered, model=model)
        self.team.wait()

    def load(self, folder: Path) -> None:
        """Take up the saved state, if there is a whole one; a damaged file is named and training starts anew."""
        remembered: list[Any] = [sharding.Whole(one) for one in self.optimisers]
        found = training_states.load(folder, remembered)
        if found is not None:
            told, parts = found
            mine = self.arm.module.state_dict()
            model = {name: sharding.divided(value, mine.get(name, value)) for name, value in parts["model"].items()}
            self.arm.module.load_state_dict(model)
            self.step, self.seconds, self.curve = told["step"], told["seconds"], told["curve"]
