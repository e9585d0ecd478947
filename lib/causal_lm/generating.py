"""One `generate` as a whole: which passes of a model are its, and what it was given.

`watch` puts `generate` below in front of a model's own, `unwatch` takes it away; `running` is the one of this thread.
"""

import itertools
import threading
from dataclasses import dataclass, field
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch import Tensor, nn

from lib.errors import UserError

NUMBERS = itertools.count(1)  # of those who follow passes, and of calls of `generate`
_OWN = "_own_generate"  # the attribute of a model for a `generate` that its user had put there
_CHUNK = "prefill_chunk_size"


@dataclass
class Call:
    """A running `generate`: what was decided without a cache, by method, and what its caches were given."""

    model: nn.Module
    number: int = field(default_factory=lambda: next(NUMBERS))
    began: dict[int, tuple[Tensor, Any]] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
    mask: Tensor | None = None  # that was given, (prompts, tokens): a static cache makes another of it
    width: int = 0  # tokens of the prompts that were given
    offset: int = 0  # tokens of a kept cache that are not among them


class _Thread(threading.local):
    def __init__(self) -> None:
        self.calls: list[Call] = []


_THREAD = _Thread()
_WATCHING: WeakKeyDictionary[nn.Module, WeakSet[Any]] = WeakKeyDictionary()


def running(model: nn.Module) -> Call | None:
    """Return the innermost `generate` of a model that runs in this thread."""
    return next((one for one in reversed(_THREAD.calls) if one.model is model), None)


def given_mask(model: nn.Module, sequences: int, tokens: int) -> Tensor | None:
    """Return the attention mask that `generate` was given, for all beams, (sequences, tokens); None where none was."""
    call = running(model)
    mask = None if call is None else call.mask
    if mask is None or mask.ndim != 2 or mask.shape[1] < tokens or sequences % len(mask):
        return None
    return mask.repeat_interleave(sequences // len(mask), 0)


def generate(self: Any, *arguments: Any, **named: Any) -> Any:
    """Generate as the model's own `generate` does, as one whole for those that follow its passes.

    Raises `UserError` for `prefill_chunk_size`: who decides by the prompt is to see it whole.
    """
    given = [named, *arguments, named.get("generation_config"), getattr(self, "generation_config", None)]
    sizes = [one.get(_CHUNK) if isinstance(one, dict) else getattr(one, _CHUNK, None) for one in given]
    if any(size is not None for size in sizes):
        raise UserError(f"the edits are to see a prompt whole: leave {_CHUNK} out")
    ids = named.get("input_ids", named.get("inputs", arguments[0] if arguments else None))
    mask = named.get("attention_mask")
    call = Call(self, mask=mask if isinstance(mask, Tensor) else None)
    call.width = ids.shape[1] if isinstance(ids, Tensor) and ids.ndim == 2 else 0
    _THREAD.calls.append(call)
    try:
        written = vars(self).get(_OWN, type(self).generate.__get__(self))(*arguments, **named)
    finally:
        _THREAD.calls.remove(call)
    sequences = getattr(written, "sequences", written)
    if isinstance(sequences, Tensor):
        for kept in call.kept:
            kept.told = call.offset + sequences.shape[1]
    return written


def watch(model: nn.Module, follower: object) -> None:
    """Tell `generate` of a model from a bare pass as long as somebody follows its passes."""
    own = vars(model).get("generate")
    if getattr(own, "__func__", None) is not generate and hasattr(type(model), "generate"):
        if own is not None:
            vars(model)[_OWN] = own
        vars(model)["generate"] = MethodType(generate, model)  # a method, which a copy of the model binds to itself
    _WATCHING.setdefault(model, WeakSet()).add(follower)


def unwatch(model: nn.Module, follower: object) -> None:
    """Give a model its `generate` back with the last who follows it."""
    followers = _WATCHING.get(model, WeakSet())
    followers.discard(follower)
    if not followers and getattr(vars(model).get("generate"), "__func__", None) is generate:
        del vars(model)["generate"]
        if _OWN in vars(model):
            vars(model)["generate"] = vars(model).pop(_OWN)
