"""Create `.venv` exactly from `requirements.lock`, if it is missing or stale.

Run by the Makefile as `python -m lib.machine.installation`, before anything is installed: standard library only.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from lib.errors import UserError, command

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STAMP = VENV / "complete"
LOCK = ROOT / "requirements.lock"
LOG = ROOT / "build/setup.log"


def wanted() -> str:
    """Return what the stamp of a current `.venv` says: lock, project, version of Python and folder, as one digest."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes()]
    parts += [f"{sys.version_info[0]}.{sys.version_info[1]}".encode(), os.fsencode(ROOT)]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def is_current() -> bool:
    """Whether `.venv` was completed from this lock and its interpreter still exists."""
    return (
        STAMP.is_file()
        and STAMP.read_text(encoding="utf-8", errors="replace") == wanted()
        and (VENV / "bin/python").exists()
    )


def install() -> None:
    """Build `.venv` anew; the stamp comes last, so that one that was interrupted is never taken for good.

    Raises `UserError` where packages cannot be had, Python lacks `venv`, or the folder's name rules one out.
    """
    if VENV.exists() and not VENV.is_dir():
        raise UserError(".venv: a file stands where the environment's folder is to be: move it away, then try again")
    if os.pathsep in str(ROOT):
        raise UserError(f"{ROOT}: no Python can work in a folder with {os.pathsep!r} in its name: move the project")
    packages = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line]
    free = shutil.disk_usage(ROOT).free / 1e9
    print(
        f"installing {len(packages)} packages into .venv: about 0.6 GB to download and 2 GB of disk with the CPU build "
        f"of torch,\n3 GB and 7 GB where the package index gives the CUDA build; {free:.0f} GB are free",
        flush=True,
    )
    shutil.rmtree(VENV, ignore_errors=True)
    LOG.parent.mkdir(parents=True, exist_ok=True)
    python = str(VENV / "bin/python")
    base = getattr(sys, "_base_executable", sys.executable)  # we may run from the `.venv` that has just been removed
    with open(LOG, "w", encoding="utf-8") as log:
        if _run([base, "-m", "venv", str(VENV)], log):
            raise UserError("python cannot make .venv: install its venv module (on Debian: python3-venv)")
        pip = [python, "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
        if _run([*pip, "-r", str(LOCK)], log, len(packages)):
            raise UserError("no packages: is there a network and a package index? See build/setup.log, then try again")
        if _run([*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)], log):
            raise UserError("the project itself did not install: see build/setup.log")
    STAMP.write_text(wanted(), encoding="utf-8")


def _run(line: list[str], log: TextIO, packages: int = 0) -> int:
    """Run a command into the log, counting packages on a terminal; return its exit status."""
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", cwd=ROOT
    )
    count, shown = 0, packages and sys.stdout.isatty()
    try:
        for output in process.stdout or ():
            log.write(output)
            if "No space left on device" in output:
                raise UserError(f"no space left on the disk of {ROOT}: free some, then try again")
            if output.startswith("Collecting ") and shown:
                count += 1
                print(f"\r  {min(count, packages)} of {packages}  {output.split()[1]:60.60}", end="", flush=True)
            if output.startswith("Installing collected") and shown:
                print(f"\r  {'unpacking':78}", flush=True)
        return process.wait()
    finally:
        process.kill()  # where we were interrupted; one that ended does not mind


def main() -> None:
    """Install unless `.venv` is current; a second process waits for the first. `UserError` without the lock's file."""
    for file in (LOCK, ROOT / "pyproject.toml"):
        if not file.is_file():
            raise UserError(f"{file.name}: missing: restore it with `git checkout {file.name}`")
    with open(LOCK, encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current():
            install()


if __name__ == "__main__":
    command(main)
