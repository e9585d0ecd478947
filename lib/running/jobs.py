"""The jobs of a cluster: one for each case, with the memory, minutes and GPU that its plan says, and what it waits for.

Nothing of the user's files is read to list them: every job reads the graph anew.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib import paths, profiles
from lib.records import digests
from lib.running import catalogue, contract

if TYPE_CHECKING:
    from lib.records import Case
    from lib.running.contract import Contract

LEAST_MEMORY = 3000  # MiB: Python, torch and SmolLM2
LEAST_MINUTES = 20
READING = 240  # minutes of a notebook that reads records and has live cells


@dataclass(frozen=True)
class Job:
    """What a case asks for; `after` are the cases whose records or weights it reads."""

    case: str
    after: tuple[str, ...] = ()
    threads: int = 1
    memory: int = LEAST_MEMORY  # MiB of main memory
    minutes: int = LEAST_MINUTES
    gpus: int = 0


def graph(only: Sequence[str], profile: str, rows: catalogue.Rows) -> "tuple[list[Contract], dict[str, Job]]":
    """Return the notebooks to run and the job of each case that they read, and of what those read in turn.

    A notebook of extended rows is among them where a record of one lies there, current or not. Raises `UserError` for
    a wrong notebook or contract, and one that names all files of the user's that are missing.
    """
    with digests.unread():
        books = contract.below(only)
        listed = {book.name: catalogue.promised(book.cases, profile) for book in books}
        cases = {case.name: case for found in listed.values() for case in found}
        shown = [
            book for book in books if rows == "all" or not book.cases or any(_shown(case) for case in listed[book.name])
        ]
        wanted = [
            case
            for case in cases.values()
            if (rows == "all" or case.row == "core") and any(book.reads(case.name) for book in shown)
        ]
        _require_files(wanted, profile)
        found: dict[str, Case] = {}
        for case in wanted:
            _with_inputs(case, found)
        return shown, {name: job(case) for name, case in found.items()}


def _require_files(cases: "Sequence[Case]", profile: str) -> None:
    if any(getattr(case, "data", None) for case in cases):
        from lib.running import needs  # it imports every series

        needs.require([case.name for case in cases], profile)


def _shown(case: "Case") -> bool:
    return case.row == "core" or case.path.is_file()


def _with_inputs(case: "Case", found: "dict[str, Case]") -> None:
    """Add a case to `found`, after all that it reads."""
    for one in _inputs(case):
        _with_inputs(one, found)
    found.setdefault(case.name, case)


def _inputs(case: "Case") -> "list[Case]":
    return list(getattr(case, "inputs", {}).values())


def job(case: "Case") -> Job:
    """Return what the job of a case asks for: twice the memory and three times the minutes of its plan."""
    from lib.running import costs, reckoning  # it imports every series

    chosen = profiles.profile(case.profile) if hasattr(case, "profile") else None
    after = tuple(one.name for one in _inputs(case))
    if chosen is None:
        return Job(case.name, after)
    cost = reckoning.of(case)
    card = costs.card_of(chosen)
    minutes = 3 * cost.seconds(card) / 60
    on_card = chosen.device == "cuda"
    memory = 1.5 * cost.host if on_card else 2 * cost.memory.total
    return Job(
        case.name,
        after,
        threads=max(case.threads, 2 if on_card else 1),
        memory=LEAST_MEMORY + round(memory / 2**20),
        minutes=LEAST_MINUTES + round(minutes),
        gpus=int(on_card),
    )


def of_notebook(book: "Contract", jobs: Mapping[str, Job], tiny: bool) -> Job:
    """Return what a notebook asks for: one that runs alone may load what its cases load."""
    read = [one for name, one in jobs.items() if book.reads(name)]
    loads = [one.memory for one in read] if book.load == "alone" and not tiny else []
    gpus = max((one.gpus for one in jobs.values()), default=0)
    return Job(book.name, memory=max([LEAST_MEMORY, *loads]), minutes=LEAST_MINUTES if tiny else READING, gpus=gpus)


def most_cores() -> int | None:
    """Return the cores of the largest node of a SLURM that can be asked, None where there is none."""
    if shutil.which("sinfo") is None:
        return None
    asked = subprocess.run(["sinfo", "--noheader", "--format", "%c"], capture_output=True, text=True)
    counts = [int(line.rstrip("+")) for line in asked.stdout.split() if line.rstrip("+").isdecimal()]
    return max(counts, default=None)


def state() -> str:
    """Return a digest of all that decides whether a finished job still holds, but for the content of large files.

    The code, the profile and its changes, and names, sizes and times of the user's files. Another one means that every
    case gets a job again, which reads its record where that is current.
    """
    told = [os.environ.get(name, "") for name in ("REPRODUCTION_PROFILE", "BACKBONE", "REPRODUCTION_SET")]
    told += [hashlib.sha256(file.read_bytes()).hexdigest() for file in _sorted((paths.ROOT / "lib").rglob("*.py"))]
    if told[0].endswith((".toml", ".json")):
        told.append(Path(told[0]).read_text(encoding="utf-8"))
    place = os.environ.get("BENCHMARK_DIR", "")
    for file in _sorted(Path(place).rglob("*")) if place else []:
        if file.is_file():
            told.append(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}")
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


def _sorted(files: Iterable[Path]) -> list[Path]:
    return sorted(files)
