"""Records: the stored results of cases, read while config, data and code stay the same, else computed."""

import datetime
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import safetensors.torch
import torch
from pydantic import ValidationError

from lib import paths
from lib.errors import UserError
from lib.machine import environment
from lib.records import cache, files, frames, pending, stamps
from lib.records.case import Case
from lib.records.files import DamagedError, Record
from lib.statements.reach import edited_since_start, entry_of, plain


class Read(NamedTuple):
    """A record that this process has read or computed, and the digest of what it holds."""

    case: str
    path: Path
    digest: str
    historic: bool = False


_READ: list[Read] = []
_LISTENERS: list[Callable[[Read], None]] = []


def reads() -> tuple[Read, ...]:
    """Return every record that was handed out in this process so far, in order, repeated as often as it was."""
    return tuple(_READ)


def on_read(listener: Callable[[Read], None]) -> None:
    """Call `listener` with every record that is handed out from here on, while its reader still stands on the stack."""
    _LISTENERS.append(listener)


def status(case: Case) -> str:
    """Return how the record of a case stands.

    `current`; `missing`; `stale: ` with the parts that changed; `pending: ` with them and the step that computes it;
    `historic` (of a machine that is not here: whole, but nothing tells whether today's code gives it);
    `corrupted: ` with the file and reason.
    """
    return _inspect(case)[0]


def get(case: Case) -> Record:
    """Return the record of a case: read while current, else computed and stored; see `obtain` for errors."""
    return obtain(case)[0]


def obtain(case: Case, again: bool = False) -> tuple[Record, bool]:
    """Return the record of a case and whether it was computed just now.

    A pending or historic record is read, with a line that says so; `again` computes it. Raises `UserError` where a
    computation would be needed but `REPRODUCTION_RECORDS=read`, where the code on disk is no longer the code of this
    process, and where the profile needs a GPU and there is none. `REPRODUCTION_STALE=allow` reads stale records, to
    prove that gates are alive.
    """
    found, record = _inspect(case)
    if record is None or (again and found != "current"):
        _refuse_in_read_mode(case, found)
        with _lock(case):
            found, record = _inspect(case)  # another process may have computed it while we waited
            if record is None or (again and found != "current"):
                if found.startswith("corrupted"):
                    print(f"{found}: computing {case.name} again", file=sys.stderr)
                record = _compute(case)
                _tally(case, "computed", record)
                return record, True
    _announce(case, found)
    _tally(case, "read", record)
    return record, False


def available(case: Case) -> Record | None:
    """Return the record of a case as `get` does, but None for an extended one that nobody has computed yet."""
    return get(case) if case.row == "core" else stored(case)


def stored(case: Case) -> Record | None:
    """Return the record of a case where it can be read, else None: nothing is ever computed."""
    found, record = _inspect(case)
    if record is not None:
        _announce(case, found)
        _tally(case, "read", record)
    return record


def committed(case: Case) -> Record:
    """Return the record of a case as it was committed, current or not: for estimates of spread and cost, no verdict.

    Raises `FileNotFoundError` where there is none and `DamagedError` for a damaged one; nothing is computed.
    """
    return files.record(case.path, files.read(case.path))


def trained_weights(case: Case, name: str) -> dict[str, torch.Tensor]:
    """Return the weights that the computation of a case leaves, running it again if the cache lost them.

    The record stays as it is; a line on standard error says that the run began, and, as often as weights are asked for
    that are not the record's, that their bits differ. Raises `UserError` where that run is needed but
    `REPRODUCTION_RECORDS=read`, or needs a GPU and there is none.
    """
    record = get(case)
    with _lock(case):
        tensors = cache.load_weights(case, name)
        if tensors is None:
            _refuse_in_read_mode(case, f"without its weights {name!r} in the cache")
            environment.require_device(case.device, case.profile)
            _refuse_edited_code(case)
            print(f"{case.name}: its weights are not in the cache: computing them again", file=sys.stderr)
            folder = cache.folder("weights", case)
            for other, trained in _on_threads_of(case, lambda: case.compute(case)).weights.items():
                cache.keep(folder, other, trained)
            shutil.rmtree(cache.folder("runs", case), ignore_errors=True)
            tensors = safetensors.torch.load_file(folder / f"{name}.safetensors")
        if cache.digest(case, name) != record.weight_digests[name]:
            print(
                f"{case.name}: weights {name!r} have other bits than the record's: what rests on them may differ "
                "(another machine, or number of threads?)",
                file=sys.stderr,
            )
    return tensors


def changed(case: Case, content: dict[str, Any]) -> list[str]:
    """Return what of a case is no longer as it was when its record was stored: config, data and their names, code.

    The stored config counts as it is after today's class has loaded it: a new field with a default changes nothing.
    """
    now = stamps.stamp(case)
    found = [] if _same_config(case, content) else ["config"]
    before, data = content["stamp"]["data"], now["data"]
    different = sorted(name for name in before.keys() | data.keys() if before.get(name) != data.get(name))
    found += [f"data ({', '.join(different)})"] if different else []
    return found + (["code"] if content["stamp"]["code"] != now["code"] else [])


def restamp(case: Case, note: dict[str, Any]) -> None:
    """Give the record of a case, and its cached weights, the stamp of today's code; `note` says what proves it."""
    with _lock(case):
        content = files.read(case.path)
        weights = cache.folder("weights", case, content["stamp"])
        moved = cache.folder("weights", case)
        if weights.is_dir() and not moved.exists():
            weights.rename(moved)
        kept = {name: value for name, value in content.items() if name not in files.OUTSIDE_CONTENT}
        kept |= {"config": plain(case.config), "threads": case.threads, "stamp": stamps.stamp(case)}
        provenance = content["provenance"]
        files.write(case.path, kept, {**provenance, "proofs": [*provenance.get("proofs", []), note]})


