"""Training of a diffusion model: a step count, an average of the weights, and exact resume after a kill."""

import json
import math
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib import files, paths, progress
from lib.diffusion import batches, process, schedule
from lib.diffusion.denoiser import Denoiser, DenoiserConfig
from lib.diffusion.timesteps import Timesteps


class TrainingConfig(BaseModel):
    """The budget and the optimiser; a budget is a number of steps, never a clock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int
    tokens: int = 4096  # source and target words in a batch
    optimiser: str = "muon"  # "muon" for the matrices of the blocks and "adamw" for the rest, or "adamw" for all
    rate: float = 2e-3  # AdamW
    matrix_rate: float = 2e-2  # Muon
    weight_decay: float = 0.01
    warm_up: float = 0.05  # share of the steps
    clip: float = 1.0
    average: float = 0.9999  # most that the average of the weights keeps; earlier (1 + n) / (10 + n)
    precision: str = "bfloat16"


class DivergedError(Exception):
    """The loss is not a number; the last good weights are kept in the checkpoint."""


@dataclass
class Trained:
    """What training leaves: the averaged model and its curve."""

    model: Denoiser
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    words: int = 0


def optimisers(model: Denoiser, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Return the optimisers: Muon for the blocks' matrices and AdamW for the rest, or AdamW alone."""
    named = dict(model.named_parameters())
    matrices = {n for n, p in named.items() if config.optimiser == "muon" and n.startswith("blocks.") and p.ndim == 2}
    rest = [p for n, p in named.items() if n not in matrices]
    decay = config.weight_decay
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, config.rate, betas=(0.9, 0.98), weight_decay=decay, fused=True)
    ]
    if matrices:
        # adjust_lr_fn="match_rms_adamw" would tie the rate to AdamW's; the original scale keeps two plain numbers.
        chosen = [named[n] for n in sorted(matrices)]
        found.append(torch.optim.Muon(chosen, config.matrix_rate, weight_decay=decay, momentum=0.95))
    return found


def rate_factor(step: int, config: TrainingConfig) -> float:
    """Return the share of the peak rate at a step: linear warm-up, then a cosine to zero."""
    warm = max(1, round(config.warm_up * config.steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))


def train(
    shape: DenoiserConfig,
    diffusion: process.ProcessConfig,
    config: TrainingConfig,
    encoded: batches.Encoded,
    information: Tensor,
    seed: int,
    vectors: Tensor | None = None,
    device: str = "cpu",
    workspace: Path | None = None,
    save_every: int = 200,
    watch: Callable[[Denoiser], dict[str, float]] | None = None,
    watch_at: Collection[int] = (),
) -> Trained:
    """Train a denoiser for `config.steps` steps; equal arguments give equal weights on an equal environment.

    `information` is H of every word (vocabulary,); `vectors` (vocabulary, embedding) starts the word vectors. With a
    `workspace`, the state is saved there every `save_every` steps and training resumes from it, bit for bit: every
    draw of step n comes from (seed, n) alone. After the steps in `watch_at`, `watch` sees the averaged model and adds
    columns to the curve; its time is not counted. Raises `DivergedError`.
    """
    torch.manual_seed(seed)
    model = Denoiser(shape)
    if vectors is not None:
        model.words.data.copy_(vectors)
    model.to(device).train()
    information = information.to(device)
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    state = State(model, average, optimisers(model, config), Timesteps(diffusion))
    if workspace is not None:
        state.load(workspace)
    order: list[Any] = []
    epoch, first = -1, 0
    per_epoch = len(batches.order(encoded, config.tokens, seed, 0))
    for step in progress.bar(range(state.step, config.steps), f"training, {config.steps} steps"):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            first, order = epoch * per_epoch, batches.order(encoded, config.tokens, seed, epoch)
        length, rows = order[step - first]
        source, target = (part[rows].to(device) for part in encoded.groups[length])
        began = time.perf_counter()
        terms = advance(state, diffusion, config, source, target, information, (seed, step))
        state.step, state.seconds = step + 1, state.seconds + time.perf_counter() - began
        state.words += source.numel() + target.numel()
        if (step + 1) % 50 == 0 or step + 1 == config.steps or step + 1 in watch_at:
            seen = {}
            if watch is not None and step + 1 in watch_at:
                with averaged(state):
                    seen = watch(model)
            state.curve.append({"step": step + 1, **terms, **seen})
        if workspace is not None and (step + 1) % save_every == 0:
            state.save(workspace)
    model.load_state_dict(state.average)
    return Trained(model.eval(), state.curve, state.seconds, state.words)


