"""What the rows of step 11 cost on one thread, from the seconds that like records say of themselves; their queue.

Run as `python -m lib.series.beacons.budget [--queue FILE]`: it prints a table, and writes the names of the cases as
`python -m lib.running.catalogue run --queue FILE` reads them. If the hours do not suffice, its end is left out.
"""

import argparse
import contextlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from statistics import median

from lib import errors, records
from lib.records import Case
from lib.records import files as record_files
from lib.reporting import budgets
from lib.series.beacons import cases, drawn_cases
from lib.series.beacons.building import SERIES, sizes_of

PROFILE = "cpu"
LONGEST = 30.0  # minutes that no case may take
HOURS = 6.0  # of one thread, for all
CORE = 20.0  # minutes of the core rows on two idle cores
EPOCH = 1.5  # a training after an epoch that only measures distances, to one without

KINDS = (
    "facts alone: own and shuffled targets, ten draws",
    "N together: both budgets, ten draws",
    "what is known of the draws",
    "filters that a claim names, twenty draws",
    "weighings that a claim names, twenty draws",
    "controls that no claim names, three draws",
    "other readings of distance, tuning pool",
)
# Core rows of `cases` that the first draw's take the place of, when all draws are computed.
REPLACED = ("alone/real", "alone/shuffled", "many/lora/per_fact/N500", "many/lora/total/N500", "filter", "reweight")
AFTER = ("drawn_known", "drawn_alone", "drawn_many", "drawn_filter", "drawn_reweight")


def queue(profile: str = PROFILE) -> dict[str, list[Case]]:
    """Return the cases of draws and other readings by kind, in the order of the queue: what is dropped first is last.

    Within a kind the seeds stand side by side: after every so many cases a claim has one seed more of all its rows.
    """
    kinds: dict[str, list[Case]] = {kind: [] for kind in KINDS}
    for case in sorted(drawn_cases.cases(profile), key=lambda one: one.seed):
        kinds[_kind(_name(case))].append(case)
    unique = {kind: list({one.name: one for one in listed}.values()) for kind, listed in kinds.items()}
    return unique


def _name(case: Case) -> str:
    return case.name.removeprefix(f"{SERIES}/")


def _kind(name: str) -> str:
    first, arm = name.split("/")[:2]
    if first == "other_distances" or name == drawn_cases.KNOWN_TUNING:
        return KINDS[6]
    if arm in drawn_cases.CONTROLS:
        return KINDS[5]
    places = {"drawn_alone": 0, "drawn_many": 1, "drawn_known": 2, "drawn_filter": 3, "drawn_reweight": 4}
    return KINDS[places[first]]


def minutes(case: Case, profile: str = PROFILE) -> float:
    """Return the minutes that a case takes on one thread, from like records; a case of `cases` says its own.

    Raises `ValueError` where no like record is there.
    """
    sizes, (first, *rest) = sizes_of(profile), _name(case).split("/")
    most, more = max(sizes.counts), sizes.drawn / sizes.facts
    if first == "drawn_alone":
        return more * _seconds("alone/real", "alone/shuffled", profile=profile) / 60
    if first == "drawn_known":
        known = cases.known("results", profile)
        asked = _pool(profile) if rest == ["tuning"] else sizes.pool
        return asked * _seconds(_name(known), profile=profile) / _facts(known) / 60
    if first == "drawn_many":
        # What takes few steps is mostly reading: that of the further facts takes no longer than all of it.
        reading = (more - 1) * _seconds(f"many/lora/total/N{most}", profile=profile)
        return (_seconds(f"many/lora/{rest[0]}/N{most}", profile=profile) + reading) / 60
    if first == "other_distances":
        longer = EPOCH if drawn_cases.READINGS[rest[0]].moment != "before" else 1.0
        return longer * _seconds(f"filter/{rest[1]}", profile=profile) / 60
    if first in ("drawn_filter", "drawn_reweight"):
        return _seconds(f"{first.removeprefix('drawn_')}/{rest[0]}", profile=profile) / 60
    return _seconds(_name(case), profile=profile) / 60


def _seconds(*prefixes: str, profile: str) -> float:
    """Return the median seconds of the records below some names."""
    like = [case for case in _before(profile) if any(f"{_name(case)}/".startswith(f"{one}/") for one in prefixes)]
    found = []
    for case in like:
        with contextlib.suppress(record_files.DamagedError, FileNotFoundError):
            found.append(float(record_files.read(case.path)["provenance"]["seconds"]))
    if not found:
        raise ValueError(f"no record of {' or '.join(prefixes)}: its seconds are not known")
    return median(found)


@lru_cache(maxsize=2)
def _before(profile: str) -> tuple[Case, ...]:
    return tuple(cases.cases(profile))


def _facts(known: Case) -> int:
    record = records.stored(known)
    if record is None:
        raise ValueError(f"no record of {known.name}: how many facts it asked is not known")
    return int(record.values["facts"])


def _pool(profile: str) -> int:
    return sizes_of(profile).tuning * 3  # of each kind so many, fewer of which fit


def core(profile: str = PROFILE) -> list[Case]:
    """Return the core rows as they will be: today's without those that are replaced, and the first draw's.

    Of the rest of `cases` the first seed alone stays, as everywhere where no claim rests on three.
    """
    sizes, first = sizes_of(profile), sizes_of(profile).draws[0]
    today = [case for case in _before(profile) if case.row == "core" and case.seed == sizes.seeds[0]]
    stays = [case for case in today if not any(f"{_name(case)}/".startswith(f"{one}/") for one in REPLACED)]
    new = [case for case in drawn_cases.cases(profile) if case.seed == first and _name(case).startswith(AFTER)]
    named = [case for case in new if not any(f"/{arm}/" in case.name for arm in drawn_cases.CONTROLS)]
    return [*stays, *{case.name: case for case in named}.values()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write the queue; returns 1 where a case, all of them, or the core rows are too long."""
    parser = argparse.ArgumentParser(prog="python -m lib.series.beacons.budget", description=__doc__)
    parser.add_argument("--queue", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    kinds = queue()
    told = budgets.table(kinds, minutes)
    print(told.to_string(index=False, float_format="{:.1f}".format))
    hours, longest = told["minutes"].iloc[-1] / 60, told["longest"].iloc[-1]
    print(f"{hours:.1f} hours of one thread, of {HOURS:g}; the longest case may take {LONGEST:g} minutes")
    fresh = sum(minutes(case) for case in core()) / 2
    print(f"core rows, once these have taken their places: {fresh:.0f} minutes on two idle cores, of {CORE:g}")
    if given.queue:
        budgets.write_queue(given.queue, kinds)
    return 1 if longest > LONGEST or hours > HOURS or fresh > CORE else 0


if __name__ == "__main__":
    errors.command(main)
