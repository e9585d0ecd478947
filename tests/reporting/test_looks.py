"""Looks of models and methods: the style sheet's own, apart from each other, and curves that show their intervals."""

import itertools

import matplotlib.pyplot as plt
import pytest

from lib.intervals.estimates import Interval
from lib.reporting import figures, looks

FOUND = [Interval(0.2, 0.1, 0.4), Interval(0.5, 0.5, 0.9), Interval(-0.3, -0.4, 0.0)]


@pytest.fixture(autouse=True)
def _style():
    figures.style()
    yield
    plt.close("all")


def test_the_looks_are_those_of_the_style_sheet():
    cycle = plt.rcParams["axes.prop_cycle"].by_key()
    assert list(looks.COLOURS) == cycle["color"]
    assert list(looks.LINES) == cycle["linestyle"]
    assert list(looks.MARKERS) == cycle["marker"]


def test_no_two_of_twenty_names_look_alike_and_neighbours_differ_in_grey():
    found = list(looks.numbered([f"row {place}" for place in range(20)]).values())
    assert len({(one.colour, one.style, one.marker) for one in found}) == 20
    assert len({(one.style, one.marker) for one in found[:5]}) == 5
    shades = [figures.lightness(one.colour) for one in found[:5]]
    assert min(abs(a - b) for a, b in itertools.pairwise(shades)) > figures.LIGHTNESS_STEP


@pytest.mark.parametrize(
    "draw",
    [
        lambda axes, look: looks.curve(axes, [1, 2, 4], FOUND, look, "a row"),
        lambda axes, look: looks.rows(axes, ["a", "b", "c"], FOUND, look),
    ],
)
def test_intervals_are_drawn_where_they_are_and_can_be_saved(draw):
    figure, axes = plt.subplots()
    numbers = draw(axes, looks.numbered(["a"])["a"])
    axes.set(xlabel="x", ylabel="y")
    figures.check_numbers(figure, numbers)
    figures.check_legible(figure)
    across = axes.get_yticklabels() and [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    ends = [segment for bars in axes.containers[0].lines[2] for segment in bars.get_segments()]
    spans = [sorted((segment[0][0], segment[1][0]) if across else (segment[0][1], segment[1][1])) for segment in ends]
    assert [pytest.approx(span) for span in spans] == [[one.low, one.high] for one in FOUND]


def test_the_first_row_stands_at_the_top():
    _, axes = plt.subplots()
    numbers = looks.rows(axes, ["first", "second", "third"], FOUND, looks.numbered(["a"])["a"])
    assert numbers["row"] == [2, 1, 0]
    assert numbers["estimate"] == [0.2, 0.5, -0.3]
