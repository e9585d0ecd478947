"""Every stage that writes is killed with SIGKILL at random moments and goes on to the end that nobody killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHEAP = ["records", "teacher cache", "training state", "tables", "publishing", "fetching"]


def killed(folder: Path, kills: int, *stages: str) -> dict[str, dict[str, float]]:
    """What `killing.py` counts."""
    variables = {"PYTHONPATH": str(ROOT), "REPRODUCTION_RECORDS": "compute"}
    line = [sys.executable, str(ROOT / "tests/running/killing.py"), str(folder), str(kills), "1", *stages]
    run = subprocess.run(line, env={**os.environ, **variables}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_stage_that_is_killed_goes_on_to_the_same_end(tmp_path):
    found = killed(tmp_path, 2, *CHEAP)
    assert list(found) == CHEAP
    assert {stage: (told["killed"], told["resumed"]) for stage, told in found.items()} == dict.fromkeys(CHEAP, (2, 2))


@pytest.mark.thorough
def test_all_stages_killed_often_go_on_to_the_same_end(tmp_path):
    found = killed(tmp_path, 30)
    assert len(found) == 8
    print(found)  # the counts; `pytest -s` shows them
    assert {stage: told["resumed"] for stage, told in found.items()} == dict.fromkeys(found, 30)
