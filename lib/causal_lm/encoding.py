"""Edits as a model reads them: token ids with masks of the prompt, the target and the subject.

The policy, for all methods: raw text without a template, no token for the beginning, prompt and target tokenised apart,
no token for the end in the target, padding on the right.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lib.causal_lm.edits import Given, as_edits, check, texts
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100  # label of places that are not target


@dataclass(frozen=True)
class Encoded:
    """Sequences of one batch, each tensor (sequences, tokens): ids, mask of what is no padding, of the prompt, labels.

    A label stands at the place of its own token (`IGNORED` elsewhere): logits at place i predict the label at i + 1.
    """

    ids: Tensor
    mask: Tensor
    prompt: Tensor
    labels: Tensor

    @property
    def last_prompt(self) -> Tensor:
        """Return the place of the last prompt token, (sequences,)."""
        return self.prompt.sum(1) - 1

    def split(self, size: int) -> list["Encoded"]:
        """Return the sequences in their order, `size` at a time, each part no longer than its longest."""
        parts = zip(*(part.split(size) for part in (self.ids, self.mask, self.prompt, self.labels)), strict=True)
        return [Encoded(*(value[:, : int(part[1].sum(1).max())] for value in part)) for part in parts]


def tokens(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Return the ids of a text without special tokens; `TypeError` for what is no text, or no tokenizer."""
    if not isinstance(text, str):
        raise TypeError(f"text is of type {type(text).__name__}: give a text")
    check_tokenizer(tokenizer)
    try:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        kind = type(tokenizer).__name__
        raise TypeError(f"tokenizer of type {kind} gives no input_ids for {text!r} ({error}): give another") from error


def check_tokenizer(tokenizer: Any) -> None:
    """Raise `TypeError` for what cannot be called for the tokens of a text."""
    if not callable(tokenizer) or isinstance(tokenizer, (type, nn.Module)):
        kind = type(tokenizer).__name__
        raise TypeError(f"tokenizer is of type {kind}: give the tokenizer of the model, as transformers loads it")


def check_vocabulary(model: "PreTrainedModel", rows: Iterable[Sequence[int]]) -> None:
    """Raise `ValueError` for a token id that a model has no embedding for: its tokenizer is another's."""
    known = len(model.get_input_embeddings().weight)
    if (largest := max((max(row) for row in rows if row), default=0)) >= known:
        raise ValueError(f"tokenizer gives the token id {largest}, the model knows {known}: give the model's own")


def encode(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", asked: Sequence[tuple[str, str]]) -> Encoded:
    """Encode (prompt, target) pairs for a model, on its device.

    Raises `UserError` for no pairs, a prompt or target without tokens, and one longer than the model's context;
    `TypeError` and `ValueError` for what is no pair, and for a tokenizer that is not the model's.
    """
    if not asked:
        raise UserError("no edits: give at least one")
    for place, pair in enumerate(asked):
        if len(texts(pair, f"asked[{place}]")) != 2:
            raise TypeError(f"asked[{place}] has {len(pair)} texts: give a prompt and its answer")
    rows = []
    for prompt, target in asked:
        before, after = tokens(tokenizer, prompt), tokens(tokenizer, target)
        if not before:
            raise UserError("an edit has an empty prompt: give one")
        if not after:
            raise UserError(f"the edit {prompt!r} has an empty target: give one")
        rows.append((before, after))
    check_vocabulary(model, [row for pair in rows for row in pair])
    longest = max(len(before) + len(after) for before, after in rows)
    context = getattr(model.config, "max_position_embeddings", longest)
    if longest > context:
        raise UserError(f"an edit has {longest} tokens, the model's context {context}: shorten it")

    def padded(values: list[list[int]], filling: int) -> Tensor:
        return torch.tensor([row + [filling] * (longest - len(row)) for row in values], device=model.device)

    return Encoded(
        padded([before + after for before, after in rows], 0),
        padded([[1] * (len(before) + len(after)) for before, after in rows], 0),
        padded([[1] * len(before) for before, _ in rows], 0),
        padded([[IGNORED] * len(before) + after for before, after in rows], IGNORED),
    )


def encode_edits(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", edits: Iterable[Given], needs_subject: bool = False
) -> Encoded:
    """Encode prompts and targets of edits; raises as `as_edits`, `check` and `encode` do."""
    found = as_edits(edits)
    for edit in found:
        check(edit, needs_subject)
    return encode(model, tokenizer, [(edit.prompt, edit.target) for edit in found])


def subject_places(tokenizer: "PreTrainedTokenizerBase", prompt: str, subject: str) -> tuple[int, int]:
    """Return the half-open range of the tokens of the (last occurring) subject in a prompt; `UserError` without it."""
    start = prompt.rfind(subject)
    if start < 0:
        raise UserError(f"the subject {subject!r} is not in the prompt {prompt!r}: correct one of them")
    before = len(tokens(tokenizer, prompt[:start].rstrip()))
    upto = len(tokens(tokenizer, prompt[: start + len(subject)]))
    return before, upto
