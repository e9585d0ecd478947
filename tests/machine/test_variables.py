"""The variables that processes of the project start with."""

import os
import subprocess
from pathlib import Path

from lib.machine import variables

ROOT = Path(__file__).parents[2]


def test_the_users_own_set_up_is_left_out_and_the_rest_stays(monkeypatch):
    foreign = {"PYTHONSTARTUP": "a.py", "MPLBACKEND": "svg", "JUPYTER_PATH": "a", "MKL_CBWR": "AVX", "LC_TIME": "de"}
    kept = {"HOME": "/somewhere", "HF_HOME": "/models", "CUDA_VISIBLE_DEVICES": "1", "REPRODUCTION_RECORDS": "read"}
    kept |= {"OMP_NUM_THREADS": "7", "MKL_NUM_THREADS": "5"}
    for name, value in {**foreign, **kept, "TZ": "Asia/Tokyo", "PYTHONPATH": "/elsewhere"}.items():
        monkeypatch.setenv(name, value)
    own = variables.own()
    assert not own.keys() & foreign.keys()
    assert own.items() >= kept.items()
    assert own.items() >= variables.FIXED.items()
    assert own["PYTHONPATH"] == str(ROOT)


def test_make_drops_them_before_python_starts(tmp_path):
    text = (ROOT / "Makefile").read_text()
    line = next(line for line in text.splitlines() if line.startswith("FOREIGN := "))
    assert all(pattern.removesuffix("%").startswith(variables.FOREIGN) for pattern in line.split()[2:])
    (tmp_path / "Makefile").write_text(f"{text}\nshow:\n\t@env\n")
    foreign = {
        "PYTHONSTARTUP": "a.py",
        "PYTHONOPTIMIZE": "2",
        "PYTHONUTF8": "0",
        "MPLBACKEND": "svg",
        "MKL_CBWR": "AVX",
    }
    kept = {"OMP_NUM_THREADS": "7", "MKL_NUM_THREADS": "5", "BENCHMARK_DIR": "a"}
    line = ["make", "-f", tmp_path / "Makefile", "show"]
    run = subprocess.run(line, env=os.environ | foreign | kept, capture_output=True, text=True, check=True)
    seen = dict(line.split("=", 1) for line in run.stdout.splitlines() if "=" in line)
    assert not (foreign.keys() - {"PYTHONUTF8"}) & seen.keys()
    assert seen["PYTHONUTF8"] == "1"
    assert seen.items() >= kept.items()
