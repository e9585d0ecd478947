"""The upper layers alone: what lies below an edited layer is frozen, so a batch of edits runs through it only once.

chunks = chunked(model, encode_edits(model, tokenizer, batch), layer, size=32, site=down_projection(model, layer))
for chunk in chunks:
    losses, _, _ = chunk.losses(change=lambda inputs, output: inputs @ weight.T)
    (losses.sum() / targets(chunks)).backward()     # the gradient of the whole batch's mean
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.causal_lm.encoding import IGNORED, Encoded
from lib.causal_lm.layers import blocks, feed_forward, final_norm, hang
from lib.causal_lm.packing import Call, Packed, hidden_states, run_on
from lib.errors import DivergedError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lib.causal_lm.layers import Block

Loss = Literal["last_position", "teacher_forcing"]
Change = Callable[[Tensor, Tensor], Tensor]  # a module's new output, of its inputs and its own output


class Kept(NamedTuple):
    """What stays of a pass without gradient: the hidden states to start from, how to go on, and what came out.

    `start` (sequences, tokens, width) enters the first of `calls`; with a site it is the residual that the site's
    output is added to, and `inner`, (sequences, tokens, inputs), and `output`, (sequences, tokens, width), are its.
    """

    start: Tensor
    inner: Tensor | None
    output: Tensor | None
    calls: list[tuple[nn.Module, Call]]
    left: Tensor
    norm: nn.Module
    head: nn.Module


class UpperLayers:
    """Sequences carried once through the frozen part of a model, to be run on from there step after step.

    Without a site that part ends where block `layer` begins, and hooks or parametrisations may change any block from
    there on. With a site, the block's feed-forward part or its down projection, it ends at the site: `change` says what
    the site puts out. Where a model is not built so, and where it is in training mode, whose dropout is to be drawn at
    every step, each step runs the whole model; the result is the same. A warning tells of the former.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        encoded: Encoded,
        layer: int,
        site: nn.Module | None = None,
        cached: bool = True,
        packed: bool = False,
    ) -> None:
        """Run the whole model once; `layer` may be the number of layers (without a site): only norm and head remain.

        `packed` leaves padding out above a site, where that is less work and the blocks allow it: equal but for
        rounding. Raises `ValueError` for a layer that is not there.
        """
        if not 0 <= layer <= len(blocks(model)) - (site is not None):
            raise ValueError(f"layer={layer}: {type(model).__name__} has {len(blocks(model))}, the first is 0")
        self.encoded = encoded
        self._model, self._layer, self._site = model, layer, site
        self._kept = _run(model, encoded, layer, site) if cached and not model.training else None
        self._packed = _pack(model, encoded, self._kept) if packed and self._kept is not None else None
        if cached and self._kept is None and not model.training:
            name = type(model).__name__
            warnings.warn(f"{name}: layer {layer} cannot be cached; every step runs the whole model", stacklevel=3)

    @property
    def is_cached(self) -> bool:
        """Tell whether a step runs the upper layers alone."""
        return self._kept is not None

    def logits(self, places: Tensor, change: Change | None = None) -> Tensor:
        """Return float32 logits (places, vocabulary) at the marked places of a mask (sequences, tokens).

        `change` is for the site: without it the site's output is its own.
        """
        if self._kept is None:
            with _changed(self._model, self._layer, self._site, change):
                found = self._model(input_ids=self.encoded.ids, attention_mask=self.encoded.mask, use_cache=False)
            return found.logits[places].float()
        kept = self._kept
        hidden = kept.start
        if kept.output is not None:
            hidden = hidden + (kept.output if change is None else change(kept.inner, kept.output))  # type: ignore[arg-type]
        if self._packed is not None and not bool((places & (self.encoded.mask == 0)).any()):
            return kept.head(kept.norm(self._packed.run(hidden)[self._packed.among_used(places)])).float()
        return kept.head(kept.norm(run_on(kept.calls, hidden)[places])).float()

    def losses(self, kind: Loss = "teacher_forcing", change: Change | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return, for each target token: its loss in nats, whether it is the best guess, and its sequence.

        "teacher_forcing" predicts each from what stands before it; "last_position" predicts all of them from the last
        prompt token alone, as the code of ROME's FT-L does.
        """
        labels = self.encoded.labels
        target = labels != IGNORED
        sequence = target.nonzero()[:, 0]
        if kind not in ("teacher_forcing", "last_position"):
            raise ValueError(f"kind={kind!r}: give 'teacher_forcing' or 'last_position'")
        if kind == "teacher_forcing":
            logits = self.logits(target.roll(-1, 1), change)  # no target stands first, so nothing comes round
        else:
            places = functional.one_hot(self.encoded.last_prompt, labels.shape[1]).bool()
            logits = self.logits(places, change)[sequence]
        wanted = labels[target]
        return functional.cross_entropy(logits, wanted, reduction="none"), logits.argmax(-1) == wanted, sequence


def chunked(
    model: "PreTrainedModel",
    encoded: Encoded,
    layer: int,
    size: int,
    site: nn.Module | None = None,
    cached: bool = True,
    packed: bool = False,
) -> list[UpperLayers]:
    """Cut a batch, in its order, into chunks of `size` sequences without needless padding; bounds what a step holds."""
    return [UpperLayers(model, part, layer, site, cached, packed) for part in encoded.split(size)]


def targets(chunks: Sequence[UpperLayers]) -> int:
    """Return the number of target tokens of all chunks."""
    return sum(int((chunk.encoded.labels != IGNORED).sum()) for chunk in chunks)


def descend(
    chunks: Sequence[UpperLayers], kind: Loss = "teacher_forcing", change: Change | None = None
) -> tuple[float, bool]:
    """Add the gradient of the mean loss of all target tokens, chunk by chunk: one graph at a time is held.

    Returns that mean in nats, and whether every target token is the best guess; `DivergedError` unless it is finite.
    """
    count, total, right = targets(chunks), 0.0, True
    for chunk in chunks:
        losses, best, _ = chunk.losses(kind, change)
        loss = losses.sum() / count
        loss.backward()
        total, right = total + loss.item(), right and bool(best.all())
    check_loss(total)
    return total, right


def check_loss(loss: float) -> None:
    """Raise `DivergedError` for a loss that is not finite."""
    if not math.isfinite(loss):
        raise DivergedError(f"the loss is {loss}: lower the rate, or the steps")


class Seen(NamedTuple):
    """A call of a module: its first argument, the others, and its output."""

    entering: Any
    call: Call
    output: Any

    @classmethod
    def of(cls, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> Self:
        if not arguments and "hidden_states" in named:
            named = dict(named)
            arguments = (named.pop("hidden_states"),)
        return cls(arguments[0] if arguments else None, (arguments[1:], named), output)


@torch.no_grad()  # not inference mode: what is kept takes part in training
def _run(model: "PreTrainedModel", encoded: Encoded, layer: int, site: nn.Module | None) -> Kept | None:
    """Run the model once; None where it is not built as `UpperLayers.logits` would need.

    Every link from block to block, to the last norm and to the head is looked at, so another architecture is refused,
    never computed wrongly.
    """
    found, head = list(blocks(model)), model.get_output_embeddings()
    norm = final_norm(model)
    if head is None or norm is None:
        return None
    inside = [] if site is None else [site, *found[layer].children()]
    upper = found[layer:] if site is None else found[layer + 1 :]
    with watched({*found[max(layer - 1, 0) :], *inside, norm, head}) as seen:
        logits = model(input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False, logits_to_keep=1).logits
    if any(module not in seen for module in (*found[layer:], norm, head)) or (site is not None and site not in seen):
        return None
    start = inner = output = None
    if site is not None:
        stream = hidden_states(seen[found[layer]].output)
        start, inner, output = residual(found[layer], seen), seen[site].entering, seen[site].output
        if start is None or start.shape != output.shape or not torch.equal(start + output, stream):
            return None
    else:
        start = stream = seen[upper[0]].entering if upper else hidden_states(seen[found[-1]].output)
    calls = []
    for block in upper:
        if seen[block].entering is not stream:
            return None
        calls.append((block, seen[block].call))
        stream = hidden_states(seen[block].output)
    last, kept = seen[norm].output, seen[head].entering
    whole = seen[norm].entering is stream and seen[head].output is logits
    if not whole or not torch.equal(kept, last[:, -kept.shape[1] :]):
        return None
    return Kept(start, inner, output, calls, stream, norm, head)


def _pack(model: "PreTrainedModel", encoded: Encoded, kept: Kept) -> Packed | None:
    """Return what is above a site without padding; None without a site, whose hooks may want the batch as it is."""
    if kept.output is None:
        return None
    return Packed.of(model, encoded.mask, kept.calls, kept.start + kept.output, kept.left)


@contextmanager
def watched(modules: Iterable[nn.Module]) -> Iterator[dict[nn.Module, Seen]]:
    """Within this block the last call of each of some modules is noted, as far as there is one."""
    seen: dict[nn.Module, Seen] = {}

    def note(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        seen[module] = Seen.of(arguments, named, output)

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(note, with_kwargs=True).remove)
        yield seen


def residual(block: "Block", seen: dict[nn.Module, Seen]) -> Tensor | None:
    """Return what the feed-forward part's output is added to: what enters the norm before that part, if it is one."""
    part = feed_forward(block)
    feed = seen[part].entering if part in seen else None
    before = [seen[child].entering for child in block.children() if child in seen and seen[child].output is feed]
    return before[0] if len(before) == 1 and isinstance(before[0], Tensor) else None


@contextmanager
def _changed(model: "PreTrainedModel", layer: int, site: nn.Module | None, change: Change | None) -> Iterator[None]:
    """Within this block the site puts out what `change` says."""
    if site is None or change is None:
        yield
        return
    found = blocks(model)[layer]
    handles = hang(found, "feed_forward" if site is feed_forward(found) else "down", change)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
