"""The rows of the five instruction sets, out of the project's own sources; all choices are ours.

A row holds an instruction, an input (or none), the output, further references, and its place among the splits. The sets
are narrow on purpose (short texts, frequent words), so that a student of three million parameters learns them within
minutes.
"""

import functools
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from lib.facts import databases
from lib.ordering import hash_order, pick
from lib.text import bible, dialogue, pairs, questions, verses
from lib.text.phrasings import PHRASINGS

WORDINGS: Mapping[str, tuple[str, ...]] = {
    "modern": ("Say it in today's English.", "Put this into modern English.", "How would we say this now?"),
    "simple": ("Say it in simple English.", "Put this into easy words.", "Make this easier to read."),
    "chat": ("Answer this chat message.", "Reply to the other person.", "What would you say back?"),
    "country": ("Describe this country.", "What kind of country is this?"),
    "size": ("Classify this country by its area.", "How big is this country?"),
    "crowd": ("Classify this country by its people.", "How many people live here?"),
    "neighbours": ("Count the neighbours of this country.", "How many neighbours are there?"),
    "element": ("Describe this element.", "What kind of element is this?"),
    "metal": ("Classify this element.", "Is this element a metal?"),
}
VERSE_WORDS, VERSE_LENGTH = 1000, 12  # a verse's words are among the most frequent of its set; words of a side
MOST_SHARED = 0.65  # of the words, F1: where more stay, copying is the answer
QUESTION_LENGTH, REPLY_LENGTH = 10, 8
ASKED, SAID = 2, 8  # conversations with the same question, and exchanges with the same reply, punctuation aside
TALK = "talk"  # the key of the split of conversations: drawn anew when the two numbers above had been settled
RELATIONS = ("capital", "currency", "continent", "language", "symbol", "series")
PEOPLE, ELEMENTS = 20_000_000, 24  # countries of so many people, and the first elements, are asked about
AREAS = ((1.0, "tiny"), (50.0, "small"), (500.0, "medium"), (float("inf"), "large"))  # thousands of km2
PEOPLES = (  # millions
    (0.1, "fewer than a hundred thousand people"),
    (1.0, "fewer than a million people"),
    (10.0, "a few million people"),
    (100.0, "tens of millions of people"),
    (float("inf"), "more than a hundred million people"),
)
COUNTS = ("none", "one", "two", "three", "four", "five", "six")
_SENTENCE = re.compile(r"[^.?!…]+(?:[.?!…]|$)")


class Row(NamedTuple):
    """One instruction with its answer; group: the verse, conversation, subject, or telling of a fact it belongs to."""

    instruction: str
    input: str
    output: str
    references: tuple[str, ...]
    group: str
    split: str


def split_of(kind: str, group: object) -> str:
    """Return the split of a group by its hash: a tenth each for test and validation."""
    return pick(f"instructions/{kind}/{group}", ("test", "validation", *["train"] * 8))


def fact_rows() -> list[Row]:
    """Questions about countries and elements without an input: capital, currency, continent, language, symbol, series.

    Every fact is trained on, under three of its four families of questions; test and validation ask it in the fourth:
    the question is unseen, the fact is not. Subjects that `described_rows` holds out are not asked about. Any language
    of a country is right.
    """
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    cased, subjects = _cased(), _asked_subjects()
    for fact in questions.known_facts():
        if fact.relation in RELATIONS and fact.subject.removeprefix("the ") in subjects:
            told[fact.subject, fact.relation].append(cased[fact.answer])
    rounds: list[list[Row]] = []
    for subject, relation in hash_order(told):
        answers, key = told[subject, relation], f"{subject}/{relation}"
        families = hash_order(f"{key}/{family}" for family in range(len(PHRASINGS[relation])))
        asked = [(name, q) for name in families for q in PHRASINGS[relation][int(name.rpartition("/")[2])].questions]
        named = subject.replace(bare := subject.removeprefix("the "), cased[bare])
        held_out = pick(f"instructions/facts/{key}", ("test", "validation"))
        rows = []
        for name, question in (asked[0], *asked[2::2], *asked[3::2]):
            text = plain(question.format(s=named))
            split = held_out if name == families[0] else "train"
            rows.append(Row(text[0].upper() + text[1:], "", answers[0], tuple(answers), name, split))
        rounds.append(rows)
    return interleaved(rounds)


