"""Models that the user has at hand: a folder of them, by the last part of their names on the hub."""

from pathlib import Path

import pytest

from lib.sources import hub


def test_a_model_is_taken_from_model_dir_where_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Llama-2-7b-hf").mkdir()
    (tmp_path / "own").mkdir()
    monkeypatch.delenv("MODEL_DIR", raising=False)
    assert hub.place("meta-llama/Llama-2-7b-hf") == "meta-llama/Llama-2-7b-hf"
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    assert hub.place("meta-llama/Llama-2-7b-hf") == str(tmp_path / "Llama-2-7b-hf")
    assert hub.place("gpt2") == "gpt2"
    folder = str(tmp_path / "elsewhere" / "own")
    (tmp_path / "elsewhere" / "own").mkdir(parents=True)
    assert hub.place(folder) == folder  # a folder is itself
