"""All notebooks of a profile through the Snakemake graph, and the closing table.

Run as `python -m lib.running.reproduce --profile cpu [--only NOTEBOOK ...] [--fresh 1|all] [--record] [--report]`.
"""

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from lib import files, paths, profiles
from lib.errors import UserError, command
from lib.running import catalogue, contract, ending, last_runs, needs, tolerances
from lib.running.contract import Contract


def run(
    profile: str, lock: int, rows: catalogue.Rows = "core", only: Sequence[str] = (), record: bool = False
) -> list[Contract]:
    """Execute the notebooks of a profile, reading the records that are current and computing the others first.

    `only` names notebooks or folders of them, as `contract.below` takes them. One failure does not stop the others.
    Prints the closing table; returns the notebooks, or none if anything failed. `record` renews the committed notebooks
    and, after all, the generated parts of the READMEs. Raises `UserError` before anything runs
    for a wrong profile, contract, notebook or case prefix, and without the GPU that a profile computes on. `lock` is
    what `only_one` holds.
    """
    device = profiles.profile(profile).device
    notebooks = chosen(only, profile, rows)
    for notebook in notebooks:
        if not re.fullmatch(r"[\w./-]+", notebook.name):
            raise UserError(f"{paths.relative(notebook.notebook)}: rename it: letters, digits, _, - and . alone")
    if prefixes := [prefix for notebook in notebooks for prefix in notebook.cases]:
        needs.require(prefixes, profile)
    pending = [case.name for case in needed(notebooks, profile, rows) if not catalogue.readable(case)]
    if pending and device != "cpu":
        from lib.machine import environment  # it imports torch, which is slow and of no use to an ordinary run

        environment.require_device(device, profile)
    for stale in ("runs", "tally"):
        shutil.rmtree(paths.work(profile) / stale, ignore_errors=True)
    for notebook in contract.below(only):
        if notebook not in notebooks:
            print(f"left out: {notebook.name}, all of whose cases are extended rows, none of them recorded", flush=True)
    if not notebooks:
        raise UserError(
            "no notebook is left: compute an extended row first, `python -m lib.running.catalogue list --rows all`"
        )
    print(f"{len(notebooks)} notebooks, profile {profile}; records to compute first: {len(pending)}", flush=True)
    settings: dict[str, str | int] = {"profile": profile, "rows": rows, "record": int(record)}
    settings |= {"pending": " ".join(pending), "only": " ".join(notebook.name for notebook in notebooks)}
    failed = _snakemake(settings, lock)
    print(f"\n{last_runs.report(notebooks, profile)}")
    if record and not failed:
        from lib.running import readme  # verdicts and minutes may have changed

        for path in readme.renew():
            print(f"written: {paths.relative(path)}")
    return [] if failed else notebooks


def run_from_scratch(profile: str, lock: int, rows: catalogue.Rows, only: Sequence[str] = ()) -> int:
    """Recompute what the notebooks read in `build/fresh/`, publish nothing, and compare with the published numbers.

    A run that was killed or failed goes on where it stood; after one that completed the folder starts empty. Returns 1
    if anything failed or a number left its tolerance.
    """
    root = paths.BUILD.absolute() / "fresh"
    completed = root / "completed"
    if completed.exists():
        shutil.rmtree(root)
    elif root.exists():
        print(f"{paths.relative(root)}: goes on with the run that did not complete")
    os.environ["REPRODUCTION_WORK_ROOT"] = str(root)
    notebooks = run(profile, lock, rows, only)
    if not notebooks:
        return 1
    completed.touch()
    compared = (paths.FIGURES, paths.work_figures(profile), tolerances.ACROSS_MACHINES)
    promised = [file for notebook in notebooks for file in notebook.files]
    lines = tolerances.compare_folders(*compared, promised, part=rows == "core")
    print(tolerances.summary(lines, tolerances.ACROSS_MACHINES))
    return 1 if lines else 0


def chosen(only: Sequence[str], profile: str, rows: catalogue.Rows) -> list[Contract]:
    """Return the notebooks to run: those that `contract.below` finds, less those that would have nothing to show."""
    found = contract.below(only)
    return [book for book in found if not book.cases or rows == "all" or catalogue.recorded(book.cases, profile)]


