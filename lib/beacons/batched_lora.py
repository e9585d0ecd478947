"""One LoRA adapter per fact, many facts at once: each example of a batch has low-rank factors of its own.

with BatchedLora(model, facts=100, config=AdapterConfig(first_layer=24, rank=8), seed=0) as adapters:
    model(ids, ...)              # a batch of exactly 100; row i is seen through the adapter of fact i

AdamW works on each number by itself, so that a loss summed over facts trains every adapter as if it were alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from lib import progress
from lib.beacons.adapters import AdapterConfig, projections
from lib.beacons.cached_facts import Chosen, fact_losses, run_once
from lib.beacons.facts import BeaconFact
from lib.beacons.methods import attach
from lib.beacons.peft_models import SCALE
from lib.beacons.training import DivergedError, check_rate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GROUP = 50  # facts trained at once: their factors, gradients and moments take 8 MiB each in SmolLM2's upper layers


class BatchedLora:
    """Low-rank factors of every fact for each feed-forward projection of the upper blocks, put on by hooks.

    For a projection with inputs x (facts, tokens, inputs): its output plus SCALE (x A^T) B^T, with A (facts, rank,
    inputs) and B (facts, outputs, rank). Every fact starts from the A that the peft library draws under `seed`, which
    is also where LoRA among many facts starts, and from B = 0.
    """

    def __init__(self, model: "PreTrainedModel", facts: int, config: AdapterConfig, seed: int) -> None:
        """Put the adapters on; the model's own parameters take no gradients meanwhile. Raises as `attach`."""
        with attach(model, "lora", config, steps=1, seed=seed) as handle:
            drawn = {name: value.detach() for name, value in handle.parts.parameters.items()}
        modules = projections(model, config.first_layer)
        self._required = {parameter: parameter.requires_grad for parameter in model.parameters()}
        model.requires_grad_(False)
        self.down, self.up, self._hooks = {}, {}, []
        for name, module in modules.items():
            start = drawn[f"{name}.lora_A.default.weight"]
            self.down[name] = nn.Parameter(start.expand(facts, *start.shape).clone())
            self.up[name] = nn.Parameter(start.new_zeros(facts, module.out_features, len(start)))
            self._hooks.append(module.register_forward_hook(self._hook(name)))

    def parameters(self) -> list[nn.Parameter]:
        """Return the factors, all A and then all B."""
        return [*self.down.values(), *self.up.values()]

    def detach(self) -> None:
        """Take the adapters off; the model was never changed."""
        for hook in self._hooks:
            hook.remove()
        for parameter, required in self._required.items():
            parameter.requires_grad_(required)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        down, up = self.down[name], self.up[name]

        def add(_: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
            if len(output) != len(down):
                raise ValueError(f"a batch of {len(output)} for {len(down)} adapters: it must hold one row for each")
            inputs = arguments[0].to(down.dtype)  # factors are float32 in a model of any precision
            return output + (SCALE * torch.bmm(torch.bmm(inputs, down.mT), up.mT)).to(output.dtype)

        return add


@dataclass(frozen=True)
class Group:
    """Facts that are trained at once: their numbers among all, and their sequences, in the order of the adapters."""

    places: tuple[int, ...]
    part: Chosen


OnStep = Callable[[int, Group], None]


def train_alone(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[BeaconFact],
    steps: int,
    rate: float,
    config: AdapterConfig,
    seed: int,
    on_step: OnStep | None = None,
    cached: bool = True,
    group: int = GROUP,
) -> Tensor:
    """Train an adapter of each fact's own for `steps` updates of AdamW without decay; the model is restored at the end.

    Facts of like length form groups of at most `group`; a fact's result does not depend on the others, beyond
    rounding. `on_step` is called with the number of updates done, 0 to `steps`, and the group, while its adapters are
    on: the model then answers `group.places` in that order, in one batch. Returns the loss before every update,
    (facts, steps), in nats a target token. Raises `DivergedError` where one of them, or of the losses after the last
    update, is not a number; `ValueError` for steps or a group below 1, and for a rate that is not a positive number.
    """
    if steps < 1 or group < 1:
        raise ValueError(f"steps={steps}, group={group}: each must be 1 or more")
    check_rate(rate)
    whole = run_once(model, tokenizer, facts, config.first_layer, cached)
    found = torch.empty(len(facts), steps)
    order = whole.encoded.mask.sum(1).argsort(stable=True)
    for rows in progress.bar(order.split(group), f"{len(facts)} facts alone, {steps} steps"):
        chosen = Group(tuple(rows.tolist()), Chosen(whole, rows))
        with BatchedLora(model, len(rows), config, seed) as adapters:
            optimiser = torch.optim.AdamW(adapters.parameters(), rate, weight_decay=0.0)
            for step in range(steps):
                losses = fact_losses(chosen.part)
                _check(losses, chosen, facts, step)  # before anything is read off a model that is lost
                if on_step is not None:
                    on_step(step, chosen)
                optimiser.zero_grad(set_to_none=True)
                losses.sum().backward()
                optimiser.step()
                found[list(chosen.places), step] = losses.detach().cpu()
            with torch.no_grad():
                _check(fact_losses(chosen.part), chosen, facts, steps)
            if on_step is not None:
                on_step(steps, chosen)
    return found


def _check(losses: Tensor, chosen: Group, facts: Sequence[BeaconFact], step: int) -> None:
    if not (finite := losses.isfinite()).all():
        prompt = facts[chosen.places[int((~finite).nonzero()[0])]].prompt
        raise DivergedError(f"the loss of {prompt!r} alone is not a number at step {step + 1}: choose a lower rate")
