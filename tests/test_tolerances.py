"""Tolerances: which changes are reported, which are not, and what the command says."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import tolerances
from lib.errors import UserError
from lib.tolerances import MEASURED, differences

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
TREE = {"series": {"school": {"abar": [1.0, 0.82, 0.0]}}, "caption": "Figure 3", "n": 3}


def changed(path: list, value) -> dict:
    tree = json.loads(json.dumps(TREE))
    place = tree
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return tree


@given(JSON)
def test_a_tree_agrees_with_itself(tree):
    assert differences(tree, tree) == []


@given(JSON, JSON)
def test_differences_are_symmetric(old, new):
    assert {d.path for d in differences(old, new)} == {d.path for d in differences(new, old)}


@pytest.mark.parametrize(
    ("path", "value", "reported"),
    [
        (["series", "school", "abar", 1], 0.82 * (1 + 9e-7), None),
        (["series", "school", "abar", 1], 0.82 * (1 + 2e-6), "series.school.abar[1]: 0.82 -> 0.82000164"),
        (["series", "school", "abar", 2], 5e-10, None),
        (["series", "school", "abar", 2], 2e-9, "series.school.abar[2]: 0.0 -> 2e-09"),
        (["series", "school", "abar", 1], -0.82, "series.school.abar[1]: 0.82 -> -0.82"),
        (["series", "school", "abar"], [1.0, 0.82], "series.school.abar[2]: 0.0 -> absent"),
        (["series", "the"], 1, "series.the: absent -> 1"),
        (["caption"], "Figure 4", 'caption: "Figure 3" -> "Figure 4"'),
        (["n"], 3.0, None),
        (["n"], True, "n: 3 -> true"),
        (["n"], None, "n: 3 -> null"),
        (["n"], "3", 'n: 3 -> "3"'),
        (["n"], float("nan"), "n: 3 -> NaN"),
        (["seconds"], 1e9, None),
        (["series", "Tokens per second"], 1e9, None),
        (["provenance"], {"commit": "a"}, None),
    ],
)
def test_each_kind_of_change(path, value, reported):
    assert [str(found) for found in differences(TREE, changed(path, value))] == ([reported] if reported else [])


def test_one_is_not_true():
    assert len(differences({"n": 1}, {"n": True})) == 1
    assert len(differences([0], [False])) == 1


def test_measured_names_are_written_as_they_are_compared():
    assert all(name == name.lower().replace(" ", "_") for name in MEASURED)


@pytest.fixture
def folders(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name / "1_infodiffusion").mkdir(parents=True)
        (tmp_path / name / "1_infodiffusion/curve.json").write_text(json.dumps(TREE))
    return tmp_path / "old", tmp_path / "new"


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lib.tolerances", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_command_agrees_reports_and_loosens(folders):
    old, new = folders
    assert run(old, new).returncode == 0
    moved = changed(["series", "school", "abar", 1], 0.83)
    (new / "1_infodiffusion/curve.json").write_text(json.dumps(moved))
    found = run(old, new)
    assert found.returncode == 1
    assert "1_infodiffusion/curve.json: series.school.abar[1]: 0.82 -> 0.83" in found.stdout.splitlines()[0]
    assert run(old, new, "--across-machines").returncode == 0
    assert run(old, new, "--rtol", "0.1").returncode == 0


def test_missing_and_extra_files_are_reported(folders):
    old, new = folders
    (old / "a.json").write_text("1")
    (new / "b.json").write_text("1")
    assert tolerances.compare_folders(old, new) == [f"a.json: missing in {new}", f"b.json: extra in {new}"]


def test_bad_folders_and_files_are_one_line(folders, tmp_path):
    old, new = folders
    (new / "1_infodiffusion/curve.json").write_text('{"half":')
    with pytest.raises(UserError, match=r"curve\.json: not JSON"):
        tolerances.compare_folders(old, new)
    failed = run(old, tmp_path / "nowhere")
    assert (failed.returncode, len(failed.stderr.splitlines())) == (2, 1)
    assert "nowhere: no JSON files there" in failed.stderr
