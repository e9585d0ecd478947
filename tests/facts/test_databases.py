"""The readers of facts: known values, links between the tables, and files that are something else."""

import contextlib
import shutil
import sqlite3

import pytest

from lib.errors import UserError
from lib.facts import databases


@pytest.fixture(scope="module")
def countries():
    return databases.countries().set_index("name")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE country SET language_codes = '[\"xx\"]' WHERE name = 'France'",
        "UPDATE country SET language_codes = '{' WHERE name = 'France'",
        "UPDATE country SET language_codes = '5' WHERE name = 'France'",
    ],
)
def test_a_country_without_its_languages_is_another_layout(tmp_path, monkeypatch, damage):
    copy = tmp_path / "atlas.sqlite3"
    shutil.copyfile(databases.atlas(), copy)
    with contextlib.closing(sqlite3.connect(copy)) as database:
        database.execute(damage)
        database.commit()
    monkeypatch.setattr(databases, "atlas", lambda: copy)
    with pytest.raises(UserError, match=r"atlas\.sqlite3: not the expected database .*fetch it again"):
        databases.countries()


def test_countries(countries):
    assert len(countries) == 248
    assert countries.index.is_unique
    swiss = countries.loc["Switzerland"]
    assert (swiss.code, swiss.capital, swiss.currency, swiss.continent) == ("CH", "Bern", "Swiss Franc", "Europe")
    assert swiss.languages == ("German", "French", "Italian", "Romansh")
    assert swiss.borders == ("Austria", "France", "Germany", "Italy", "Liechtenstein")
    assert swiss.area == pytest.approx(41277)
    assert countries["capital"].isna().sum() == 7
    assert countries.loc["Iceland", "borders"] == ()


def test_a_border_has_two_sides(countries):
    sides = {(name, other) for name, others in countries["borders"].items() for other in others}
    assert len(sides) == 2 * 319
    assert sides == {(other, name) for name, other in sides}


def test_cities_lie_in_countries(countries):
    cities = databases.cities()
    assert len(cities) == 6265
    assert set(cities["country"]) <= set(countries.index)
    assert cities["population"].dropna().is_monotonic_decreasing
    lyon = cities[cities["name"] == "Lyon"].iloc[0]
    assert (lyon.country, round(lyon.latitude), round(lyon.longitude)) == ("France", 46, 5)


def test_elements():
    elements = databases.elements().set_index("symbol")
    assert list(elements["number"]) == list(range(1, 119))
    iron = elements.loc["Fe"]
    assert (iron["name"], iron["group"], iron["period"], iron["series"]) == ("Iron", 8, 4, "Transition metals")
    assert elements.loc["N", ["discoverer", "year"]].tolist() == ["Daniel Rutherford", 1772]
    assert elements["year"].isna().loc["Fe"]


def test_another_file_is_a_readable_error(tmp_path, monkeypatch):
    path = tmp_path / "atlas.sqlite3"
    monkeypatch.setattr(databases.sources, "path", lambda carrier, filename: path)
    for content in (b"", b"no database, but long enough to look at" * 10):
        path.write_bytes(content)
        for read in (databases.countries, databases.cities, databases.elements):
            with pytest.raises(
                UserError, match=r"atlas\.sqlite3: not the expected database .*fetch it again"
            ) as caught:
                read()
            assert "\n" not in str(caught.value)
        assert path.read_bytes() == content