def verse_rows(name: str) -> list[Row]:
    """King James verses and clauses in World English ("modern"), or World English ones in Basic English ("simple").

    Of at most 12 words on a side, among the 1,000 most frequent of the set, and no more than 65 % of them shared: what
    stays as it is would be answered by copying. A verse is in one split in all its translations and clauses, in both
    sets; a training row that shares a text with a held-out one is left out.
    """
    chosen = _verses(name)
    other = _verses("simple" if name == "modern" else "modern")
    known = {
        row[side] for row in (*chosen, *other) if split_of("verse", row["group"]) != "train" for side in ("src", "trg")
    }
    seen: set[str] = set()
    rows = []
    for row in hash_order(f"{r['group']}\t{r['src']}\t{r['trg']}" for r in chosen):
        group, source, target = row.split("\t")
        split = split_of("verse", group)
        if source in seen or (split == "train" and known & {source, target}):
            continue
        seen.add(source)
        rows.append(
            Row(pick(row, WORDINGS[name]), plain(source), plain(target), (plain(target),), f"verse/{group}", split)
        )
    return rows


def chat_rows() -> list[Row]:
    """The last question of a turn, and the first sentence of the reply, out of the Chit-Chat Challenge.

    Questions of at most 10 words that two conversations have, and replies of at most 8 that eight exchanges have: of
    replies said once there is little to learn. A conversation is in one split; its question is mostly asked in others,
    too. References: all replies to the same question in the same split.
    """
    found = [row for one in dialogue.conversations().items() for row in _exchanges(*one)]
    said = Counter(canonical(reply) for *_, reply in found)
    short = [row for row in found if len(row[2].split()) <= REPLY_LENGTH and said[canonical(row[2])] >= SAID]
    talks: dict[str, set[str]] = defaultdict(set)
    for talk, question, _ in short:
        talks[canonical(question)].add(talk)
    replies: dict[tuple[str, str], list[str]] = defaultdict(list)
    for talk, question, reply in short:
        replies[split_of(TALK, talk), canonical(question)].append(plain(reply))
    rows = []
    for talk, question, reply in (tuple(row.split("\t")) for row in hash_order("\t".join(row) for row in set(short))):
        if len(talks[canonical(question)]) >= ASKED:
            split = split_of(TALK, talk)
            others = dict.fromkeys((plain(reply), *replies[split, canonical(question)]))
            wording = pick(f"{talk}\t{question}", WORDINGS["chat"])
            rows.append(Row(wording, plain(question), plain(reply), tuple(others), f"conversation/{talk}", split))
    return rows


def described_rows() -> list[Row]:
    """A country or an element by its data: what kind it is, how large, how many people and neighbours, whether a metal.

    What is asked follows from the input; a subject is in one split only. Training asks in two wordings.
    """
    subjects = {row.name: _of_country(row) for row in databases.countries().itertuples()}
    subjects |= {row.name: _of_element(row) for row in databases.elements().itertuples()}
    rounds = []
    for name in hash_order(subjects):
        told = subjects[name]
        split = split_of("subject", name.lower())
        kinds = hash_order(f"{kind}/{name}" for kind in told)
        rows = []
        for turn in range(2 if split == "train" else 1):
            for key in kinds:
                kind = key.partition("/")[0]
                first = pick(key, (0, 1))
                wording = WORDINGS[kind][(first + turn) % 2]
                data, answer = told[kind]
                rows.append(Row(wording, data, answer, (answer,), f"subject/{name}", split))
        rounds.append(rows)
    return interleaved(rounds)


