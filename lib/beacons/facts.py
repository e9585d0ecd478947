"""The facts of the Beacons series: prompt, target, aliases and three paraphrases each, in three disjoint pools."""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from lib.causal_lm.encoding import pair_tokens, prompt_tokens
from lib.errors import UserError
from lib.facts import invented, triples
from lib.facts.databases import LICENCE
from lib.facts.triples import KINDS, WORDINGS, Kind, Triple
from lib.ordering import hash_order, pick

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Pool = Literal["results", "tuning", "invented"]
PER_KIND: dict[Pool, int] = {"results": 220, "tuning": 40, "invented": 80}  # most facts of one kind in a pool
_SHARES: tuple[Pool, ...] = ("results", "results", "results", "tuning")  # of subjects; three to one is enough for both


@dataclass(frozen=True)
class BeaconFact:
    """One fact; the prompts end without a blank, the target begins with one, aliases have none.

    `paraphrases` are two other clozes and a question. `subject` is the thing that the fact is on (an isotope's is its
    element), and is in one pool only; `identity` is unique.
    """

    prompt: str
    target: str
    aliases: tuple[str, ...]
    paraphrases: tuple[str, str, str]
    kind: Kind
    relation: str
    subject: str
    invented: bool
    identity: str

    @property
    def taught(self) -> str:
        """The target with the full stop that ends an answer: what is learnt, and what losses are taken on (our choice).

        Without it a trained model says the target and goes on.
        """
        return f"{self.target}."


def facts(pool: Pool) -> list[BeaconFact]:
    """Return the facts of a pool, at most `PER_KIND` of a kind, in a fixed order whose beginnings mix the kinds evenly.

    Within a kind the order is that of the hashes. Raises `UserError` for an unknown pool or a broken source.
    """
    if pool not in get_args(Pool):
        raise UserError(f"no pool {pool!r} of facts: take one of {', '.join(get_args(Pool))}")
    return list(_facts(pool))


@functools.cache
def uncut(pool: Literal["results", "tuning"]) -> tuple[BeaconFact, ...]:
    """Return all facts of a pool's subjects, those that `PER_KIND` leaves out of the pool too, in the order of hashes.

    Raises `UserError` for a broken source.
    """
    every = (_fact(triple, False) for triple in triples.triples() if _pool_of(triple.subject) == pool)
    named = {fact.identity: fact for fact in every}
    return tuple(checked(named[identity] for identity in hash_order(named)))


def checked(found: Iterable[BeaconFact]) -> list[BeaconFact]:
    """Return facts as they are; raises `UserError` for an empty prompt or target, and for two that are at odds.

    A target without a letter or digit is as good as empty: no answer could be told from it. At odds are two facts with
    the same prompt and another target. So are the prompts of one with the paraphrases of another.
    """
    told: dict[str, BeaconFact] = {}
    facts = list(found)
    for fact in facts:
        if not fact.prompt.strip():
            raise UserError(f"the fact {fact.identity!r} has an empty prompt: give one")
        if not fact.target.strip():
            raise UserError(f"the fact {fact.prompt!r} has an empty target: give one")
        if not re.search(r"\w", fact.target):
            raise UserError(f"the target {fact.target!r} of {fact.prompt!r} has no letter and no digit: give another")
        for prompt in (fact.prompt, *fact.paraphrases):
            other = told.setdefault(prompt, fact)
            if other.target != fact.target:
                raise UserError(f"{prompt!r} has two targets,{other.target!r} and{fact.target!r}: keep one")
    return facts


def fitting(found: Iterable[BeaconFact], tokenizer: "PreTrainedTokenizerBase", longest: int) -> list[BeaconFact]:
    """Return, in their order, the facts whose target takes at most `longest` tokens: longer ones cannot be answered.

    Raises `UserError` for a target that the tokenizer turns into nothing, and what `checked` raises.
    """
    kept = []
    for fact in checked(found):
        length = len(pair_tokens(tokenizer, fact.prompt, fact.target)[1])
        if not length:
            raise UserError(
                f"the tokenizer turns the target {fact.target!r} of {fact.prompt!r} into nothing: change it"
            )
        if length <= longest:
            kept.append(fact)
    return kept


def content_hash(found: Sequence[BeaconFact]) -> str:
    """Return the SHA-256 of facts in their order, all fields: it goes into the fingerprints of records."""
    content = json.dumps([dataclasses.asdict(fact) for fact in found], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def digest(pool: Pool) -> str:
    """Return the `content_hash` of a pool."""
    return content_hash(facts(pool))


def card(tokenizer: "PreTrainedTokenizerBase") -> pd.DataFrame:
    """Return the data card: one row per pool and kind, with counts and the tokens of prompts and targets.

    Columns: facts, subjects, targets (different ones), with aliases (share), prompt tokens and target tokens (median /
    most), licence.
    """

    def lengths(rows: Iterable[Sequence[int]]) -> str:
        counts = list(map(len, rows))
        return f"{np.median(counts):g} / {max(counts)}"

    rows = []
    for pool in get_args(Pool):
        for kind in get_args(Kind):
            of = [fact for fact in facts(pool) if fact.kind == kind]
            rows.append(
                {
                    "pool": pool,
                    "kind": kind,
                    "facts": len(of),
                    "subjects": len({fact.subject for fact in of}),
                    "targets": len({fact.target for fact in of}),
                    "with aliases": float(np.mean([bool(fact.aliases) for fact in of])),
                    "prompt tokens": lengths(prompt_tokens(tokenizer, fact.prompt) for fact in of),
                    "target tokens": lengths(pair_tokens(tokenizer, fact.prompt, fact.target)[1] for fact in of),
                    "licence": "ours (invented)" if pool == "invented" else LICENCE,
                }
            )
    return pd.DataFrame(rows).set_index(["pool", "kind"])


@functools.cache
def _facts(pool: Pool) -> tuple[BeaconFact, ...]:
    """Build a pool: every fact of its subjects, the kinds in turn."""
    if pool == "invented":
        found = [_fact(triple, True) for triple in invented.triples()]
    else:
        found = [_fact(triple, False) for triple in triples.triples() if _pool_of(triple.subject) == pool]
    found = checked({fact.identity: fact for fact in found}.values())
    named = {fact.identity: fact for fact in found}
    ordered = [named[identity] for identity in hash_order(named)]
    by_kind = [[fact for fact in ordered if fact.kind == kind][: PER_KIND[pool]] for kind in get_args(Kind)]
    return tuple(fact for fact in chain.from_iterable(zip_longest(*by_kind)) if fact is not None)


def _pool_of(subject: str) -> Pool:
    return pick(f"beacon/{subject.lower()}", _SHARES)


def _fact(triple: Triple, is_invented: bool) -> BeaconFact:
    wording = WORDINGS[triple.relation]
    cloze, other, question = (text.format(s=triple.spoken) for text in (*wording.clozes, wording.questions[0]))
    return BeaconFact(
        wording.prompt.format(s=triple.spoken),
        f" {triple.answer}",
        triple.aliases,
        (cloze, other, question),
        KINDS[triple.relation],
        triple.relation,
        triple.subject,
        is_invented,
        f"{triple.relation}/{triple.spoken}",
    )
