"""The committed records are current: a stale, damaged or orphaned one is named here."""

import pytest

from lib import cases, paths, records

CASES = {case.name: case for case in cases.find([], "cpu")}


@pytest.mark.parametrize("name", CASES)
def test_the_record_is_current(name: str) -> None:
    found = records.status(CASES[name])
    if found == "missing" and CASES[name].row == "extended":
        pytest.skip("an extended row that nobody has computed yet")
    assert found == "current", "run `make recheck`, then `make reproduce`"


def test_every_committed_record_belongs_to_a_case() -> None:
    folder = paths.results("cpu")
    stored = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json")}
    assert stored <= set(CASES)
