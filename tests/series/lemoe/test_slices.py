"""Slices of the field's files: one line for what is missing, and records that are found without the files."""

import dataclasses
import hashlib
import json

import pytest

from lib.errors import UserError
from lib.records.stamps import stamp
from lib.series.lemoe import cases, slices
from lib.series.lemoe.edit_sets import edit_set


@pytest.fixture(autouse=True)
def read_afresh():
    edit_set.cache_clear()
    yield
    edit_set.cache_clear()


def test_files_that_are_not_there_or_not_the_same_are_one_line(monkeypatch, tmp_path):
    monkeypatch.delenv("BENCHMARK_DIR", raising=False)
    with pytest.raises(UserError, match=r"zsre_sample\.json: your own files: set BENCHMARK_DIR"):
        edit_set("zsre")
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"zsre_sample\.json: no such file"):
        edit_set("zsre")
    (tmp_path / "zsre_sample.json").write_text("[]")
    with pytest.raises(UserError, match="not the file that was reported on"):
        edit_set("zsre")


def test_the_file_that_was_reported_on_is_read(monkeypatch, tmp_path):
    record = {
        "src": "Where is Rome?",
        "subject": "Rome",
        "rephrase": "Rome, where?",
        "alt": "Peru",
        "loc": "a",
        "loc_ans": "b",
    }
    file = tmp_path / "zsre_sample.json"
    file.write_text(json.dumps([record]))
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(slices.SLICES._rows, "zsre", dataclasses.replace(slices.SLICES["zsre"], sha256=digest))
    assert [(edit.prompt, edit.target) for edit in edit_set("zsre").edits] == [("Where is Rome?", " Peru")]


def test_a_case_has_the_same_stamp_with_and_without_the_file(monkeypatch, tmp_path):
    monkeypatch.delenv("BENCHMARK_DIR", raising=False)
    without = cases.on_slice("zsre", "lemoe", "cpu")
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path))
    assert stamp(cases.on_slice("zsre", "lemoe", "cpu")) == stamp(without)
    other = dataclasses.replace(without, data={**without.data, "edits": "0"})
    assert stamp(other) != stamp(without)
    with pytest.raises(UserError, match="no such file"):
        without.compute(without)
