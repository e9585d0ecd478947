"""Cases and records: an expensive computation, and its stored result that is read while config, data and code last."""

import datetime
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import filelock
import pandas as pd
import safetensors.torch
import torch
from pydantic import BaseModel

from lib import case_cache, environment, fingerprints, paths, profiles, record_files
from lib.case_cache import Tensors, load_weights, store_weights, workspace
from lib.errors import UserError
from lib.record_files import DamagedError, Record, same_content

__all__ = [
    "Case",
    "Outcome",
    "Record",
    "available",
    "get",
    "load_weights",
    "obtain",
    "recheck",
    "same_content",
    "status",
    "store_weights",
    "stored",
    "trained_weights",
    "workspace",
]

# Dots would blur where the name of a case ends and the name of one of its files begins.
CASE_NAME = re.compile(r"[\w-]+(/[\w-]+)+", re.ASCII)


@dataclass(frozen=True)
class Outcome:
    """What a computation returns.

    `values` and `frames` (raw outputs, stored as parquet) must be equal in every run; `weights` go to the cache, as
    tensors or as the path of a safetensors file there; `published` tensors are rounded to bf16 and stored beside the
    record; `cost` holds what was measured (seconds, tokens a second) and counts as provenance.
    """

    values: Mapping[str, Any]
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    weights: Mapping[str, Tensors | Path] = field(default_factory=dict)
    published: Mapping[str, Tensors] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One expensive computation, named like `1_infodiffusion/paraphrase/infodiffusion/seed0`.

    `data` maps names to SHA-256 digests and `code` lists the modules where the computation starts: both are
    fingerprinted with `config` and `seed`. `prefix` runs a short fixed beginning of the computation and returns a
    digest of its bits, so that `recheck` can tell whether changed code still computes the same. Raises `ValueError`
    for a name that is not made of letters, digits, `_`, `-` and `/`.
    """

    name: str
    profile: str
    config: BaseModel | Mapping[str, Any]
    data: Mapping[str, str]
    code: Sequence[str]
    seed: int
    compute: Callable[[], Outcome]
    prefix: Callable[[], str] | None = None
    row: Literal["core", "extended"] = "core"

    def __post_init__(self) -> None:
        if not CASE_NAME.fullmatch(self.name):
            raise ValueError(f"case name {self.name!r}: letters, digits, _ and -, with / between at least two parts")

    @property
    def path(self) -> Path:
        """JSON file of the record."""
        return paths.results(self.profile) / f"{self.name}.json"

    def fingerprint(self) -> dict[str, str]:
        """Digests of config (with the seed), data and code as they are now, and of the three together."""
        parts = {
            "config": fingerprints.config_fingerprint({"config": fingerprints.plain(self.config), "seed": self.seed}),
            "data": fingerprints.config_fingerprint(self.data),
            "code": fingerprints.code_fingerprint(self.code),
        }
        return {**parts, "total": fingerprints.config_fingerprint(parts)}


def status(case: Case) -> str:
    """`current`, `missing`, `stale: ` with the parts that changed, or `corrupted: ` with the file and reason."""
    return _inspect(case)[0]


def get(case: Case) -> Record:
    """Return the record of a case: read while current, else computed and stored; see `obtain` for errors."""
    return obtain(case)[0]


def obtain(case: Case) -> tuple[Record, bool]:
    """Return the record of a case and whether it was computed just now.

    Raises `UserError` where a computation would be needed but `REPRODUCTION_RECORDS=read`, where the code on disk is no
    longer the code of this process, and where the profile needs a GPU and there is none. `REPRODUCTION_STALE=allow`
    reads stale records, to prove that gates are alive.
    """
    found, record = _inspect(case)
    if record is None:
        _refuse_in_read_mode(case, found)
        with _lock(case):
            found, record = _inspect(case)  # another process may have computed it while we waited
            if record is None:
                if found.startswith("corrupted"):
                    print(f"{found}: computing {case.name} again", file=sys.stderr)
                record = _compute(case)
                _tally(case, "computed")
                return record, True
    _tally(case, "read")
    return record, False


def available(case: Case) -> Record | None:
    """Return the record of a case as `get` does, but None for an extended one that nobody has computed yet."""
    return get(case) if case.row == "core" else stored(case)


def stored(case: Case) -> Record | None:
    """Return the record of a case where it is current, else None: nothing is ever computed (another machine's rows)."""
    record = _inspect(case)[1]
    if record is not None:
        _tally(case, "read")
    return record


def recheck(case: Case) -> str:
    """Re-verify a record that only changed code made stale, by running its prefix again.

    Returns `current`, `re-verified` (prefix equal to the bit in an equal environment: the record takes the new code
    fingerprint and notes it), or `recompute: ` with the reason.
    """
    with _lock(case):
        found, _ = _inspect(case)
        if found == "current":
            return found
        if found != "stale: code":
            return f"recompute: {found}"
        stored = record_files.read(case.path)
        if case.prefix is None or stored["prefix"] is None:
            return "recompute: stale: code, and the case has no prefix to compare"
        _refuse_edited_code(case)
        fingerprint, here = case.fingerprint(), environment.describe()
        differences = environment.numeric_differences(stored["provenance"]["environment"], here)
        if differences:
            return f"recompute: stale: code, and equal bits need an equal environment ({', '.join(differences)} differ)"
        if _with_threads_restored(case.prefix) != stored["prefix"]:
            return "recompute: stale: code, and its prefix gives other bits"
        _restamp(case, stored, fingerprint, here["commit"])
        return "re-verified"


def trained_weights(case: Case, name: str) -> dict[str, torch.Tensor]:
    """Return the weights that the computation of a case leaves, running it again if the cache lost them.

    The record stays as it is; a line on standard error says that the run began, and, as often as weights are asked for
    that are not the record's, that their bits differ. Raises `UserError` where that run is needed but
    `REPRODUCTION_RECORDS=read`, or needs a GPU and there is none.
    """
    record = get(case)
    with _lock(case):
        tensors = load_weights(case, name)
        if tensors is None:
            _refuse_in_read_mode(case, f"without its weights {name!r} in the cache")
            _require_device(case)
            _refuse_edited_code(case)
            print(f"{case.name}: its weights are not in the cache: computing them again", file=sys.stderr)
            folder = case_cache.folder("weights", case, case.fingerprint())
            for other, trained in _with_threads_restored(case.compute).weights.items():
                case_cache.keep(folder, other, trained)
            shutil.rmtree(case_cache.folder("runs", case, case.fingerprint()), ignore_errors=True)
            tensors = safetensors.torch.load_file(folder / f"{name}.safetensors")
        if case_cache.digest(case, name) != record.weight_digests[name]:
            print(
                f"{case.name}: weights {name!r} have other bits than the record's: what rests on them may differ "
                "(another machine, or number of threads?)",
                file=sys.stderr,
            )
    return tensors


def _inspect(case: Case) -> tuple[str, Record | None]:
    """Status of a case, and its record where it may be used."""
    if not case.path.is_file():
        return "missing", None
    try:
        stored = record_files.read(case.path)
    except DamagedError as damage:
        return f"corrupted: {damage.reason}", None
    if (stored["case"], stored["profile"]) != (case.name, case.profile):
        return f"corrupted: {paths.relative(case.path)}: the record of another case", None
    now = case.fingerprint()
    changed = [part for part in ("config", "data", "code") if stored["fingerprint"][part] != now[part]]
    if not changed:
        return "current", record_files.record(case.path, stored)
    usable = os.environ.get("REPRODUCTION_STALE") == "allow"
    return f"stale: {', '.join(changed)}", record_files.record(case.path, stored) if usable else None


def _compute(case: Case) -> Record:
    """Run a case and store its record: first the files beside it, last its JSON."""
    _require_device(case)
    _refuse_edited_code(case)
    fingerprint = case.fingerprint()
    prefix = _with_threads_restored(case.prefix) if case.prefix else None
    described = environment.describe()
    began = time.perf_counter()
    outcome = _with_threads_restored(case.compute)
    seconds = time.perf_counter() - began
    folder = case_cache.folder("weights", case, fingerprint)
    content = {
        "case": case.name,
        "profile": case.profile,
        "seed": case.seed,
        "config": fingerprints.plain(case.config),
        "fingerprint": fingerprint,
        "values": dict(outcome.values),
        "frames": {
            name: {
                "rows": len(frame),
                **record_files.attach(case.path, name, ".parquet", record_files.parquet_bytes(frame)),
            }
            for name, frame in outcome.frames.items()
        },
        "weights": {name: case_cache.keep(folder, name, tensors) for name, tensors in outcome.weights.items()},
        "published": {
            name: record_files.attach(
                case.path, name, ".safetensors", record_files.safetensors_bytes(tensors, torch.bfloat16)
            )
            for name, tensors in outcome.published.items()
        },
        "prefix": prefix,
    }
    provenance = {
        "seconds": round(seconds, 2),
        "date": _today(),
        "peak_memory_mib": environment.peak_memory(),
        "cost": dict(outcome.cost),
        "environment": described,
        "reverified": [],
    }
    record_files.write(case.path, content, provenance)
    stored = record_files.read(case.path)
    record_files.sweep(case.path, stored)
    shutil.rmtree(case_cache.folder("runs", case, fingerprint), ignore_errors=True)
    return record_files.record(case.path, stored)


def _restamp(case: Case, stored: dict[str, Any], fingerprint: dict[str, str], commit: dict[str, Any] | None) -> None:
    """Give a re-verified record, and its cached weights, the fingerprint of the changed code."""
    old = stored["fingerprint"]
    content = {name: value for name, value in stored.items() if name not in record_files.OUTSIDE_CONTENT}
    note = {"commit": commit, "date": _today(), "from": old["code"], "to": fingerprint["code"]}
    provenance = {**stored["provenance"], "reverified": [*stored["provenance"]["reverified"], note]}
    weights, moved = case_cache.folder("weights", case, old), case_cache.folder("weights", case, fingerprint)
    if weights.is_dir() and not moved.exists():
        weights.rename(moved)
    record_files.write(case.path, {**content, "fingerprint": fingerprint}, provenance)


def _with_threads_restored(run: Callable[[], Any]) -> Any:
    """Call `run` and undo its `limit_threads`, so that the next case computes with the threads it expects."""
    threads = torch.get_num_threads()
    try:
        return run()
    finally:
        environment.limit_threads(threads)


def _refuse_in_read_mode(case: Case, reason: str) -> None:
    mode = os.environ.get("REPRODUCTION_RECORDS", "compute")
    if mode not in ("compute", "read"):
        raise UserError(f"REPRODUCTION_RECORDS={mode}: unknown: set it to compute or read")
    if mode == "read":
        remedy = "`make recheck` or `make reproduce`" if reason.startswith("stale") else "`make reproduce`"
        raise UserError(f"{paths.relative(case.path)}: case {case.name} is {reason}: run {remedy}")


def _require_device(case: Case) -> None:
    environment.require_device(profiles.profile(case.profile).device, case.profile)


def _refuse_edited_code(case: Case) -> None:
    """Stop before a record would name code that is on disk but not in this process (a notebook left open)."""
    changed = fingerprints.changed_since_start(case.code)
    if changed:
        raise UserError(f"{', '.join(changed)}: edited since this process began: restart it before {case.name} runs")


def _lock(case: Case) -> filelock.FileLock:
    path = paths.cache() / "locks" / case.profile / f"{case.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(path)


def _tally(case: Case, action: str) -> None:
    """Append one line to the file named by `REPRODUCTION_TALLY`; a single write, as several processes share it."""
    name = os.environ.get("REPRODUCTION_TALLY")
    if name:
        line = json.dumps({"case": case.name, "profile": case.profile, "action": action}) + "\n"
        handle = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
