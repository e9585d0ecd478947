"""The command line that all benchmarks share: measure, write the numbers under build/, print them as a table."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib import files, paths
from lib.machine import environment


def run(
    module: str,
    about: str | None,
    stem: str,
    measure: Callable[[str], Mapping[str, Any]],
    report: Callable[[dict[str, Any]], str],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run the benchmark `python -m module` from the command line; returns the exit status.

    `about` is its module's docstring, of which the first line is shown; None where Python left it out (`-OO`).
    `measure` is given the profile: cpu, or smoke for tiny sizes with --quick. What it returns is written to
    `build/stem.json` or `build/stem_quick.json`, with the profile and the environment that the numbers hold for, and
    printed as `report` tells it.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=(about or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"tiny sizes, into build/{stem}_quick.json")
    quick = parser.parse_args(arguments).quick
    profile = "smoke" if quick else "cpu"
    found = {"profile": profile, "environment": environment.describe(), **measure(profile)}
    path = paths.BUILD / (f"{stem}_quick.json" if quick else f"{stem}.json")
    files.write_json(path, found)
    print(report(found))
    print(f"written to {paths.relative(path)}")
    return 0
