"""Edits as closed-form methods read them: texts behind prefixes, with the place of the subject's last token in each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lib.causal_lm.edits import Edit, check
from lib.causal_lm.encoding import subject_places, tokens
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Row:
    """A text as token ids, the place of the subject's last token in it, and how many tokens at its end are target."""

    ids: list[int]
    place: int
    targets: int


@dataclass(frozen=True)
class Located:
    """An edit with its texts: one for each prefix, prompt and target, and "{subject} is a" without a target."""

    texts: tuple[Row, ...]
    essence: Row


def locate(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", edits: Sequence[Edit], prefixes: Sequence[str]
) -> list[Located]:
    """Tokenise edits behind each prefix; raises `UserError` for none, one without a subject, and a text too long."""
    if not edits:
        raise UserError("no edits: give at least one")
    context = getattr(model.config, "max_position_embeddings", None)
    found = []
    for edit in edits:
        check(edit, needs_subject=True)
        target, subject = tokens(tokenizer, edit.target), edit.subject or ""
        if not subject.strip():
            raise UserError(f"the edit {edit.prompt!r} has an empty subject: give one")
        rows = []
        for prefix in prefixes:
            text = f"{prefix}. {edit.prompt}" if prefix else edit.prompt
            ids, place = tokens(tokenizer, text), subject_places(tokenizer, text, subject)[1] - 1
            rows.append(Row(ids + target, place, len(target)))
        essence = f"{subject} is a"
        place = subject_places(tokenizer, essence, subject)[1] - 1
        longest = max(len(row.ids) for row in rows)
        if context is not None and longest > context:
            raise UserError(f"an edit has {longest} tokens with a prefix, the model's context {context}: shorten it")
        found.append(Located(tuple(rows), Row(tokens(tokenizer, essence), place, 0)))
    return found
