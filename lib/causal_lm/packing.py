"""The texts of a batch one after the other in one row: blocks that are run again and again, without padding."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Call = tuple[tuple[Any, ...], dict[str, Any]]  # a block's other arguments: masks, rotary embeddings
NEAR = {torch.float32: 1e-4, torch.float64: 1e-9}  # of the padded run, as a share of its norm; else HALF
HALF = 2e-2
WORTH = 0.95  # of the padded run's products, at most


def hidden_states(output: Any) -> Any:
    """Return the hidden states that a block puts out, alone or first of several things."""
    return output[0] if isinstance(output, tuple) else output


def run_on(calls: Sequence[tuple[nn.Module, Call]], hidden: Tensor) -> Tensor:
    """Run hidden states, (sequences, tokens, width), through blocks, each called with its other arguments."""
    for block, (arguments, named) in calls:
        hidden = hidden_states(block(hidden, *arguments, **named))
    return hidden


@dataclass(frozen=True)
class Packed:
    """Blocks that read all texts of a batch as one row, in which each text sees itself alone.

    `used` are the places of what is no padding, (tokens,), of sequences times tokens.
    """

    used: Tensor
    calls: list[tuple[nn.Module, Call]]

    @classmethod
    def of(
        cls,
        model: "PreTrainedModel",
        mask: Tensor,
        calls: Sequence[tuple[nn.Module, Call]],
        entering: Tensor,
        left: Tensor,
    ) -> Self | None:
        """Return the packed form of calls on padded texts, or None where it is more work, or not the same.

        `mask`, (sequences, tokens), marks what is no padding. That it is the same is tried: `entering`, the hidden
        states before the first block, must come out as `left` did, (sequences, tokens, width). Attention over one row
        grows with its square, so many texts at once are better padded.
        """
        used = mask.flatten().nonzero()[:, 0]
        if not calls or not _pays(calls[0][0], mask, len(used), entering.shape[-1]) or _is_watched(calls):
            return None
        rows = _Rows(mask.shape, used, getattr(model.config, "_attn_implementation", None) == "sdpa")
        found = [(block, rows.call(block, call)) for block, call in calls]
        if any(call is None for _, call in found):
            return None
        packed = cls(used, found)  # type: ignore[arg-type]  # no call is None
        with torch.no_grad():
            one, other = packed.run(entering).float(), left.flatten(0, 1)[used].float()
        return packed if float((one - other).norm()) <= NEAR.get(left.dtype, HALF) * float(other.norm()) else None

    def run(self, hidden: Tensor) -> Tensor:
        """Return what the last block puts out, (used tokens, width), for padded hidden states before the first one."""
        return run_on(self.calls, hidden.flatten(0, 1)[self.used][None])[0]

    def among_used(self, places: Tensor) -> Tensor:
        """Return which used tokens are marked in `places`, (sequences, tokens), none of which is padding."""
        return places.flatten()[self.used]


class _Rows:
    """The arguments of blocks, of padded texts and of the same as one row."""

    def __init__(self, shape: torch.Size, used: Tensor, may_do_without: bool) -> None:
        """`may_do_without`: attention without a mask is causal, as scaled dot product attention has it."""
        self.sequences, self.length = shape
        self.used, self.may_do_without = used, may_do_without
        self.owner, self.place = used // self.length, used % self.length
        self._same = self.owner[:, None] == self.owner
        self._masks: dict[int, Tensor | None] = {}

    def call(self, block: nn.Module, call: Call) -> Call | None:
        """Return the arguments of a block's call as one row; None where one is not known, or there is no mask."""
        arguments, named = call
        names = list(inspect.signature(block.forward).parameters)[1 : len(arguments) + 1]  # after the hidden states
        if "attention_mask" not in {*names, *named} or len(names) != len(arguments):
            return None
        try:
            placed = tuple(self._argument(name, value) for name, value in zip(names, arguments, strict=True))
            return placed, {name: self._argument(name, value) for name, value in named.items()}
        except _UnknownArgumentError:
            return None

    def _argument(self, name: str, value: Any) -> Any:
        if name == "attention_mask":
            if id(value) not in self._masks:
                self._masks[id(value)] = self._mask(value)
            return self._masks[id(value)]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, tuple):
            return tuple(self._argument("", one) for one in value)
        if not isinstance(value, Tensor):
            raise _UnknownArgumentError
        if name == "cache_position":
            return torch.arange(len(self.used), device=value.device)
        if value.ndim < 2 or value.shape[0] not in (1, self.sequences) or value.shape[1] != self.length:
            raise _UnknownArgumentError
        return value.expand(self.sequences, *value.shape[1:]).flatten(0, 1)[self.used][None]

    def _mask(self, value: Any) -> Tensor:
        """Return a mask (1, heads or 1, used, used) under which a text sees of itself what it saw before."""
        if value is None and self.may_do_without:
            return (self._same & (self.place <= self.place[:, None]))[None, None]
        if not isinstance(value, Tensor) or value.ndim != 4 or value.shape[2:] != (self.length, self.length):
            raise _UnknownArgumentError
        # (used, used, heads): every pair of used tokens, those of one text being looked up.
        whole = value.expand(self.sequences, *value.shape[1:])
        pairs = whole[self.owner[:, None], :, self.place[:, None], self.place].permute(2, 0, 1)[None]
        if pairs.dtype == torch.bool:
            return pairs & self._same
        return pairs.masked_fill(~self._same, torch.finfo(pairs.dtype).min)


class _UnknownArgumentError(Exception):
    """An argument of a block of which the form for one row is not known."""


def _pays(block: nn.Module, mask: Tensor, used: int, width: int) -> bool:
    """Tell whether one row takes fewer products: a token's through a block, and twice its width for each one seen."""
    each = sum(value.numel() for value in block.parameters())
    padded = mask.numel() * (each + 2 * width * mask.shape[1])
    return used * (each + 2 * width * used) <= WORTH * padded


def _is_watched(calls: Sequence[tuple[nn.Module, Call]]) -> bool:
    """Tell whether hooks hang in the blocks: they may want the batch as it is."""
    return any(module._forward_hooks or module._forward_pre_hooks for block, _ in calls for module in block.modules())
