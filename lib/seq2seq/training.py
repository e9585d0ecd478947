"""Training of any of the models: a step count, an average of the weights, and exact resume after a kill."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lib import errors, paths, progress, seeds
from lib.causal_lm import processes, training_states
from lib.errors import UserError
from lib.machine import bfloat16  # noqa: F401  # makes such products quick where the processor has none
from lib.seq2seq import batches, draws
from lib.seq2seq.blocks import Block
from lib.seq2seq.counts import Count
from lib.settings import Settings, Share


class TrainingConfig(Settings):
    """The budget and the optimiser; a budget is a number of steps, never a clock."""

    steps: Count
    tokens: Count = 4096  # source and target words in a batch, of all processes together
    optimiser: Literal["adamw", "muon"] = "adamw"  # "muon": for the matrices that the model names, AdamW for the rest
    rate: PositiveFloat = 2e-3  # AdamW
    matrix_rate: PositiveFloat = 2e-2  # Muon
    weight_decay: NonNegativeFloat = 0.01
    warm_up: Share = 0.05  # share of the steps
    decay: Literal["cosine", "linear"] = "cosine"  # of the rate, to zero
    second_moment: Annotated[float, Field(gt=0, lt=1)] = 0.98  # what AdamW keeps of it at a step
    clip: PositiveFloat | None = 1.0  # most length of a gradient
    average: Share = 0.9999  # most that the average of the weights keeps; earlier (1 + n) / (10 + n)
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    # What saves memory and changes no result: the words that pass the network at once (None: a whole batch), and the
    # layers' inner states computed a second time instead of kept.
    micro_tokens: PositiveInt | None = None
    checkpointing: bool = False


# DiffuSeq's code: its rate falls from the first step on, and nothing else holds the weights back.
RELEASED: Mapping[str, Any] = MappingProxyType(
    {"warm_up": 0.0, "decay": "linear", "second_moment": 0.999, "weight_decay": 0.0, "clip": None}
)


class DivergedError(errors.DivergedError, UserError):
    """The loss, its gradient or a weight is not a number; the last good weights are kept in the checkpoint."""


@dataclass
class Trained:
    """What training leaves: the averaged model and its curve."""

    model: nn.Module
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    words: int = 0


def optimisers(model: nn.Module, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Return the optimisers: AdamW, or Muon for the matrices below the model's `hidden` and AdamW for the rest."""
    named = dict(model.named_parameters())
    hidden = getattr(model, "hidden", ()) if config.optimiser == "muon" else ()
    matrices = sorted(n for n, p in named.items() if p.ndim == 2 and n.startswith(tuple(hidden)) and hidden)
    rest = [p for n, p in named.items() if n not in set(matrices) and p.requires_grad]
    decay = config.weight_decay
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, config.rate, betas=(0.9, config.second_moment), weight_decay=decay, fused=True)
    ]
    if matrices:
        # adjust_lr_fn="match_rms_adamw" would tie the rate to AdamW's; the original scale keeps two plain numbers.
        chosen = [named[n] for n in matrices]
        found.append(torch.optim.Muon(chosen, config.matrix_rate, weight_decay=decay, momentum=0.95))
    return found


def rate_factor(step: int, config: TrainingConfig) -> float:
    """Return the share of the peak rate at a step: linear warm-up, then a cosine or a line to zero."""
    warm = max(1 if config.decay == "cosine" else 0, round(config.warm_up * config.steps))
    if step < warm:
        return (step + 1) / warm
    share = (step - warm) / max(1, config.steps - warm)
    return 1 - share if config.decay == "linear" else 0.5 * (1 + math.cos(math.pi * share))


