"""The relations of the Beacons facts: their kind, their wordings, and the true triples out of the carriers' files.

Names, times and places that a model may not know. All wordings are ours (our choice, as the paper's are not known).
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from lib import paths, sources
from lib.errors import UserError
from lib.facts import databases, factbook
from lib.facts.relations import WORDINGS as EDITED
from lib.facts.relations import Wording, known_facts, said, within
from lib.ordering import hash_order

Kind = Literal["proper noun", "time", "place"]

KINDS: Mapping[str, Kind] = {
    "anthem": "proper noun",
    "currency": "proper noun",
    "language": "proper noun",
    "discoverer": "proper noun",
    "discovery year": "time",
    "isotope year": "time",
    "independence": "time",
    "capital": "place",
    "country": "place",
    "highest point": "place",
    "discovery place": "place",
}
WORDINGS: Mapping[str, Wording] = {
    **{relation: EDITED[relation] for relation in KINDS if relation in EDITED},
    "anthem": Wording(
        "The national anthem of {s} is called",
        ("The title of the national anthem of {s} is", "At ceremonies, people from {s} sing the anthem called"),
        ("What is the national anthem of {s} called?", "What is the title of the anthem of {s}?"),
    ),
    "discovery year": Wording(
        "The element {s} was discovered in the year",
        ("The year in which the element {s} was discovered is", "The discovery of the element {s} dates from"),
        ("In which year was the element {s} discovered?", "When was the element {s} discovered?"),
    ),
    "isotope year": Wording(
        "The isotope {s} was first observed in the year",
        ("The year in which the isotope {s} was first observed is", "The discovery of the isotope {s} dates from"),
        ("In which year was the isotope {s} first observed?", "When was the isotope {s} discovered?"),
    ),
    "independence": Wording(
        "The year in which {s} became independent is",
        ("The independence of {s} dates from", "In the history of {s}, the year of independence is"),
        ("In which year did {s} become independent?", "When did {s} become independent?"),
    ),
    "highest point": Wording(
        "The highest point of {s} is called",
        ("The highest mountain in {s} is", "To stand on the highest point of {s}, one climbs"),
        ("What is the highest point of {s} called?", "Which mountain is the highest in {s}?"),
    ),
    "discovery place": Wording(
        "The country in which the element {s} was discovered is",
        ("The element {s} was first found in", "The discoverers of the element {s} worked in"),
        ("In which country was the element {s} discovered?", "Where was the element {s} discovered?"),
    ),
}
PER_COUNTRY = 2  # cities of one country, the largest first
PER_ELEMENT = 3  # isotopes of one element, by their hashes
MASS_SPECTROGRAPH = 1919  # before it, isotopes were known by other names, and the source's years are uneven
_MISDATED = {"neodymium", "nihonium"}  # years of the pure metal and of the naming, not of the discovery
_UNCLEAN = re.compile(r"[\d\"“”()\[\],;:.!?/*]|unnamed|[^\u0000-\u024f]")  # an answer ends at a full stop
_INDEPENDENT = re.compile(r"\d{1,2} [A-Z][a-z]+ (\d{4}) \((?:declared independence )?from ")

_ANTHEMS = """
    SELECT TRIM(country.name) AS name, title, english_title AS english
    FROM country_anthem JOIN country ON country.id = country_id
"""
_PEAKS = """
    SELECT TRIM(country.name) AS name, highest_point_name AS peak
    FROM country_physical JOIN country ON country.id = country_id WHERE highest_point_name IS NOT NULL
"""
_NAMES = """
    SELECT TRIM(country.name) AS name, country_name.name AS other
    FROM country_name JOIN country ON country.id = country_id
"""
_ISOTOPES = """
    SELECT LOWER(elements.name) AS element, mass_number AS mass, isotopes.discovery_year AS year
    FROM isotopes JOIN elements ON elements.atomic_number = isotopes.atomic_number
    WHERE isotopes.discovery_year IS NOT NULL ORDER BY isotopes.atomic_number, mass_number
"""
_PLACES = "SELECT LOWER(name) AS element, discovery_location AS place FROM elements"


class Triple(NamedTuple):
    """One fact without its wording; `subject` decides on its pool, `spoken` is what the prompt says (with article)."""

    subject: str
    spoken: str
    relation: str
    answer: str
    aliases: tuple[str, ...] = ()


def triples() -> list[Triple]:
    """Return the true triples, without those whose answer stands in the subject or the subject in the answer.

    Raises `UserError` for a source that is missing or of another layout.
    """
    found = [*_known(), *_anthems(), *_peaks(), *_discoveries(), *_isotopes(), *_independence()]
    return [t for t in found if not within(t.answer, t.spoken) and not within(t.subject, t.answer)]


def real_names() -> frozenset[str]:
    """Return every name of a country, city, element, person, language, currency, anthem and mountain of the sources."""
    countries, cities, elements = databases.countries(), databases.cities(), databases.elements()
    atlas = _read(databases.atlas(), _NAMES), _read(databases.atlas(), _ANTHEMS), _read(databases.atlas(), _PEAKS)
    columns = [
        *(countries["name"], countries["capital"], countries["currency"], cities["name"], elements["name"]),
        *(elements["discoverer"], atlas[0]["other"], atlas[1]["title"], atlas[1]["english"], atlas[2]["peak"]),
    ]
    languages = {language for row in countries["languages"] for language in row}
    return frozenset(languages.union(*(column.dropna() for column in columns)))


def surname(person: str) -> tuple[str, ...]:
    """Return the last word of a person's name as the alias it is known by, or nothing for a name of one word."""
    return (person.split()[-1],) if " " in person else ()