@contextmanager
def averaged(state: "State") -> Iterator[None]:
    """Put the averaged weights into the model, in evaluation mode, for the length of a `with` block."""
    model, trained = state.model, {name: value.detach().clone() for name, value in state.model.named_parameters()}
    model.load_state_dict(state.average)
    model.eval()
    try:
        yield
    finally:
        model.load_state_dict(trained)
        model.train()


def advance(
    state: "State",
    diffusion: process.ProcessConfig,
    config: TrainingConfig,
    source: Tensor,
    target: Tensor,
    information: Tensor,
    draw: tuple[int, int],
) -> dict[str, float]:
    """Take one optimiser step on a batch of word ids; returns the mean of each loss term."""
    generator = torch.Generator().manual_seed(draw[0] * 1_000_003 + draw[1])
    torch.manual_seed(draw[0] * 1_000_003 + draw[1])  # dropout draws from the global generator
    e = schedule.relative_information(information[target])
    # Everything is drawn on the CPU, so that a seed means the same on every device.
    t, weights = (drawn.to(target.device) for drawn in state.timesteps.draw(len(target), generator))
    conditioned = bool(torch.rand((), generator=generator) < diffusion.self_conditioning)
    with torch.autocast(target.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        terms = process.losses(state.model, diffusion, source, target, e, t, generator, conditioned)
    each = diffusion.squared_error * terms["squared_error"] + diffusion.rounding * terms["rounding"] + terms["prior"]
    loss = (weights * each).mean()
    if not torch.isfinite(loss):
        raise DivergedError(f"the loss is {loss.item()} at step {draw[1] + 1}; the last good weights are kept")
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
    for optimiser in state.optimisers:
        for group in optimiser.param_groups:
            peak = config.matrix_rate if isinstance(optimiser, torch.optim.Muon) else config.rate
            group["lr"] = peak * rate_factor(draw[1], config)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    state.timesteps.record(t.cpu(), each.detach().float().cpu())
    keep = min(config.average, (1 + draw[1]) / (10 + draw[1]))
    named = [(state.average[name], value.detach()) for name, value in state.model.named_parameters()]
    torch._foreach_lerp_(*map(list, zip(*named, strict=True)), 1 - keep)
    return {name: term.mean().item() for name, term in terms.items()}


@dataclass
class State:
    """All that a later step depends on: saved as safetensors and JSON, never pickled."""

    model: Denoiser
    average: dict[str, Tensor]
    optimisers: list[torch.optim.Optimizer]
    timesteps: Timesteps
    step: int = 0
    seconds: float = 0.0
    words: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the state as one file, in one step."""
        tensors = {f"model/{n}": p.detach() for n, p in self.model.named_parameters()}
        tensors |= {f"average/{n}": p for n, p in self.average.items()}
        tensors |= {f"timesteps/{n}": p for n, p in self.timesteps.tensors().items()}
        for number, optimiser in enumerate(self.optimisers):
            for place, values in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser/{number}/{place}/{n}": v for n, v in values.items()}
        told = {"step": self.step, "seconds": self.seconds, "words": self.words, "curve": self.curve}
        tensors = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
        files.write_atomically(
            folder / "state.safetensors", lambda path: save_file(tensors, path, {"told": json.dumps(told)})
        )

    def load(self, folder: Path) -> None:
        """Take up the saved state, if there is a whole one; a damaged file is named and training starts anew."""
        path = folder / "state.safetensors"
        if not path.exists():
            return
        try:
            with safe_open(path, "pt") as stream:
                told = json.loads(stream.metadata()["told"])
            tensors = load_file(path)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            print(f"{paths.relative(path)} is damaged ({error}); training starts anew", file=sys.stderr)
            path.unlink()
            return
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, rest = name.split("/", 1)
            parts.setdefault(part, {})[rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.average = parts["average"]
        self.timesteps.restore(parts["timesteps"])
        for number, optimiser in enumerate(self.optimisers):
            saved = optimiser.state_dict()
            for name, tensor in parts["optimiser"].items():
                which, place, key = name.split("/")
                if int(which) == number:
                    saved["state"].setdefault(int(place), {})[key] = tensor
            optimiser.load_state_dict(saved)
        self.step, self.seconds, self.words = told["step"], told["seconds"], told["words"]
        self.curve = told["curve"]