def _same_config(case: Case, content: dict[str, Any]) -> bool:
    if (content["seed"], content["threads"]) != (case.seed, case.threads):
        return False
    try:
        loaded = type(case.config).model_validate(content["config"])
    except (ValidationError, UserError):
        return False
    return bool(plain(loaded) == plain(case.config))


def _inspect(case: Case) -> tuple[str, Record | None]:
    """Status of a case, and its record where it may be used."""
    if not case.path.is_file():
        return "missing", None
    try:
        content = files.read(case.path)
    except DamagedError as damage:
        return f"corrupted: {damage.reason}", None
    if (content["case"], content["profile"]) != (case.name, case.profile):
        return f"corrupted: {paths.relative(case.path)}: the record of another case", None
    record = files.record(case.path, content)
    if content.get("historic"):
        return "historic", record
    parts = changed(case, content)
    if not parts:
        return "current", record
    waits = None if paths.work_root() else pending.listed().get((case.profile, case.name))
    if waits:
        return f"pending: {', '.join(parts)} (since {waits.stale_since}; {waits.computed_by} computes it)", record
    usable = os.environ.get("REPRODUCTION_STALE") == "allow"
    return f"stale: {', '.join(parts)}", record if usable else None


def _announce(case: Case, found: str) -> None:
    """Say in one line, once for all of a kind, what a reader must know of records that are not current."""
    if found.startswith("pending"):
        series = case.name.partition("/")[0]
        _say(
            f"Some records of {series} were made by older code and wait to be computed again; "
            "`python -m lib.running.catalogue status` lists them."
        )


_SAID: set[str] = set()


def _say(line: str) -> None:
    if line not in _SAID:
        _SAID.add(line)
        print(line)


def _compute(case: Case) -> Record:
    """Run a case and store its record: first the files beside it, last its JSON."""
    environment.require_device(case.device, case.profile)
    _refuse_edited_code(case)
    for one in case.inputs.values():
        get(one)  # what it holds is part of the stamp
    stamp = stamps.stamp(case)
    described = environment.describe() | {"threads": case.threads}
    began = time.perf_counter()
    outcome = _on_threads_of(case, lambda: case.compute(case))
    seconds = time.perf_counter() - began
    if case.frames:
        frames.check(outcome.frames, case.frames, case.name)
    folder = cache.folder("weights", case, stamp)
    content = {
        "case": case.name,
        "profile": case.profile,
        "seed": case.seed,
        "threads": case.threads,
        "config": plain(case.config),
        "stamp": stamp,
        "values": dict(outcome.values),
        "frames": {
            name: {"rows": len(frame), **files.attach(case.path, name, ".parquet", files.parquet_bytes(frame))}
            for name, frame in outcome.frames.items()
        },
        "weights": {name: cache.keep(folder, name, tensors) for name, tensors in outcome.weights.items()},
        "published": {
            name: files.attach(case.path, name, ".safetensors", files.safetensors_bytes(tensors, torch.bfloat16))
            for name, tensors in outcome.published.items()
        },
    }
    provenance = {
        "seconds": round(seconds, 2),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "peak_memory_mib": environment.peak_memory(),
        "cost": dict(outcome.cost),
        "environment": described,
        "proofs": [],
    }
    files.write(case.path, content, provenance)
    written = files.read(case.path)
    files.sweep(case.path, written)
    shutil.rmtree(cache.folder("runs", case, stamp), ignore_errors=True)
    return files.record(case.path, written)


def _on_threads_of(case: Case, run: Callable[[], Any]) -> Any:
    """Call `run` while torch computes with the threads of a case, and give the process back its own number."""
    threads = torch.get_num_threads()
    environment.limit_threads(case.threads)
    try:
        return run()
    finally:
        environment.limit_threads(threads)


def _refuse_in_read_mode(case: Case, reason: str) -> None:
    mode = os.environ.get("REPRODUCTION_RECORDS", "compute")
    if mode not in ("compute", "read"):
        raise UserError(f"REPRODUCTION_RECORDS={mode}: unknown: set it to compute or read")
    if mode == "read":
        raise UserError(f"{paths.relative(case.path)}: case {case.name} is {reason}: run `make reproduce`")


def _refuse_edited_code(case: Case) -> None:
    """Stop before a record would name code that is on disk but not in this process (a notebook left open)."""
    edited = edited_since_start(entry_of(case.compute), case.config)
    if edited:
        raise UserError(f"{', '.join(edited)}: edited since this process began: restart it before {case.name} runs")


def _lock(case: Case) -> filelock.FileLock:
    path: Path = paths.cache() / "locks" / case.profile / f"{case.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(path)


def _tally(case: Case, action: str, record: Record) -> None:
    """Append one line to the file named by `REPRODUCTION_TALLY`; a single write, as several processes share it."""
    read = Read(case.name, record.path, record.outputs_digest, record.historic is not None)
    _READ.append(read)
    for listener in _LISTENERS:
        listener(read)
    name = os.environ.get("REPRODUCTION_TALLY")
    if name:
        told = {"case": case.name, "profile": case.profile, "action": action, "digest": record.outputs_digest}
        handle = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, (json.dumps(told) + "\n").encode())
        finally:
            os.close(handle)
