"""The command line that the benchmarks share."""

import subprocess
import sys

import pytest

from lib import paths
from lib.benchmarks import command


@pytest.mark.parametrize(("about", "shown"), [("What it costs: all.\n\nMore of it.\n", True), (None, False)])
def test_help_has_the_first_line_of_what_the_module_says(
    about: str | None, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run("lib.benchmarks.one", about, "bench_one", lambda _: {}, str, ["--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert ("What it costs: all." in told) is shown
    assert "More of it" not in told
    assert "build/bench_one_quick.json" in told


def test_python_may_leave_docstrings_out() -> None:
    line = [sys.executable, "-OO", "-m", "lib.benchmarks.beacons", "--help"]
    run = subprocess.run(line, cwd=paths.ROOT, capture_output=True, encoding="utf-8")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("usage: python -m lib.benchmarks.beacons")
