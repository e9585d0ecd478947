"""Training of one adapter on many facts: a fixed sequence of batches, weights for facts, exact resume after a kill."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib import progress, seeds, training_states
from lib.beacons.cached_facts import Chosen, fact_losses, mean_by_sequence, run_once, target_places
from lib.beacons.facts import BeaconFact
from lib.beacons.methods import Handle
from lib.editing.upper_layers import UpperLayers
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Weigh = Callable[[Handle], Tensor]


class DivergedError(UserError):
    """The loss or its gradient is not a number; the adapter keeps the last good weights."""


@dataclass
class Progress:
    """Where a training stands: updates done, the loss of each, in nats, and the weights of the running epoch."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    weights: Tensor | None = None


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
    weigh: Weigh | None = None,
    on_epoch: Callable[[int], None] | None = None,
    workspace: Path | None = None,
    save_every: int = 50,
    once: UpperLayers | None = None,
) -> list[float]:
    """Train the adapter of `handle` for `steps` updates of AdamW without decay; returns the loss of each, in nats.

    A step's loss is sum_i w_i CE_i / sum_i w_i over the facts of its batch, CE_i the mean over the target's tokens.
    `weigh` gives the weights at the start of every epoch, (facts,) or, for token weights, (facts, longest target), each
    fact's own tokens first, where sum_i w_i CE_i becomes sum_i mean_t w_it CE_it and the divisor sum_i mean_t w_it.
    Without it all weigh the same. `on_epoch` is called with the number of updates done after every whole epoch, and at
    the end. `once`: the facts as `run_once` returns them, where that has been done. With a `workspace` the state is
    saved there every `save_every` steps, and resumed bit for bit. Equal arguments give equal weights in an equal
    environment. Raises `DivergedError` with the last good weights in place (and saved), `UserError` for no facts,
    `ValueError` for a batch or steps below 1.
    """
    if batch < 1 or steps < 1:
        raise ValueError(f"batch={batch}, steps={steps}: each must be 1 or more")
    whole = once or run_once(handle.model, tokenizer, facts, handle.first_layer, handle.caches)
    optimiser = torch.optim.AdamW(handle.parameters(), rate, weight_decay=0.0)
    done = Progress()
    if workspace is not None:
        _load(workspace, handle, optimiser, done)
    per_epoch = -(-len(facts) // batch)
    for step in progress.bar(range(done.step, steps), f"{handle.method}, {len(facts)} facts, {steps} steps"):
        epoch, place = divmod(step, per_epoch)
        if place == 0 and weigh is not None:
            done.weights = weigh(handle)
        rows = batches(len(facts), batch, seed, epoch)[place].to(whole.encoded.ids.device)
        try:
            done.losses.append(_advance(handle, optimiser, Chosen(whole, rows), done, rows))
        except DivergedError:
            if workspace is not None:
                _save(workspace, handle, optimiser, done)
            raise
        done.step = step + 1
        if on_epoch is not None and (place == per_epoch - 1 or done.step == steps):
            on_epoch(done.step)
        if workspace is not None and done.step % save_every == 0:
            _save(workspace, handle, optimiser, done)
    return done.losses


def weighted_loss(part: Chosen, weights: Tensor | None) -> Tensor:
    """Return sum_i w_i CE_i / sum_i w_i of a batch; weights (sequences,), (sequences, longest target) or all equal."""
    if weights is None:
        return fact_losses(part).mean()
    if weights.ndim == 1:
        return (weights * fact_losses(part)).sum() / weights.sum()
    sequence, place = target_places(part.encoded)
    means = mean_by_sequence(weights[sequence, place], sequence, len(weights))
    return fact_losses(part, weights).sum() / means.sum()


def _advance(handle: Handle, optimiser: torch.optim.Optimizer, part: Chosen, done: Progress, rows: Tensor) -> float:
    """Take one step; returns the loss before it, without the method's penalty. `DivergedError` changes nothing."""
    weights = None if done.weights is None else done.weights[rows]
    loss = weighted_loss(part, weights)
    optimiser.zero_grad(set_to_none=True)
    (loss + handle.penalty()).backward()
    gradients = [parameter.grad for parameter in handle.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise DivergedError(
            f"{handle.method}: the loss is {loss.item():.4g}, its gradient {norm.item():.4g} at step {done.step + 1}; "
            "the last good weights are kept: choose a lower rate"
        )
    optimiser.step()
    handle.after_step(done.step + 1)
    return loss.item()


def _save(folder: Path, handle: Handle, optimiser: torch.optim.Optimizer, done: Progress) -> None:
    told = {"step": done.step, "losses": done.losses}
    weights = {} if done.weights is None else {"facts": done.weights}
    training_states.save(folder, told, [optimiser], adapter=handle.state(), weights=weights)


def _load(folder: Path, handle: Handle, optimiser: torch.optim.Optimizer, done: Progress) -> None:
    found = training_states.load(folder, [optimiser], handle.model.device)
    if found is not None:
        told, parts = found
        handle.load_state(parts["adapter"])
        done.step, done.losses, done.weights = told["step"], told["losses"], parts.get("weights", {}).get("facts")
