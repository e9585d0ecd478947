"""The teacher: a pretrained model adapted in its upper layers, then read over the restricted vocabulary.

teacher = Teacher(model, vocabulary.kept)       # embeddings and head cut down to the tokens that occur
signals = teacher.signals(batch, layers=[8, 15, 23, 30])
texts = teacher.write(prompts, config, end, pad)
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.causal_lm import sharding
from lib.causal_lm.layers import blocks, final_norm
from lib.distillation import decoding, proportions
from lib.distillation.batches import Batch, Example, collate
from lib.distillation.teacher_cache import Signals
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Adaptation", "Teacher", "on", "states_of"]


@contextmanager
def states_of(model: "PreTrainedModel", layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Within this block every forward pass leaves the states of `layers`, each (sequences, tokens, width).

    State 0 enters the first block, state l is what block l puts out: state M of M blocks is the one before the final
    norm, unlike the last of transformers' `hidden_states`. Raises `UserError` for a layer that does not exist.
    """
    found = blocks(model)
    for layer in layers:
        if not 0 <= layer <= len(found):
            raise UserError(f"layer {layer} does not exist: {type(model).__name__} has states 0 to {len(found)}")
    seen: dict[int, Tensor] = {}

    def entering(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen[0] = arguments[0] if arguments else named["hidden_states"]

    def leaving(layer: int) -> Any:
        def note(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            seen[layer] = output[0] if isinstance(output, tuple) else output

        return note

    with ExitStack() as stack:
        for layer in set(layers):
            block = found[max(layer - 1, 0)]
            handle = (
                block.register_forward_hook(leaving(layer))
                if layer
                else block.register_forward_pre_hook(entering, with_kwargs=True)
            )
            stack.callback(handle.remove)
        yield seen


def on(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device."""
    return Batch(batch.ids.to(device), batch.mask.to(device), batch.response.to(device))


class Teacher:
    """A model that is only read: its words are the kept tokens, and what fell on others is told as lost mass."""

    model: "PreTrainedModel"
    _head: Tensor
    _other: Tensor

    def __init__(
        self, model: "PreTrainedModel", kept: Tensor, dtype: torch.dtype = torch.float32, copied: bool = True
    ) -> None:
        """Copy a model and cut it down to `kept` (vocabulary,), ids of its own tokenizer in ascending order.

        `dtype` is what it is read in; without `copied` the model itself is cut, which needs half the memory. Raises
        `UserError` for a model without separate embeddings and head to cut.
        """
        embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
        if not isinstance(embeddings, nn.Embedding) or not isinstance(head, nn.Linear) or head.bias is not None:
            raise UserError(f"{type(model).__name__}: no embeddings and plain head to restrict")
        others = torch.ones(head.weight.shape[0], dtype=torch.bool, device=head.weight.device)
        others[kept] = False
        self._other = head.weight.detach()[others].to(dtype)
        rows, words = (part.weight.detach()[kept] for part in (head, embeddings))  # before the model itself is rounded
        self.model = (copy.deepcopy(model) if copied else model).eval().requires_grad_(False)
        for value in self.model.parameters():  # not buffers: rounded rotary frequencies would be other positions
            value.data = value.data.to(dtype)
        self.model.set_input_embeddings(nn.Embedding.from_pretrained(words.to(dtype)))
        cut = nn.Linear(rows.shape[1], len(kept), bias=False, device=rows.device, dtype=dtype)
        cut.weight = nn.Parameter(rows.to(dtype), requires_grad=False)
        self.model.set_output_embeddings(cut)
        self.model.config.vocab_size = len(kept)
        self._head = rows.float()  # half precision would round logits of 20 to eighths

    @property
    def layers(self) -> int:
        """Return the number of blocks M; states are numbered 0 to M."""
        return len(blocks(self.model))

    @property
    def width(self) -> int:
        """Return the width of a state."""
        return self._head.shape[1]

    @torch.no_grad()  # not inference mode: what is read takes part in training
    def signals(self, batch: Batch, layers: Sequence[int] = ()) -> Signals:
        """Return log-probabilities and states at the places that predict response tokens, row after row, in float32."""
        batch = on(batch, self._head.device)
        places = batch.predicting
        with states_of(self.model, layers) as seen:
            read = self.model.base_model(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
        hidden = read.last_hidden_state[places]
        logits = functional.linear(hidden.float(), self._head)
        inside = logits.logsumexp(-1)
        outside = functional.linear(hidden, self._other).float().logsumexp(-1)
        states = {layer: seen[layer][places].float() for layer in layers}
        return Signals(logits - inside[:, None], None, torch.sigmoid(outside - inside), states)

    def passes(
        self, batches: Iterable[tuple[Sequence[int], Batch]], layers: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], Signals]]:
        """Yield rows with their signals, batch by batch: what the cache is filled from."""
        for rows, batch in batches:
            yield rows, self.signals(batch, layers)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        config: decoding.DecodingConfig,
        end: int,
        pad: int,
        seed: int | None = None,
    ) -> list[list[int]]:
        """Return responses in the restricted vocabulary (sequence-level distillation); see `decoding.generate`."""
        return decoding.generate(self.model, prompts, config, end, pad, seed)


class Adaptation:
    """Next-token training of a model's upper layers, to adapt a teacher (the protocol `training.Arm`).

    The lower layers, embeddings and head are frozen; the loss is over the model's whole vocabulary, so that the mass on
    tokens that never occur can fall. A batch is seen once or twice, so caching the lower layers would gain nothing.
    What is trained stays in float32, and so do its gradients and moments: a step of AdamW is less than bf16 can tell
    from nothing. Only what is frozen may be kept in the precision of the products, where nothing else reads it.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        kept: Tensor,
        layer: int,
        examples: Sequence[Example],
        pad: int,
        dtype: torch.dtype = torch.float32,
        frozen: torch.dtype = torch.float32,
    ) -> None:
        """Free the blocks from `layer` on, and the final norm; raises `UserError` for a layer that does not exist.

        `dtype` is that of the products: bf16 takes about half the time. `frozen` is that of the frozen matrices; where
        it is that of the products, every loss is the same to the bit. Raises `ValueError` for another precision.
        """
        found = blocks(model)
        if not 0 <= layer < len(found):
            raise UserError(f"layer {layer} does not exist: {type(model).__name__} has layers 0 to {len(found) - 1}")
        self._model, self._kept, self._examples, self._pad, self._dtype = model, kept, examples, pad, dtype
        self.rule, self.shared = proportions.Fixed({"ce": 1.0}), ()
        self.matrices = ()  # a pretrained model is adapted by AdamW
        model.requires_grad_(False)
        norm = final_norm(model) or nn.Identity()  # OPT of 350M parameters has none
        self.upper = nn.ModuleDict({"blocks": nn.ModuleList(found[layer:]), "norm": norm}).requires_grad_(True)
        self.module = nn.ModuleDict({"upper": self.upper, "proportions": self.rule})
        if frozen not in (torch.float32, dtype):
            raise ValueError(f"frozen={frozen}: take float32, or the precision of the products, {dtype}")
        if frozen != torch.float32:
            self._round(frozen)

    def prepare(self, step: int, rows: Sequence[int], parts: int) -> list[tuple[Batch, int]]:
        """Return the rows in `parts`, each with the number of response tokens of all; `ValueError` where that is 0."""
        examples = [self._examples[row] for row in rows]
        size, tokens = -(-len(rows) // parts), sum(len(example.response) for example in examples)
        if not tokens:
            raise ValueError(f"rows {list(rows)}: no response token, so there is nothing to take a mean over")
        starts = range(0, len(rows), size)
        return [(collate(examples[start : start + size], self._pad), tokens) for start in starts]

    def losses(self, part: tuple[Batch, int]) -> dict[str, Tensor]:
        """Return the cross-entropy of a part, as its share of the whole batch's mean, in nats per response token."""
        batch, tokens = part
        batch = on(batch, self._model.device)
        ids = self._kept.to(batch.ids.device)[batch.ids]
        with torch.autocast(ids.device.type, self._dtype, enabled=self._dtype != torch.float32):
            read = self._model.base_model(input_ids=ids, attention_mask=batch.mask.long(), use_cache=False)
            logits = self._model.get_output_embeddings()(read.last_hidden_state[batch.predicting])
        nats = functional.cross_entropy(logits.float(), ids[batch.response], reduction="sum")
        return {"ce": nats / tokens}

    def _round(self, dtype: torch.dtype) -> None:
        """Keep the frozen linear maps in a lower precision, but for a head whose matrix is that of the embeddings.

        Embeddings and norms stay as they are, so that the stream between the blocks does.
        """
        from transformers.pytorch_utils import Conv1D

        words = self._model.get_input_embeddings().weight
        for module in self._model.modules():
            if not isinstance(module, nn.Linear | Conv1D) or module.weight.requires_grad or module.weight is words:
                continue
            for value in module.parameters():
                value.data = value.data.to(dtype)

    def weights(self) -> dict[str, Tensor]:
        """Return the adapted weights by name, in bf16: the precision that the teacher is read in."""
        whole = {name: sharding.whole(value.detach()) for name, value in self.upper.state_dict().items()}
        return {name: value.to(torch.bfloat16).cpu() for name, value in whole.items()}

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Put adapted weights into the model; raises `RuntimeError` where they do not fit."""
        self.upper.load_state_dict({name: value.float() for name, value in weights.items()})
        self._model.requires_grad_(False)
