"""Tolerances: which changes are reported, which are not, and what the command says."""

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import errors
from lib.errors import UserError
from lib.running import tolerances
from lib.running.tolerances import MEASURED, differences

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
        (["caption"], "Figure 3.0000001", None),
        (["caption"], "Figure 3 b", 'caption: "Figure 3" -> "Figure 3 b"'),
        (["seconds"], 1e9, None),
        (["series", "seconds a step"], 1e9, None),
        (["series", "secondsx"], 2, "series.secondsx: absent -> 2"),
        (["series", "Tokens per second"], 1e9, None),
        (["provenance"], {"commit": "a"}, None),
    ],
)
def test_each_kind_of_change(path, value, reported):
    assert [str(found) for found in differences(TREE, changed(path, value))] == ([reported] if reported else [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.0", "Infinity"),
        ("Infinity", "1.0"),
        ("-Infinity", "Infinity"),
        ("Infinity", "Infinity"),
        ("1e400", "2.0"),
        ("NaN", "NaN"),
        ("1" + "0" * 400, "2" + "0" * 400),
        ("1.5", "1" + "0" * 400),
        ('"0.5 [0.1, 0.9]"', f'"0.5 [0.1, {"9" * 400}]"'),
    ],
)
@pytest.mark.parametrize("rtol", [0.0, 0.05, 1e6])
def test_infinity_and_what_floats_cannot_hold_are_beyond_every_tolerance(old, new, rtol):
    assert len(differences({"x": json.loads(old)}, {"x": json.loads(new)}, rtol=rtol)) == 1


def test_whole_numbers_beyond_floats_agree_where_they_are_equal():
    assert differences({"x": 10**400}, {"x": 10**400}) == []


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "-1e-9", "-inf"])
@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_a_tolerance_that_is_none_is_refused_in_one_line(folders, monkeypatch, capsys, name, value):
    with pytest.raises(ValueError, match=f"{name} = .*finite number, 0 or more"):
        differences({}, {}, **{name: float(value)})
    monkeypatch.setattr(sys, "argv", ["tolerances", *map(str, folders), f"--{name}={value}"])
    with pytest.raises(SystemExit) as caught:
        errors.command(tolerances.main)
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: --rtol and --atol: {name} = ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("content", ["[" * 100_000, "9" * 5000, '{"a":', "\udcff"])
def test_files_that_no_run_wrote_are_one_line(folders, content):
    (folders[1] / "1_infodiffusion/curve.json").write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=r"curve\.json: not JSON") as caught:
        tolerances.compare_folders(*folders)
    assert "\n" not in str(caught.value)


def test_trees_nested_too_deeply_are_one_line(folders):
    for folder, leaf in zip(folders, "12", strict=True):
        text = "[" * 800 + leaf + "]" * 800
        (folder / "1_infodiffusion/curve.json").write_text(text)
    with pytest.raises(UserError, match=r"curve\.json: (nested too deeply|not JSON)"):
        tolerances.compare_folders(*folders)


LACKS, LAST = "rows[LoRA, 10]: {...} -> absent", "rows[1]: {...} -> absent"


def table(keys: str, *rows: dict) -> dict:
    return {"caption": "c", "rows": list(rows)} | ({"keys": keys.split()} if keys else {})


LORA, DORA = {"method": "LoRA", "N": "10", "right": 0.9}, {"method": "DoRA", "N": "10", "right": 0.5}


@pytest.mark.parametrize(
    ("old", "new", "reported"),
    [
        (table("method", LORA, DORA), table("method", DORA), ["rows[LoRA]: {...} -> absent"]),
        (table("method", DORA), table("method", LORA, DORA), ["rows[LoRA]: absent -> {...}"]),
        (table("method", LORA, DORA), table("method", DORA, LORA), []),
        (table("method", LORA, DORA), table("method", LORA | {"right": 0.8}, DORA), ["rows[LoRA].right: 0.9 -> 0.8"]),
        (table("method N", LORA, LORA | {"N": "50"}), table("method", LORA | {"N": "50"}), [LACKS]),
        (table("", LORA, LORA | {"N": "50"}), table("method N", LORA | {"N": "50"}), [LACKS]),
        (table("method", LORA, LORA), table("method", LORA), [LAST]),  # the keys do not tell them apart
        (
            table("", LORA, DORA),
            table("", DORA),
            ['rows[0].method: "LoRA" -> "DoRA"', "rows[0].right: 0.9 -> 0.5", LAST],
        ),
        (table("seed", LORA, DORA), table("seed", LORA), [LAST]),
        (["a", "b", "c"], ["a", "c"], ['[b]: "b" -> absent']),
        ([[1.5, 3], [2, 4]], [[2, 5]], ["[1.5]: [1.5, 3] -> absent", "[2][1]: 4 -> 5"]),
        ([[1, 3], [1, 4]], [[1, 4]], ["[0][1]: 3 -> 4", "[1]: [1, 4] -> absent"]),
        (["a", "b"], ["b", "a"], ['[0]: "a" -> "b"', '[1]: "b" -> "a"']),
        ({"T": [1, 10, 50], "avg": [0.1, 0.2, 0.3]}, {"T": [1, 50], "avg": [0.1, 0.3]}, ["[T = 10]: {...} -> absent"]),
        ({"T": [1, 10], "avg": [0.1, 0.2]}, {"T": [1, 10], "avg": [0.1, 0.3]}, ["avg[1]: 0.2 -> 0.3"]),
    ],
)
def test_rows_are_matched_by_their_labels(old, new, reported):
    shown = [re.sub(r"\{.*?(\}|\.\.\.)(?= ->|$)", "{...}", str(found)) for found in differences(old, new)]
    assert shown == reported


