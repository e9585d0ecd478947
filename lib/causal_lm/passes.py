"""Which prompt a forward pass belongs to: decided once, and kept with the cache, or the `generate`, that goes on.

self.passes = Passes(model, self.hand, begin=self._begin, idle=self._idle)  # hangs on the model until `remove`
...                                          # in hooks of layers: self.hand.decision of the pass in hand

The rules, the same for every method that decides something once for a sequence:
- A pass on no cache or an empty one is a prompt, and decides anew. What it decides stays with the cache that it fills.
- A pass of one token on a cache belongs to the prompt of that cache, whatever was read in between or beside it.
- Within one `generate` all passes belong to its prompt: on its cache, and without a cache if they begin with it.
- `generate` on a kept cache decides anew by the tokens that are new since the last answer; it goes on if none is.
- A bare pass of several tokens on a cache may be more of its prompt, an answer, or a new question. It is refused unless
  it is said: `continuing()` for the first two, the mask of a prompt, of the pass's shape, for the third.
- Rows of a cache that were repeated, chosen or put in another order keep what was decided for each of them. A cache
  that others filled, and rows that are not found again, are refused.
Each thread has its own pass in hand; two conversations can take turns or run at once.
"""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lib.causal_lm import caches
from lib.causal_lm.generating import NUMBERS, given_mask, running, unwatch, watch
from lib.causal_lm.layers import trunk
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KEPT = "decided_for_rows"  # the attribute of a cache that holds what was decided: it goes where the cache is copied


@dataclass
class Decision:
    """What was decided for the sequences of a pass: tensors (sequences, ...), and what a method made of them once."""

    values: tuple[Tensor, ...]
    prepared: Any = None

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.values[0])

    def of(self, rows: Tensor) -> "Decision":
        """Return the decision for some sequences, by their numbers (sequences,)."""
        return Decision(tuple(value[rows.to(value.device)] for value in self.values))

    def kept(self) -> "Decision":
        """Return the same without a graph, so that a cache that holds it can be copied."""
        if not any(value.requires_grad for value in self.values):
            return self
        return Decision(tuple(value.detach() for value in self.values))


class Hand(threading.local):
    """What a method knows of the pass that its thread has in hand, and what was said of it; a copy knows nothing."""

    def __init__(self) -> None:
        """Know nothing, in each thread."""
        self.off = False  # the method does nothing
        self.prompt: Tensor | None = None  # mask of what is prompt, (sequences, tokens)
        self.forced: int | Tensor | None = None
        self.decision: Decision | None = None
        self.fixed = False  # the decision is given: whatever pass comes takes it
        self.on_cache = False  # the pass continues one
        self.mask: Tensor | None = None  # of the prompts that are to be decided, (sequences, tokens)
        self.seen: Any = None  # of the last pass, for whoever asks
        self.shape: tuple[int, int] = (0, 0)  # sequences, tokens

    def __reduce__(self) -> tuple[type["Hand"], tuple[()]]:
        """Copy and pickle as one that knows nothing: what is of a thread stays there."""
        return Hand, ()


@dataclass
class _Kept:
    """What a cache holds for one method: the decision, the keys of one layer as they were, and since when it holds."""

    decision: Decision
    keys: Tensor | None
    call: int  # the `generate` that decided it, 0 for a bare pass
    told: int = 0  # tokens of the sequences that the last `generate` gave back: what follows them is new


class _Said(threading.local):
    continues = False


_SAID = _Said()


@contextmanager
def continuing() -> Iterator[None]:
    """Within this block, passes of several tokens on a cache belong to the prompt of the cache: teacher forcing."""
    before, _SAID.continues = _SAID.continues, True
    try:
        yield
    finally:
        _SAID.continues = before


