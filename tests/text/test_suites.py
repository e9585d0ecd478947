"""The suites of instruction sets: who is trained on, who is tested, and files that are not there."""

import json

import pytest

from lib.errors import UserError
from lib.text import suites


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Write the MiniLLM suite in its layout: a row more of Dolly's training file than validation takes."""
    suites._minillm.cache_clear()
    monkeypatch.setattr(suites, "VALIDATION", 2)
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path))
    for name, file in {"raw": suites.TRAINING_FILE, **suites.TEST_FILES}.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"instruction": f"{name} {number}", "output": "yes"} for number in range(3)]
        path.write_text("\n".join(map(json.dumps, rows)))
    yield tmp_path
    suites._minillm.cache_clear()


def test_the_minillm_suite_trains_on_dolly_alone_and_tests_on_five_sets(files):
    suite = suites.SUITES["minillm"]
    assert suite.trained == ("dolly",)
    assert set(suite.tested) == {"dolly", "selfinst", "vicuna", "sni", "unni"}
    loaded = suite.load("dolly")
    assert [item.instruction for item in loaded["validation"]] == ["raw 0", "raw 1"]
    assert [item.instruction for item in loaded["train"]] == ["raw 2"]
    assert [item.instruction for item in suite.load("unni")["test"]] == ["unni 0", "unni 1", "unni 2"]
    assert not suite.load("unni")["train"]
    assert len(suite.every()) == 3 + 5 * 3


def test_the_embedded_suite_never_trains_on_the_set_it_holds_out():
    suite = suites.SUITES["embedded"]
    assert len(suite.trained) == 4
    assert set(suite.tested) - set(suite.trained) == {"simple"}


def test_missing_files_are_one_line(files, monkeypatch):
    (files / "vicuna" / "valid.jsonl").unlink()
    with pytest.raises(UserError, match=r"vicuna/valid\.jsonl: No such file"):
        suites.SUITES["minillm"].load("vicuna")
    monkeypatch.delenv("BENCHMARK_DIR")
    with pytest.raises(UserError, match="set BENCHMARK_DIR"):
        suites.SUITES["minillm"].load("sni")
