"""Training of one adapter on many facts: a fixed sequence of batches, weights for facts, exact resume after a kill."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lib import errors, progress, seeds
from lib.beacons.adapters import Handle
from lib.beacons.cached_facts import Chosen, fact_losses, run_once
from lib.beacons.facts import BeaconFact
from lib.beacons.reweighting import fact_mass
from lib.causal_lm import processes, training_states
from lib.causal_lm.upper_layers import UpperLayers
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class DivergedError(errors.DivergedError, UserError):
    """The loss, its gradient or a weight is not a number; the adapter keeps the last good weights."""


@dataclass(frozen=True)
class WeightedLoss:
    """A loss that weighs facts, instead of the mean over a batch.

    `weights` gives the weights of all facts at the start of every epoch, a row (or number) for each; `loss` is the loss
    of a batch, in nats, under the rows of its facts, and `mass` what it is divided by: several processes take parts of
    a batch, each of which counts by its mass.
    """

    weights: Callable[[Handle], Tensor]
    loss: Callable[[Chosen, Tensor], Tensor]
    mass: Callable[[Chosen, Tensor], Tensor] = fact_mass


@dataclass
class Progress:
    """Where a training stands: updates done, the loss of each, in nats, and the weights of the running epoch."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    weights: Tensor | Any = None  # None: all count the same


def batches(facts: int, batch: int, seed: int, epoch: int) -> list[Tensor]:
    """Return the batches of an epoch, numbers of facts, a permutation that follows from `seed`; the last is shorter."""
    order = torch.randperm(facts, generator=seeds.generator("beacons/order", seed, epoch))
    return list(order.split(batch))


