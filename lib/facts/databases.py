"""True facts on countries, cities and chemical elements, read out of the carriers' database files; nothing is run."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd

from lib import paths, sources
from lib.errors import UserError

LICENCE = "MIT (packages pyworldatlas, mendeleev); CC BY 4.0 GeoNames, Unicode License v3, public domain (facts)"

_COUNTRIES = """
    SELECT TRIM(country.name) AS name, alpha2 AS code, capital.name AS capital, currency_name AS currency, continent,
           country.population, total_area_km2 AS area, language_codes, country.id
    FROM country LEFT JOIN capital ON capital.country_id = country.id AND is_primary ORDER BY TRIM(country.name)
"""
_LANGUAGES = "SELECT country_id AS id, code, name FROM country_language"
_BORDERS = """
    SELECT TRIM(one.name) AS one, TRIM(two.name) AS two FROM country_border
    JOIN country AS one ON one.id = country1_id JOIN country AS two ON two.id = country2_id
"""
_CITIES = """
    SELECT city.name, TRIM(country.name) AS country, city.population, city.latitude, city.longitude
    FROM city JOIN country ON country.id = city.country_id ORDER BY city.population DESC, city.id
"""
_ELEMENTS = """
    SELECT elements.name, elements.symbol, atomic_number AS number, group_id AS "group", period, block,
           series.name AS series, discoverers AS discoverer, discovery_year AS year
    FROM elements LEFT JOIN series ON series.id = series_id ORDER BY atomic_number
"""


def atlas() -> Path:
    """Return the carrier's database of countries and cities."""
    return sources.path("pyworldatlas", "atlas.sqlite3")


def periodic_table() -> Path:
    """Return the carrier's database of chemical elements."""
    return sources.path("mendeleev", "elements.db")


def countries() -> pd.DataFrame:
    """Return 248 countries and territories, one row each by name, with missing values where the source has none.

    Columns: name, code (ISO, two letters), capital, currency, continent, population (people), area (km2), languages and
    borders (tuples of names; languages in the order of the source). Raises `UserError` for a file of another layout.
    """
    file = atlas()
    table, borders, languages = _select(file, _COUNTRIES, _BORDERS, _LANGUAGES)
    named = {(row.id, row.code): row.name for row in languages.itertuples(index=False)}
    neighbours: dict[str, list[str]] = {name: [] for name in table["name"]}
    try:
        table["languages"] = [
            tuple(named[number, code] for code in json.loads(codes))
            for number, codes in zip(table["id"], table["language_codes"], strict=True)
        ]
        for one, two in borders.itertuples(index=False):
            neighbours[one].append(two)
            neighbours[two].append(one)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _other_layout(file, repr(error)) from error
    table["borders"] = [tuple(sorted(neighbours[name])) for name in table["name"]]
    return table.drop(columns=["id", "language_codes"]).astype({"population": "Int64"})


def cities() -> pd.DataFrame:
    """Return 6,265 cities, one row each from the largest on; names may repeat.

    Columns: name, country (as in `countries`), population (people), latitude, longitude (degrees). Raises `UserError`
    for a file of another layout.
    """
    return _select(atlas(), _CITIES)[0].astype({"population": "Int64"})


def elements() -> pd.DataFrame:
    """Return the 118 chemical elements, one row each by atomic number, with missing values where the source has none.

    Columns: name, symbol, number, group (1-18), period, block, series, discoverer, year (of discovery). Raises
    `UserError` for a file of another layout.
    """
    return _select(periodic_table(), _ELEMENTS)[0].astype({"group": "Int64", "year": "Int64"})


def _select(file: Path, *queries: str) -> list[pd.DataFrame]:
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            return [pd.read_sql_query(query, database) for query in queries]
    except (sqlite3.Error, pd.errors.DatabaseError) as error:
        raise _other_layout(file, str(error).splitlines()[-1]) from error


def _other_layout(file: Path, reason: str) -> UserError:
    return UserError(
        f"{paths.relative(file)}: not the expected database ({reason}); delete the file and fetch it again"
    )
