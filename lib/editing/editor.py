"""One interface for every editing method: edit batch after batch, be read and scored, be undone."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from lib.causal_lm import holds
from lib.causal_lm.edits import Edit, Given, as_edits
from lib.causal_lm.encoding import check_tokenizer
from lib.causal_lm.layers import blocks
from lib.causal_lm.passes import Hand
from lib.editing.undoing import Before, whole
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


State: TypeAlias = tuple[dict[str, Tensor], dict[str, Any]]  # tensors by name, and what JSON can hold


class Switchable:
    """Something on a model that a thread can switch off for a while; its hooks do nothing while `hand.off`."""

    hand: Hand

    @contextmanager
    def without_edits(self) -> Iterator[None]:
        """Within this block the model answers as the unedited one (`Editor.without_edits`)."""
        with self.off():
            yield

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within this block the model answers as the unedited one."""
        before, self.hand.off = self.hand.off, True
        try:
            yield
        finally:
            self.hand.off = before


class Editor(ABC):
    """A method on one model, from its first edit until `restore` gives the model back as it was, to the bit.

    The model is edited in place: `self.model(...)` and `self.model.generate(...)` answer as the edited model does.
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Take a model in eval mode, which is frozen; nothing of it changes before the first edit.

        Raises `TypeError` for what is no causal language model, or no tokenizer.
        """
        blocks(model)
        check_tokenizer(tokenizer)
        self.model, self.tokenizer = model, tokenizer
        self.hand = Hand()
        self._saved: dict[str, tuple[nn.Parameter, Tensor]] = {}
        self._before: Before | None = None  # what stood before the batch that is being learnt
        holds.take(model, self)

    def edit(self, batch: Iterable[Given]) -> None:
        """Learn a batch of edits on top of those before, whole or not at all.

        Whatever is raised, model and editor are as they were before the batch: `UserError` for no edits and those that
        the method cannot take, `TypeError` for what is no edit (see `as_edits`), `DivergedError` where what is learnt
        is not finite.
        """
        edits = as_edits(batch, "batch")
        if not edits:
            raise UserError("no edits: give at least one")
        holds.take(self.model, self)  # anew, where `restore` has let it go
        self._before = None
        before = Before(self, self.model, self.in_place(), apart=[self.tokenizer])
        with whole(before):
            self._before = before
            self._learn(edits)
        self._before = None

    @abstractmethod
    def _learn(self, batch: Sequence[Edit]) -> None:
        """Learn a batch; what it raises undoes all that it has done."""

    def in_place(self) -> Sequence[nn.Module | Tensor]:
        """Return what a batch changes in place, beside the modules that `keep` is called for: it is copied before."""
        return ()

    @contextmanager
    def reading(self, prompt: Tensor) -> Iterator[None]:
        """Within this block this thread's passes know their prompt, `hand.prompt`: its mask (sequences, tokens).

        Scoring always reads so, for methods that look at the prompt (MEMoE's anchor, GRACE's key, WISE's route).
        """
        before, self.hand.prompt = self.hand.prompt, prompt
        try:
            yield
        finally:
            self.hand.prompt = before

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
        """Remember a module's parameters as they are now, once, so that `restore` can put them back.

        Called before they are written, in each batch: what fails is put back from the same copy.
        """
        names = {id(value): name for name, value in self.model.named_parameters()}
        for parameter in module.parameters():
            now = parameter.detach().clone() if self._before is None else self._before.copy(parameter)
            self._saved.setdefault(names[id(parameter)], (parameter, now))
        editors = _writers(self.model)
        if all(one() is not self for one in editors):
            editors.append(ref(self))

    def saved_state(self) -> State:
        """Return all that the edits so far have left, for `take_state` of an editor that is made alike.

        Tensors are those themselves, not copies; of weights that were overwritten what they are now.
        """
        return {f"weights.{name}": parameter.detach() for name, (parameter, _) in self._saved.items()}, {}

    @torch.no_grad()
    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned, before the first edit: logits and further edits are those without a pause.

        Raises `KeyError`, `ValueError`, `TypeError` or `RuntimeError` for what is no state of this method on this
        model: `restore` then gives the model back.
        """
        del told
        weights = {
            name.removeprefix("weights."): value for name, value in tensors.items() if name.startswith("weights.")
        }
        parameters = dict(self.model.named_parameters())
        for name, value in weights.items():
            parameter = parameters[name]
            if (parameter.shape, parameter.dtype) != (value.shape, value.dtype):
                raise ValueError(f"{name} is {tuple(value.shape)} of {value.dtype}, the model's is another")
            self.keep(self.model.get_submodule(name.rpartition(".")[0]))
            parameter.copy_(value)

    @contextmanager
    def without_edits(self) -> Iterator[None]:
        """Within this block the model answers as the unedited one; afterwards it is edited as before, to the bit."""
        edited = {name: parameter.detach().clone() for name, (parameter, _) in self._saved.items()}
        with torch.no_grad():
            for parameter, before in self._saved.values():
                parameter.copy_(before)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, (parameter, _) in self._saved.items():
                    parameter.copy_(edited[name])

    @torch.no_grad()
    def restore(self) -> None:
        """Give the model back, to the bit; methods with hooks take them off before they call this.

        Editors of one model can be restored in any order: with the last the model is as it was before the first. A
        weight that a later editor wrote too stays as it is until that one is restored.
        """
        editors = _writers(self.model)
        place = next((number for number, one in enumerate(editors) if one() is self), len(editors))
        later = [editor for one in editors[place + 1 :] if (editor := one()) is not None]
        for name, (parameter, value) in self._saved.items():
            heir = next((editor for editor in later if name in editor._saved), None)
            if heir is None:
                parameter.copy_(value)
            else:
                heir._saved[name] = (parameter, value)
        self._saved = {}
        del editors[place : place + 1]
        holds.leave(self.model, self)
        for parameter in self.model.parameters():
            parameter.grad = None


_WRITERS: WeakKeyDictionary[nn.Module, list[ReferenceType[Editor]]] = WeakKeyDictionary()


def _writers(model: nn.Module) -> list[ReferenceType[Editor]]:
    """Return the list itself of the editors that have overwritten weights of a model, in the order of their first."""
    return _WRITERS.setdefault(model, [])


class NoEdit(Editor):
    """The row "no edit": the model as it is."""

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Do nothing."""
