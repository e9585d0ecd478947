"""A notebook of each series in JupyterLab, in headless Chromium: all cells run without an error, and widgets answer."""

import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib import paths
from lib.running import kernels

PYTHON = paths.ROOT / "build/site-venv/bin/python"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NOTEBOOKS = (
    "1_infodiffusion/1.1_noise_schedule",
    "2_beacons/2.2_one_fact",
    "3_lemoe/3.2_method",
    "4_hetero_kd/4.1_layers",
)
pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not PYTHON.exists(), reason="build/site-venv is not there: `make site` makes it"),
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed"),
]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address and token of a JupyterLab over a copy of the notebooks, which it may save."""
    shutil.copytree(paths.NOTEBOOKS, tmp_path / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    line = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--LabApp.expose_app_in_browser=True"]
    line += [f"--ServerApp.port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={tmp_path}"]
    with open(tmp_path / "server.log", "wb") as log:
        server = subprocess.Popen(line, env=kernels.environment("alone"), stdout=log, stderr=log)
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=5)
                    break
                except OSError:
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}", token
        finally:
            server.terminate()
            server.wait(30)


def test_all_cells_run_and_widgets_answer(lab: tuple[str, str]) -> None:
    names = [f"notebooks/{name}.ipynb" for name in NOTEBOOKS]
    line = [PYTHON, Path(__file__).with_name("run_all.py"), *lab, CHROMIUM, *names]
    done = subprocess.run(line, capture_output=True, text=True, timeout=1800)
    assert not done.returncode, done.stderr
    assert json.loads(done.stdout) == {name: [] for name in names}
