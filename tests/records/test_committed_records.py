"""The committed records are current: a stale, damaged or orphaned one is named here."""

import pytest

from lib import paths, records
from lib.running import catalogue, contract

CASES = {case.name: case for case in catalogue.find([], "cpu")}
NOTEBOOKS = contract.all_notebooks()


@pytest.mark.parametrize("name", CASES)
def test_the_record_is_current(name: str) -> None:
    found = records.status(CASES[name])
    if found == "missing" and CASES[name].row == "extended":
        pytest.skip("an extended row that nobody has computed yet")
    if found == "missing" and not any(notebook.reads(name) for notebook in NOTEBOOKS):
        pytest.skip("a core row of a notebook that is still to come")
    assert found == "current", "run `make recheck`, then `make reproduce`"


def test_every_committed_record_belongs_to_a_case() -> None:
    folder = paths.results("cpu")
    stored = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json")}
    assert stored <= set(CASES)


def test_the_records_of_the_gpu_profile_are_current() -> None:
    folder = paths.results("gpu")
    stored = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json")}
    found = {case.name: records.status(case) for case in catalogue.find(sorted(stored), "gpu") if case.name in stored}
    assert found == dict.fromkeys(stored, "current")
    assert stored
