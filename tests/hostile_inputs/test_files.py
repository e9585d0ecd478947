"""Files of the user's own, each kind in each way damaged: one line that names the file and what is wrong with it."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.running import contract
from lib.text import vocabulary
from tests.hostile_inputs import held
from tests.hostile_inputs.judged import Input, all_refused

VOCABULARY = vocabulary.Vocabulary.build(["the cat sat on the mat"])
WRONG_VOCABULARY: dict[str, list[object]] = {
    "kind": [None, 5, ["words"], "syllables"],
    "total": [None, -1, 2.5, "6", True, 3, [6]],
    "words": [None, 5, "the cat", ["a"], [1, 2, 3, 4], [["a"]], ["<pad>"] * 8],
    "counts": [
        None,
        5,
        "00012",
        [0],
        [0, 0, 0, 2, 1, 1, 1, -1],
        [0, 0, 0, 2, 1, 1, 1, 1.5],
        [0, 0, 0, 2, 1, 1, 1, "1"],
    ],
}
EACH_KIND = pytest.mark.parametrize("kind", held.KINDS, ids=lambda kind: kind.name)


@EACH_KIND
def test_the_good_record_is_read_as_a_line_and_as_a_list(tmp_path: Path, kind: held.Kind) -> None:
    file = tmp_path / "set.json"
    line = held.line(kind.record)
    for content in (line, b"\xef\xbb\xbf\r\n" + line + b"\r\n", held.listed(kind.record)):
        file.write_bytes(content)
        assert len(kind.read(file)) == 1


@EACH_KIND
def test_damaged_files(tmp_path: Path, kind: held.Kind) -> None:
    assert all_refused(damaged(tmp_path / "set.json", kind)) > 40


@EACH_KIND
def test_wrong_fields(tmp_path: Path, kind: held.Kind) -> None:
    with warnings.catch_warnings(action="ignore"):  # that one of several questions has no answer is no error
        assert all_refused(wrong_fields(tmp_path / "set.json", kind)) > 20


@EACH_KIND
def test_what_is_no_file(tmp_path: Path, kind: held.Kind) -> None:
    assert all_refused(no_files(tmp_path, kind)) == 5


@EACH_KIND
def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: held.Kind) -> None:
    def forbidden(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    file = tmp_path / "set.json"
    file.write_bytes(held.line(kind.record))
    monkeypatch.setattr(Path, "read_bytes", forbidden)  # permissions do not hold for everybody who runs tests
    all_refused([Input("forbidden", lambda: kind.read(file), ("set.json", "let yourself read it"))])


def test_wrong_vocabularies(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path / "vocabulary.json")
    assert vocabulary.load(tmp_path / "vocabulary.json") == VOCABULARY
    assert all_refused(wrong_vocabularies(tmp_path / "vocabulary.json")) > 20


def test_damaged_notebooks_and_vocabularies(tmp_path: Path) -> None:
    assert all_refused(damaged_others(tmp_path / "held.ipynb")) > 80


def damaged(file: Path, kind: held.Kind) -> Iterator[Input]:
    """Yield the kind's file in each way damaged; each is written when it is asked for."""
    for name, content, said in held.damages(held.line(kind.record)):
        file.write_bytes(content)
        yield Input(name, lambda: kind.read(file), (file.name, said))


def wrong_fields(file: Path, kind: held.Kind) -> Iterator[Input]:
    """Yield the kind's file, as lines and as a list, with each wrong value of each field."""
    for name, record, said in held.field_damages(kind):
        for write in (held.line, held.listed):
            file.write_bytes(write(record))
            yield Input(f"{name}, {write.__name__}", lambda: kind.read(file), (file.name, said))


def no_files(folder: Path, kind: held.Kind) -> Iterator[Input]:
    """Yield paths at which there is no file."""
    (folder / "folder").mkdir()
    absent = {"absent": "No such file", "folder": "folder, not a file", "a\nb": "No such file", "nul\0": "null byte"}
    for name, said in (absent | {"n" * 300: "too long"}).items():
        yield Input(name, lambda name=name: kind.read(folder / name), (said,))


def wrong_vocabularies(file: Path) -> Iterator[Input]:
    """Yield a vocabulary with each wrong value of each field."""
    VOCABULARY.save(file)
    good = json.loads(file.read_text())
    for field, values in WRONG_VOCABULARY.items():
        for value in values:
            file.write_text(json.dumps(good | {field: value}))
            yield Input(f"{field} {value}", lambda: vocabulary.load(file), (f"{file.name}: not a vocabulary",))


def damaged_others(file: Path) -> Iterator[Input]:
    """Yield what is as wrong for a notebook and a vocabulary as it is for records."""
    for name, content, _ in held.damages(b'{"nbformat": 4}'):
        file.write_bytes(content)
        said = "not a notebook|not UTF-8|NUL|`nbformat_minor`"
        yield Input(f"notebook {name}", lambda: contract.load(file), (file.name, said))
        yield Input(f"vocabulary {name}", lambda: vocabulary.load(file), (f"{file.name}: not a vocabulary",))
