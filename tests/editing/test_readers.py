"""Readers of the benchmarks' layouts: what becomes of a record, what is refused and with what line."""

import copy
import dataclasses
import json
import os
import warnings
from pathlib import Path

import pytest

from lib.causal_lm.edits import Edit, check
from lib.editing.readers import read_counterfact, read_qaedit, read_selfcheckgpt, read_zsre
from lib.errors import UserError

ZSRE = {
    "subject": "Mill Lane",
    "src": "Which river does Mill Lane cross? ",
    "rephrase": "What river is under Mill Lane?",
    "alt": "Severn ",
    "loc": "nq question: who wrote the fifth book",
    "loc_ans": "Ann Lee",
    "loc_prompt": "nq question: unused",
}
FLAT = {
    "case_id": 12,
    "prompt": "Ada Bell was born in",
    "target_new": "Oslo",
    "subject": "Ada Bell",
    "ground_truth": "Rome",
    "rephrase_prompt": "The cradle of Ada Bell stood in",
    "locality_prompt": "Carl Dean was born in",
    "locality_ground_truth": "Rome",
}
NESTED = {
    "case_id": 12,
    "pararel_idx": 3,
    "requested_rewrite": {
        "prompt": "{} was born in",
        "relation_id": "P19",
        "target_new": {"str": "Oslo", "id": "Q1"},
        "target_true": {"str": "Rome", "id": "Q2"},
        "subject": "Ada Bell",
    },
    "paraphrase_prompts": ["The cradle of Ada Bell stood in", "Ada Bell, a native of "],
    "neighborhood_prompts": ["Carl Dean was born in", "Eve Finch was born in"],
    "attribute_prompts": [],
    "generation_prompts": [],
}
CHECKED = {
    "prompt": "This passage is about ada bell. Ada Bell sang. ",
    "target_new": "She also danced.",
    "subject": "ada bell",
    "locality_prompt": "A map of the nor",
    "locality_ground_truth": "th of the land\n",
}
TEMPORAL = CHECKED | {"ood_rephrase": "ada bell sang and danced"}
QUESTION = {
    "id": 1104,
    "source": "NQ",
    "prompt": "Who was the first keeper of Ros Light?",
    "target": "Eve Finch",
    "subject": "ros light",
    "rephrase": "Which keeper did Ros Light have first?",
    "locality": [{"loc": "who wrote the fifth book", "loc_ans": "Ann Lee"}, {"loc": "name a lake", "loc_ans": "Ree"}],
}
LAYOUTS = [(read_zsre, ZSRE), (read_counterfact, FLAT), (read_counterfact, NESTED), (read_selfcheckgpt, CHECKED)]


@pytest.fixture(params=["list", "lines"])
def write(request, tmp_path):
    def written(*records: object) -> Path:
        file = tmp_path / "set.json"
        lines = "\n\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n"
        text = json.dumps(records, indent=1) if request.param == "list" else lines
        file.write_text("\ufeff" + text, encoding="utf-8")
        return file

    return written


def test_zsre(write):
    (edit,) = read_zsre(write(ZSRE))
    assert edit == Edit(
        "Which river does Mill Lane cross?",
        " Severn",
        "Mill Lane",
        ("What river is under Mill Lane?",),
        ("nq question: who wrote the fifth book", " Ann Lee"),
        None,
        "",
        "zsre/1",
    )
    assert read_zsre(write(ZSRE | {"answers": ["Wye", "Usk"]}))[0].answer == " Wye"
    assert read_zsre(write(ZSRE | {"answers": []}))[0].answer is None


