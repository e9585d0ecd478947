"""The committed records are current, or listed as pending: a stale, damaged or orphaned one is named here."""

import pytest

from lib import paths, records
from lib.records import pending
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
    listed = ("cpu", name) in pending.listed()
    assert found.partition(":")[0] == ("pending" if listed else "current"), (
        "`make prove AGAINST=commit` stamps it anew where nothing changed; `make reproduce` computes it; a line in "
        "data/results/pending leaves it to a later step, and goes once it is current again"
    )


def test_what_is_pending_has_a_record() -> None:
    for profile, name in pending.listed():
        assert (paths.results(profile) / f"{name}.json").is_file(), name


def test_every_committed_record_belongs_to_a_case() -> None:
    folder = paths.results("cpu")
    stored = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json")}
    assert stored <= set(CASES)


def test_the_records_of_the_gpu_profile_are_whole_and_historic() -> None:
    folder = paths.results("gpu")
    stored = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json")}
    found = {case.name: case for case in catalogue.find(sorted(stored), "gpu") if case.name in stored}
    assert {name: records.status(case) for name, case in found.items()} == dict.fromkeys(stored, "historic")
    assert stored
    for case in found.values():
        record = records.stored(case)
        assert record.historic["commit"]["hash"]
        assert len(record.historic["code"]) == 64
        assert all(len(frame) >= 0 for frame in record.frames.values())  # every file beside it is as it was stored


def test_cases_on_two_threads_are_those_whose_records_say_so() -> None:
    for case in CASES.values():
        record = records.stored(case)
        if record is not None:
            assert record.threads == record.provenance["environment"]["threads"] == case.threads
