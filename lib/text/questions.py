"""Pairs of a statement and a question whose answer stands in it, over facts on countries, cities and elements.

A subject (a name) is in one split only. How a fact is told and asked follows from a hash of the fact (our choice).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lib.facts import databases
from lib.ordering import hash_order, pick
from lib.text import bible
from lib.text.pairs import Recipe
from lib.text.phrasings import PHRASINGS

HELD_OUT = 500
HELD_OUT_SUBJECTS = 0.3  # share of the nameable subjects for each held-out split: about what 500 pairs take
SHORTEST, LONGEST = 4, 20  # words, punctuation marks included, on both sides
LARGE = 500_000  # people of a city that we ask about
FAMILIES = 4  # of phrasings, per relation
ANSWERS = 3  # languages or neighbours of one country
# Names that take the article in running text.
_ARTICLE = re.compile(
    r"United|.*(?:Republic|Islands|Territor)|(?:Philippines|Bahamas|Maldives|Gambia|Comoros|Seychelles|Isle of Man)$"
)
Row = dict[str, Any]


class Fact(NamedTuple):
    """One true triple, in running text: a subject, a relation of `PHRASINGS`, and an answer."""

    subject: str
    relation: str
    answer: str


def files() -> list[Path]:
    """Return the databases that the facts are read from."""
    return [databases.atlas(), databases.periodic_table()]


def known_facts() -> list[Fact]:
    """Return all facts that we ask about, in the order of the sources, without those that lack an answer."""
    found = [
        *_of_countries(databases.countries()),
        *_of_cities(databases.cities()),
        *_of_elements(databases.elements()),
    ]
    told = (
        Fact(bible.normalise(f.subject), f.relation, bible.normalise(f.answer)) for f in found if pd.notna(f.answer)
    )
    return list(dict.fromkeys(told))


def phrase(fact: Fact, family: int) -> tuple[str, str]:
    """Return statement and question for a fact in one family; which of the two of each is a matter of its hash."""
    chosen = PHRASINGS[fact.relation][family]
    key = f"{fact.subject}\t{fact.relation}\t{fact.answer}\t{family}"
    statement, question = pick(f"{key}\tstatement", chosen.statements), pick(f"{key}\tquestion", chosen.questions)
    return statement.format(s=fact.subject, a=fact.answer), question.format(s=fact.subject)


def build() -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Build the rows of each split and count what is left out."""
    return split(known_facts())


def split(known: Sequence[Fact]) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Build the rows of each split: for training each fact in all families, held-out facts in one, or in two.

    Left out: pairs beyond 4-20 words, those whose question gives the answer away, and held-out pairs with a word
    that no training row has, the answer's own words in the statement aside.
    """
    subjects = hash_order(nameable(known))
    size = round(HELD_OUT_SUBJECTS * len(subjects))
    places = {"test": set(subjects[:size]), "validation": set(subjects[len(subjects) - size :])}
    dropped: Counter[str] = Counter(length=0, answer_in_question=0, unseen_word=0)
    excluded = places["test"] | places["validation"]
    families = range(FAMILIES)
    train = _rows(((f, family) for f in known if f.subject not in excluded for family in families), dropped)
    rows = {"train": list({(row["src"], row["trg"]): row for row in train}.values())}
    words = {word for row in rows["train"] for side in ("src", "trg") for word in row[side].split()}
    for name, chosen in places.items():
        order = hash_order(fact for fact in known if fact.subject in chosen)
        first = {fact: pick("\t".join(fact), families) for fact in order}
        # A second telling only after all first ones, where these do not make 500.
        told = _rows(((fact, (first[fact] + more) % FAMILIES) for more in (0, 2) for fact in order), dropped)
        covered = [
            row
            for row in told
            if {*row["trg"].split()} <= words and {*row["src"].split()} - {*row["answer"].split()} <= words
        ]
        dropped["unseen_word"] += len(told) - len(covered)
        rows[name] = covered[:HELD_OUT]
    return rows, dict(dropped)


def nameable(known: Sequence[Fact]) -> set[str]:
    """Return the subjects of which each word also stands in a fact on another: a model of words can learn to say them.

    Most cities are none; they are trained on, and asked about where their name is a capital's or shares its words.
    """
    told_of: dict[str, set[str]] = {}  # subjects by word
    for fact in known:
        for word in f"{fact.subject} {fact.answer}".split():
            told_of.setdefault(word, set()).add(fact.subject)
    return {fact.subject for fact in known if all(len(told_of[word]) > 1 for word in fact.subject.split())}


def _rows(told: Iterable[tuple[Fact, int]], dropped: Counter[str]) -> list[Row]:
    rows = []
    for fact, family in told:
        statement, question = phrase(fact, family)
        if not all(SHORTEST <= len(text.split()) <= LONGEST for text in (statement, question)):
            dropped["length"] += 1
        elif f" {fact.answer} " in f" {question} ":
            dropped["answer_in_question"] += 1
        else:
            own = {"group": fact.subject, "relation": fact.relation, "answer": fact.answer}
            rows.append({"src": statement, "trg": question} | own)
    return rows


def _named(country: str) -> str:
    return f"the {country}" if _ARTICLE.match(country) else country


def _of_countries(table: pd.DataFrame) -> Iterator[Fact]:
    for row in table.itertuples(index=False):
        name = _named(row.name)
        yield Fact(name, "capital", row.capital)
        yield Fact(name, "currency", row.currency)
        yield Fact(name, "continent", row.continent)
        for language in row.languages[:ANSWERS]:
            yield Fact(name, "language", language)
        for neighbour in row.borders[:ANSWERS]:
            yield Fact(name, "border", _named(neighbour))


def _of_cities(table: pd.DataFrame) -> Iterator[Fact]:
    large = table[table["population"] >= LARGE].drop_duplicates("name")
    for row in large.itertuples(index=False):
        yield Fact(row.name, "city", _named(row.country))


def _of_elements(table: pd.DataFrame) -> Iterator[Fact]:
    before = table["name"].shift()
    for row, predecessor in zip(table.itertuples(index=False), before, strict=True):
        yield Fact(row.name, "symbol", row.symbol)
        yield Fact(row.name, "number", str(row.number))
        yield Fact(row.name, "series", row.series)
        yield Fact(row.name, "predecessor", predecessor)


QUESTIONS = Recipe("question_generation", build, files, databases.LICENCE)
