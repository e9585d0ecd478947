"""Distant questions: prose and relations that no edit is about, as the field's questions are (Natural Questions there).

An edit's own locality question has the wording of other edits, on a subject that is never edited: it is asked within
the edits' domain. Its distant one shares neither wording nor relation with any edit.
"""

import functools
from typing import Literal, NamedTuple, get_args

from lib.errors import UserError
from lib.facts import factbook, triples
from lib.facts.relations import WORDINGS as EDITED
from lib.ordering import hash_order
from lib.series.lemoe.fact_edits import Split, subject_split

Kind = Literal["passage", "relation"]
RELATIONS = tuple(relation for relation in triples.KINDS if relation not in EDITED)


class Question(NamedTuple):
    """A prompt and its answer, which begins with its blank."""

    kind: Kind
    prompt: str
    answer: str


def questions(split: Split, count: int, start: int = 0) -> list[Question]:
    """Return so many questions, passages and relations in turn, in the order of their hashes; splits share none.

    A passage is asked by its first half, and its second is the answer; a relation is asked about a subject that no edit
    touches. They begin at the place `start` and go on from the first after the last. Raises `UserError` for more than
    there are.
    """
    found = {kind: _questions(kind, split) for kind in get_args(Kind)}
    dealt = [question for pair in zip(*found.values(), strict=False) for question in pair]
    if not 0 <= count <= len(dealt):
        raise UserError(f"{count} distant questions are not to be had, there are {len(dealt)}: ask for fewer")
    return [dealt[(start + number) % len(dealt)] for number in range(count)]


@functools.cache
def _questions(kind: Kind, split: Split) -> tuple[Question, ...]:
    found = _passages(split) if kind == "passage" else _relations(split)
    named = {f"distant/{kind}/{one.prompt}": one for one in found}
    return tuple(named[name] for name in hash_order(named))


def _passages(split: Split) -> list[Question]:
    """Of four passages about the countries of the Factbook's split for locality one is for tuning."""
    passages = factbook.passages("locality")
    return [
        Question("passage", *factbook.halves(passage))
        for number, passage in enumerate(passages)
        if (number % 4 == 0) == (split == "tuning")
    ]


def _relations(split: Split) -> list[Question]:
    """Of the subjects that no edit touches those for tuning are few: of the others a quarter joins them."""
    edited = {"edits", "tuning"}
    found = []
    for triple in triples.triples():
        if triple.relation not in RELATIONS or subject_split(triple.subject) in edited:
            continue
        prompt = triples.WORDINGS[triple.relation].prompt.format(s=triple.spoken)
        found.append((triple.subject, Question("relation", prompt, f" {triple.answer}")))
    tuned = set(hash_order({f"distant/{subject}" for subject, _ in found})[::4])
    return [question for subject, question in found if (f"distant/{subject}" in tuned) == (split == "tuning")]
