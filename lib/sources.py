"""Fetch models and texts: pinned packages of the ordinary registry, unpacked to `data/external/`, never installed.

Run as `python -m lib.sources` to fetch all carriers and convert SmolLM2, or with `--verify` to hash everything again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from lib import files, paths
from lib.carriers import CARRIERS, Carrier
from lib.errors import UserError, command

REMEDY = "run `make setup`"
PARTIAL = ".partial-"


def path(carrier: str, filename: str) -> Path:
    """Path of one fetched file; `UserError` when the table does not know it, or it is absent or of the wrong length."""
    member = _carrier(carrier).members.get(filename)
    if member is None:
        raise UserError(f"{carrier}/{filename}: not unpacked; the files of {carrier} are listed in lib/carriers.py")
    target = paths.EXTERNAL / carrier / filename
    if not target.is_file():
        raise UserError(f"{paths.relative(target)}: missing; {REMEDY}")
    if target.stat().st_size != member.bytes:
        raise UserError(f"{paths.relative(target)}: {target.stat().st_size} bytes, not {member.bytes}; {REMEDY}")
    return target


def fetch(names: Iterable[str] | None = None) -> list[str]:
    """Fetch the named carriers (default: all) that are not there yet, and return the names of those downloaded.

    Cheap when nothing is missing (lengths are compared; `verify` hashes). Concurrent calls wait for each other. Raises
    `UserError` for an unknown name, no network, a wrong sha256; then nothing of that carrier is left behind.
    """
    wanted = list(CARRIERS if names is None else names)
    if all(_is_current(name) for name in wanted) and not any(paths.EXTERNAL.glob(PARTIAL + "*")):
        return []
    downloaded = []
    with exclusive():
        for name in wanted:
            if _is_current(name):
                continue
            # A fetch killed between the rename and the manifest has left a complete folder: list it, do not download.
            if _first_fault(name):
                _install(name)
                downloaded.append(name)
            _register(name)
    return downloaded


def verify(names: Iterable[str] | None = None) -> None:
    """Hash every file of the named carriers (default: all); `UserError` names the first that is missing or differs."""
    for name in CARRIERS if names is None else names:
        if fault := _first_fault(name):
            folder = paths.relative(paths.EXTERNAL / name)
            raise UserError(f"{folder}/{fault}; delete {folder} and {REMEDY}")


def manifest() -> dict[str, dict[str, Any]]:
    """Content of `data/external/manifest.json`: what is fetched, by carrier; empty before the first fetch."""
    try:
        return json.loads((paths.EXTERNAL / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def sources_table() -> pd.DataFrame:
    """The manifest as a table, one row per carrier: what it is, megabytes on disk, licence, upstream."""
    rows = [
        {
            "carrier": f"{name} {entry['version']}",
            "content": entry["content"],
            "MB": round(sum(file["bytes"] for file in entry["files"].values()) / 1e6, 1),
            "licence": entry["licence"],
            "upstream": entry["upstream"],
        }
        for name, entry in manifest().items()
    ]
    if not rows:
        raise UserError(f"{paths.relative(paths.EXTERNAL / 'manifest.json')}: missing or damaged; {REMEDY}")
    return pd.DataFrame(rows).set_index("carrier")


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold `data/external/` alone, cleared of what killed processes left; the lock goes with its process."""
    paths.EXTERNAL.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.EXTERNAL / ".lock"):
        for stale in paths.EXTERNAL.glob(PARTIAL + "*"):
            shutil.rmtree(stale, ignore_errors=True) if stale.is_dir() else stale.unlink(missing_ok=True)
        yield


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` by one rename on success and is removed on failure."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=PARTIAL, ignore_cleanup_errors=True) as temporary:
        fresh = Path(temporary) / "new"
        fresh.mkdir()
        yield fresh
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        fresh.rename(folder)


def download(requirement: str, folder: Path) -> Path:
    """Download the one wheel that `requirement` (NAME==VERSION) pins into `folder`; `UserError` when pip cannot."""
    arguments = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input", "--dest", folder, requirement]
    # The machine's own PIP_* settings win; pip's scratch files stay where a later call would clear them.
    environment = {"PIP_DEFAULT_TIMEOUT": "20", "PIP_RETRIES": "1"} | os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        complaint = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("ERROR: ")
        reason = "no connection to the package index" if "connection" in done.stderr.lower() else complaint
        raise UserError(f"{requirement}: pip could not download it ({reason}); check the network, then {REMEDY} again")
    return next(folder.glob("*.whl"))


def _install(name: str) -> None:
    carrier = CARRIERS[name]
    with replaced(paths.EXTERNAL / name) as fresh:
        scratch = fresh.parent / "download"
        scratch.mkdir()
        wheel = download(f"{name}=={carrier.version}", scratch)
        if (found := files.sha256(wheel)) != carrier.sha256:
            raise UserError(f"{wheel.name}: sha256 is {found}, not {carrier.sha256}; {REMEDY} again")
        with zipfile.ZipFile(wheel) as archive:
            for filename, member in carrier.members.items():
                target = fresh / filename
                if not target.resolve().is_relative_to(fresh.resolve()):
                    raise UserError(f"{wheel.name}: {filename} would be unpacked outside data/external/{name}; refused")
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member.name) as packed, open(target, "wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
        if fault := _first_fault(name, fresh):
            raise UserError(f"{wheel.name}: {fault}; correct lib/carriers.py")


def _carrier(name: str) -> Carrier:
    if name not in CARRIERS:
        raise UserError(f"{name}: no such carrier; lib/carriers.py knows {', '.join(CARRIERS)}")
    return CARRIERS[name]


def _entry(name: str) -> dict[str, Any]:
    carrier = CARRIERS[name]
    return {
        "content": carrier.content,
        "package": name,
        "version": carrier.version,
        "licence": carrier.licence,
        "upstream": carrier.upstream,
        "wheel": {"sha256": carrier.sha256, "bytes": carrier.bytes},
        "files": {local: {"sha256": member.sha256, "bytes": member.bytes} for local, member in carrier.members.items()},
    }


def _is_current(name: str) -> bool:
    folder, carrier = paths.EXTERNAL / name, _carrier(name)
    whole = all(
        (folder / local).is_file() and (folder / local).stat().st_size == member.bytes
        for local, member in carrier.members.items()
    )
    return whole and manifest().get(name) == _entry(name)


def _first_fault(name: str, folder: Path | None = None) -> str | None:
    folder = folder or paths.EXTERNAL / name
    for local, member in _carrier(name).members.items():
        if not (folder / local).is_file():
            return f"{local}: missing"
        if (found := files.sha256(folder / local)) != member.sha256:
            return f"{local}: sha256 is {found}, not {member.sha256}"
    return None


def _register(name: str) -> None:
    listed = manifest() | {name: _entry(name)}
    files.write_json(paths.EXTERNAL / "manifest.json", {key: listed[key] for key in CARRIERS if key in listed})


def main() -> None:
    """Fetch everything and convert SmolLM2, saying what is done; with `--verify`, hash what is there."""
    from lib import backbones

    parser = argparse.ArgumentParser(prog="python -m lib.sources", description=__doc__)
    parser.add_argument("--verify", action="store_true", help="hash every file again instead of fetching")
    if parser.parse_args().verify:
        verify()
        if fault := backbones.conversion_fault():
            raise UserError(f"{fault}; {REMEDY}")
        print(f"{len(CARRIERS)} carriers and the conversion of SmolLM2 verified")
        return
    missing = [carrier for name, carrier in CARRIERS.items() if not _is_current(name)]
    unpacked = sum(member.bytes for carrier in CARRIERS.values() for member in carrier.members.values())
    print(
        f"models and texts: {sum(carrier.bytes for carrier in missing) / 1e6:.0f} MB to download; "
        f"data/external/ takes {(unpacked + backbones.CONVERTED_BYTES) / 1e6:.0f} MB of disk when complete"
    )
    for name, carrier in CARRIERS.items():
        state = "fetched" if fetch([name]) else "in place"
        print(f"  {name} {carrier.version}: {carrier.bytes / 1e6:.1f} MB, {carrier.licence}, {state}", flush=True)
    converted = "converted before" if backbones.conversion_fault() is None else "converted"
    backbones.convert_smollm2()
    print(f"  {backbones.SMOLLM2}: {converted} to bfloat16 safetensors")


if __name__ == "__main__":
    command(main)