def interleaved(rounds: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the first row of each list, then the second of each, and so on: a short beginning has something of all."""
    longest = max(map(len, rounds), default=0)
    return [rows[turn] for turn in range(longest) for rows in rounds if turn < len(rows)]


def plain(text: str) -> str:
    """Return a text of words and marks parted by blanks as one writes it: no blank before a mark."""
    return re.sub(r" (?=[,.;:?!])", "", text)


def canonical(text: str) -> str:
    """Return the letters and digits of a text, words parted by blanks: what makes two questions the same."""
    return " ".join(re.sub(r"[^a-z0-9 ]", " ", text.replace("'", "")).split())


def most_frequent(texts: Iterable[str], words: int) -> set[str]:
    """Return the most frequent words of the texts; of equally frequent ones those that come first in the alphabet."""
    counts = Counter(word for text in texts for word in text.split())
    return {word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:words]}


def _cased() -> dict[str, str]:
    """Map the normalised names, as facts tell them, to the names as they are written."""
    countries, elements = databases.countries(), databases.elements()
    columns = [countries[c] for c in ("name", "capital", "currency", "continent")]
    columns += [countries["languages"].explode(), *(elements[c] for c in ("name", "symbol", "series"))]
    return {bible.normalise(text): text for column in columns for text in column.dropna()}


def _asked_subjects() -> set[str]:
    """Return the normalised names of known countries and elements that the describing set trains on."""
    countries, elements = databases.countries(), databases.elements()
    known = [*countries.loc[(countries["population"] >= PEOPLE).fillna(False), "name"], *elements["name"][:ELEMENTS]]
    return {bible.normalise(name) for name in known if split_of("subject", name.lower()) == "train"}


@functools.cache
def _verses(name: str) -> list[dict[str, str]]:
    """Return the candidates of a set, from all splits of its pairs: they are split anew, for both sets alike."""
    whole = {"modern": verses.PARAPHRASE, "simple": verses.SIMPLIFICATION}[name].load()
    version = {"modern": "kjv", "simple": "web"}[name]
    found = [row for split in pairs.SPLITS for row in whole[split].to_list() if row["version"] == version]
    frequent = most_frequent((row[side] for row in found for side in ("src", "trg")), VERSE_WORDS)
    return [row for row in found if _fits(row["src"].split(), row["trg"].split(), frequent)]


def _fits(source: Sequence[str], target: Sequence[str], frequent: set[str]) -> bool:
    return (
        max(len(source), len(target)) <= VERSE_LENGTH
        and frequent.issuperset([*source, *target])
        and verses.overlap(list(source), list(target)) <= MOST_SHARED
    )


def _exchanges(talk: str, turns: Sequence[Sequence[str]]) -> list[tuple[str, str, str]]:
    """Return (conversation, question, reply) where a turn ends with a question."""
    found = []
    for turn, following in itertools.pairwise(turns):
        if "?" in turn[-1]:  # cleaning all turns would take most of a minute
            asked, said = (_SENTENCE.findall(dialogue.turn(one)) for one in (turn, following))
            question, reply = asked[-1].strip() if asked else "", said[0].strip() if said else ""
            if question.endswith("?") and reply and canonical(question) and len(question.split()) <= QUESTION_LENGTH:
                found.append((talk, question, reply))
    return found


def _of_country(row: Any) -> dict[str, tuple[str, str]]:
    """Return the input and the answer of each kind of question about a country; none where the atlas lacks numbers."""
    if pd.isna(row.continent) or not row.area or not row.population:
        return {}
    thousands, millions = row.area / 1000, row.population / 1_000_000
    data = f"{row.name}; in {row.continent}; {thousands:.1f} thousand km2; {millions:.2f} million people"
    size, people = _class(thousands, AREAS), _class(millions, PEOPLES)
    told = {
        "country": (data, f"a {size} country in {row.continent} with {people}"),
        "size": (data, f"a {size} country"),
        "crowd": (data, people),
    }
    if 0 < len(row.borders) < len(COUNTS):
        told["neighbours"] = (f"{row.name}; borders {', '.join(row.borders)}", COUNTS[len(row.borders)])
    return told


def _of_element(row: Any) -> dict[str, tuple[str, str]]:
    """Return the input and the answer of each kind of question about an element."""
    group = "" if pd.isna(row.group) else f"; group {row.group}"
    data = f"{row.name}; symbol {row.symbol}; number {row.number}{group}; period {row.period}"
    series = "noble gas" if row.series == "Noble gases" else row.series.lower().removesuffix("s")
    metal = "metal" if series.endswith(" metal") or series in ("lanthanide", "actinide") else "nonmetal"
    return {
        "element": (data, f"a {series} of period {row.period}"),
        "metal": (data, f"a {'metalloid' if series == 'metalloid' else metal}"),
    }


def _class(number: float, classes: Sequence[tuple[float, str]]) -> str:
    return next(name for least, name in classes if number < least)
