"""One interface for every editing method: edit batch after batch, be read and scored, be undone."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lib.causal_lm.edits import Edit

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Switchable:
    """Something on a model that can be switched off for a while; its hooks do nothing while `_off`."""

    _off = False

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within this block the model answers as the unedited one."""
        before, self._off = self._off, True
        try:
            yield
        finally:
            self._off = before


class Editor(ABC):
    """A method on one model, from its first edit until `restore` gives the model back as it was, to the bit.

    The model is edited in place: `self.model(...)` and `self.model.generate(...)` answer as the edited model does.
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Take a model in eval mode; nothing of it changes before the first edit."""
        self.model, self.tokenizer = model, tokenizer
        self._prompt: Tensor | None = None
        self._saved: dict[str, tuple[nn.Parameter, Tensor]] = {}
        self._trained = {name: value.requires_grad for name, value in model.named_parameters()}
        model.requires_grad_(False)

    @abstractmethod
    def edit(self, batch: Sequence[Edit]) -> None:
        """Learn a batch of edits on top of those before; raises `UserError` for edits that the method cannot take."""

    @contextmanager
    def reading(self, prompt: Tensor) -> Iterator[None]:
        """Within this block forward passes know their prompt, `_prompt`: its mask (sequences, tokens).

        Scoring always reads so, for methods that look at the prompt (MEMoE's anchor, GRACE's key, WISE's route).
        """
        before, self._prompt = self._prompt, prompt
        try:
            yield
        finally:
            self._prompt = before

    def scoring_groups(self, batches: Sequence[Sequence[Edit]]) -> Iterator[tuple[list[Edit], list[int]]]:
        """Yield the edits that are scored together, with the number of each one's batch: by default all at once."""
        yield [edit for batch in batches for edit in batch], [n for n, batch in enumerate(batches) for _ in batch]

    def route_agreement(self, batches: Sequence[Sequence[Edit]]) -> list[dict[str, Any]]:
        """Return rows that tell how the edits of all batches so far are routed now; none for a method without experts.

        Each row names its batch in `batch`, -1 for all of them.
        """
        del batches
        return []

    def memory(self) -> int:
        """Return the bytes that the edited model holds beyond the unedited one; 0 where weights are overwritten."""
        return 0

    def keep(self, module: nn.Module) -> None:
        """Remember a module's parameters as they are now, once, so that `restore` can put them back."""
        names = {id(value): name for name, value in self.model.named_parameters()}
        for parameter in module.parameters():
            self._saved.setdefault(names[id(parameter)], (parameter, parameter.detach().clone()))

    @torch.no_grad()
    def restore(self) -> None:
        """Give the model back, to the bit; methods with hooks take them off before they call this."""
        for parameter, value in self._saved.values():
            parameter.copy_(value)
        self._saved = {}
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self._trained.get(name, parameter.requires_grad))
            parameter.grad = None


class NoEdit(Editor):
    """The row "no edit": the model as it is."""

    def edit(self, batch: Sequence[Edit]) -> None:
        """Do nothing."""
