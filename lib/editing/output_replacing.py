"""What GRACE and DEFER share: one decision for a sequence, whether a down projection's output is replaced."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lib.causal_lm.encoding import Encoded
from lib.causal_lm.layers import block, down_projection, hang
from lib.causal_lm.passes import Decision, Passes
from lib.causal_lm.upper_layers import Change
from lib.editing.editor import Editor, Switchable
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class OutputReplacing(Switchable, Editor):
    """Methods that decide once per sequence, at its last prompt token, whether to replace one down projection's output.

    The output is replaced from that token on, generated ones included, unless `where` says otherwise: a decision stays
    with the cache of its prompt and with its `generate` (`causal_lm.passes` has the rules). `reading` tells where
    prompts end; a bare pass takes the last token that is not masked.
    """

    where: Literal["prompt", "last", "all", "onward"] = "onward"  # before the last prompt token, it, all, from it on

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", layer: int) -> None:
        """Take a model and hang hooks on it; raises `UserError` for a layer that does not exist."""
        block(model, layer)
        super().__init__(model, tokenizer)
        self.layer, self._module = layer, down_projection(model, layer)
        self._block = block(model, layer)
        self._hooks = [
            Passes(model, self.hand, self._find_prompts, self.is_empty),
            *hang(self._block, "down", self._replace),
        ]

    def decide(self, keys: Tensor) -> Tensor:
        """Return which sequences are served, (sequences,) bool, by the module's inputs at the last prompt tokens."""
        return self.decided(keys)[0]

    @property
    def served(self) -> Tensor | None:
        """Return which sequences of this thread's last pass are served, (sequences,) bool; None before the first."""
        return None if self.hand.decision is None else self.hand.decision.values[1]

    @abstractmethod
    def decided(self, keys: Tensor) -> tuple[Tensor, ...]:
        """Return, by the module's inputs at the last prompt tokens, which sequences are served, (sequences,) bool.

        Further tensors (sequences, ...) are what `replacement` is given of them.
        """

    @abstractmethod
    def replacement(self, inputs: Tensor, *decided: Tensor) -> Tensor:
        """Return what replaces the output of inputs (sequences, tokens, inputs), broadcastable to the output.

        `decided` is what the method of that name has returned besides.
        """

    @abstractmethod
    def is_empty(self) -> bool:
        """Tell whether nothing has been learnt yet, so that nothing is to be replaced."""

    def restore(self) -> None:
        """Take the hooks off: the weights were never changed."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self.hand.decision = [], None
        super().restore()

    def keys(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Return the module's inputs and own outputs at the last prompt tokens, float32 (sequences, size)."""
        seen: list[Tensor] = []

        def note(inputs: Tensor, output: Tensor) -> None:
            rows = torch.arange(len(output), device=output.device)
            seen.extend(part[rows, encoded.last_prompt].float() for part in (inputs, output))

        hooks = hang(self._block, "down", note, prepend=True)  # before the output is replaced
        try:
            with torch.no_grad(), self.reading(encoded.prompt):
                self.model.base_model(input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return seen[0], seen[1]

    def replaced(
        self, inputs: Tensor, output: Tensor, served: Tensor, last: Tensor | None, decided: Sequence[Tensor] = ()
    ) -> Tensor:
        """Return the module's output (sequences, tokens, outputs) with that of served sequences replaced at `where`.

        `served` (sequences,) is of truth values, `last` (sequences,) the places of the last prompt tokens; None: all
        tokens come after them. `decided` is what the method of that name has returned besides.
        """
        where = served[:, None]
        if last is None:
            if self.where in ("prompt", "last"):
                return output
        elif self.where != "all":
            place, end = torch.arange(inputs.shape[1], device=inputs.device), last[:, None]
            where = where & {"prompt": place < end, "last": place == end, "onward": place >= end}[self.where]
        return torch.where(where[..., None], self.replacement(inputs, *decided).to(output.dtype), output)

    def training_change(self, encoded: Encoded, *decided: Tensor) -> Change:
        """Return what the module puts out while the given sequences are trained: all of them are served."""
        last = encoded.last_prompt
        served = torch.ones_like(last, dtype=torch.bool)
        return lambda inputs, output: self.replaced(inputs, output, served, last, decided)

    def _find_prompts(self, _: Tensor | None, mask: Tensor) -> None:
        """Find where new prompts end, by their mask: `_replace` decides when it sees the module's inputs there."""
        sequences, tokens = self.hand.shape
        if sequences % len(mask):
            raise UserError(f"{sequences} sequences are read with the prompts of {len(mask)}: give each its own")
        mask = mask.repeat_interleave(sequences // len(mask), 0)  # beams of one prompt stand together
        self.hand.mask = mask[:, :tokens]

    def _replace(self, inputs: Tensor, output: Tensor) -> Tensor | None:
        """Replace the output (sequences, tokens, width) of served sequences from the last prompt token on."""
        if self.hand.off or self.is_empty():
            return None
        hand = self.hand
        if hand.decision is None and hand.mask is not None:
            last = (hand.mask != 0).long().cumsum(1).argmax(1).to(inputs.device)
            rows = torch.arange(len(inputs), device=inputs.device)
            hand.decision = Decision((last, *self.decided(inputs[rows, last].float())))
        if hand.decision is None or len(hand.decision) != len(inputs):
            raise UserError("the cache holds other sequences than were read last: begin again without a cache")
        last, served, *decided = hand.decision.values
        return self.replaced(inputs, output, served, None if hand.on_cache else last, decided)