def test_a_part_may_lack_rows_but_not_change_them(folders):
    old, new = folders
    for folder, rows in [(old, [LORA, DORA]), (new, [DORA])]:
        (folder / "grid.json").write_text(
            json.dumps({"keys": ["method"], "rows": rows, "N = 50": 0.4 if folder == old else None})
        )
    assert len(tolerances.compare_folders(old, new)) == 2
    assert tolerances.compare_folders(old, new, part=True) == []
    assert len(tolerances.compare_folders(new, old, part=True)) == 2
    assert run(old, new, "--part").returncode == 0
    (new / "grid.json").write_text(json.dumps({"keys": ["method"], "rows": [DORA | {"right": 0.6}], "N = 50": 0.3}))
    assert tolerances.compare_folders(old, new, part=True) == [
        "grid.json: rows[DoRA].right: 0.5 -> 0.6",
        "grid.json: N = 50: 0.4 -> 0.3",
    ]


def test_what_a_part_has_no_record_of_is_no_difference(folders):
    old, new = folders
    told = {"comparison": "a", "over": "500 items", "outcome": "supported"}
    for folder, verdict, over in [(old, "supported", "500 items"), (new, "inconclusive", "not recorded")]:
        rows = [told | {"over": over}, told | {"comparison": "b"}]
        content = {"verdict": verdict, "caption": verdict, "claim": "x", "keys": ["comparison"], "rows": rows}
        (folder / "claim_x.json").write_text(json.dumps(content))
    assert len(tolerances.compare_folders(old, new)) == 3
    assert tolerances.compare_folders(old, new, part=True) == []
    (new / "claim_x.json").write_text(json.dumps(content | {"rows": [told | {"comparison": "b", "outcome": "open"}]}))
    assert tolerances.compare_folders(old, new, part=True) == [
        'claim_x.json: verdict: "supported" -> "inconclusive"',
        'claim_x.json: caption: "supported" -> "inconclusive"',
        'claim_x.json: rows[b].outcome: "supported" -> "open"',
    ]


def test_the_records_behind_a_file_are_not_compared():
    told = {"records": [{"case": "s/a", "record": "data/results/cpu/s/a.json", "digest": "1"}], "keys": ["method"]}
    assert differences({"rows": [LORA]} | told, {"rows": [LORA], "records": []}) == []
    assert differences({"series": {"records": [1]}}, {"series": {"records": [2]}}) != []  # a name like any other there


def test_only_the_files_named_are_compared(folders):
    old, new = folders
    (new / "b.json").write_text("1")
    assert tolerances.compare_folders(old, new, only=["1_infodiffusion/curve.json"]) == []
    assert tolerances.compare_folders(old, new, only=["b.json"]) == [f"b.json: extra in {new}"]


def test_files_named_after_a_unit_are_measured(folders):
    old, new = folders
    for folder in folders:
        (folder / "steps_seconds.json").write_text(f'{{"1": {len(str(folder))}.{folder.name == "old":d}5}}')
    assert tolerances.compare_folders(old, new) == []


@pytest.mark.parametrize(("letters", "shown"), [(58, 60), (59, 60), (500, 60)])
def test_long_values_are_shown_to_their_sixtieth_character(letters, shown):
    (found,) = differences({"x": "a" * letters}, {"x": 1})
    told = str(found).removeprefix("x: ").removesuffix(" -> 1")
    assert len(told) == shown
    assert told == ('"' + "a" * 58 + '"' if letters == 58 else '"' + "a" * 56 + "...")


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
    command = [sys.executable, "-m", "lib.running.tolerances", *map(str, arguments)]
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
