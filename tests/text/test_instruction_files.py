"""Instruction files of the field: both layouts of each set, and what is said of damaged ones."""

import json
import os
from pathlib import Path

import pytest

from lib.errors import UserError
from lib.text import instruction_files
from lib.text.instructions import render

FIXTURES = Path(__file__).parents[1] / "fixtures" / "instructions"


def told(name: str, file: str) -> list[tuple[str, str, str, tuple[str, ...]]]:
    items = instruction_files.read(name, FIXTURES / file)
    assert {item.name for item in items} == {name}
    assert len({item.identity for item in items}) == len(items)
    return [(item.instruction, item.input, item.output, item.references) for item in items]


def test_dolly_in_both_layouts_is_the_same_to_the_letter():
    expected = [
        (
            "Which bridge is the oldest?",
            "The stone bridge was built in 1352, the iron one in 1868.",
            "The stone bridge.",
            ("The stone bridge.",),
        ),
        ("Name a river in Portugal.", "", "The Douro", ("The Douro",)),
    ]
    assert told("dolly", "dolly.jsonl") == told("dolly", "dolly_release.jsonl") == expected


def test_self_instruct_has_an_instruction_for_each_instance():
    first = ("Suggest a dish for the things at hand.", "eggs, potatoes", "A tortilla.", ("A tortilla.",))
    assert told("selfinst", "selfinst.jsonl") == [first]
    second = (first[0], "", "Bread and butter.", ("Bread and butter.",))
    assert told("selfinst", "selfinst_release.jsonl") == [first, second]


def test_vicuna_has_no_input_and_keeps_line_breaks():
    (item,) = instruction_files.read("vicuna", FIXTURES / "vicuna.jsonl")
    assert item.output == "The moon pulls at the sea,\nand the sea follows."
    assert render(item) == "Instruction: How would you explain a tide to a child?\nResponse:"
    assert told("vicuna", "vicuna.jsonl") == told("vicuna", "vicuna_release.jsonl")


def test_all_references_of_sni_are_kept():
    expected = ("You are given a fruit; give its colour.", "banana", "yellow", ("yellow", "It is yellow."))
    assert told("sni", "sni.jsonl") == [expected]


GOOD = json.dumps({"instruction": "a", "input": "", "output": "b"}).encode()


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        (
            "dolly",
            b'{"instruction": "a", "output"',
            r"line 2: broken JSON \(the text ends too early, column 30\); mend or remove the line",
        ),
        ("dolly", b"[1, 2]", "line 2: not a JSON object but a list"),
        ("dolly", b'{"input": "a", "output": "b"}', r'line 2: no field "instruction" \(found: input, output\)'),
        ("dolly", b'{"instruction": "a"}', 'line 2: no field "output" or "response"'),
        ("dolly", b'{"instruction": "a", "output": 7}', 'line 2: field "output" is a number where a text'),
        ("dolly", b'{"instruction": "a", "input": 7, "output": "b"}', 'line 2: field "input" is a number where a text'),
        ("dolly", b'{"instruction": "  ", "output": "b"}', 'line 2: field "instruction" is empty'),
        ("sni", b'{"instruction": "a", "output": []}', 'line 2: field "output" is an empty list'),
        ("sni", b'{"instruction": "a", "output": ["b", ""]}', 'line 2: field "output.1" is empty'),
        ("selfinst", b'{"instruction": "a", "instances": []}', 'line 2: field "instances" is not a list'),
        ("vicuna", b'{"text": "caf\xe9", "output": "b"}', "line 2 .byte 14.: not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_damaged_line_is_named_with_a_remedy(tmp_path, name, line, message):
    path = tmp_path / "set.jsonl"
    path.write_bytes(GOOD + b"\n" + line + b"\n")
    with pytest.raises(UserError, match=message) as caught:
        instruction_files.read(name, path)
    assert "set.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_files_and_unknown_sets(tmp_path):
    with pytest.raises(UserError, match="No such file or directory; check the path"):
        instruction_files.read("dolly", tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match="no instructions; write one"):
        instruction_files.read("dolly", tmp_path / "empty.jsonl")
    with pytest.raises(UserError, match="'alpaca': choose one of dolly, selfinst, vicuna, sni, unni"):
        instruction_files.read("alpaca", tmp_path / "empty.jsonl")


def test_an_input_may_be_missing_null_or_blank(tmp_path):
    lines = [{}, {"input": None}, {"input": "  "}, {"input": ""}]
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(json.dumps({"instruction": "a", "output": "b"} | more) for more in lines))
    assert [item.input for item in instruction_files.read("sni", path)] == [""] * 4


@pytest.mark.parametrize("name", instruction_files.NAMES)
def test_slices_of_the_field_are_read_whole(name):
    path = Path(os.environ.get("BENCHMARK_DIR", ".")) / f"{name}_sample.jsonl"
    if not path.is_file():
        pytest.skip(f"BENCHMARK_DIR does not hold {path.name}")
    raw = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    items = instruction_files.read(name, path)
    assert len(items) == len(raw)
    for item, record in zip(items, raw, strict=True):
        outputs = record["output"] if isinstance(record["output"], list) else [record["output"]]
        assert item.instruction == record["instruction"].strip()
        assert item.input == record.get("input", "").strip()
        assert item.references == tuple(text.strip() for text in outputs)
