"""A batch of edits is learnt whole or not at all: what an editor and its model held before comes back, to the bit.

with whole(Before(editor, model, in_place=[editor.router])):
    ...                        # an exception, or a value that is not finite, and all is as it was
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from lib.causal_lm import holds
from lib.errors import DivergedError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What has no state that a batch could change, and is not looked into.
PLAIN = (str, bytes, int, float, type(None), torch.dtype, torch.device)
OPAQUE = (*PLAIN, FunctionType, MethodType, ModuleType, type, BaseModel)


class Before:
    """What an object and a model held at one moment, so that it can be put back.

    Of the object, all that it refers to: attributes, lists, sets and dictionaries are kept as they are, which costs
    next to nothing; tensors are copied only where a batch is said to change them in place. Of the model its parts and
    hooks; of its weights those that `copy` is called for.
    """

    def __init__(
        self,
        owner: object,
        model: "PreTrainedModel",
        in_place: Iterable[nn.Module | Tensor] = (),
        apart: Iterable[object] = (),
    ) -> None:
        """Look at `owner`, which learns on `model`; what is `apart` (a tokenizer) is not looked at."""
        self._owner, self._apart = owner, [self, *model.modules(), *apart]
        self._back: list[Callable[[], object]] = []
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}
        for part in model.modules():
            for found in (part, vars(part), *[held for held in vars(part).values() if isinstance(held, dict)]):
                self._keep(found)
        # Held here, so that nothing new can take the place in memory, and so the id, of what was there.
        self._known = list(self._reached([owner, holds.holders(model)]))
        for one in self._known:
            self._keep(one)
        for changed in in_place:
            for tensor in [changed] if isinstance(changed, Tensor) else [*changed.parameters(), *changed.buffers()]:
                self.copy(tensor)

    def copy(self, tensor: Tensor) -> Tensor:
        """Copy a tensor that is about to change in place, once, and return the copy."""
        if id(tensor) not in self._copies:
            self._copies[id(tensor)] = tensor, tensor.detach().clone()
            self._keep(tensor)
        return self._copies[id(tensor)][1]

    @torch.no_grad()
    def put_back(self) -> None:
        """Put all back as it was."""
        for step in self._back:
            step()
        for tensor, value in self._copies.values():
            tensor.copy_(value)

    def changed(self) -> Iterator[Tensor]:
        """Yield the tensors that are new or have changed in place; buffers of modules, which may be infinite, aside."""
        known, reached = {id(one) for one in self._known}, list(self._reached([self._owner]))
        buffers = {id(one) for part in reached if isinstance(part, nn.Module) for one in part.buffers()}
        yield from (tensor for tensor, _ in self._copies.values())
        for one in reached:
            if isinstance(one, Tensor) and id(one) not in known and id(one) not in buffers:
                yield one

    def _reached(self, roots: list[object]) -> Iterator[object]:
        """Yield, once each, the objects and tensors that lead from `roots`, but for what stands apart."""
        seen, waiting = {id(one) for one in self._apart}, list(roots)
        while waiting:
            one: Any = waiting.pop()
            if isinstance(one, OPAQUE) or id(one) in seen:
                continue
            seen.add(id(one))
            yield one
            if isinstance(one, dict):
                waiting += one.values()
            elif isinstance(one, (list, tuple, deque)):
                waiting += one
            elif not isinstance(one, Tensor) and hasattr(one, "__dict__"):
                waiting.append(vars(one))

    def _keep(self, one: Any) -> None:
        """Remember how an object is put back."""
        if isinstance(one, (dict, set, list, deque)):
            self._back.append(partial(_refill, one, one.copy()))
        elif isinstance(one, torch.Generator):
            self._back.append(partial(one.set_state, one.get_state()))
        elif isinstance(one, Tensor) and one.is_leaf:
            self._back.append(partial(_mark, one, one.requires_grad, one.grad))
        elif isinstance(one, nn.Module):
            self._back.append(partial(_make, one, type(one)))


def _refill(container: Any, content: Any) -> None:
    container.clear()
    (container.update if isinstance(container, (dict, set)) else container.extend)(content)


def _mark(tensor: Tensor, trained: bool, grad: Tensor | None) -> None:
    tensor.requires_grad_(trained)
    tensor.grad = grad


def _make(module: nn.Module, kind: type[nn.Module]) -> None:
    module.__class__ = kind  # a parametrisation has changed it


@contextmanager
def whole(before: Before) -> Iterator[None]:
    """Within this block a batch is learnt; what was `before` is put back unless it ends, and ends in finite values.

    Raises `DivergedError` for a new or changed tensor without a finite norm: NaN, infinite, or too large to square.
    """
    try:
        yield
        if not all(map(_has_norm, before.changed())):
            raise DivergedError("the edits left values that are not finite: lower the rate, or the steps")
    except BaseException:
        before.put_back()
        raise


def _has_norm(tensor: Tensor) -> bool:
    """Tell whether the norm of a tensor is finite, in single precision at least: that of halves can overflow."""
    if not tensor.is_floating_point():
        return True
    wide = tensor.detach().float() if tensor.element_size() < 4 else tensor.detach()
    return bool(torch.linalg.vector_norm(wide).isfinite())
