"""The catalogue of cases and its command: `python -m lib.running.catalogue list|status|run|...`."""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from lib import errors, paths, profiles, records
from lib.errors import UserError
from lib.machine import environment
from lib.records import Case, digests, proof
from lib.running import case_queue, needs
from lib.series.beacons.cases import cases as beacons
from lib.series.distillation.language_cases import every as distillation
from lib.series.infodiffusion.cases import cases as infodiffusion
from lib.series.lemoe.cases import cases as lemoe

# A series, and the function that lists its cases; a new series is one line here.
SERIES: dict[str, Callable[[str], list[Case]]] = {
    "1_infodiffusion": infodiffusion,
    "2_beacons": beacons,
    "3_lemoe": lemoe,
    "4_hetero_kd": distillation,
}

# Series that list a part of their cases without opening the files of the others.
IN_PART: dict[str, Callable[[str, Sequence[str]], list[Case]]] = {"1_infodiffusion": infodiffusion}

Rows = Literal["core", "all"]


def find(prefixes: Sequence[str], profile: str, rows: Rows = "all") -> list[Case]:
    """Cases of a profile whose name is one of `prefixes` or lies below one; no prefix means all.

    A prefix ends where a part of the name ends: `1_a/b` finds `1_a/b/c`, not `1_a/bc`. Raises `UserError` for a prefix
    without any case.
    """
    wanted = [prefix.rstrip("/") for prefix in prefixes]
    cases = _listed(wanted, profile)
    _require(wanted, cases, profile)
    return _chosen(cases, wanted, rows)


def promised(prefixes: Sequence[str], profile: str, rows: Rows = "all") -> list[Case]:
    """Return what `find` does for the prefixes that notebooks name, less those of which only other profiles have cases.

    No prefix, no case. Raises `UserError` for a prefix that begins no case of any profile.
    """
    if not prefixes:
        return []
    cases = _listed(prefixes, profile)
    if gone := [prefix for prefix in prefixes if not any(_below(case.name, prefix) for case in cases)]:
        with digests.unread():
            _require(gone, [case for other in profiles.PROFILES for case in _listed(gone, other)], profile)
    return _chosen(cases, prefixes, rows)


def _require(prefixes: Sequence[str], cases: Sequence[Case], profile: str) -> None:
    """Raise `UserError` for the first prefix that begins none of the cases."""
    for prefix in prefixes:
        if not any(_below(case.name, prefix) for case in cases):
            raise UserError(
                f"{prefix}: no case of profile {profile} begins so: see `python -m lib.running.catalogue list`"
            )


def _chosen(cases: Sequence[Case], prefixes: Sequence[str], rows: Rows) -> list[Case]:
    chosen = [case for case in cases if not prefixes or any(_below(case.name, prefix) for prefix in prefixes)]
    return [case for case in chosen if rows == "all" or case.row == "core"]


def _listed(prefixes: Sequence[str], profile: str) -> list[Case]:
    """Return the cases of the series that some prefix lies in; no prefix means all."""
    return [
        case
        for series, listed in SERIES.items()
        if not prefixes or any(prefix.split("/")[0] == series for prefix in prefixes)
        for case in (IN_PART[series](profile, _within(series, prefixes)) if series in IN_PART else listed(profile))
    ]


def _within(series: str, prefixes: Sequence[str]) -> list[str]:
    return [prefix for prefix in prefixes if prefix.split("/")[0] == series]


def recorded(prefixes: Sequence[str], profile: str) -> bool:
    """Whether there is anything to show of the cases below `prefixes`: a core row, or an extended one with a record."""
    return any(case.row == "core" or readable(case) for case in promised(prefixes, profile))


def readable(case: Case) -> bool:
    """Tell whether a case has a record that is shown: current, or pending or historic, which say so."""
    return records.status(case).partition(":")[0] in ("current", "pending", "historic")


def _below(name: str, prefix: str) -> bool:
    return f"{name}/".startswith(f"{prefix}/")


def show_list(cases: Sequence[Case]) -> int:
    """Print name, row, status and measured seconds of each case."""
    width = max((len(case.name) for case in cases), default=4)
    print(f"{'case':{width}}  {'row':8}  {'seconds':>8}  status")
    for case in cases:
        found = records.status(case)
        taken = case_queue.seconds(case)
        measured = "-" if taken is None else f"{taken:.0f}"
        print(f"{case.name:{width}}  {case.row:8}  {measured:>8}  {found}")
    return 0


def show_status(cases: Sequence[Case]) -> int:
    """Print the cases whose record is not current; 1 if there are any but pending and historic ones."""
    found = {case.name: records.status(case) for case in cases}
    others = {name: state for name, state in found.items() if state != "current"}
    for name, state in others.items():
        print(f"{name}: {state}")
    print(f"{len(found) - len(others)} of {len(found)} records are current")
    return 0 if all(state.partition(":")[0] in ("pending", "historic") for state in others.values()) else 1


