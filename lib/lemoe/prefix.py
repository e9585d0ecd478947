"""The cached prefix: what no step of training changes is computed once for a batch of edits.

Below the edited feed-forward part everything is frozen, its own output included. A step begins at the sum of that
output, the experts' and the residual, passes through the blocks above, and ends with the logits of target tokens only.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from lib.editing import layers
from lib.editing.encoding import IGNORED, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Prefix:
    """What stays of a forward pass: inputs and outputs of the edited part, the residual, the upper blocks' arguments.

    `inner` is (sequences, tokens, inputs), `output` and `residual` are (sequences, tokens, width); none has a gradient.
    """

    inner: Tensor
    output: Tensor
    residual: Tensor
    upper: list[tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]  # with masks and rotary embeddings
    norm: nn.Module
    head: nn.Module

    @classmethod
    @torch.no_grad()
    def compute(cls, model: "PreTrainedModel", layer: int, site: nn.Module, ids: Tensor, mask: Tensor) -> Self | None:
        """Run the model once on ids and mask (sequences, tokens); None where it is not built as `logits` would need.

        `site` is the edited part of block `layer`, a map whose output, added to the residual, is that of the block.
        Every link from block to block, to the last norm and to the head is looked at, so another architecture is
        refused, never computed wrongly. So is a model in training mode, whose dropout is to be drawn at every step.
        """
        blocks, head = layers.blocks(model), model.get_output_embeddings()
        norm = getattr(model.base_model, "norm", None) or getattr(model.base_model, "ln_f", None)
        if head is None or norm is None or model.training:
            return None
        seen: dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any], Any]] = {}

        def note(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            seen[module] = arguments, named, output

        watched = {*blocks[layer:], *blocks[layer].children(), site, norm, head}
        with ExitStack() as stack:
            for module in watched:
                stack.enter_context(_watching(module, note))
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1).logits
        if not all(module in seen and (seen[module][0] or module in blocks[layer].children()) for module in watched):
            return None
        feed = seen[blocks[layer].mlp][0][0]
        before = [
            arguments[0]
            for child, (arguments, _, output) in seen.items()
            if child in set(blocks[layer].children()) and arguments and output is feed
        ]
        (inner, *_), _, output = seen[site]
        stream = seen[blocks[layer]][2]
        if len(before) != 1 or not isinstance(stream, Tensor) or not torch.equal(before[0] + output, stream):
            return None
        upper = []
        for block in blocks[layer + 1 :]:
            arguments, named, after = seen[block]
            if arguments[0] is not stream:
                return None
            upper.append((block, arguments[1:], named))
            stream = after
        last = seen[norm][2]
        kept = seen[head][0][0]
        whole = seen[norm][0][0] is stream and seen[head][2] is logits and torch.equal(kept, last[:, -kept.shape[1] :])
        return cls(inner, output, before[0], upper, norm, head) if whole else None

    def logits(self, beside: Callable[[Tensor, Tensor], Tensor], rows: Tensor, places: Tensor) -> Tensor:
        """Return the logits at the given rows and places, (positions, vocabulary), with a gradient to the experts.

        `beside` gives the edited part's output for its inputs and its frozen output.
        """
        hidden = self.residual + beside(self.inner, self.output)
        for block, arguments, named in self.upper:
            hidden = block(hidden, *arguments, **named)
        return self.head(self.norm(hidden[rows, places]))


@dataclass(frozen=True)
class Chunk:
    """Some edits of a batch: what a step needs for the logits of their target tokens.

    `rows` and `places` say where a target token is predicted, and `wanted` which it is, each (target tokens,).
    """

    ids: Tensor
    mask: Tensor
    rows: Tensor
    places: Tensor
    wanted: Tensor
    prefix: Prefix | None

    def logits(self, model: "PreTrainedModel", beside: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the logits for the target tokens, (target tokens, vocabulary), from the prefix or a full pass."""
        if self.prefix is not None:
            return self.prefix.logits(beside, self.rows, self.places)
        logits = model(input_ids=self.ids, attention_mask=self.mask, use_cache=False).logits
        return logits[self.rows, self.places]


def chunked(
    model: "PreTrainedModel", layer: int, site: nn.Module, encoded: Encoded, size: int, cached: bool
) -> list[Chunk]:
    """Cut a batch into chunks of `size` edits, with their prefixes where `cached`; warns where there can be none."""
    found = []
    for ids, mask, labels in zip(
        encoded.ids.split(size), encoded.mask.split(size), encoded.labels.split(size), strict=True
    ):
        longest = int(mask.sum(1).max())
        ids, mask, labels = ids[:, :longest], mask[:, :longest], labels[:, :longest]
        rows, places = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
        prefix = Prefix.compute(model, layer, site, ids, mask) if cached else None
        if cached and prefix is None and not model.training:
            name = type(model).__name__
            warnings.warn(f"{name}: layer {layer} cannot be cached; every step runs the whole model", stacklevel=3)
        found.append(Chunk(ids, mask, rows, places, labels[rows, places + 1], prefix))
    return found


@torch.no_grad()
def states(model: "PreTrainedModel", site: nn.Module, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inputs (tokens, inputs) and outputs (tokens, width) of a part, at the unmasked tokens."""
    seen: list[Tensor] = []

    def note(_: nn.Module, arguments: tuple[Any, ...], __: dict[str, Any], output: Tensor) -> None:
        seen.extend((arguments[0], output))

    with _watching(site, note):
        model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    kept = mask.bool()
    return seen[0][kept], seen[1][kept]


@contextmanager
def _watching(module: nn.Module, note: Callable[..., None]) -> Iterator[None]:
    handle = module.register_forward_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
