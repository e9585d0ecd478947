"""Both Trainers in two processes over gloo, in parts and whole: the same losses, weights and proportions."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.api.several_processes import OBJECTIVES, trained

ROOT = Path(__file__).parents[2]


def assert_same(one: Path, other: Path, names: Iterable[str]) -> None:
    for name in (*names, "weighted"):
        logs = [json.loads((folder / f"{name}.json").read_text()) for folder in (one, other)]
        assert len(logs[0]) == len(logs[1]) >= 3
        # What is read from fp16 files, and the scaled gradients of gradnorm, round a little more.
        close = 1e-5 if name in ("cached", "gradnorm") else 1e-6
        for ours, theirs in zip(*logs, strict=True):
            assert ours == pytest.approx(theirs, rel=close, abs=close), name
        weights = [load_file(folder / f"{name}.safetensors") for folder in (one, other)]
        for key, value in weights[0].items():
            assert (value - weights[1][key]).abs().max() < close, f"{name}: {key}"


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.thorough] * (n != "gradnorm")) for n in OBJECTIVES]
)
def test_parts_of_unequal_tokens_give_the_step_of_the_whole(name: str, tmp_path: Path) -> None:
    for folder, batch, parts in ((tmp_path / "whole", 8, 1), (tmp_path / "parts", 2, 4)):
        trained(folder, batch, parts, [name])
    assert_same(tmp_path / "whole", tmp_path / "parts", [name])


@pytest.mark.thorough
def test_two_processes_give_the_step_of_the_double_batch(tmp_path: Path) -> None:
    whole, two = tmp_path / "whole", tmp_path / "two"
    trained(whole, 8, 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    line += ["--master-port", str(port), str(ROOT / "tests/api/several_processes.py"), str(two), "2", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert_same(whole, two, OBJECTIVES)
