"""The user's own benchmark files: where they are looked for, and that they are those that we report on."""

import hashlib
from pathlib import Path

import pytest

from lib.errors import UserError
from lib.sources import own_files
from lib.sources.own_files import Slice

CONTENT = b'{"src": "a", "trg": "b"}\n'
SLICE = Slice("set.jsonl", "A set", hashlib.sha256(CONTENT).hexdigest())


def test_a_slice_is_found_where_benchmark_dir_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set.jsonl").write_bytes(CONTENT)
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path))
    assert SLICE.path() == tmp_path / "set.jsonl"


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        (None, "set BENCHMARK_DIR to the folder"),
        ("", "set BENCHMARK_DIR to the folder"),
        ("absent", "no such file: BENCHMARK_DIR must hold set.jsonl"),
        ("file", "no such file: BENCHMARK_DIR must hold set.jsonl"),
        ("folder", "no such file: BENCHMARK_DIR must hold set.jsonl"),
        ("another", "not the file that was reported on"),
        ("forbidden", "Permission denied: let yourself read it"),
    ],
)
def test_what_is_another_file_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, said: str) -> None:
    (tmp_path / "folder" / "set.jsonl").mkdir(parents=True)
    (tmp_path / "file").write_bytes(CONTENT)
    for name, content in (("another", CONTENT[:-1]), ("forbidden", CONTENT)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "set.jsonl").write_bytes(content)
    if folder == "forbidden":
        monkeypatch.setattr(
            own_files.files, "sha256", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
    monkeypatch.delenv("BENCHMARK_DIR", raising=False)
    if folder is not None:
        monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path / folder) if folder else "")
    with pytest.raises(UserError, match=said):
        SLICE.path()
