"""The embedded edit set: counterfactual edits of true facts on countries, cities and elements.

All choices (our choice, as ZsRE and CounterFact are drawn) follow from hashes: a subject is in one split only, edits
stand in the order of their hashes, and a target is another answer of its relation that is not true of the subject.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch

from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import IGNORED, encode
from lib.errors import UserError
from lib.facts.relations import PER_COUNTRY, PLACES, WORDINGS, Fact, known_facts, within
from lib.ordering import hash_order, pick

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Split = Literal["edits", "tuning"]
# Of twenty subjects: edited, edited in tuning, asked about for locality, and for locality in tuning.
_SHARES = {"edits": 12, "tuning": 4, "locality": 3, "tuning locality": 1}
_DRAWN = tuple(name for name, share in _SHARES.items() for _ in range(share))


def fact_edits(split: Split = "edits", per_country: int | None = PER_COUNTRY) -> list[Edit]:
    """Return the edits of a split, in an order whose every beginning mixes the relations, without contradictions.

    An edit's two rephrases are another cloze and a question; its locality prompt asks another relation of a subject
    that no edit of either split touches. Of what an element's number implies (its place in the periodic table) only
    one fact is edited. More cities (`per_country`, None for all) make the set larger, with the same splits.
    """
    if split not in ("edits", "tuning"):
        raise UserError(f"no split {split!r} of edits: take edits or tuning")
    asked = locality(split)
    pool = targets(per_country)
    chosen = [fact for fact in _facts(per_country) if subject_split(fact.subject) == split and _in_turn(fact)]
    return [_edit(fact, pool[fact.relation], asked) for fact in _ordered(chosen)]


def hard_edits(size: int = 1000, twins: float = 0.25, reworded: float = 0.1) -> list[Edit]:
    """Return edits with contradictions on purpose, as ZsRE has them.

    To the first edits of the clean set come twins, `twins` of them for each edit: the same fact, another target. A twin
    has the prompt of its edit or (`reworded` of the twins) one of its rephrases; the twin's own rephrases are the other
    wordings. With 0.25, 40 % of the edits share their fact with another, about ZsRE's 399 of 1,000 that share a
    subject. Raises `UserError` for more than there are, and for shares beyond [0, 1].
    """
    if not (0 <= twins <= 1 and 0 <= reworded <= 1):
        raise UserError(f"twins={twins}, reworded={reworded}: shares are between 0 and 1")
    clean = fact_edits()
    kept = round(size / (1 + twins))
    if not 1 <= kept <= len(clean):
        raise UserError(f"{size} hard edits are not to be had from {len(clean)} clean ones: ask for fewer")
    edits = {edit.identity: edit for edit in clean[:kept]}
    known = {_identity(fact): fact for fact in _facts(PER_COUNTRY)}
    pool = targets(PER_COUNTRY)
    doubled = hash_order(f"twin/{name}" for name in edits)[: size - kept]
    for place, key in enumerate(doubled):
        first = edits[key.removeprefix("twin/")]
        fact = known[first.identity]
        target = _target(fact, [answer for answer in pool[fact.relation] if f" {answer}" != first.target], key)
        wordings = [text.format(s=fact.said) for pair in WORDINGS[fact.relation][1:] for text in pair]
        others = tuple(text for text in wordings if text not in first.rephrases)
        prompt = first.rephrases[0] if place < round(reworded * len(doubled)) else first.prompt
        twin = {"prompt": prompt, "target": target, "rephrases": others, "identity": f"{first.identity}/twin"}
        edits[twin["identity"]] = dataclasses.replace(first, **twin)
    # Not by their names alone: the clean edits kept are those with the lowest hashes of these.
    return [edits[key.removeprefix("hard/")] for key in hash_order(f"hard/{name}" for name in edits)]


def locality(split: Split = "edits") -> list[tuple[str, str, str]]:
    """Return (relation, prompt, answer) on the subjects that are never edited; the two splits share no subject.

    Prompts in which the name of an edited subject occurs ("South Sudan" where Sudan is edited) are left out.
    """
    return list(_locality("locality" if split == "edits" else "tuning locality"))


def targets(per_country: int | None = PER_COUNTRY) -> Mapping[str, tuple[str, ...]]:
    """Return, by relation, all answers that its counterfactuals are drawn from, without their blanks."""
    found: dict[str, dict[str, None]] = {}
    for fact in _facts(per_country):
        found.setdefault(fact.relation, {})[fact.answer] = None
    return {relation: tuple(sorted(answers)) for relation, answers in found.items()}


def subject_split(subject: str) -> str:
    """Return what a subject is for: edits, tuning, locality or tuning locality; by its hash alone."""
    return pick(f"edit set/{subject.lower()}", _DRAWN)


def content_hash(edits: Sequence[Edit]) -> str:
    """Return the SHA-256 of edits in their order, all fields."""
    content = json.dumps([dataclasses.asdict(edit) for edit in edits], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


@torch.inference_mode()
def known(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", edits: Sequence[Edit], batch_size: int = 32
) -> list[bool]:
    """Tell for each edit whether a model knows the true answer: the argmax is right at each of its tokens.

    Teacher-forced, in batches of `batch_size` edits of like length. Raises `UserError` for an edit without an answer
    and a batch size below 1.
    """
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size}: give at least 1")
    asked = []
    for edit in edits:
        if not (edit.answer or "").strip():
            raise UserError(f"the edit {edit.prompt!r} has no true answer: give one")
        asked.append((edit.prompt, edit.answer or ""))
    order = sorted(range(len(asked)), key=lambda place: len("".join(asked[place])))
    found = [False] * len(asked)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = encode(model, tokenizer, [asked[place] for place in chosen])
        places = (batch.labels[:, 1:] != IGNORED).any(0).nonzero()[:, 0]  # the vocabulary is wide: logits only there
        read = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False, logits_to_keep=places)
        labels = batch.labels[:, 1:][:, places]
        right = ((read.logits.argmax(-1) == labels) | (labels == IGNORED)).all(1).tolist()
        for place, value in zip(chosen, right, strict=True):
            found[place] = value
    return found


@functools.cache
def _facts(per_country: int | None) -> tuple[Fact, ...]:
    return tuple(known_facts(per_country))


@functools.cache
def _locality(split: str) -> tuple[tuple[str, str, str], ...]:
    subjects = {fact.subject for fact in _facts(None)}
    edited = sorted(name for name in subjects if subject_split(name) in ("edits", "tuning"))
    chosen = _ordered([fact for fact in _facts(PER_COUNTRY) if subject_split(fact.subject) == split])
    asked = [(fact.relation, WORDINGS[fact.relation].prompt.format(s=fact.said), f" {fact.answer}") for fact in chosen]
    # Most names occur nowhere: the plain search spares them the one for whole words.
    clear = {text: not any(name in text and within(name, text) for name in edited) for _, text, _ in asked}
    return tuple(row for row in asked if clear[row[1]])


def _identity(fact: Fact) -> str:
    return f"{fact.relation}/{fact.subject}"


def _ordered(chosen: Sequence[Fact]) -> list[Fact]:
    named = {_identity(fact): fact for fact in chosen}
    return [named[name] for name in hash_order(named)]


def _in_turn(fact: Fact) -> bool:
    """Tell whether a fact is the one of its element's place in the periodic table that is edited."""
    if fact.relation not in PLACES:
        return True
    have = [other.relation for other in _facts(PER_COUNTRY) if other.subject == fact.subject]
    return fact.relation == pick(f"place/{fact.subject}", [relation for relation in PLACES if relation in have])


def _target(fact: Fact, pool: Sequence[str], key: str) -> str:
    """Draw a counterfactual, with its blank: never a true answer, nor one that stands in the subject."""
    free = [other for other in pool if other != fact.answer and other not in fact.also and not within(other, fact.said)]
    return f" {pick(f'target/{key}', free)}"


def _edit(fact: Fact, pool: Sequence[str], asked: Sequence[tuple[str, str, str]]) -> Edit:
    wording, name = WORDINGS[fact.relation], _identity(fact)
    cloze, question = pick(f"cloze/{name}", wording.clozes), pick(f"question/{name}", wording.questions)
    _, prompt, answer = pick(f"locality/{name}", [row for row in asked if row[0] != fact.relation])
    return Edit(
        wording.prompt.format(s=fact.said),
        _target(fact, pool, name),
        fact.subject,
        (cloze.format(s=fact.said), question.format(s=fact.said)),
        (prompt, answer),
        f" {fact.answer}",
        fact.relation,
        name,
    )
