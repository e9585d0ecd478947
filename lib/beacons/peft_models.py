"""The methods of the peft library, its prefix tuning in a form that leaves the calls of the model alone.

Each builder puts its method on a model, of any number of steps; the docstrings say on what.
"""

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lib.beacons.adapters import AdapterConfig, Parts, projections
from lib.causal_lm import caches
from lib.causal_lm.layers import blocks

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import Cache, PreTrainedModel

# The change of LoRA and DoRA is SCALE B A, whatever the rank: the peft library's alpha is SCALE times the rank.
SCALE = 2.0
# The peft library draws a prefix with standard deviation 1, which leaves SmolLM2 unable to speak; zeros would keep its
# tokens alike for ever.
PREFIX_SPREAD = 0.02


def wrapped(model: "PreTrainedModel", config: "PeftConfig") -> "PeftModel":
    """Return the peft library's model around a model."""
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about a name that peft asks it for
        return peft.get_peft_model(model, config)


def trained(model: "PreTrainedModel") -> dict[str, nn.Parameter]:
    """Put a model that the peft library has just changed into eval mode; returns what takes gradients, by name."""
    model.eval()
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def lora(model: "PreTrainedModel", config: AdapterConfig, _: int) -> Parts:
    """Put LoRA on the upper feed-forward projections."""
    import peft

    modules = list(projections(model, config.first_layer))
    return _injected(model, peft.LoraConfig(r=config.rank, lora_alpha=SCALE * config.rank, target_modules=modules))


def dora(model: "PreTrainedModel", config: AdapterConfig, _: int) -> Parts:
    """Put DoRA on the upper feed-forward projections."""
    import peft

    modules = list(projections(model, config.first_layer))
    return _injected(
        model,
        peft.LoraConfig(r=config.rank, lora_alpha=SCALE * config.rank, use_dora=True, target_modules=modules),
    )


def ia3(model: "PreTrainedModel", config: AdapterConfig, _: int) -> Parts:
    """Put IA3 on the keys, values and down projections of the upper blocks, as its paper has them."""
    import peft

    kept = {module for block in blocks(model)[config.first_layer :] for module in block.modules()}
    ends = ("k_proj", "v_proj", "down_proj")
    names = [name for name, module in model.named_modules() if module in kept and name.rsplit(".", 1)[-1] in ends]
    down = [name for name in names if name.endswith("down_proj")]
    return _injected(model, peft.IA3Config(target_modules=names, feedforward_modules=down))


def loha(model: "PreTrainedModel", config: AdapterConfig, _: int) -> Parts:
    """Put LoHa on the upper feed-forward projections."""
    import peft

    modules = list(projections(model, config.first_layer))
    return _injected(model, peft.LoHaConfig(r=config.rank, alpha=SCALE * config.rank, target_modules=modules))


def prefix(model: "PreTrainedModel", config: AdapterConfig, _: int) -> Parts:
    """Put a prefix of `rank` virtual tokens before every layer's keys and values, the lower ones too."""
    found = Prefix(model, config.rank)
    return Parts(found.parameters, found.remove)


def _injected(model: "PreTrainedModel", settings: "PeftConfig") -> Parts:
    """Put on a method that replaces modules."""
    tuner = wrapped(model, settings).base_model
    return Parts(trained(model), lambda: tuner.unload() and None)


class Prefix:
    """Keys and values of virtual tokens before every sequence, in every layer; the model is called as without them."""

    def __init__(self, model: "PreTrainedModel", length: int) -> None:
        """Hook a prefix of `length` virtual tokens onto a model, drawn by the peft library, times `PREFIX_SPREAD`."""
        import peft

        self._length, self._cache = length, caches.name(model)
        self._wrapped = wrapped(model, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=length))
        self.parameters = dict(self._wrapped.prompt_encoder.named_parameters())
        with torch.no_grad():
            for value in self.parameters.values():
                value.mul_(PREFIX_SPREAD)
        self._hook = model.register_forward_pre_hook(self._supply, with_kwargs=True)

    def remove(self) -> None:
        """Take the prefix off."""
        self._hook.remove()

    def _supply(
        self, _: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        ids = arguments[0] if arguments else named["input_ids"]
        past: Cache | None = named.get(self._cache)
        if past is None or past.get_seq_length() == 0:
            named[self._cache] = self._filled(past, len(ids))
        if named.get("attention_mask") is not None:
            mask = named["attention_mask"]
            named["attention_mask"] = torch.cat([mask.new_ones(len(ids), self._length), mask], dim=1)
        if named.get("position_ids") is not None:
            named["position_ids"] = named["position_ids"] + self._length
        return arguments, named

    def _filled(self, past: "Cache | None", sequences: int) -> "Cache":
        prompt = self._wrapped.get_prompt(sequences)
        if past is None:
            return prompt
        for number, layer in enumerate(prompt.layers):  # the caller goes on with the cache that it gave
            past.update(layer.keys, layer.values, number)
        return past
