"""Is an edit served at inference by the expert that learnt it? Consistency and agreement of routes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.causal_lm.edits import Edit, as_edits
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lib.lemoe.adaptor import Adaptor


@dataclass(frozen=True)
class Consistency:
    """Shares in [0, 1]; NaN where there is nothing to count.

    `edits` and `rephrases`: served by the expert of their batch. `unserved`: edits without expert (rejected).
    `unrelated`: locality prompts without expert. `agreement`: edits served as in their last step of training.
    """

    edits: float
    rephrases: float
    unserved: float
    unrelated: float
    agreement: float


def consistency(
    adaptor: "Adaptor", tokenizer: "PreTrainedTokenizerBase", batches: Sequence[Sequence[Edit]]
) -> Consistency:
    """Measure the routes of all batches edited so far, in their order, as they are now (sheet, claim 3).

    Raises `UserError` when the batches are not those that the adaptor learnt.
    """
    batches = [as_edits(batch, f"batches[{number}]") for number, batch in enumerate(batches)]
    if [len(batch) for batch in batches] != [len(experts) for experts in adaptor.trained]:
        raise UserError("the batches are not those of the adaptor: give all of them, in the order of editing")
    numbered = [(number, edit) for number, batch in enumerate(batches) for edit in batch]
    found = adaptor.routes(tokenizer, [edit.prompt for _, edit in numbered])
    rephrased = [(number, text) for number, edit in numbered for text in edit.rephrases]
    unrelated = [edit.locality[0] for _, edit in numbered if edit.locality is not None]
    return Consistency(
        edits=agreement(found, [number for number, _ in numbered]),
        rephrases=agreement(
            adaptor.routes(tokenizer, [text for _, text in rephrased]), [number for number, _ in rephrased]
        ),
        unserved=agreement(found, [-1] * len(found)),
        unrelated=agreement(adaptor.routes(tokenizer, unrelated), [-1] * len(unrelated)),
        agreement=agreement(found, [expert for batch in adaptor.trained for expert in batch]),
    )


def agreement(first: Sequence[int] | Tensor, second: Sequence[int] | Tensor) -> float:
    """Return the share of places at which two routings, of one shape, name the same expert; NaN for none.

    Sequences or tokens: a token-level router gives (sequences, tokens). Raises `UserError` for unequal shapes.
    """
    one, two = torch.as_tensor(first), torch.as_tensor(second)
    if one.shape != two.shape:
        raise UserError(
            f"routes of {tuple(one.shape)} and {tuple(two.shape)} places cannot agree: compare the same texts"
        )
    return (one.cpu() == two.cpu()).double().mean().item()
