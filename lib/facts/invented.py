"""An invented world in the templates of the real facts: countries, cities, elements and people that no model has met.

Every name is put together from syllables by hashes alone and is refused when it stands among the names of the sources.
"""

from collections.abc import Iterator

from lib.facts.triples import MASS_SPECTROGRAPH, PER_COUNTRY, Triple, real_names, surname
from lib.ordering import pick

COUNTRIES, ELEMENTS = 40, 40
YEARS = range(1700, 2021)  # of discoveries and of independence, as among the real facts
_ONSETS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gl",
    "h",
    "k",
    "kr",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "z",
)
_VOWELS = ("a", "e", "i", "o", "u", "ai", "au", "ei")
_CODAS = ("", "", "l", "m", "n", "r", "s", "th")
_ENDINGS = {
    "country": ("ia", "land", "ovia", "mar"),
    "city": ("burg", "ton", "polis", "ar", "o"),
    "element": ("ium",),
    "person": ("er", "en", "ov", "ini", "sson"),
    "first name": ("a", "o", "us", "in"),
    "song": ("a", "enu", "ari"),
    "unit": ("o", "el", "ar"),
    "peak": ("horn", "gar", "oka"),
}


def triples() -> list[Triple]:
    """Return the invented triples, consistent with one another: cities lie in invented countries, and so on."""
    names = _Names(real_names())
    countries = [names.new("country", number) for number in range(COUNTRIES)]
    found: list[Triple] = []
    for number, country in enumerate(countries):
        found += _of_country(names, country, number)
    for number in range(ELEMENTS):
        found += _of_element(names, countries, number)
    return found


class _Names:
    """Makes names, each only once, and none that is a word of a real name."""

    def __init__(self, real: frozenset[str]) -> None:
        self._taken = {word for name in real for word in name.lower().replace("-", " ").split()}

    def new(self, what: str, number: int) -> str:
        """Return the first name of the stream `what`/`number` that is neither real nor taken, with a capital."""
        attempt = 0
        while True:
            key = f"invented/{what}/{number}/{attempt}"
            parts = [
                pick(f"{key}/{place}/{part}", options)
                for place in range(1 + pick(f"{key}/length", (0, 1)))
                for part, options in (("onset", _ONSETS), ("vowel", _VOWELS), ("coda", _CODAS))
            ]
            name = "".join([*parts, pick(f"{key}/ending", _ENDINGS[what])])
            if name not in self._taken:
                self._taken.add(name)
                return name.capitalize()
            attempt += 1


def _year(key: str, since: int = YEARS.start) -> str:
    return str(pick(f"invented/{key}", range(since, YEARS.stop)))


def _of_country(names: _Names, country: str, number: int) -> Iterator[Triple]:
    song, unit = names.new("song", number), names.new("unit", number)
    yield Triple(country, country, "anthem", f"{song} {names.new('song', number + COUNTRIES)}")
    yield Triple(country, country, "currency", unit)
    yield Triple(country, country, "independence", _year(f"independence/{country}"))
    yield Triple(country, country, "capital", names.new("city", number))
    yield Triple(country, country, "highest point", f"Mount {names.new('peak', number)}")
    for place in range(PER_COUNTRY):
        city = names.new("city", COUNTRIES + PER_COUNTRY * number + place)
        yield Triple(city, city, "country", country)


def _of_element(names: _Names, countries: list[str], number: int) -> Iterator[Triple]:
    element = names.new("element", number).lower()
    person = f"{names.new('first name', number)} {names.new('person', number)}"
    isotope = f"{element}-{pick(f'invented/mass/{element}', range(20, 290))}"
    yield Triple(element, element, "discoverer", person, surname(person))
    yield Triple(element, element, "discovery year", _year(f"discovery/{element}"))
    yield Triple(element, isotope, "isotope year", _year(f"isotope/{element}", MASS_SPECTROGRAPH))
    yield Triple(element, element, "discovery place", pick(f"invented/place/{element}", countries))
