"""What an edit is: a prompt, the target it is to yield, and the questions that the edited model is asked."""

from dataclasses import dataclass

from lib.errors import UserError


@dataclass(frozen=True)
class Edit:
    """One edit; prompts end without a blank, the target and the answers begin with theirs.

    Only prompt and target are needed to edit; `rephrases` measure generality, `locality` (an unrelated prompt and its
    answer) measures locality, `answer` is what is true, and `relation` names the kind of fact.
    """

    prompt: str
    target: str
    subject: str | None = None
    rephrases: tuple[str, ...] = ()
    locality: tuple[str, str] | None = None
    answer: str | None = None
    relation: str = ""
    identity: str = ""


def check(edit: Edit, needs_subject: bool = False) -> None:
    """Raise `UserError` for an empty prompt or target, a target equal to its prompt, and a subject that is missing."""
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


def in_batches(edits: list[Edit], batches: int) -> list[list[Edit]]:
    """Cut edits, in their order, into `batches` parts whose sizes differ by one at most; `UserError` for too few."""
    if not 1 <= batches <= len(edits):
        raise UserError(f"{len(edits)} edits cannot fill {batches} batches: give more edits or fewer batches")
    return [edits[len(edits) * i // batches : len(edits) * (i + 1) // batches] for i in range(batches)]
