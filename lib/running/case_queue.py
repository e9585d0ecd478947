"""A queue of cases for long runs: streams side by side that go on after a kill, in order.

Every stream takes the next case that is not current and that no other stream holds; a case of two threads takes both
seats. What is left is reckoned from the seconds that records say of themselves.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import filelock

from lib import files, paths, records
from lib.errors import UserError
from lib.machine import threads
from lib.records import Case
from lib.records import files as record_files
from lib.running import ending


def names(file: Path) -> list[str]:
    """Return the names of cases in a queue file, one a line, `#` begins a comment; raises `UserError` for no file."""
    if not file.is_file():
        raise UserError(f"{file}: no such file: write one name of a case a line")
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def ordered(queue: Sequence[str], cases: Sequence[Case]) -> list[Case]:
    """Return the cases of a queue in its order; a line may be a name or where names begin; `UserError` for none."""
    found: dict[str, Case] = {}
    for line in queue:
        below = [case for case in cases if f"{case.name}/".startswith(f"{line}/")]
        if not below:
            raise UserError(f"{line}: no case begins so")
        found |= {case.name: case for case in below}
    return list(found.values())


def seconds(case: Case) -> float | None:
    """Return what the last computation of a case took on its threads, or None where that is not known."""
    with contextlib.suppress(record_files.DamagedError, FileNotFoundError):
        return float(record_files.read(case.path)["provenance"]["seconds"])
    return None


def plan(cases: Sequence[Case], streams: int) -> str:
    """Return one line: how many cases are left, and how long they take in so many streams.

    A case that was never computed counts as the median of its kind, or of all, where any of those was.
    """
    left = [case for case in cases if records.status(case) != "current"]
    known = {case.name: taken for case in cases if (taken := seconds(case)) is not None}
    total = 0.0
    for case in left:
        kind = [taken for name, taken in known.items() if name.split("/")[:2] == case.name.split("/")[:2]]
        total += case.threads * (known.get(case.name) or median(kind or list(known.values()) or [0.0]))
    return f"{len(left)} of {len(cases)} cases left, about {total / streams / 60:.0f} minutes in {streams} streams"


def start(file: Path, arguments: Sequence[str], streams: int) -> int:
    """Run the streams of a queue and wait for them; returns 1 if a case of any failed.

    They end with this process, however it is ended but by SIGKILL.
    """
    line = [sys.executable, "-m", "lib.running.catalogue", "run", "--queue", str(file), *arguments]
    variables = {**os.environ, **threads.ONE}
    files.sweep([paths.DATA / "results", paths.cache()])
    running: list[subprocess.Popen] = []
    try:
        for number in range(streams):
            stream = ["--stream", str(number), "--streams", str(streams)]
            running.append(subprocess.Popen([*line, *stream], env=variables))
        return max(one.wait() for one in running)
    finally:
        ending.end(running)


def taken(cases: Sequence[Case], stream: int, streams: int) -> Iterator[Case]:
    """Give the next case that is to be computed and is nobody else's, its seats held meanwhile."""
    for case in cases:
        if records.status(case) == "current":
            continue
        claim = filelock.FileLock(_place(f"{case.profile}-{case.name.replace('/', '-')}"))
        try:
            claim.acquire(timeout=0)
        except filelock.Timeout:
            continue
        try:
            if records.status(case) == "current":  # another stream has just finished it
                continue
            with _seats(range(streams) if case.threads > 1 else [stream]):
                yield case
        finally:
            claim.release()


@contextlib.contextmanager
def _seats(numbers: Sequence[int]) -> Iterator[None]:
    """Hold seats, always taken in the same order, so that two streams that want both do not wait for each other."""
    with contextlib.ExitStack() as held:
        for number in numbers:
            held.enter_context(filelock.FileLock(_place(f"seat-{number}")))
        yield


def _place(name: str) -> Path:
    folder = paths.cache() / "locks" / "queue"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"
