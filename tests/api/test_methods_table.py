"""The table of methods: docs, help and the record of its figures tell the same, of every method."""

import pytest

from lib import paths
from lib.api import methods_table
from lib.api.editing import METHODS, edit
from lib.benchmarks import library_methods
from lib.errors import UserError


def test_docs_help_and_record_tell_the_same() -> None:
    docs = (paths.ROOT / "docs/library.md").read_text(encoding="utf-8")
    assert library_methods.renewed(docs) == docs, "run `python -m lib.benchmarks.library_methods --table`"
    told = [line.strip() for line in str(edit.__doc__).splitlines()]
    assert all(line.strip() in told for line in methods_table.table().splitlines())
    assert " ".join(methods_table.about().split()) in " ".join(told)


def test_what_was_measured_is_a_method_s_released_or_tuned_settings() -> None:
    found = methods_table.measured()["methods"]
    assert list(found) == [name for name in METHODS if name in found]
    for name, rows in found.items():
        assert set(rows) <= {METHODS[name].defaults, *(["tuned"] if METHODS[name].tuned else [])}, name
        for row in rows.values():
            assert "failed" in row or all(0 <= row[score] <= 1 for score in ("rel", "gen", "loc"))


def test_settings_are_asked_for_by_name() -> None:
    assert library_methods.variants("wise") == [("wise", False), ("wise", True)]
    assert library_methods.variants("wise/tuned") == [("wise", True)]
    assert library_methods.variants("lemoe") == [("lemoe", False)]
    with pytest.raises(UserError, match="lemoe has no settings 'tuned'"):
        library_methods.variants("lemoe/tuned")


def test_the_figures_stand_in_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"rel": 1.0, "gen": 0.25, "loc": 0.5, "bytes": 3_540_000, "seconds_an_edit": 1.24}
    made = {"model": "M", "edits": 4, "batches": 2, "methods": {"grace": {"release": row, "tuned": {"failed": "NaN"}}}}
    monkeypatch.setattr(methods_table, "measured", lambda: made)
    lines = methods_table.markdown().splitlines()
    grace = [line for line in lines if line.startswith("| `grace`")]
    assert grace[0].endswith("| 3.5 | 1.2 | 1.00 | 0.25 | 0.50 |")
    assert grace[1].endswith("| - | - | failed | - | - |")
    assert next(line for line in lines if line.startswith("| `ewc`")).endswith("| - | - | - | - | - |")
    with pytest.raises(UserError, match="markers"):
        library_methods.renewed("no table here")
