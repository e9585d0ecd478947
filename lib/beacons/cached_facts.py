"""Facts run once through the layers below the adapters; any of them can then be taken together for a step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib.beacons.facts import BeaconFact
from lib.causal_lm.encoding import IGNORED, Encoded, encode
from lib.causal_lm.upper_layers import UpperLayers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CHUNK = 64  # facts that run at once where the model is only read; bounds memory


class Chosen(UpperLayers):
    """Some sequences of a cached whole, in any order, cut to the longest of them; nothing is run again."""

    def __init__(self, whole: UpperLayers, rows: Tensor) -> None:
        """Take rows (sequences,) of `whole`; without its cache every step runs the whole model, as there.

        Raises `ValueError` where a block is told a tensor of a kind that is not known here.
        """
        parts = (whole.encoded.ids, whole.encoded.mask, whole.encoded.prompt, whole.encoded.labels)
        self.encoded = Encoded(*(part[rows] for part in parts)).split(len(rows))[0]
        self._model, self._layer = whole._model, whole._layer
        self._site = self._kept = self._packed = None
        if whole._kept is not None:
            length = self.encoded.ids.shape[1]
            calls = [
                (block, (tuple(_cut("", value, rows, length) for value in arguments), _named(named, rows, length)))
                for block, (arguments, named) in whole._kept.calls
            ]
            self._kept = whole._kept._replace(start=whole._kept.start[rows, :length], calls=calls)


def run_once(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[BeaconFact],
    layer: int,
    cached: bool = True,
) -> UpperLayers:
    """Return facts, encoded by `lib.causal_lm.encoding`'s policy, as they enter block `layer`; raises as `encode`."""
    return UpperLayers(
        model, encode(model, tokenizer, [(fact.prompt, fact.taught) for fact in facts]), layer, None, cached
    )


def chunks(whole: UpperLayers, size: int = CHUNK) -> list[tuple[Tensor, Chosen]]:
    """Return all sequences of a whole with their numbers, those of like length together, `size` at a time."""
    order = whole.encoded.mask.sum(1).argsort(stable=True)
    return [(rows, Chosen(whole, rows)) for rows in order.split(size)]


def fact_losses(part: UpperLayers) -> Tensor:
    """Return each sequence's CE, (sequences,): the mean loss of its target tokens, in nats, under teacher forcing."""
    losses, _, sequence = part.losses()
    return mean_by_sequence(losses, sequence, len(part.encoded.ids))


def mean_by_sequence(values: Tensor, sequence: Tensor, count: int) -> Tensor:
    """Return the mean of the values (places,) of each of `count` sequences, (count,); each must have a place."""
    totals = values.new_zeros(count).index_add(0, sequence, values)
    return totals / torch.bincount(sequence, minlength=count)


def target_places(encoded: Encoded) -> tuple[Tensor, Tensor]:
    """Return, in the order of the losses, each target token's sequence and its number within the target, from 0."""
    sequence, place = (encoded.labels != IGNORED).nonzero(as_tuple=True)
    return sequence, place - encoded.last_prompt[sequence] - 1


def _named(named: dict[str, Any], rows: Tensor, length: int) -> dict[str, Any]:
    return {name: _cut(name, value, rows, length) for name, value in named.items()}


def _cut(name: str, value: Any, rows: Tensor, length: int) -> Any:
    """Return what a block is told, for some sequences of a length: what is of one sequence holds for all."""
    if isinstance(value, tuple | list):
        return type(value)(_cut(name, part, rows, length) for part in value)
    if not isinstance(value, Tensor):
        return value
    if name not in ("attention_mask", "position_embeddings", "position_ids") or value.ndim not in (2, 3, 4):
        raise ValueError(f"a block is told {name or 'something'} of shape {tuple(value.shape)}: cannot be cut")
    value = value[:, :, :length, :length] if value.ndim == 4 else value[:, :length]  # masks of queries and keys
    return value if len(value) == 1 else value[rows]