def train(
    handle: Handle,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[BeaconFact],
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    weighted: WeightedLoss | None = None,
    workspace: Path | None = None,
    save_every: int = 50,
    once: UpperLayers | None = None,
) -> list[float]:
    """Train the adapter of `handle` for `steps` updates of AdamW without decay; returns the loss of each, in nats.

    A step's loss is the mean of CE_i over the facts of its batch, CE_i the mean over the target's tokens, or what
    `weighted` says. `once`: the facts as `run_once` returns them, where that has been done. With a `workspace` the
    state is saved there every `save_every` steps, and resumed bit for bit. Equal arguments give equal weights in an
    equal environment. Of several processes (`lib.causal_lm.processes`) each takes its part of every batch, so that
    their number changes no result but by rounding; the first one saves. Raises `DivergedError` with the last good
    weights in place (and saved), also where the last step leaves weights that give no loss, `UserError` for no facts,
    `ValueError` for a batch or steps below 1, and for a rate that is not a positive number.
    """
    if batch < 1 or steps < 1:
        raise ValueError(f"batch={batch}, steps={steps}: each must be 1 or more")
    check_rate(rate)
    whole = once or run_once(handle.model, tokenizer, facts, handle.first_layer, handle.caches)
    team = processes.team(handle.model.device)
    learner = Learner(handle, torch.optim.AdamW(handle.parameters(), rate, weight_decay=0.0), weighted, team)
    done = Progress()
    if workspace is not None:
        with team.first():
            _load(workspace, learner, done)
    per_epoch = -(-len(facts) // batch)
    for step in progress.bar(range(done.step, steps), f"{handle.method}, {len(facts)} facts, {steps} steps"):
        epoch, place = divmod(step, per_epoch)
        if place == 0 and weighted is not None:
            done.weights = weighted.weights(handle)
        rows = batches(len(facts), batch, seed, epoch)[place].to(whole.encoded.ids.device)
        try:
            done.losses.append(learner.advance(whole, rows, done.weights, step, step + 1 == steps))
        except DivergedError:
            if workspace is not None:
                _save(workspace, learner, done)
            raise
        done.step = step + 1
        if workspace is not None and done.step % save_every == 0:
            _save(workspace, learner, done)
    return done.losses


def check_rate(rate: float) -> None:
    """Raise `ValueError` for a learning rate that is not positive, or beyond the first step of AdamW in float32."""
    if not 0 < rate < torch.finfo(torch.float32).max / 16:  # that step divides the rate by 1 - 0.9
        raise ValueError(f"rate={rate}: give a positive, finite learning rate")


class Losses(nn.Module):
    """The loss of a part of a batch as a forward pass, which is what processes share."""

    def __init__(self, handle: Handle, weighted: WeightedLoss | None) -> None:
        """Take what is trained; the model stays the handle's."""
        super().__init__()
        self.trained = nn.ParameterList(handle.parameters())
        self._parts, self._weighted = handle.parts, weighted

    def forward(self, part: Chosen, weights: Tensor | None, share: Tensor | float | None) -> tuple[Tensor, Tensor]:
        """Return the part's loss, in nats, and what descends: its share of it with the method's penalty."""
        loss = fact_losses(part).mean() if self._weighted is None else self._weighted.loss(part, weights)  # type: ignore[arg-type]
        return loss, (loss if share is None else share * loss) + self._parts.penalty()


class Learner:
    """An adapter with its optimiser, and the processes that train it."""

    def __init__(
        self,
        handle: Handle,
        optimiser: torch.optim.Optimizer,
        weighted: WeightedLoss | None = None,
        team: processes.Team | None = None,
    ) -> None:
        """Let the processes share the loss's gradients."""
        self.handle, self.optimiser, self.weighted = handle, optimiser, weighted
        self.team = team or processes.Team(handle.model.device)
        self._losses = self.team.wrap(Losses(handle, weighted))

    def advance(self, whole: UpperLayers, rows: Tensor, weights: Tensor | None, step: int, is_last: bool) -> float:
        """Take one step on the facts `rows`; returns the loss before it, without the method's penalty.

        After the last step no other loss would tell that the weights are lost, so it is taken once more. With a
        `DivergedError` the weights are as they were before.
        """
        handle = self.handle
        portion = self.team.portion(len(rows))
        own = rows[portion.rows]
        part, chosen = Chosen(whole, own), None if self.weighted is None else weights[own]  # type: ignore[index]
        share = None if self.team.count == 1 else self._share(part, chosen, portion, len(rows))
        self.optimiser.zero_grad(set_to_none=True)
        loss, total = self._losses(part, chosen, share)
        total.backward()
        if share is not None:
            loss = self.team.mean((share * loss).detach())
        gradients = [parameter.grad for parameter in handle.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise DivergedError(
                f"{handle.method}: the loss is {loss.item():.4g}, its gradient {norm.item():.4g} at step {step + 1}; "
                "the last good weights are kept: choose a lower rate"
            )
        before = [parameter.detach().clone() for parameter in handle.parameters()]
        self.optimiser.step()
        handle.parts.after_step(step + 1)
        finite = torch.tensor(float(_is_finite(handle, part if is_last else None)), device=self.team.device)
        if self.team.mean(finite) < 1:
            with torch.no_grad():
                for parameter, value in zip(handle.parameters(), before, strict=True):
                    parameter.copy_(value)
            raise DivergedError(
                f"{handle.method}: step {step + 1} leaves weights that are not finite, or give no finite loss; the "
                "last good weights are kept: choose a lower rate"
            )
        return loss.item()

    def _share(self, part: Chosen, weights: Tensor | None, portion: processes.Portion, facts: int) -> Tensor | float:
        """Return the factor of this process's loss with which the mean over the processes is the batch's loss."""
        if self.weighted is None or weights is None:
            return portion.weight * len(part.encoded.ids) / facts
        mass = portion.weight * self.weighted.mass(part, weights).detach()
        return mass / self.team.mean(mass)


@torch.no_grad()
def _is_finite(handle: Handle, last: UpperLayers | None) -> bool:
    finite = all(bool(parameter.isfinite().all()) for parameter in handle.parameters())
    return finite and (last is None or bool(fact_losses(last).isfinite().all()))


def _save(folder: Path, learner: Learner, done: Progress) -> None:
    """Write the state; of several processes the first one writes, and all wait."""
    state = {"step": done.step, "losses": done.losses}
    weights = {} if done.weights is None else {"facts": done.weights}
    if learner.team.rank == 0:
        adapter = learner.handle.parts.state()
        training_states.save(folder, state, [learner.optimiser], adapter=adapter, weights=weights)
    learner.team.wait()


def _load(folder: Path, learner: Learner, done: Progress) -> None:
    found = training_states.load(folder, [learner.optimiser], learner.handle.model.device)
    if found is not None:
        state, parts = found
        learner.handle.parts.load_state(parts["adapter"])
        done.step, done.losses, done.weights = state["step"], state["losses"], parts.get("weights", {}).get("facts")
