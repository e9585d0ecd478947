"""Property tests draw the same examples in every run of the tests, and others where fresh ones are asked for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PROPERTY = """
from hypothesis import given, settings
from hypothesis import strategies as st

@given(st.integers())
def test_property(number):
    assert settings.get_current_profile_name() == "fresh"

def test_of_another_kind():
    raise AssertionError("this is no property")
"""


def drawn(profile: str) -> list[int]:
    """Return what one property draws under a profile of the project's conftest."""
    found: list[int] = []

    @settings(settings.get_profile(profile), database=None)
    @given(st.integers(0, 10**9))
    def draw(number: int) -> None:
        found.append(number)

    draw()
    return found


def test_examples_are_the_same_in_every_run_and_new_where_asked_for() -> None:
    first, again = drawn("fixed"), drawn("fixed")
    assert first == again
    assert len(set(first)) > 20
    assert len({tuple(first), tuple(drawn("fresh")), tuple(drawn("fresh"))}) == 3


def test_no_other_conftest_changes_the_profile(request: pytest.FixtureRequest) -> None:
    asked = request.config.getoption("--hypothesis-profile") or "fixed"
    assert settings.get_current_profile_name() == asked


def test_fuzz_runs_the_property_tests_alone_and_on_fresh_examples(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_property.py").write_text(PROPERTY)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    fuzz = ["-m", "hypothesis", "--hypothesis-profile", "fresh"]  # as in the Makefile
    line = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tmp_path), *fuzz, str(tmp_path)]
    run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed, 1 deselected" in run.stdout
