"""The peft library's models around ours, and its prefix tuning in a form that leaves the calls of the model alone."""

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import Cache, PreTrainedModel

# The peft library draws a prefix with standard deviation 1, which leaves SmolLM2 unable to speak; zeros would keep its
# tokens alike for ever.
PREFIX_SPREAD = 0.02


def wrapped(model: "PreTrainedModel", config: "PeftConfig") -> "PeftModel":
    """Return the peft library's model around a model."""
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about a name that peft asks it for
        return peft.get_peft_model(model, config)


class Prefix:
    """Keys and values of virtual tokens before every sequence, in every layer; the model is called as without them."""

    def __init__(self, model: "PreTrainedModel", length: int) -> None:
        """Hook a prefix of `length` virtual tokens onto a model, drawn by the peft library, times `PREFIX_SPREAD`."""
        import peft

        self._length = length
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
        past: Cache | None = named.get("past_key_values")
        if past is None or past.get_seq_length() == 0:
            named["past_key_values"] = self._filled(past, len(ids))
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
