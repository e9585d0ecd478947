"""Edits as a model reads them: token ids with masks of the prompt, the target and the subject.

The policy, for all methods, and the one place where it is kept: raw text without a template; the special tokens that
the tokenizer itself puts before a text (`<s>` of Llama-2; SmolLM2 has none), since a user calls the model with them; a
prompt and its target tokenised once, as one text; no token for the end, neither in the target nor, where the tokenizer
puts one after every text, after a prompt; padding on the right.

A prompt's ids are those that `tokenizer(prompt)` gives (`prompt_tokens`), and the target's are what follows them in
the ids of both texts together (`pair_tokens`). Where the tokenizer would merge the end of a prompt with the beginning
of its target ("is", "land"), the prompt's ids are no prefix: then they stay what the model is called with, and the
target's are those of the target after a line break, so that nothing merges and no blank is put before it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lib.causal_lm import edits as held
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
        """Return the sequences in their order, `size` at a time, each part no longer than its longest.

        Raises `ValueError` for a size below 1.
        """
        if size < 1:
            raise ValueError(f"size={size}: give at least 1")
        parts = zip(*(part.split(size) for part in (self.ids, self.mask, self.prompt, self.labels)), strict=True)
        return [Encoded(*(value[:, : int(part[1].sum(1).max())] for value in part)) for part in parts]


def tokens(tokenizer: "PreTrainedTokenizerBase", text: str, special: bool = False) -> list[int]:
    """Return the ids of a text, without special tokens unless told; `TypeError` for no text, or no tokenizer."""
    held.text(text, "text")
    check_tokenizer(tokenizer)
    try:
        return list(tokenizer(text, add_special_tokens=special)["input_ids"])
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        kind = type(tokenizer).__name__
        raise TypeError(f"tokenizer of type {kind} gives no input_ids for {text!r} ({error}): give another") from error


def parts(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer puts before a text, and the text's own ids; none for no own ids.

    Raises `TypeError` as `tokens`, and `ValueError` for a tokenizer that puts them within a text.
    """
    plain = tokens(tokenizer, text)
    if not plain:
        return [], []
    whole = tokens(tokenizer, text, special=True)
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], plain
    kind = type(tokenizer).__name__
    raise ValueError(f"tokenizer of type {kind} puts special tokens within a text: give one that puts them around it")


def leading(tokenizer: "PreTrainedTokenizerBase", text: str = "a") -> list[int]:
    """Return the special tokens that a tokenizer puts before a text; none before one without ids; raises as `parts`."""
    return parts(tokenizer, text)[0]


def prompt_tokens(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Return the ids that a model is to be called with to go on with a text: special tokens before it, none after it.

    Raises as `parts`.
    """
    first, own = parts(tokenizer, text)
    return first + own


def pair_parts(
    tokenizer: "PreTrainedTokenizerBase", prompt: str, target: str
) -> tuple[list[int], list[int], list[int]]:
    """Return `parts` of a prompt, and the ids of the target that follows it (see the top of the module)."""
    first, own = parts(tokenizer, prompt)
    return first, own, _target(lambda text: tokens(tokenizer, text), own, prompt, target)


def pair_tokens(tokenizer: "PreTrainedTokenizerBase", prompt: str, target: str) -> tuple[list[int], list[int]]:
    """Return the ids of a prompt, as `prompt_tokens`, and of the target that follows it; raises as `parts`."""
    first, own, after = pair_parts(tokenizer, prompt, target)
    return first + own, after


def divided(read: Callable[[str], list[int]], prompt: str, target: str) -> tuple[list[int], list[int]]:
    """Return the ids of a prompt, and of the target after it, by what reads a text without special tokens."""
    before = read(prompt)
    return before, _target(read, before, prompt, target)


def _target(read: Callable[[str], list[int]], before: list[int], prompt: str, target: str) -> list[int]:
    """Return the ids of a target after its prompt, whose own ids are `before`."""
    if after := _after(before, read(prompt + target)):
        return after
    return _after(read(f"{prompt}\n"), read(f"{prompt}\n{target}")) or read(target)


def _after(before: list[int], both: list[int]) -> list[int]:
    """Return what follows the ids of a text in those of a longer one; nothing where they do not begin it."""
    return both[len(before) :] if both[: len(before)] == before else []


def continued(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Return the ids of a text as it stands after another, not at a beginning; raises as `tokens`."""
    return divided(lambda one: tokens(tokenizer, one), "\n", text)[1]


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
        before, after = pair_tokens(tokenizer, prompt, target)
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
    """Return the half-open range of the (last occurring) subject in a prompt's ids; `UserError` without it.

    Special tokens before the prompt are counted, as in `prompt_tokens`.
    """
    start = held.text(prompt, "prompt").rfind(held.text(subject, "subject"))
    if start < 0:
        raise UserError(f"the subject {subject!r} is not in the prompt {prompt!r}: correct one of them")
    first = len(leading(tokenizer, prompt))
    before = len(tokens(tokenizer, prompt[:start].rstrip()))
    upto = len(tokens(tokenizer, prompt[: start + len(subject)]))
    return first + before, first + upto


def subject_forms(tokenizer: "PreTrainedTokenizerBase", subject: str) -> set[tuple[int, ...]]:
    """Return the ids by which a subject is known in other prompts: as their first word, and within them."""
    forms = (tokens(tokenizer, subject), tokens(tokenizer, f" {subject}"), continued(tokenizer, f" {subject}"))
    return {tuple(form) for form in forms if form}
