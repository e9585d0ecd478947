"""Prompts and responses as students and teacher read them: ids, masks, batches in a fixed order.

A response ends with the end token, which is learned; the prompt and the padding are not learned from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lib import seeds
from lib.causal_lm.encoding import divided
from lib.errors import UserError
from lib.text.prompts import render

if TYPE_CHECKING:
    from lib.distillation.vocabularies import Vocabulary
    from lib.text.prompts import Instruction


@dataclass(frozen=True)
class Example:
    """One instruction in ids: its prompt, and its response with the end token unless it was cut."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of tokens of both."""
        return len(self.prompt) + len(self.response)


@dataclass(frozen=True)
class Batch:
    """Sequences of one batch, each tensor (sequences, tokens): ids, masks of what is no padding and of the response."""

    ids: Tensor
    mask: Tensor
    response: Tensor

    @property
    def predicting(self) -> Tensor:
        """Return the mask of the places whose next token is of the response, (sequences, tokens).

        States or logits taken there stand in the same order as the targets `ids[response]`, row after row.
        """
        return torch.cat([self.response[:, 1:], torch.zeros_like(self.response[:, :1])], dim=1)

    @property
    def positions(self) -> Tensor:
        """Return the place of each token in its own sequence, 0 for padding on the left: for learned positions."""
        return (self.mask.long().cumsum(1) - 1).clamp(min=0)

    @property
    def tokens(self) -> int:
        """Return the number of response tokens."""
        return int(self.response.sum())


def encode(
    items: Sequence["Instruction"],
    vocabulary: "Vocabulary",
    longest: tuple[int, int],
    responses: Sequence[str] | None = None,
) -> list[Example]:
    """Return the ids of instructions with their outputs, or with other `responses` (a teacher's texts).

    Both are encoded as one text (`lib.causal_lm.encoding`), with the special tokens that stand before a prompt. One of
    more than `longest[0]` tokens loses its first ordinary ones, so that "Response:" stays; a response of more than
    `longest[1]`, the end token counted, its last ones. Raises `UserError` naming the instruction where no response
    token is left, or its prompt is empty.
    """
    texts = [item.output for item in items] if responses is None else responses
    return [
        _example(render(item), text, vocabulary, longest, item.identity)
        for item, text in zip(items, texts, strict=True)
    ]


def _example(asked: str, text: str, vocabulary: "Vocabulary", longest: tuple[int, int], identity: str) -> Example:
    prompt, words = divided(vocabulary.encode, asked, f" {text}" if text.strip() else "")
    kept = [*words, vocabulary.end][: max(longest[1], 0)]
    if not words or not kept:
        raise UserError(
            f"{identity}: no response token is left of {text!r} within {longest[1]}; give a response, or a larger limit"
        )
    room = longest[0] - len(vocabulary.leading)
    if room < 1 or not prompt:
        raise UserError(f"{identity}: no prompt token is left within {longest[0]}; take a larger limit")
    return Example((*vocabulary.leading, *prompt[-room:]), tuple(kept))


def collate(examples: Sequence[Example], pad: int, side: Literal["left", "right"] = "right") -> Batch:
    """Return examples as one batch, padded with `pad` on one side; `ValueError` for no examples or another side."""
    if not examples or side not in ("left", "right"):
        raise ValueError(f"{len(examples)} examples, padded on the {side}: give some, and left or right")
    longest = max(map(len, examples))

    def padded(rows: list[list[int]], filling: int) -> Tensor:
        spare = [[filling] * (longest - len(row)) for row in rows]
        pairs = zip(rows, spare, strict=True)
        return torch.tensor([more + row if side == "left" else row + more for row, more in pairs])

    return Batch(
        padded([[*one.prompt, *one.response] for one in examples], pad),
        padded([[1] * len(one) for one in examples], 0).bool(),
        padded([[0] * len(one.prompt) + [1] * len(one.response) for one in examples], 0).bool(),
    )


def order(lengths: Sequence[int], batch: int, steps: int, seed: int) -> list[list[int]]:
    """Return the rows of each training step, from the shortest to the longest: every row once an epoch.

    Rows of a step are drawn without regard to length, since the sets differ in it: batches of one length would be
    batches of one set, from which a student learns next to nothing. So that little is padded, a step may be taken in
    parts: neighbours are of similar length. The same for the same arguments, and a shorter run is the start of a longer
    one; the last step of an epoch goes on into the next. Raises `ValueError` for fewer rows than one batch.
    """
    if not 0 < batch <= len(lengths):
        raise ValueError(f"batches of {batch} out of {len(lengths)} rows")
    stream = _shuffled(len(lengths), seed)
    return [sorted((next(stream) for _ in range(batch)), key=lambda row: (lengths[row], row)) for _ in range(steps)]


def _shuffled(rows: int, seed: int) -> Iterator[int]:
    epoch = 0
    while True:
        yield from torch.randperm(rows, generator=seeds.generator("distillation/epoch", seed, epoch)).tolist()
        epoch += 1


def by_length(lengths: Sequence[int], batch: int) -> list[list[int]]:
    """Return all rows once, `batch` at a time, from the shortest to the longest: for reading, not for training."""
    rows = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    return [rows[start : start + batch] for start in range(0, len(rows), batch)]
