"""Lines shown from the source: the right ones, without the docstring, and an error where they are gone."""

import math

import pytest

from lib.diffusion import schedule
from lib.lemoe import rejection
from lib.reporting import listings


def shown(x: int) -> int:
    """Return something.

    Over several lines.
    """
    y = x + 1
    if y > 2:
        y = 2 * x
    return y


def test_a_function_is_shown_without_its_docstring():
    assert listings.listing(shown) == (
        "def shown(x: int) -> int:\n    y = x + 1\n    if y > 2:\n        y = 2 * x\n    return y"
    )


def test_some_lines_of_it_begin_at_the_left():
    assert listings.listing(shown, "if y", "2 * x") == "if y > 2:\n    y = 2 * x"
    assert listings.listing(shown, "return") == "return y"


@pytest.mark.parametrize(("first", "last"), [("z = 3", ""), ("if y", "y = x + 1")])
def test_lines_that_are_gone_are_an_error(first, last):
    with pytest.raises(ValueError, match="shown has no line with"):
        listings.listing(shown, first, last)


def test_what_is_shown_is_the_formula_that_runs(capsys):
    namespace = {"Tensor": object, "torch": __import__("torch"), "math": math}
    exec(listings.listing(schedule.information_abar), namespace)
    t, e = namespace["torch"].tensor([500.0]), namespace["torch"].tensor([0.64])
    assert namespace["information_abar"](t, 2000, e, 0.5).item() == pytest.approx(
        0.75 + 0.5 * math.sin(math.pi / 4) * 0.64
    )
    listings.show(schedule.information_abar)
    assert "Markdown" in capsys.readouterr().out


def test_the_file_of_a_decorated_method_is_its_own(monkeypatch):
    told = []
    monkeypatch.setattr("IPython.display.display", lambda shown: told.append(shown.data))
    listings.show(rejection.Rejection.calibrate)
    assert told[0].startswith("`calibrate` in `lib/lemoe/rejection.py`:")