def needed(notebooks: Sequence[Contract], profile: str, rows: catalogue.Rows) -> list[catalogue.Case]:
    """Return the cases that one of the notebooks reads, each once, in the order of the registry."""
    prefixes = [prefix for notebook in notebooks for prefix in notebook.cases]
    return catalogue.promised(prefixes, profile, rows)


@contextmanager
def only_one() -> Iterator[int]:
    """Hold the lock of the build folder, which the system frees however its holders end; `UserError` if it is taken.

    What killed processes left half-written is swept first.
    """
    files.require_space(paths.BUILD)
    with open(paths.BUILD / "lock", "a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            raise UserError(f"{paths.relative(paths.BUILD)}/: {_under_way(handle.read().split())}") from error
        os.ftruncate(handle.fileno(), 0)
        os.write(handle.fileno(), f"{os.getpid()}\n".encode())
        folders = (paths.DATA / "results", paths.cache(), paths.BUILD, paths.FIGURES, paths.NOTEBOOKS)
        files.sweep({*folders, paths.work_root() or paths.BUILD})
        yield handle.fileno()


def _under_way(holders: Sequence[str]) -> str:
    """Return what to do about the holders of the lock: the process that took it and, after it, the graph's."""
    running = [number for number in holders if number.isdecimal() and psutil.pid_exists(int(number))]
    if not running:
        return "another run is under way: wait for it or stop it"
    return f"another run is under way (process {running[0]}): wait for it or stop it with `kill {running[0]}`"


def _snakemake(settings: dict[str, str | int], lock: int) -> bool:
    """Run the graph on the local cores, everything afresh; return whether anything failed.

    What the jobs print goes to the terminal, what Snakemake says of itself to `build/snakemake.log`. Its own lock and
    marks of incomplete files would stop the run after a killed one, so ours takes their place: the child holds it too,
    and is not overtaken should this process be killed with SIGKILL. However else this process ends, it ends the graph,
    its jobs and their kernels.
    """
    options = ["--forceall", "--keep-going", "--nolock", "--rerun-incomplete", "--cores", "all"]
    config = [f"{key}={value}" for key, value in settings.items()]
    snakefile = str(Path(__file__).resolve().parents[2] / "Snakefile")
    line = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, *options, "--config", *config]
    log = paths.BUILD / "snakemake.log"
    with open(log, "w") as stream, contextlib.ExitStack() as stack:
        graph = subprocess.Popen(line, cwd=paths.ROOT, stderr=stream, pass_fds=[lock])
        stack.callback(ending.end, [graph])
        os.write(lock, f"{graph.pid}\n".encode())
        failed = graph.wait() != 0
    if failed:
        print(f"something failed: see above, and {paths.relative(log)}")
    return failed


def main() -> int:
    """Reproduce from the command line: exit 0 when all went well, 1 when something failed, 2 for a wrong call."""
    told = "Execute the notebooks of a profile, reading the records that are current and computing the others first."
    parser = argparse.ArgumentParser(prog="python -m lib.running.reproduce", description=told)
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--only", nargs="+", default=[], metavar="NOTEBOOK", help="notebooks, or folders of them")
    parser.add_argument("--fresh", choices=["1", "all"], help="use no record: recompute the core rows, or all")
    parser.add_argument("--set", nargs="+", default=[], metavar="SIZE=VALUE", help="try other sizes, in a folder apart")
    parser.add_argument("--record", action="store_true", help="renew the committed notebooks too")
    parser.add_argument("--report", action="store_true", help="only print the table of the last run")
    arguments = parser.parse_args()
    # Make passes a list as one text, so that no shell reads it.
    arguments.only = [name for text in arguments.only for name in text.split()]
    arguments.set = [change for text in arguments.set for change in text.split()]
    arguments.profile = profiles.named(arguments.profile)  # an unknown one is told before anything else
    if arguments.report:
        print(last_runs.report(contract.below(arguments.only), arguments.profile))
        return 0
    if arguments.set:
        if arguments.fresh or arguments.record:
            raise UserError("--set: a try is neither recorded nor compared: drop --fresh and --record")
        catalogue.try_sizes(arguments.set)
    with only_one() as lock:
        if arguments.fresh:
            rows: catalogue.Rows = "all" if arguments.fresh == "all" else "core"
            return run_from_scratch(arguments.profile, lock, rows, arguments.only)
        return 0 if run(arguments.profile, lock, only=arguments.only, record=arguments.record) else 1


if __name__ == "__main__":
    command(main)
