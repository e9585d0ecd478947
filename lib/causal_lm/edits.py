"""What an edit is: a prompt, the target it is to yield, and the questions that the edited model is asked."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from lib.errors import UserError

__all__ = ["FIELDS", "Edit", "Given", "as_edits", "check", "in_batches", "text", "texts"]


@dataclass(frozen=True)
class Edit:
    """One edit; prompts end without a blank, the target and the answers begin with theirs.

    Only prompt and target are needed to edit; `rephrases` measure generality, `locality` (an unrelated prompt and its
    answer) measures locality, `answer` is what is true, and `relation` names the kind of fact. Raises `TypeError` that
    names a field of the wrong type; a list of rephrases, or one for locality, becomes a tuple.
    """

    prompt: str
    target: str
    subject: str | None = None
    rephrases: tuple[str, ...] = ()
    locality: tuple[str, str] | None = None
    answer: str | None = None
    relation: str = ""
    identity: str = ""

    def __post_init__(self) -> None:
        """Hold every field to its type."""
        for name in ("prompt", "target", "relation", "identity"):
            text(getattr(self, name), name)
        for name in ("subject", "answer"):
            if getattr(self, name) is not None:
                text(getattr(self, name), name)
        object.__setattr__(self, "rephrases", _texts("rephrases", self.rephrases))
        if self.locality is not None:
            locality = _texts("locality", self.locality)
            if len(locality) != 2:
                raise TypeError(f"locality has {len(locality)} texts: give a prompt and its answer")
            object.__setattr__(self, "locality", locality)


Given: TypeAlias = Edit | Mapping[str, Any] | tuple[str, str]  # what a user may hand over for an edit
FIELDS = tuple(field.name for field in dataclasses.fields(Edit))


def as_edits(given: Iterable[Given], name: str = "edits") -> list[Edit]:
    """Return edits that came in any iterable, each as an `Edit`, a dict of its fields, or a (prompt, target) pair.

    Raises `TypeError` that names the argument, by `name`, the position in it and the field that is wrong.
    """
    if isinstance(given, (str, bytes, Edit, Mapping)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} is {_kind(given)}: give a list of edits")
    return [_as_edit(one, f"{name}[{place}]") for place, one in enumerate(given)]


def _as_edit(one: Any, where: str) -> Edit:
    if isinstance(one, Edit):
        return one
    if isinstance(one, (tuple, list)):
        if len(one) != 2:
            raise TypeError(f"{where} is a {type(one).__name__} of {len(one)}: give (prompt, target), or an Edit")
        one = dict(zip(("prompt", "target"), one, strict=True))
    if not isinstance(one, Mapping):
        raise TypeError(f"{where} is {_kind(one)}: give an Edit, a dict of its fields, or a (prompt, target) pair")
    if unknown := [field for field in one if field not in FIELDS]:
        raise TypeError(f"{where} has a field {unknown[0]!r}, which no edit has: choose of {', '.join(FIELDS)}")
    if missing := [field for field in FIELDS[:2] if field not in one]:
        raise TypeError(f"{where} has no field {missing[0]!r}: give one")
    try:
        return Edit(**one)
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from error


def text(value: Any, name: str) -> str:
    """Return a text; `TypeError` for anything else, and for one that no file and no tokenizer can hold."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {_kind(value)}: give a text")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise TypeError(f"{name} holds half a character (a lone surrogate): correct the text")
    return value


def _texts(name: str, values: Any) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, (tuple, list)):
        raise TypeError(f"{name} is {_kind(values)}: give a tuple of texts")
    return tuple(text(value, f"{name}[{place}]") for place, value in enumerate(values))


def texts(given: Iterable[str], name: str) -> list[str]:
    """Return texts that came in any iterable; `TypeError` that names argument and position for what is no text."""
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} is {_kind(given)}: give a list of texts")
    return list(_texts(name, list(given)))


def _kind(value: Any) -> str:
    """Say what a value is, for a message."""
    return "None" if value is None else f"of type {type(value).__name__}"


def check(edit: Edit, needs_subject: bool = False) -> None:
    """Raise `UserError` for an empty prompt or target, a target equal to its prompt, and a subject that is missing."""
    if not isinstance(edit, Edit):
        raise TypeError(f"edit is {_kind(edit)}: give an Edit")
    if not edit.prompt.strip():
        raise UserError("an edit has an empty prompt: give one")
    if not edit.target.strip():
        raise UserError(f"the edit {edit.prompt!r} has an empty target: give one")
    if edit.target.strip() == edit.prompt.strip():
        raise UserError(f"the target of the edit {edit.prompt!r} equals its prompt: give another")
    if needs_subject and edit.subject is None:
        raise UserError(f"the edit {edit.prompt!r} names no subject, which this method needs: give one")
    if edit.subject is not None and edit.subject not in edit.prompt:
        raise UserError(f"the subject {edit.subject!r} is not in the prompt {edit.prompt!r}: correct one of them")


def in_batches(edits: Iterable[Given], batches: int) -> list[list[Edit]]:
    """Cut edits, in their order, into `batches` parts whose sizes differ by one at most.

    Raises `UserError` for too few edits, `TypeError` for what is no edit or no number.
    """
    edits = as_edits(edits)
    if not isinstance(batches, int) or isinstance(batches, bool):
        raise TypeError(f"batches is {_kind(batches)}: give a whole number")
    if not 1 <= batches <= len(edits):
        raise UserError(f"{len(edits)} edits cannot fill {batches} batches: give more edits or fewer batches")
    return [edits[len(edits) * i // batches : len(edits) * (i + 1) // batches] for i in range(batches)]
