"""The fine-tuning methods of the grid: six of the peft library, a bottleneck adapter, and the weights themselves.

with attach(model, "lora", sizes, steps=80, seed=0) as handle:
    train(handle, tokenizer, facts, ...)     # the model itself is adapted, and restored at the end, bit for bit

All but prefix tuning act in the blocks from `sizes.first_layer` on; a prefix has keys and values in every layer, as
the peft library has it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from lib import seeds
from lib.beacons.bottleneck import Bottlenecks
from lib.beacons.peft_models import Prefix, wrapped
from lib.editing.layers import blocks
from lib.errors import UserError
from lib.sizes import BeaconSizes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The change of LoRA and DoRA is SCALE B A, whatever the rank: the peft library's alpha is SCALE times the rank.
SCALE = 2.0
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


class Parts(NamedTuple):
    """What a method puts on a model: its parameters by name, and how it is taken off again.

    `tuner` is AdaLoRA's own model, which allots ranks after each step.
    """

    parameters: dict[str, nn.Parameter]
    remove: Callable[[], None]
    tuner: Any = None


@dataclass
class Handle:
    """A model with one method attached; `detach` (or the end of a `with` block) restores the model bit for bit."""

    model: "PreTrainedModel"
    method: str
    first_layer: int
    parts: Parts
    required: dict[nn.Parameter, bool]  # which parameters of the model itself took gradients before

    @property
    def caches(self) -> bool:
        """Tell whether what lies below `first_layer` is the base model's, so that it can be run once."""
        return METHODS[self.method].upper

    @property
    def count(self) -> int:
        """Return the number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters."""
        return list(self.parts.parameters.values())

    def penalty(self) -> Tensor | float:
        """Return what the method adds to the loss: AdaLoRA's pull towards orthogonal factors, else 0.

        The mean of |P P^T - I|_F over its factors, by the weight that the peft library gives it; the library adds it
        only where a model computes its loss itself.
        """
        if self.parts.tuner is None:
            return 0.0
        weight = self.parts.tuner.peft_config["default"].orth_reg_weight
        terms = []
        for name, factor in self.parts.parameters.items():
            if "lora_A" in name or "lora_B" in name:
                square = factor @ factor.T if "lora_A" in name else factor.T @ factor
                terms.append(torch.linalg.norm(square - torch.eye(len(square), device=square.device)))
        return weight * torch.stack(terms).mean()

    def after_step(self, step: int) -> None:
        """Let AdaLoRA allot its ranks after step number `step` >= 1, while the gradients are still there."""
        if self.parts.tuner is not None:
            self.parts.tuner.update_and_allocate(step)

    def state(self) -> dict[str, Tensor]:
        """Return all that training changes, by name, not copied: parameters, and AdaLoRA's record of importance."""
        found = {f"parameter/{name}": value.detach() for name, value in self.parts.parameters.items()}
        if self.parts.tuner is not None:
            allocator = self.parts.tuner.rankallocator
            for part in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
                found |= {f"{part}/{name}": value for name, value in getattr(allocator, part).items()}
            pattern = self.parts.tuner.peft_config["default"].rank_pattern or {}
            found |= {f"rank_pattern/{name}": torch.tensor(kept) for name, kept in pattern.items()}
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` returned; raises `KeyError` where a parameter is missing."""
        with torch.no_grad():
            for name, value in self.parts.parameters.items():
                value.copy_(state[f"parameter/{name}"])
        if self.parts.tuner is not None:
            parts: dict[str, dict[str, Tensor]] = {}
            for key, value in state.items():
                part, name = key.split("/", 1)
                parts.setdefault(part, {})[name] = value
            for part in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
                setattr(self.parts.tuner.rankallocator, part, parts.get(part, {}))
            pattern = {name: kept.tolist() for name, kept in parts.get("rank_pattern", {}).items()}
            self.parts.tuner.peft_config["default"].rank_pattern = pattern or None

    def detach(self) -> None:
        """Take the method off; the model is as before, bit for bit."""
        self.parts.remove()
        for parameter, required in self.required.items():
            parameter.requires_grad_(required)
            parameter.grad = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


Build = Callable[["PreTrainedModel", BeaconSizes, int], Parts]  # of the model, the sizes and the number of steps


class Method(NamedTuple):
    """A row of the grid; `upper` tells whether it acts in the upper blocks alone."""

    title: str
    build: Build
    upper: bool = True


def attach(model: "PreTrainedModel", method: str, sizes: BeaconSizes, steps: int, seed: int) -> Handle:
    """Put a method on a model, for a training of `steps` updates, its weights drawn from the stream of `seed`.

    Nothing but the method's parameters takes gradients. At the start the model computes what the base does, except with
    a prefix, which draws attention to itself. Raises `UserError` for an unknown method, a first layer that the model
    has not, projections that are no linear maps, and AdaLoRA without a number of steps.
    """
    if method not in METHODS:
        raise UserError(f"no method {method!r}: choose of {', '.join(METHODS)}")
    if not 0 <= sizes.first_layer < len(blocks(model)):
        raise UserError(f"first_layer {sizes.first_layer}: the model has layers 0 to {len(blocks(model)) - 1}")
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):  # peft draws from torch's global generator
        torch.manual_seed(seeds.seed_of("beacons/adapter", seed))
        try:
            parts = METHODS[method].build(model, sizes, steps)
        except BaseException:
            for parameter, flag in required.items():
                parameter.requires_grad_(flag)
            raise
    for parameter in parts.parameters.values():
        parameter.requires_grad_(True)
    return Handle(model, method, sizes.first_layer, parts, required)


def projections(model: "PreTrainedModel", first_layer: int) -> dict[str, nn.Linear]:
    """Return the feed-forward projections of the blocks from `first_layer` on, by name, in the model's order.

    Raises `UserError` for a model whose feed-forward parts have no linear maps of these names.
    """
    upper = {module for block in blocks(model)[first_layer:] for module in block.mlp.children()}
    found = {
        name: module
        for name, module in model.named_modules()
        if module in upper and isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in PROJECTIONS
    }
    if not found:
        raise UserError(f"{type(model).__name__}: no linear maps {', '.join(PROJECTIONS)} in its feed-forward parts")
    return found


def _injected(kind: str, **options: Any) -> Build:
    """Return the builder of a method of the peft library that replaces modules; options may be functions of sizes."""

    def build(model: "PreTrainedModel", sizes: BeaconSizes, steps: int) -> Parts:
        import peft

        chosen = {name: value(model, sizes, steps) if callable(value) else value for name, value in options.items()}
        if "target_modules" not in chosen:
            chosen["target_modules"] = list(projections(model, sizes.first_layer))
        tuner = wrapped(model, getattr(peft, kind)(**chosen)).base_model
        model.eval()
        named = {name: value for name, value in model.named_parameters() if value.requires_grad}
        return Parts(named, lambda: tuner.unload() and None, tuner if kind == "AdaLoraConfig" else None)

    return build


def _rank(_: "PreTrainedModel", sizes: BeaconSizes, steps: int) -> int:
    return sizes.rank


def _scaled(_: "PreTrainedModel", sizes: BeaconSizes, steps: int) -> float:
    return SCALE * sizes.rank


def _total(_: "PreTrainedModel", sizes: BeaconSizes, steps: int) -> int:
    if steps < 1:
        raise UserError("AdaLoRA needs the number of its steps: give `steps` of 1 or more")
    return steps


def _scaled_activations(model: "PreTrainedModel", sizes: BeaconSizes, steps: int) -> list[str]:
    """Return the names of the keys, values and down projections of the upper blocks, as the paper of IA3 has them."""
    kept = {module for block in blocks(model)[sizes.first_layer :] for module in block.modules()}
    names = ("k_proj", "v_proj", "down_proj")
    return [name for name, module in model.named_modules() if module in kept and name.rsplit(".", 1)[-1] in names]


def _down(model: "PreTrainedModel", sizes: BeaconSizes, steps: int) -> list[str]:
    return [name for name in _scaled_activations(model, sizes, steps) if name.endswith("down_proj")]


def _prefix(model: "PreTrainedModel", sizes: BeaconSizes, steps: int) -> Parts:
    found = Prefix(model, sizes.rank)
    return Parts(found.parameters, found.remove)


def _bottleneck(model: "PreTrainedModel", sizes: BeaconSizes, steps: int) -> Parts:
    """Put an adapter of inner width 4 times the rank, about as many parameters as LoRA's, after each upper MLP."""
    found = Bottlenecks(
        [block.mlp for block in blocks(model)[sizes.first_layer :]],
        model.config.hidden_size,
        4 * sizes.rank,
        model.device,
    )
    return Parts(dict(found.adapters.named_parameters()), found.remove)


def _full(model: "PreTrainedModel", sizes: BeaconSizes, steps: int) -> Parts:
    """Train every weight of the upper blocks, not embeddings, last norm or head; the base's are kept to restore."""
    found = {
        f"{number}.{name}": parameter
        for number, block in enumerate(blocks(model)[sizes.first_layer :], sizes.first_layer)
        for name, parameter in block.named_parameters()
    }
    base = {name: parameter.detach().clone() for name, parameter in found.items()}

    @torch.no_grad()
    def remove() -> None:
        for name, parameter in found.items():
            parameter.copy_(base[name])

    return Parts(found, remove)


METHODS: dict[str, Method] = {
    "lora": Method("LoRA", _injected("LoraConfig", r=_rank, lora_alpha=_scaled)),
    "dora": Method("DoRA", _injected("LoraConfig", r=_rank, lora_alpha=_scaled, use_dora=True)),
    "adalora": Method(
        "AdaLoRA",
        _injected(
            "AdaLoraConfig",
            init_r=lambda _, sizes, steps: sizes.rank + sizes.rank // 2,  # the library's 12 to 8
            target_r=_rank,
            lora_alpha=_scaled,
            total_step=_total,
            tinit=lambda _, sizes, steps: steps // 10,
            tfinal=lambda _, sizes, steps: steps // 5,
        ),
    ),
    "ia3": Method("IA3", _injected("IA3Config", target_modules=_scaled_activations, feedforward_modules=_down)),
    "loha": Method("LoHa", _injected("LoHaConfig", r=_rank, alpha=_scaled)),
    "prefix": Method("prefix tuning", _prefix, upper=False),
    "bottleneck": Method("bottleneck adapter", _bottleneck),
    "full": Method("full fine-tuning (upper blocks)", _full),
}