class Passes:
    """Follows the passes of a model for one method, until `remove`."""

    def __init__(
        self,
        model: "PreTrainedModel",
        hand: Hand,
        begin: Callable[[Tensor | None, Tensor], Decision | None],
        idle: Callable[[], bool],
        by_prompt: Callable[[], bool] = lambda: True,
    ) -> None:
        """Hang on a model. `begin` is asked for new prompts, with their ids and mask, both (sequences, tokens).

        It returns what is decided, or None where a layer's hook will set it; ids are None for a pass of embeddings. A
        mask given by `hand.prompt` may have fewer rows (beams) or columns (what is generated) than the ids. `idle`
        tells whether there is nothing to decide. Unless `by_prompt`, all that is not masked counts, whatever
        `hand.prompt` says.
        """
        self._model, self._hand, self._begin, self._idle, self._by_prompt = model, hand, begin, idle, by_prompt
        self._number = next(NUMBERS)
        part = trunk(model)
        names = list(inspect.signature(part.forward).parameters)
        asked = ("input_ids", *caches.NAMES, "attention_mask")
        self._order = {name: names.index(name) for name in asked if name in names}
        self._handles = [
            part.register_forward_pre_hook(self._enter, with_kwargs=True),
            part.register_forward_hook(self._leave, with_kwargs=True),
        ]
        watch(model, self)

    def remove(self) -> None:
        """Take it off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        unwatch(self._model, self)

    def _given(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if name in named:
            return named[name]
        place = self._order.get(name, len(arguments))
        return arguments[place] if place < len(arguments) else None

    def _cache(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return the cache that a pass was given, under whichever name; None where none was."""
        given = (self._given(name, arguments, named) for name in caches.NAMES)
        return next((one for one in given if one is not None), None)

    def _enter(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Find what was decided for a pass, or have it decided."""
        hand = self._hand
        ids = self._given("input_ids", arguments, named)
        read = named.get("inputs_embeds") if ids is None else ids
        if read is None:
            return  # the model itself says what is missing
        hand.shape = (read.shape[0], read.shape[1])
        if hand.off or hand.fixed or self._idle():
            return
        hand.decision, hand.mask, hand.on_cache = None, None, False
        found, first = self._continued(read, ids, self._cache(arguments, named))
        if found is None:
            hand.mask = self._asked(read, self._given("attention_mask", arguments, named), first)
            found = self._begin(ids, hand.mask)
        hand.decision = found

    def _continued(self, read: Tensor, ids: Tensor | None, cache: Any) -> tuple[Decision | None, int | None]:
        """Return what was decided for a pass; None where it is a prompt, with the first token asked behind a cache."""
        call = running(self._model)
        if cache is None:
            began = None if call is None or ids is None else call.began.get(self._number)
            if began is None or ids is None or len(ids) != len(began[0]) or ids.shape[1] <= began[0].shape[1]:
                return None, None
            return (began[1] if torch.equal(ids[:, : began[0].shape[1]], began[0]) else None), None
        kept: _Kept | None = getattr(cache, _KEPT, {}).get(self._number)
        if kept is not None and call is not None and kept.call == call.number:
            return self._of_rows(kept, cache, len(read), trusted=True), None
        tokens, held = read.shape[1], int(cache.get_seq_length())
        if not held:
            return None, None
        if call is not None:
            call.offset = held if tokens == call.width else 0
            first = 0 if kept is None else max(0, kept.told - held)
            if kept is None or (first == 0 and tokens > 1) or 0 < first < tokens:
                return None, first
        elif tokens > 1 and not _SAID.continues:
            mask = self._hand.prompt
            if mask is None or mask.shape != read.shape[:2]:
                raise UserError(
                    f"{tokens} tokens follow a cache: a new question, or more of the old? Give the prompt's mask for "
                    "the one, `passes.continuing()` for the other, or begin without a cache"
                )
            if bool(mask.any()):
                return None, 0
        if kept is None:
            raise UserError("the cache was filled while the edits were not on: read the prompt again without it")
        return self._of_rows(kept, cache, len(read)), None

    def _asked(self, read: Tensor, attention: Any, first: int | None) -> Tensor:
        """Return the mask of the prompts in a pass: what the caller said, else what is not masked."""
        sequences, tokens = read.shape[:2]
        mask = self._hand.prompt if self._hand.prompt is not None and self._by_prompt() else attention
        if not isinstance(mask, Tensor) or mask.ndim != 2:
            mask = given_mask(self._model, sequences, tokens)
        if mask is None:
            mask = torch.ones(sequences, tokens, dtype=torch.long, device=read.device)
        if first is None:
            return mask
        if mask.shape[1] < tokens:
            raise UserError(
                f"the mask of the prompts has {mask.shape[1]} tokens, the pass {tokens}: give one of its shape"
            )
        return mask[:, -tokens:] * (torch.arange(tokens, device=mask.device) >= first)

    def _of_rows(self, kept: _Kept, cache: Any, rows: int, trusted: bool = False) -> Decision:
        """Return what was decided for the rows that a cache has now."""
        self._hand.on_cache = True
        same = len(kept.decision) == rows
        if same and trusted:  # every further token of a `generate`: nothing is looked up for it
            return kept.decision
        keys = _keys(cache)
        if not same or keys is not kept.keys:
            if keys is None or kept.keys is None or len(keys) != rows or len(kept.keys) != len(kept.decision):
                raise UserError("the cache holds other sequences than were read with it: begin again without a cache")
            kept.decision = kept.decision.of(_places(kept.decision, kept.keys, keys))
        return kept.decision

    def _leave(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        """Leave what was decided with the cache that the pass has filled, or with the `generate` that goes on."""
        hand = self._hand
        if hand.off or hand.fixed or hand.decision is None or self._idle():
            return
        call = running(self._model)
        cache = self._cache(arguments, named)
        if cache is None:
            cache = caches.of(output)
        if cache is None and isinstance(output, tuple):
            cache = next((one for one in output if hasattr(one, "get_seq_length")), None)
        if cache is None:
            ids = self._given("input_ids", arguments, named)
            if call is not None and ids is not None:
                call.began.setdefault(self._number, (ids, hand.decision.kept()))
            return
        if not hasattr(cache, "get_seq_length"):
            return
        held = cache.__dict__.setdefault(_KEPT, {})
        kept, number = held.get(self._number), 0 if call is None else call.number
        if kept is not None and kept.decision is hand.decision:
            kept.keys, kept.call = _keys(cache), number
        else:
            kept = held[self._number] = _Kept(hand.decision.kept(), _keys(cache), number)
        if call is not None and all(one is not kept for one in call.kept):
            call.kept.append(kept)


def _keys(cache: Any) -> Tensor | None:
    """Return the keys of one layer of a cache, (sequences, ...): of one that holds all tokens, where there is one."""
    layers = getattr(cache, "layers", ())
    for layer in layers:
        if not getattr(layer, "is_sliding", False) and isinstance(getattr(layer, "keys", None), Tensor):
            return layer.keys
    return next((layer.keys for layer in layers if isinstance(getattr(layer, "keys", None), Tensor)), None)


def _places(decision: Decision, before: Tensor, now: Tensor) -> Tensor:
    """Return which row of `before` each row of `now` was, both (sequences, heads, tokens, size), (sequences,).

    Raises `UserError` for a row that was not there, and for one that may be one of two with unlike decisions.
    """
    tokens = min(before.shape[-2], now.shape[-2])
    old = before[..., :tokens, :].flatten(1).to(now.device)
    new = now[..., :tokens, :].flatten(1)
    equal = torch.stack([(new == row).all(1) for row in old], 1) if old.shape[1:] == new.shape[1:] else None
    if equal is None or not bool(equal.any(1).all()):
        raise UserError("the cache holds other sequences than were read with it: begin again without a cache")
    rows = equal.long().argmax(1)
    for number, row in enumerate(rows.tolist()):
        for other in equal[number].nonzero()[:, 0].tolist():
            if any(not torch.equal(value[row], value[other]) for value in decision.values):
                raise UserError("the cache holds a sequence twice, decided differently: begin again without a cache")
    return rows