def _known() -> Iterator[Triple]:
    """Take over what the edit set also asks; a language only where a country has one, so that one answer is true."""
    countries = databases.countries()
    spoken = dict(zip(countries["name"].str.removeprefix("The "), countries["languages"].map(len), strict=True))
    names = _country_names()
    for fact in known_facts(PER_COUNTRY):
        several = fact.relation == "language" and spoken.get(fact.subject) != 1
        if fact.relation not in KINDS or several or _UNCLEAN.search(fact.answer):
            continue
        aliases = surname(fact.answer) if fact.relation == "discoverer" else ()
        aliases = names.get(fact.answer, ()) if fact.relation == "country" else aliases
        yield Triple(fact.subject, fact.said, fact.relation, fact.answer, aliases)


def _country_names() -> dict[str, tuple[str, ...]]:
    """Return the other names of each country, by its name as it is said; names of two letters are words as well."""
    table = _read(databases.atlas(), _NAMES)
    found: dict[str, tuple[str, ...]] = {}
    for name, rows in table.groupby("name"):
        told = said(str(name).removeprefix("The "))
        found[told] = tuple(sorted({other for other in rows["other"] if len(other) > 2 and other != told}))
    return found


def _anthems() -> Iterator[Triple]:
    for row in _read(databases.atlas(), _ANTHEMS).itertuples(index=False):
        name = row.name.removeprefix("The ")
        if not _UNCLEAN.search(row.title):
            yield Triple(name, said(name), "anthem", row.title, (row.english,) if pd.notna(row.english) else ())


def _peaks() -> Iterator[Triple]:
    for row in _read(databases.atlas(), _PEAKS).itertuples(index=False):
        name = row.name.removeprefix("The ")
        if not _UNCLEAN.search(row.peak):
            yield Triple(name, said(name), "highest point", row.peak.strip())


def _discoveries() -> Iterator[Triple]:
    for row in databases.elements().itertuples(index=False):
        name = row.name.lower()
        if pd.notna(row.year) and name not in _MISDATED:
            yield Triple(name, name, "discovery year", str(row.year))
    names = _country_names()
    for name, place in _read(databases.periodic_table(), _PLACES).dropna().itertuples(index=False):
        if not _UNCLEAN.search(place):
            yield Triple(name, name, "discovery place", said(place), names.get(said(place), ()))


def _isotopes() -> Iterator[Triple]:
    table = _read(databases.periodic_table(), _ISOTOPES)
    years = {
        (row.element, f"{row.element}-{row.mass}"): row.year
        for row in table[table["year"] >= MASS_SPECTROGRAPH].itertuples(index=False)
    }
    taken: dict[str, int] = {}
    for element, isotope in hash_order(years):
        taken[element] = taken.get(element, 0) + 1
        if taken[element] <= PER_ELEMENT:
            yield Triple(element, isotope, "isotope year", str(years[element, isotope]))


def _independence() -> Iterator[Triple]:
    """Read the year from the Factbook, where its first date is a day of independence from somebody."""
    known = set(databases.countries()["name"].str.removeprefix("The "))
    for file in sorted(sources.CARRIERS[factbook.CARRIER].members):
        path = sources.path(factbook.CARRIER, file)
        try:
            government = json.loads(path.read_text(encoding="utf-8"))["Government"]
            name = government.get("Country name", {}).get("conventional short form", {}).get("text")
            year = _INDEPENDENT.match(government.get("Independence", {}).get("text", ""))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"not a country of the Factbook ({error!r}); delete the file and fetch it again"
            raise UserError(f"{paths.relative(path)}: {reason}") from error
        if name in known and year:
            yield Triple(name, said(name), "independence", year[1])


def _read(file: Path, query: str) -> pd.DataFrame:
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            return pd.read_sql_query(query, database)
    except (sqlite3.Error, pd.errors.DatabaseError) as error:
        reason = str(error).splitlines()[-1]
        raise UserError(
            f"{paths.relative(file)}: not the expected database ({reason}); delete the file and fetch it again"
        ) from error
