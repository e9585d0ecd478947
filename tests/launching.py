"""Run a test's function in several processes, as `torchrun` starts them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
CODE = """
import importlib, os, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
module, function, folder = importlib.import_module(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
named = eval(sys.argv[5])
found = getattr(module, function)(folder, **named)
torch.save(found, folder / f"{os.environ.get('RANK', '0')}.pt")
"""


def launch(count: int, module: str, function: str, folder: Path, named: Mapping[str, Any] | None = None) -> list[Any]:
    """Call `module.function(folder, **named)` in `count` processes; returns what each returned."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.py").write_text(CODE, "utf-8")
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    given = [str(folder / "run.py"), str(ROOT), module, function, str(folder), repr(dict(named or {}))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *start, *given], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(count)]
