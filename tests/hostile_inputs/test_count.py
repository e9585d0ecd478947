"""How many hostile inputs the tests of this folder try; `make test ARGS="-s tests/hostile_inputs"` prints it."""

import warnings
from pathlib import Path

import pytest

from tests.hostile_inputs import held, test_command_lines, test_configurations, test_files, test_notebooks


def test_there_are_at_least_five_hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    file = tmp_path / "held.ipynb"
    warnings.simplefilter("ignore")
    tried = {
        "files": sum(
            len(list(held.damages(held.line(kind.record)))) + 2 * len(list(held.field_damages(kind))) + 6
            for kind in held.KINDS
        )
        + len([*test_files.wrong_vocabularies(file)])
        + 2 * len([*held.damages(b"{}")]),
        "notebooks": sum(
            len(list(make(file)))
            for make in (
                *(test_notebooks.notebooks, test_notebooks.contracts),
                *(test_notebooks.cells, test_notebooks.values),
            )
        ),
        "sizes": sum(len(list(test_configurations.sizes(monkeypatch, room))) for room in test_configurations.ROOMS)
        + len(test_configurations.OTHER),
        "command lines": len(test_command_lines.LINES),
    }
    with capsys.disabled():
        print(
            f"\nhostile inputs: {sum(tried.values())} ({', '.join(f'{count} {what}' for what, count in tried.items())})"
        )
    assert sum(tried.values()) > 3000
    assert min(tried.values()) > 40