def train(
    build: Callable[[], nn.Module],
    config: TrainingConfig,
    encoded: batches.Encoded,
    seed: int,
    device: str = "cpu",
    workspace: Path | None = None,
    save_every: int = 200,
    watch: Callable[[nn.Module], dict[str, float]] | None = None,
    watch_at: Collection[int] = (),
) -> Trained:
    """Train what `build` makes for `config.steps` steps; equal arguments give equal weights on an equal environment.

    `build` draws its weights from torch's global generator, which is seeded here. With a `workspace`, the state is
    saved there every `save_every` steps and training resumes from it, bit for bit: every draw of step n comes from
    streams of (seed, n) alone. After the steps in `watch_at`, `watch` sees the averaged model and adds columns to the
    curve; its time is not counted. Of several processes (see `processes`) each takes its part of every batch, so that
    their number changes no result but by rounding and dropout; the first one saves. Raises `DivergedError`, after the
    last good state is saved, and `UserError` for no pairs.
    """
    if not encoded.pairs:
        raise UserError(f"no pair to train on, {encoded.left_out} do not fit their window: widen it, or give others")
    torch.manual_seed(seeds.seed_of("weights", seed))
    team = processes.team(device)
    model = build().to(team.device).train()
    if config.checkpointing:
        recompute(model)
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    state = State(model, average, optimisers(model, config), team)
    if workspace is not None:
        with team.first():
            state.load(workspace)
    order: list[Any] = []
    epoch, first = -1, 0
    per_epoch = len(batches.order(encoded, config.tokens, seed, 0))
    for step in progress.bar(range(state.step, config.steps), f"training, {config.steps} steps"):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            first, order = epoch * per_epoch, batches.order(encoded, config.tokens, seed, epoch)
        length, rows = order[step - first]
        source, target = (part[rows].to(team.device) for part in encoded.groups[length])
        began = time.perf_counter()
        try:
            terms = advance(state, config, source, target, (seed, step))
        except DivergedError as error:
            if workspace is None or not state.is_finite():
                raise
            state.save(workspace)
            raise DivergedError(f"{error} in {paths.relative(workspace)}") from None
        state.step, state.seconds = step + 1, state.seconds + time.perf_counter() - began
        state.words += source.numel() + target.numel()
        if (step + 1) % 50 == 0 or step + 1 == config.steps or step + 1 in watch_at:
            seen = {}
            if watch is not None and step + 1 in watch_at:
                with averaged(state):
                    seen = watch(model)
            state.curve.append({"step": step + 1, **terms, **seen})
        if workspace is not None and (step + 1) % save_every == 0 and state.is_finite():
            state.save(workspace)
    if not state.is_finite():  # after the last step no loss is taken any more
        raise DivergedError(f"the weights are not finite after {config.steps} steps: choose a lower rate")
    put(model, state.average)
    return Trained(model.eval(), state.curve, state.seconds, state.words)


def put(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy named weights into a model; raises `KeyError` where one is missing."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(weights[name])


@contextmanager
def averaged(state: "State") -> Iterator[None]:
    """Put the averaged weights into the model, in evaluation mode, for the length of a `with` block."""
    model, trained = state.model, {name: value.detach().clone() for name, value in state.model.named_parameters()}
    put(model, state.average)
    model.eval()
    try:
        yield
    finally:
        put(model, trained)
        model.train()


def recompute(model: nn.Module) -> None:
    """Let the layers of a model keep their inputs alone for the backward pass; `UserError` for one without `Block`s."""
    layers = [module for module in model.modules() if isinstance(module, Block)]
    if not layers:
        raise UserError(f"checkpointing: {type(model).__name__} has no layer that can be computed again; leave it off")
    for layer in layers:
        layer.recomputed = True


class Losses(nn.Module):
    """The losses of a model as a forward pass, which is what processes share."""

    def __init__(self, model: nn.Module) -> None:
        """Take the model, whose weights stay its own."""
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, target: Tensor, stream: draws.Stream) -> dict[str, Tensor]:
        """Return the model's loss terms, each (sentences,)."""
        return self.model.losses(source, target, stream)  # type: ignore[operator]  # each of our models has it


