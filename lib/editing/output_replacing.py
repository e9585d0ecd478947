"""What GRACE and DEFER share: one decision for a sequence, whether a down projection's output is replaced."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lib.causal_lm.encoding import Encoded
from lib.causal_lm.layers import block, down_projection
from lib.causal_lm.upper_layers import Change
from lib.editing.editor import Editor, Switchable
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class OutputReplacing(Switchable, Editor):
    """Methods that decide once per sequence, at its last prompt token, whether to replace one down projection's output.

    The output is replaced from that token on, generated ones included, unless `where` says otherwise: a pass that
    continues a cache keeps the decision of its prompt. `reading` tells where prompts end; a bare pass takes the last
    token that is not masked, so generation without a cache is to be read with `reading`.
    """

    where: Literal["prompt", "last", "all", "onward"] = "onward"  # before the last prompt token, it, all, from it on

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", layer: int) -> None:
        """Take a model and hang hooks on it; raises `UserError` for a layer that does not exist."""
        block(model, layer)
        super().__init__(model, tokenizer)
        self.layer, self._module = layer, down_projection(model, layer)
        self._hooks = [
            model.base_model.register_forward_pre_hook(self._find_prompts, with_kwargs=True),
            self._module.register_forward_hook(self._replace),
        ]
        self._last: Tensor | None = None  # (sequences,), None: the pass continues a cache
        self._served: Tensor | None = None  # (sequences,) bool, the decision for the sequences in hand

    @abstractmethod
    def decide(self, keys: Tensor) -> Tensor:
        """Return which sequences are served, (sequences,) bool, by the module's inputs at the last prompt tokens."""

    @abstractmethod
    def replacement(self, inputs: Tensor) -> Tensor:
        """Return what replaces the output of inputs (sequences, tokens, inputs), broadcastable to the output."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Tell whether nothing has been learnt yet, so that nothing is to be replaced."""

    def restore(self) -> None:
        """Take the hooks off: the weights were never changed."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._served, self._last = [], None, None
        super().restore()

    def keys(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Return the module's inputs and own outputs at the last prompt tokens, float32 (sequences, size)."""
        seen: list[Tensor] = []

        def note(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            rows = torch.arange(len(output), device=output.device)
            seen.extend(part[rows, encoded.last_prompt].float() for part in (arguments[0], output))

        hook = self._module.register_forward_hook(note, prepend=True)  # before the output is replaced
        try:
            with torch.no_grad(), self.reading(encoded.prompt):
                self.model.base_model(input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False)
        finally:
            hook.remove()
        return seen[0], seen[1]

    def replaced(self, inputs: Tensor, output: Tensor, served: Tensor, last: Tensor | None) -> Tensor:
        """Return the module's output (sequences, tokens, outputs) with that of served sequences replaced at `where`.

        `served` (sequences,) is of truth values, `last` (sequences,) the places of the last prompt tokens; None: all
        tokens come after them.
        """
        where = served[:, None]
        if last is None:
            if self.where in ("prompt", "last"):
                return output
        elif self.where != "all":
            place, end = torch.arange(inputs.shape[1], device=inputs.device), last[:, None]
            where = where & {"prompt": place < end, "last": place == end, "onward": place >= end}[self.where]
        return torch.where(where[..., None], self.replacement(inputs).to(output.dtype), output)

    def training_change(self, encoded: Encoded) -> Change:
        """Return what the module puts out while the given sequences are trained: all of them are served."""
        last = encoded.last_prompt
        return lambda inputs, output: self.replaced(inputs, output, torch.ones_like(last, dtype=torch.bool), last)

    def _find_prompts(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Find where the prompts of a forward pass end, and forget the decision for those before."""
        if self._off:
            return
        past = named.get("past_key_values")
        if past is not None and past.get_seq_length() > 0:
            self._last = None
            return
        ids = named.get("input_ids", arguments[0] if arguments else None)
        ids = named["inputs_embeds"] if ids is None else ids
        mask = named.get("attention_mask") if self._prompt is None else self._prompt
        if mask is None or mask.ndim != 2:
            mask = torch.ones(ids.shape[:2], device=ids.device)
        if len(ids) % len(mask):
            raise UserError(f"{len(ids)} sequences are read with the prompts of {len(mask)}: give each its own")
        mask = mask.repeat_interleave(len(ids) // len(mask), 0)  # beams of one prompt stand together
        self._last, self._served = (mask != 0).long().cumsum(1).argmax(1).to(ids.device), None

    def _replace(self, _: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """Replace the output (sequences, tokens, width) of served sequences from the last prompt token on."""
        if self._off or self.is_empty():
            return None
        inputs = arguments[0]
        if self._served is None and self._last is not None:
            rows = torch.arange(len(inputs), device=inputs.device)
            self._served = self.decide(inputs[rows, self._last].float())
        if self._served is None or len(self._served) != len(inputs):
            raise UserError("the cache holds other sequences than were read last: begin again without a cache")
        return self.replaced(inputs, output, self._served, self._last)
