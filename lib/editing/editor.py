"""One interface for every editing method: edit batch after batch, be read, be undone."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lib.editing.edits import Edit

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Editor(ABC):
    """A method on one model, from its first edit until `restore` gives the model back as it was, to the bit.

    The model is edited in place: `self.model(...)` and `self.model.generate(...)` answer as the edited model does.
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Take a model in eval mode; nothing of it changes before the first edit."""
        self.model, self.tokenizer = model, tokenizer
        self._saved: dict[str, tuple[nn.Parameter, Tensor]] = {}
        self._trained = {name: value.requires_grad for name, value in model.named_parameters()}
        model.requires_grad_(False)

    @abstractmethod
    def edit(self, batch: Sequence[Edit]) -> None:
        """Learn a batch of edits on top of those before; raises `UserError` for edits that the method cannot take."""

    def reading(self, prompt: Tensor) -> AbstractContextManager[object]:
        """Return the block within which forward passes know their prompt: `prompt` is its mask (sequences, tokens).

        Scoring always reads so; methods that look at the prompt (LEMoE's anchor, GRACE's key) override it.
        """
        del prompt
        return nullcontext()

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
