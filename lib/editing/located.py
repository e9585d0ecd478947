"""Edits as closed-form methods read them: texts behind prefixes, with the place of the subject's last token in each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lib.causal_lm.edits import Edit, check
from lib.causal_lm.encoding import pair_tokens, prompt_tokens, subject_places
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


Prefixes = Sequence[str | Sequence[str]]  # each a prefix, or a group of them
MeanOver = Literal["texts", "groups"]
KlAt = Literal["subject", "sentence"]


@dataclass(frozen=True)
class Row:
    """A text as token ids, the place of the subject's last token in it, and how many tokens at its end are target."""

    ids: list[int]
    place: int
    targets: int


@dataclass(frozen=True)
class Located:
    """An edit with its texts: one for each prefix, prompt and target, and "{subject} is a" without a target.

    `weights` are the texts' in the mean key, (texts,), and add to 1; `essence` ends where its divergence is read.
    """

    texts: tuple[Row, ...]
    essence: Row
    weights: tuple[float, ...]


def locate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    edits: Sequence[Edit],
    prefixes: Prefixes,
    mean_over: MeanOver = "groups",
    kl_at: KlAt = "subject",
) -> list[Located]:
    """Tokenise edits behind each prefix, the first of which is to be empty.

    Every text weighs the same in the mean key ("texts"), or every group of prefixes does ("groups"), a prefix by itself
    being a group of one. Raises `UserError` for no edits, one without a subject, no prefixes, and a text too long.
    """
    if not edits:
        raise UserError("no edits: give at least one")
    groups = [(group,) if isinstance(group, str) else tuple(group) for group in prefixes]
    if not groups or not all(groups):
        raise UserError("no prefixes, or a group without any: give at least the empty one")
    number = sum(map(len, groups))
    weights = tuple(
        1 / number if mean_over == "texts" else 1 / (len(groups) * len(group)) for group in groups for _ in group
    )
    context = getattr(model.config, "max_position_embeddings", None)
    found = []
    for edit in edits:
        check(edit, needs_subject=True)
        subject = edit.subject or ""
        if not subject.strip():
            raise UserError(f"the edit {edit.prompt!r} has an empty subject: give one")
        rows = []
        for prefix in (prefix for group in groups for prefix in group):
            text = f"{prefix}. {edit.prompt}" if prefix else edit.prompt
            ids, target = pair_tokens(tokenizer, text, edit.target)
            place = subject_places(tokenizer, text, subject)[1] - 1
            rows.append(Row(ids + target, place, len(target)))
        essence = f"{subject} is a"
        place = subject_places(tokenizer, essence, subject)[1] - 1
        read = prompt_tokens(tokenizer, essence)
        read = read[: place + 1] if kl_at == "subject" else read
        longest = max(len(row.ids) for row in rows)
        if context is not None and longest > context:
            raise UserError(f"an edit has {longest} tokens with a prefix, the model's context {context}: shorten it")
        found.append(Located(tuple(rows), Row(read, place, 0), weights))
    return found
