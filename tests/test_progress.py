"""Progress bars: seen in a notebook and on a terminal, absent from logs and recorded outputs."""

import sys

import pytest

from lib import progress


@pytest.mark.parametrize(
    ("kernel", "terminal", "flag", "shown"),
    [
        (True, False, None, True),
        (False, True, None, True),
        (False, False, None, False),
        (True, True, "0", False),
        (False, True, "0", False),
    ],
)
def test_bars_are_drawn_where_a_person_looks(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kernel: bool,
    terminal: bool,
    flag: str | None,
    shown: bool,
) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if kernel:
        monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.delenv("REPRODUCTION_PROGRESS", raising=False)
    if flag is not None:
        monkeypatch.setenv("REPRODUCTION_PROGRESS", flag)
    assert progress.enabled() is shown
    assert list(progress.bar(range(3), "three")) == [0, 1, 2]
    assert ("three" in capsys.readouterr().err) is shown