def run(cases: Iterable[Case], again: bool = False) -> int:
    """Compute what is missing, stale or corrupted, one case after another; read the others; 1 if any failed.

    `again` computes pending and historic records, too. A failed case does not stop the others.
    """
    failed = 0
    for case in cases:
        try:
            record, computed = records.obtain(case, again)
        except Exception as error:
            failed += 1
            told = errors.of_system(error) if isinstance(error, OSError) else error
            if isinstance(told, UserError):
                print(f"error: {told}", file=sys.stderr)
            else:
                traceback.print_exc()
            print(f"{case.name}: FAILED", flush=True)
            continue
        how = f"computed in {record.provenance['seconds']:.0f} s" if computed else "read"
        print(f"{case.name}: {how}", flush=True)
    print(f"peak memory {environment.peak_memory():.0f} MiB")
    return 1 if failed else 0


def prove(cases: Sequence[Case], commit: str) -> int:
    """Stamp anew the records whose code alone changed since a commit, where tiny twins prove them; 1 if any is left."""
    stale = [case for case in cases if records.status(case) == "stale: code"]
    verdicts = proof.prove(commit, stale, find([], "smoke"), ["-m", "lib.running.catalogue"]) if stale else []
    for verdict in verdicts:
        if verdict.reason:
            print(f"{verdict.case.name}: compute again: {verdict.reason}")
    proven = proof.stamp(verdicts, commit, environment.commit())
    print(
        f"{proven} stamped anew by proof, {len(verdicts) - proven} to compute again, "
        f"{len(cases) - len(stale)} as they were"
    )
    return 1 if proven < len(verdicts) else 0


def work(cases: Sequence[Case], options: argparse.Namespace) -> int:
    """Run a queue in several streams, or be one of them."""
    if options.stream is None:
        print(case_queue.plan(cases, options.streams), flush=True)
        arguments = ["--profile", options.profile]
        return case_queue.start(options.queue, arguments, options.streams)
    return run(case_queue.taken(cases, options.stream, options.streams), again=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.running.catalogue", description=__doc__)
    parser.add_argument("action", choices=("list", "status", "plan", "run", "prove", "lines"))
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--only", nargs="+", default=[], metavar="PREFIX", help="names of cases, or where they begin")
    parser.add_argument("--rows", choices=("core", "all"), default="core", help="`all` adds the hours-long rows")
    parser.add_argument("--again", action="store_true", help="run: compute pending and historic records, too")
    parser.add_argument(
        "--queue", type=Path, metavar="FILE", help="run, plan: the cases that a file names, in its order"
    )
    parser.add_argument("--streams", type=int, default=2, help="of a queue, side by side")
    parser.add_argument("--stream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--against", default="HEAD", metavar="COMMIT", help="prove: the commit that records are of")
    parser.add_argument("--set", nargs="+", default=[], metavar="SIZE=VALUE", help="try other sizes, in a folder apart")
    options = parser.parse_args(arguments)
    if options.streams < 1:
        raise UserError(f"--streams {options.streams}: give 1 or more")
    options.profile = profiles.named(options.profile)  # an unknown one is told before anything else
    if options.set:
        try_sizes(options.set)
    needs.require([] if options.queue else options.only, options.profile)
    chosen = find(options.only, options.profile, "all" if options.queue else options.rows)
    if options.queue:
        chosen = case_queue.ordered(case_queue.names(options.queue), chosen)
    match options.action:
        case "list":
            return show_list(chosen)
        case "status":
            return show_status(chosen)
        case "plan":
            print(case_queue.plan(chosen, options.streams))
            return 0
        case "prove":
            return prove(chosen, options.against)
        case "lines":
            print(json.dumps(proof.lines(chosen)))
            return 0
    return work(chosen, options) if options.queue else run(chosen, options.again)


def try_sizes(changes: Sequence[str]) -> None:
    """Let this process and its children compute with other sizes, and keep what they compute in a folder apart.

    Nothing there is ever taken for a record of the profile. Raises `UserError` for a size that profiles do not have.
    """
    os.environ["REPRODUCTION_SET"] = " ".join(changes)
    for name in profiles.PROFILES:
        profiles.profile(name)  # a wrong name or value is told before anything runs
    place = "-".join(change.replace("=", "-").replace(".", "-") for change in sorted(changes))
    os.environ["REPRODUCTION_WORK_ROOT"] = str(paths.BUILD.absolute() / "tries" / place)


if __name__ == "__main__":
    errors.command(main)
