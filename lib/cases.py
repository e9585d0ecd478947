"""The registry of cases and its command: `python -m lib.cases list|status|run|recheck --profile cpu`."""

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Literal

from lib import environment, errors, record_files, records
from lib.errors import UserError
from lib.records import Case

# A series, and the module whose `cases(profile)` lists its cases; a new series is one line here.
SERIES: dict[str, str] = {
    "1_infodiffusion": "lib.diffusion.cases",
    "2_beacons": "lib.beacons.cases",
    "3_lemoe": "lib.lemoe.cases",
    "4_hetero_kd": "lib.distillation.cases",
}

Rows = Literal["core", "all"]


def find(prefixes: Sequence[str], profile: str, rows: Rows = "all") -> list[Case]:
    """Cases of a profile whose name is one of `prefixes` or lies below one; no prefix means all.

    A prefix ends where a part of the name ends: `1_a/b` finds `1_a/b/c`, not `1_a/bc`. Raises `UserError` for a prefix
    without any case.
    """
    wanted = [prefix.rstrip("/") for prefix in prefixes]
    cases = [
        case
        for series, module in SERIES.items()
        if not wanted or any(prefix.split("/")[0] == series for prefix in wanted)
        for case in importlib.import_module(module).cases(profile)
    ]
    for prefix in wanted:
        if not any(_below(case.name, prefix) for case in cases):
            raise UserError(f"{prefix}: no case of profile {profile} begins so: see `python -m lib.cases list`")
    chosen = [case for case in cases if not wanted or any(_below(case.name, prefix) for prefix in wanted)]
    return [case for case in chosen if rows == "all" or case.row == "core"]


def recorded(prefixes: Sequence[str], profile: str) -> bool:
    """Whether there is anything to show of the cases below `prefixes`: a core row, or an extended one with a record."""
    return any(case.row == "core" or records.status(case) == "current" for case in find(prefixes, profile))


def _below(name: str, prefix: str) -> bool:
    return f"{name}/".startswith(f"{prefix}/")


def show_list(cases: Sequence[Case]) -> int:
    """Print name, row, status and measured seconds of each case."""
    width = max((len(case.name) for case in cases), default=4)
    print(f"{'case':{width}}  {'row':8}  {'seconds':>8}  status")
    for case in cases:
        found = records.status(case)
        measured = f"{_seconds(case):.0f}" if found == "current" or found.startswith("stale") else "-"
        print(f"{case.name:{width}}  {case.row:8}  {measured:>8}  {found}")
    return 0


def show_status(cases: Sequence[Case]) -> int:
    """Print the cases whose record is not current; 1 if there are any."""
    found = {case.name: records.status(case) for case in cases}
    wrong = {name: state for name, state in found.items() if state != "current"}
    for name, state in wrong.items():
        print(f"{name}: {state}")
    print(f"{len(found) - len(wrong)} of {len(found)} records are current")
    return 1 if wrong else 0


def run(cases: Sequence[Case]) -> int:
    """Compute what is missing, stale or corrupted, one case after another; read the others; 1 if any failed.

    A failed case does not stop the others.
    """
    failed = 0
    for case in cases:
        try:
            record, computed = records.obtain(case)
        except Exception as error:
            failed += 1
            if isinstance(error, UserError):
                print(f"error: {error}", file=sys.stderr)
            else:
                traceback.print_exc()
            print(f"{case.name}: FAILED", flush=True)
            continue
        told = f"computed in {record.provenance['seconds']:.0f} s" if computed else "read"
        print(f"{case.name}: {told}", flush=True)
    print(f"peak memory {environment.peak_memory():.0f} MiB")
    return 1 if failed else 0


def recheck(cases: Sequence[Case]) -> int:
    """Re-verify records that only changed code made stale; 1 if any case must be computed again."""
    found = {case.name: records.recheck(case) for case in cases}
    for name, state in found.items():
        if state != "current":
            print(f"{name}: {state}")
    again = sum(state.startswith("recompute") for state in found.values())
    verified = sum(state == "re-verified" for state in found.values())
    print(f"{verified} re-verified, {again} to compute again, {len(found) - verified - again} current")
    return 1 if again else 0


def _seconds(case: Case) -> float:
    return record_files.read(case.path)["provenance"]["seconds"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    actions = {"list": show_list, "status": show_status, "run": run, "recheck": recheck}
    parser = argparse.ArgumentParser(prog="python -m lib.cases", description=__doc__)
    parser.add_argument("action", choices=actions)
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--only", nargs="+", default=[], metavar="PREFIX", help="names of cases, or where they begin")
    parser.add_argument("--rows", choices=("core", "all"), default="core", help="`all` adds the hours-long rows")
    options = parser.parse_args(arguments)
    return actions[options.action](find(options.only, options.profile, options.rows))


if __name__ == "__main__":
    errors.command(main)
