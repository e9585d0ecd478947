"""Run notebooks in `paper` on stand-ins for its models and files: `python -m tests.rehearsal.run [NOTEBOOK ...]`.

All lies under build/rehearsal/, nothing is published. What runs is told notebook by notebook; exit 1 if one stops.
"""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib import paths
from lib.errors import command
from lib.running import contract
from tests.rehearsal import files, models

PROFILE = Path(__file__).with_name("rehearsal.toml")


def stand_ins(root: Path) -> dict[str, str]:
    """Write models and files under a folder, where they are not yet; returns the variables that name them."""
    if not (root / "models").is_dir():
        models.write_all(root / "new")
        (root / "new").rename(root / "models")
    files.write_all(root / "files")
    return {
        "BENCHMARK_DIR": str(root / "files"),
        "MODEL_DIR": str(root / "models"),
        "BACKBONE": os.pathsep.join(str(root / "models" / name) for name in models.BACKBONES),
        "REPRODUCTION_WORK_ROOT": str(root / "work"),
        "HF_HUB_OFFLINE": "1",
    }


def rehearse(notebook: Path, variables: Mapping[str, str]) -> tuple[bool, float, float, str]:
    """Run a notebook as a user would; returns whether it ended well, seconds, those of processors, and what it told."""
    line = [sys.executable, "-m", "lib.running.execution", str(notebook), "--profile", str(PROFILE)]
    kept = {name: value for name, value in os.environ.items() if name != "REPRODUCTION_RECORDS"}
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(line, cwd=paths.ROOT, env=kept | variables, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode == 0, time.monotonic() - began, processor, f"{done.stdout}{done.stderr}".strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse the notebooks that are named, all by default, those that read verdicts last."""
    only = [name for text in (sys.argv[1:] if arguments is None else arguments) for name in text.split()]
    root = paths.BUILD.absolute() / "rehearsal"
    shutil.rmtree(root / "work", ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    variables, stopped = stand_ins(root), []
    for book in sorted(contract.below(only), key=lambda book: book.reads_verdicts):
        ran, seconds, processor, told = rehearse(book.notebook, variables)
        print(
            f"{'runs ' if ran else 'STOPS'}  {book.name}  {seconds:.0f} s, {processor:.0f} s of processors", flush=True
        )
        if not ran:
            stopped.append(book.name)
            print("       " + "\n       ".join(told.splitlines()[-4:]), flush=True)
    return 1 if stopped else 0


if __name__ == "__main__":
    command(main)
