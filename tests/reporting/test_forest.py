"""The forest plot: right is what the paper says, units have panels of their own, and nothing recorded is visible."""

import matplotlib.pyplot as plt
import pytest

from lib.intervals import Interval
from lib.reporting import claims, figures, forest
from lib.reporting.forest import Row

BETTER, LESS = Interval(0.3, 0.2, 0.5), Interval(-0.1, -0.4, 0.1)
ROWS = [
    Row("A paper", "More is better", claims.SUPPORTED, (BETTER,)),
    Row("A paper", "Two things", "not judged: one seed", (BETTER, None, LESS), decides=2),
    Row("A paper", "A loss falls", claims.NOT_SUPPORTED, (LESS,), unit="nats"),
    Row("Another", "Nothing yet", claims.NOT_RECORDED, ()),
]


@pytest.fixture(autouse=True)
def _style():
    figures.style()
    yield
    plt.close("all")


@pytest.mark.parametrize(
    ("direction", "margin", "expected"),
    [(">", 0.0, (0.3, 0.2, 0.5)), (">", 0.4, (-0.1, -0.2, 0.1)), ("<", 0.0, (-0.3, -0.5, -0.2))],
)
def test_right_is_as_claimed(direction, margin, expected):
    found = forest.beyond(BETTER, direction, margin)
    assert tuple(found) == pytest.approx(expected)
    assert found.low <= found.estimate <= found.high
    # The side on which an interval is drawn is the one that judges it.
    outcome = claims.Comparison("x", direction, margin).outcome(BETTER)
    assert (outcome == claims.SUPPORTED) == (found.low > 0)
    assert (outcome == claims.NOT_SUPPORTED) == (found.high < 0)


def test_each_paper_and_unit_has_a_panel_and_every_interval_is_drawn_in_it():
    figure, numbers = forest.draw(ROWS)
    assert [axes.get_title("left") for axes in figure.axes] == [
        "A paper (shares and scores from 0 to 1)",
        "A paper (nats)",
        "Another (shares and scores from 0 to 1)",
    ]
    drawn = [segment for lines in figure.axes[0].collections for segment in lines.get_paths()[0].vertices.tolist()]
    ends = {round(x, 6) for x, _ in drawn}
    assert {0.2, 0.5, -0.4, 0.1} <= ends
    assert numbers["A paper: Two things"]["beyond"] == [BETTER, None, LESS]
    low, high = figure.axes[1].get_xlim()
    assert low < -0.4
    assert high > 0.1
    figures.check_legible(figure)
    figures.check_numbers(figure, {})  # no line of three points


def test_what_decides_is_bold_and_what_is_not_recorded_says_so():
    figure, _ = forest.draw(ROWS)
    widths = [lines.get_linewidths()[0] for lines in figure.axes[0].collections if lines.get_linewidths()[0] > 0]
    assert widths == [2.2, 0.8, 2.2]
    assert [text.get_text() for text in figure.axes[2].texts] == ["no interval", "not recorded"]


def test_a_plot_without_claims_is_refused():
    with pytest.raises(ValueError, match="needs a claim"):
        forest.draw([])