def test_zsre_subjects_are_taken_as_the_prompt_has_them_and_counted(write):
    records = [ZSRE, ZSRE | {"subject": "mill LANE"}, ZSRE | {"subject": "Mill Road"}, ZSRE | {"subject": "MILL lane"}]
    with pytest.warns(UserWarning, match="of 4 edits, 2 take .*, 1 have no subject"):
        edits = read_zsre(write(*records))
    assert [edit.subject for edit in edits] == ["Mill Lane", "Mill Lane", None, "Mill Lane"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_zsre(write(ZSRE))


def test_both_layouts_of_counterfact(write):
    flat, nested = read_counterfact(write(FLAT, NESTED | {"case_id": 13}))
    assert flat == Edit(
        "Ada Bell was born in",
        " Oslo",
        "Ada Bell",
        ("The cradle of Ada Bell stood in",),
        ("Carl Dean was born in", " Rome"),
        " Rome",
        "",
        "counterfact/12",
    )
    assert nested.rephrases == ("The cradle of Ada Bell stood in", "Ada Bell, a native of")
    assert (nested.relation, nested.identity) == ("P19", "counterfact/13")
    for field in ("prompt", "target", "subject", "locality", "answer"):
        assert getattr(nested, field) == getattr(flat, field)


def test_selfcheckgpt(write):
    (edit,) = read_selfcheckgpt(write(CHECKED))
    assert edit == Edit(
        "This passage is about ada bell. Ada Bell sang.",
        " She also danced.",
        "ada bell",
        locality=("A map of the nor", " th of the land"),
        identity="selfcheckgpt/1",
    )


def test_the_temporal_set_has_a_rephrase_besides(write):
    (edit,) = read_selfcheckgpt(write(TEMPORAL))
    (plain,) = read_selfcheckgpt(write(CHECKED))
    assert edit == dataclasses.replace(plain, rephrases=("ada bell sang and danced",))


def test_qaedit(write):
    empty = QUESTION | {"locality": [{"loc": "name a lake", "loc_ans": " "}, QUESTION["locality"][0]], "subject": "Ros"}
    with pytest.warns(UserWarning, match="of 3 edits, 1 take .* prompt, 1 have no subject, .* 1 have no locality"):
        first, second, third = read_qaedit(write(QUESTION, empty, QUESTION | {"locality": [], "subject": "Rosa"}))
    assert first == Edit(
        "Who was the first keeper of Ros Light?",
        " Eve Finch",
        "Ros Light",
        ("Which keeper did Ros Light have first?",),
        ("who wrote the fifth book", " Ann Lee"),
        identity="qaedit/1",
    )
    assert second == dataclasses.replace(first, subject="Ros", identity="qaedit/2")
    assert third == dataclasses.replace(first, subject=None, locality=None, identity="qaedit/3")


@pytest.mark.parametrize(
    ("read", "record", "field"),
    [(read_zsre, ZSRE, "rephrase"), (read_counterfact, FLAT, "rephrase_prompt"), (read_qaedit, QUESTION, "rephrase")],
)
def test_rephrases_are_one_text_or_a_list(tmp_path, read, record, field):
    file = tmp_path / "set.json"
    for given, expected in (([" one", "two "], ("one", "two")), (["one"], ("one",)), ("one", ("one",))):
        file.write_text(
            json.dumps([record | {field: given, "subject": record["prompt" if "prompt" in record else "src"]}])
        )
        assert read(file)[0].rephrases == expected


@pytest.mark.parametrize(
    ("read", "record", "field"),
    [
        (read_zsre, ZSRE, "loc_ans"),
        (read_counterfact, FLAT, "locality_ground_truth"),
        (read_selfcheckgpt, CHECKED, "locality_ground_truth"),
    ],
)
def test_a_locality_question_without_answer_is_no_locality_and_counted(write, read, record, field):
    other = record | ({"case_id": 13} if "case_id" in record else {})
    with pytest.warns(UserWarning, match="of 2 edits, 1 have no locality, since its question has no answer") as told:
        asked, unasked = read(write(record, other | {field: " \n"}))
    assert len(told) == 1
    assert unasked == dataclasses.replace(asked, locality=None, identity=unasked.identity)


NEEDED = [
    (read, record, (field,))
    for read, record in LAYOUTS
    for field in record
    if field not in ("loc_prompt", "case_id", "pararel_idx", "attribute_prompts", "generation_prompts")
    and field != "requested_rewrite"
] + [
    (read_counterfact, NESTED, ("requested_rewrite", *rest))
    for rest in (("prompt",), ("subject",), ("target_new",), ("target_new", "str"), ("target_true", "str"))
]


@pytest.mark.parametrize(
    ("read", "record", "field"), NEEDED, ids=lambda value: ".".join(value) if isinstance(value, tuple) else ""
)
def test_missing_wrong_and_empty_fields_are_named(tmp_path, read, record, field):
    name = ".".join(field)
    damages = (("missing", "no field"), ("number", "a text is expected|not an object"), ("empty", "is empty|no field"))
    for damage, message in damages:
        bad = copy.deepcopy(record)
        holder = bad
        for step in field[:-1]:
            holder = holder[step]
        nested = not isinstance(holder[field[-1]], str)
        if damage == "empty" and name in ("loc_ans", "locality_ground_truth"):
            continue  # then there is no locality
        if damage == "missing":
            del holder[field[-1]]
        elif damage == "number":
            holder[field[-1]] = 5
        elif nested:
            holder[field[-1]] = type(holder[field[-1]])()
            if name == "paraphrase_prompts":
                continue  # a record may have no rephrases
        else:
            holder[field[-1]] = " \n"
        file = tmp_path / "bad.json"
        file.write_text(json.dumps([record, bad]), encoding="utf-8")
        with pytest.raises(UserError, match=message) as caught:
            read(file)
        assert "bad.json, record 2 (line " in str(caught.value)
        assert f'"{name}' in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("read", "record", "message"),
    [
        (read_counterfact, FLAT | {"subject": "Ida Bell"}, '1.*, field "subject": the subject .* is not in'),
        (read_selfcheckgpt, CHECKED | {"subject": "ADA BELL"}, '1.*, field "subject": the subject .* is not in'),
        (read_zsre, ZSRE | {"alt": ZSRE["src"]}, '1.*, field "target": .* equals its prompt'),
        (read_zsre, ZSRE | {"answers": [7]}, '"answers.0" is a number where a text is expected'),
        (
            read_counterfact,
            NESTED | {"requested_rewrite": NESTED["requested_rewrite"] | {"prompt": "born in"}},
            "one {}",
        ),
        (read_counterfact, NESTED | {"paraphrase_prompts": ["x", ""]}, '"paraphrase_prompts.1" is empty'),
        (read_counterfact, NESTED | {"requested_rewrite": "x"}, '"requested_rewrite" is a text, not an object'),
        (read_counterfact, 5, "1.*: not a JSON object but a number"),
        (read_counterfact, FLAT | {"case_id": [1]}, '"case_id" is a list'),
        (read_selfcheckgpt, TEMPORAL | {"ood_rephrase": []}, '"ood_rephrase" is an empty list'),
        (read_qaedit, QUESTION | {"locality": "x"}, '"locality" is a text, not an object or list'),
        (read_qaedit, QUESTION | {"locality": [{"loc": "x"}]}, 'no field "locality.0.loc_ans"'),
        (read_qaedit, QUESTION | {"rephrase": ["x", 5]}, '"rephrase.1" is a number where a text'),
    ],
)
def test_other_faults_of_a_record(write, read, record, message):
    with pytest.raises(UserError, match=message):
        read(write(record))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no records"),
        (b"[]", "no records"),
        (b"\n \n", "no records"),
        (b'[{"a": 1},\n {"a" 2}]', r", record 2 \(line 2\): broken JSON .*line 2"),
        (b'{"a": 1}\n\n{"a"\n', r", line 3: broken JSON \(the text ends too early"),
        (b'{"a": "\xff"}', r", line 1 \(byte 8\): not UTF-8"),
    ],
)
def test_faults_of_a_file(tmp_path, content, message):
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"bad.json:? ?{message}"):
        read_selfcheckgpt(file)


def test_a_case_that_stands_twice_is_refused(write):
    with pytest.raises(UserError, match="a second record counterfact/12; remove or renumber one"):
        read_counterfact(write(FLAT, NESTED))


def test_an_absent_file(tmp_path):
    with pytest.raises(UserError, match="check the path"):
        read_zsre(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("read", "file"),
    [
        (read_zsre, "zsre_sample.json"),
        (read_counterfact, "counterfact_sample.json"),
        (read_selfcheckgpt, "selfcheckgpt_sample.json"),
    ],
)
def test_slices_of_the_real_sets(read, file):
    path = Path(os.environ.get("BENCHMARK_DIR", ".")) / file
    if not path.is_file():
        pytest.skip(f"BENCHMARK_DIR does not hold {file}")
    raw = json.loads(path.read_text(encoding="utf-8"))
    edits = read(path)
    assert len(edits) == len(raw)
    assert len({edit.identity for edit in edits}) == len(edits)
    targets = [record.get("alt", record.get("target_new")) for record in raw]
    for edit, record, target in zip(edits, raw, targets, strict=True):
        check(edit, needs_subject=True)
        assert edit.target == f" {target.strip()}"
        assert edit.prompt == record.get("src", record.get("prompt")).strip()
        assert edit.locality is not None