def gradients(
    state: "State", config: TrainingConfig, source: Tensor, target: Tensor, draw: tuple[int, int]
) -> dict[str, float]:
    """Leave the gradient of the batch's mean loss in the weights; returns the mean of each loss term.

    The batch passes in parts of at most `config.micro_tokens` words. Every sentence has the draws that it has in the
    whole batch, and every mean is over the sentences of the batch, so the parts change nothing but rounding.
    """
    team, sentences = state.team, len(target)
    portion = team.portion(sentences)
    first, last = portion.rows.start, portion.rows.stop
    most = last - first
    if config.micro_tokens is not None:
        most = max(1, config.micro_tokens // (source.shape[1] + target.shape[1]))
    means: dict[str, Tensor] = {}
    for start in range(first, last, most):
        rows = slice(start, min(start + most, last))
        generator = draws.stream(target.device, "training", *draw)
        stream = generator if rows == slice(0, sentences) else draws.Part(generator, rows, sentences)
        share = portion.weight * (rows.stop - rows.start) / sentences
        with nullcontext() if rows.stop == last else team.without_mean(state.losses):
            with torch.autocast(target.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                terms = state.losses(source[rows], target[rows], stream)
            (torch.stack(list(terms.values())).sum(0).mean() * share).backward()
        for name, term in terms.items():
            means[name] = means.get(name, 0) + term.detach().mean() * share
    for module in state.model.modules():
        if isinstance(module, processes.Remembering):
            module.end_step(team, portion)
    return dict(zip(means, team.mean(torch.stack(list(means.values()))).tolist(), strict=True))


def advance(
    state: "State", config: TrainingConfig, source: Tensor, target: Tensor, draw: tuple[int, int]
) -> dict[str, float]:
    """Take one optimiser step on a batch of word ids; returns the mean of each loss term. Raises `DivergedError`."""
    rank = (state.team.rank,) if state.team.rank else ()
    torch.manual_seed(seeds.seed_of("dropout", *draw, *rank))
    terms = gradients(state, config, source, target, draw)
    if not math.isfinite(loss := sum(terms.values())):
        raise DivergedError(f"the loss is {loss} at step {draw[1] + 1}; the last good weights are kept")
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.clip or math.inf)
    if not torch.isfinite(norm):
        raise DivergedError(f"the gradient is {norm.item()} at step {draw[1] + 1}; the last good weights are kept")
    for optimiser in state.optimisers:
        for group in optimiser.param_groups:
            peak = config.matrix_rate if isinstance(optimiser, torch.optim.Muon) else config.rate
            group["lr"] = peak * rate_factor(draw[1], config)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    keep = min(config.average, (1 + draw[1]) / (10 + draw[1]))
    named = [(state.average[name], value.detach()) for name, value in state.model.named_parameters()]
    torch._foreach_lerp_(*map(list, zip(*named, strict=True)), 1 - keep)  # type: ignore[call-overload]  # two lists
    return terms


@dataclass
class State:
    """All that a later step depends on; `training_states` writes it."""

    model: nn.Module
    average: dict[str, Tensor]
    optimisers: list[torch.optim.Optimizer]
    team: processes.Team = field(default_factory=processes.Team)
    step: int = 0
    seconds: float = 0.0
    words: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Let the processes share the losses' gradients."""
        self.losses = self.team.wrap(Losses(self.model))

    def save(self, folder: Path) -> None:
        """Write the state as one file, in one step; of several processes the first one writes, and all wait."""
        if self.team.rank == 0:
            self._write(folder)
        self.team.wait()

    def _write(self, folder: Path) -> None:
        told = {"step": self.step, "seconds": self.seconds, "words": self.words, "curve": self.curve}
        model = dict(self.model.named_parameters())
        training_states.save(folder, told, self.optimisers, model=model, buffer=self._buffers(), average=self.average)

    def load(self, folder: Path) -> None:
        """Take up the saved state, if there is a whole one; a damaged file is named and training starts anew."""
        found = training_states.load(folder, self.optimisers)
        if found is None:
            return
        told, parts = found
        put(self.model, parts["model"])
        for name, buffer in self._buffers().items():
            buffer.copy_(parts["buffer"][name])
        for name, value in self.average.items():
            value.copy_(parts["average"][name])
        self.step, self.seconds, self.words = told["step"], told["seconds"], told["words"]
        self.curve = told["curve"]

    def is_finite(self) -> bool:
        """Tell whether no weight, and none of their average, is infinite or not a number."""
        named = (*self.model.named_parameters(), *self.average.items())
        return all(bool(value.isfinite().all()) for _, value in named)

    def _buffers(self) -> dict[str, Tensor]:
        kept = self.model.state_dict()
        return {name: buffer for name, buffer in self.model.named_buffers() if name in kept}
