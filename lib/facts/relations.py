"""The relations of the embedded edit set: how a fact is said and asked, and the true facts (`lib.facts.databases`).

All wordings are ours. A prompt is a cloze whose next words are the answer; of the other wordings two are clozes and two
are questions.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from lib.facts import databases

INHABITED = 10_000  # people: smaller countries and territories are left out
PER_COUNTRY = 6  # cities of one country, the largest first, so that no country fills the set
PLACES = ("number", "group", "period", "block", "series")  # the first of these implies the others


class Wording(NamedTuple):
    """How one relation is said: `{s}` is the subject, with its article."""

    prompt: str
    clozes: tuple[str, str]
    questions: tuple[str, str]


class Fact(NamedTuple):
    """One true triple; `said` is the subject with its article, `also` are further answers that are true or near it."""

    subject: str
    said: str
    relation: str
    answer: str
    also: frozenset[str] = frozenset()


WORDINGS: Mapping[str, Wording] = {
    "capital": Wording(
        "The capital of {s} is",
        ("The capital city of {s} is called", "As its capital, {s} has the city of"),
        ("What is the capital of {s}?", "Which city is the capital of {s}?"),
    ),
    "currency": Wording(
        "The currency of {s} is the",
        ("In {s}, people pay with the", "The money that is used in {s} is the"),
        ("What is the currency of {s}?", "Which currency is used in {s}?"),
    ),
    "continent": Wording(
        "In geography, {s} belongs to the continent of",
        ("The continent of which {s} is a part is", "On a globe, {s} is found on the continent of"),
        ("Which continent does {s} belong to?", "On which continent is {s}?"),
    ),
    "language": Wording(
        "Many people in {s} speak",
        ("A language that is spoken in {s} is", "To be understood in {s}, it helps to know"),
        ("Which language do people in {s} speak?", "What language is spoken in {s}?"),
    ),
    "code": Wording(
        "The two-letter country code of {s} is",
        ("On lists of countries, {s} is abbreviated to", "The two letters that stand for {s} are"),
        ("What is the two-letter country code of {s}?", "Which two letters stand for {s}?"),
    ),
    "country": Wording(
        "The city of {s} is in the country of",
        ("To visit the city of {s}, one travels to", "The country to which the city of {s} belongs is"),
        ("In which country is the city of {s}?", "Which country does the city of {s} belong to?"),
    ),
    "symbol": Wording(
        "The chemical symbol of {s} is",
        ("In formulas, the element {s} is written", "Chemists abbreviate the name of the element {s} to"),
        ("What is the chemical symbol of {s}?", "Which symbol stands for the element {s}?"),
    ),
    "number": Wording(
        "The atomic number of {s} is",
        ("The number of protons in an atom of {s} is", "In the periodic table, {s} has the number"),
        ("What is the atomic number of {s}?", "How many protons does an atom of {s} have?"),
    ),
    "group": Wording(
        "In the periodic table, {s} is in group",
        ("The group number of the element {s} is", "The column of the periodic table that holds {s} is number"),
        ("Which group of the periodic table is {s} in?", "What is the group number of the element {s}?"),
    ),
    "period": Wording(
        "In the periodic table, {s} is in period",
        ("The period number of the element {s} is", "The row of the periodic table that holds {s} is number"),
        ("Which period of the periodic table is {s} in?", "What is the period number of the element {s}?"),
    ),
    "block": Wording(
        "In the periodic table, {s} is in the block called",
        (
            "The letter of the block that holds the element {s} is",
            "The element {s} belongs to the block with the letter",
        ),
        ("Which block of the periodic table is {s} in?", "What is the letter of the block that holds {s}?"),
    ),
    "series": Wording(
        "The element {s} belongs to the family of the",
        ("In the periodic table, {s} is counted among the", "By its chemical kind, the element {s} is one of the"),
        ("Which family of elements does {s} belong to?", "Among which kind of elements is {s} counted?"),
    ),
    "discoverer": Wording(
        "The element {s} was discovered by",
        ("The discovery of the element {s} is credited to", "The first to find the element {s} was"),
        ("Who discovered the element {s}?", "Who was the discoverer of {s}?"),
    ),
}
# Answers of which one may pass for another: none of them is the counterfactual of another.
KINDRED: Mapping[str, tuple[frozenset[str], ...]] = {
    "language": (
        frozenset({"Chinese", "Mandarin Chinese", "Cantonese", "Wu Chinese"}),
        frozenset({"Filipino", "Tagalog"}),
        frozenset({"Malay", "Indonesian"}),
        frozenset({"Serbian", "Croatian", "Bosnian"}),
        frozenset({"Persian", "Tajik"}),
        frozenset({"Norwegian", "Danish", "Norwegian Bokmål", "Norwegian Nynorsk"}),
    ),
    "series": (
        frozenset({"nonmetals", "halogens", "noble gases", "metalloids"}),
        frozenset({"transition metals", "lanthanides", "actinides", "poor metals", "metalloids"}),
    ),
}
_ON_TWO = {  # countries that lie on two continents
    **dict.fromkeys(
        ("Azerbaijan", "Armenia", "Cyprus", "Georgia", "Kazakhstan", "Russia", "Turkey"), ("Europe", "Asia")
    ),
    "Egypt": ("Africa", "Asia"),
    "Indonesia": ("Asia", "Oceania"),
}
_F_OR_D = {"lanthanum", "actinium", "lutetium", "lawrencium"}  # textbooks differ on their group, block and kind
# Their cities are in two countries at once, or it is disputed in which.
_TERRITORIES = {
    *(
        "Aruba",
        "Curacao",
        "French Guiana",
        "French Polynesia",
        "Gibraltar",
        "Greenland",
        "Guadeloupe",
        "Guam",
        "Hong Kong",
    ),
    *("Jersey", "Guernsey", "Isle of Man", "Macao", "Martinique", "Mayotte", "New Caledonia", "Palestinian Territory"),
    *("Puerto Rico", "Reunion", "Western Sahara"),
}
_ARTICLE = re.compile(
    r"United|.*(?:Republic|Islands|Territory)|(?:Bahamas|Comoros|Gambia|Maldives|Philippines|Isle of Man)$"
)
_SEVERAL = re.compile(r"[,;/&]| and | al$|\.[A-Z]|^[A-Z]\.|Known|RIKEN|Institute|Laboratory|Centre|Research|Scaliger")
_UNUSUAL = re.compile(r"[\d,()/]|[^\u0000-\u024f]")  # also transliterations with rare signs
_SPELLING = {  # the source's slips
    "Charles Hatchet": "Charles Hatchett",
    "Fredrich Ernst Dorn": "Friedrich Ernst Dorn",
    "Fredrich Stromeyer": "Friedrich Stromeyer",
    "Humphrey Davy": "Humphry Davy",
    "Marguerite Derey": "Marguerite Perey",
    "Smithson Tenant": "Smithson Tennant",
}


def known_facts(per_country: int | None = PER_COUNTRY) -> list[Fact]:
    """Return the true facts, without those whose answer stands in the subject or the subject in the answer.

    `per_country` bounds the cities of one country; None takes all (which makes the set large and uneven). A name that
    means two things (a city and a country, two cities) is left out as a city; capitals are no subjects either, since a
    country's edited capital would bear on them.
    """
    countries = databases.countries()
    countries = countries[countries["population"] >= INHABITED].assign(
        name=lambda table: table["name"].str.removeprefix("The ").map(_plain)
    )
    elements = databases.elements().assign(name=lambda table: table["name"].str.lower())
    taken = {*countries["name"], *countries["capital"].dropna().map(_plain), *elements["name"].str.capitalize()}
    found = [*_of_countries(countries), *_of_elements(elements), *_of_cities(taken, per_country)]
    return [fact for fact in found if not within(fact.answer, fact.said) and not within(fact.subject, fact.answer)]


def said(country: str) -> str:
    """Return the name of a country with its article, as it is said within a sentence."""
    return f"the {country}" if country == "Netherlands" or _ARTICLE.match(country) else country


def within(words: str, text: str) -> bool:
    """Tell whether whole words occur in a text, in whatever case."""
    if words.lower() not in text.lower():  # spares compiling thousands of patterns
        return False
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def _plain(text: str) -> str:
    return text.strip().replace("’", "'")


def _kindred(relation: str, answers: set[str]) -> frozenset[str]:
    return frozenset(answers.union(*(kin for kin in KINDRED.get(relation, ()) if kin & answers)))


def _of_countries(table: pd.DataFrame) -> Iterator[Fact]:
    for row in table.itertuples(index=False):
        name = said(row.name)
        for relation, answer in (("capital", row.capital), ("currency", row.currency), ("code", row.code)):
            if pd.notna(answer):
                yield Fact(row.name, name, relation, _plain(answer))
        answer = "America" if row.continent == "Americas" else row.continent
        yield Fact(row.name, name, "continent", answer, frozenset(_ON_TWO.get(row.name, ())))
        if row.languages:
            yield Fact(row.name, name, "language", row.languages[0], _kindred("language", set(row.languages)))


def _of_elements(table: pd.DataFrame) -> Iterator[Fact]:
    for row in table.astype({"group": object}).itertuples(index=False):
        name, unsettled = row.name, row.name in _F_OR_D
        series = row.series.lower()
        yield Fact(name, name, "symbol", row.symbol)
        yield Fact(name, name, "number", str(row.number))
        yield Fact(name, name, "period", str(row.period))
        yield Fact(name, name, "block", row.block, frozenset("df" if unsettled else ""))
        yield Fact(name, name, "series", series, _kindred("series", {series}))
        if pd.notna(row.group) and not unsettled:
            yield Fact(name, name, "group", str(row.group))
        if pd.notna(row.discoverer) and not _SEVERAL.search(row.discoverer):
            person = row.discoverer.removeprefix("Sir ")
            yield Fact(name, name, "discoverer", _SPELLING.get(person, person))


def _of_cities(taken: set[str], per_country: int | None) -> Iterator[Fact]:
    table = databases.cities()
    table = table[~table["name"].duplicated(keep=False) & ~table["country"].isin(_TERRITORIES)]
    named = table.assign(name=table["name"].map(_plain), country=table["country"].str.removeprefix("The ").map(_plain))
    named = named[~named["name"].isin(taken) & named["country"].isin(taken) & ~named["name"].str.contains(_UNUSUAL)]
    if per_country is not None:
        named = named.groupby("country", sort=False).head(per_country)  # the source is in order of size
    for row in named.itertuples(index=False):
        yield Fact(row.name, row.name, "country", said(row.country))
