"""Looks of models and methods: the style sheet's own, apart from each other, and curves that show their intervals."""

import itertools

import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_points_of_a_hollow_curve_are_open_and_its_line_is_not():
    _, axes = plt.subplots()
    look = looks.numbered(["a"])["a"]
    for hollow in (True, False):
        looks.curve(axes, [1, 2, 4], FOUND, look, "a row", hollow=hollow)
    open_, filled = (container.lines[0] for container in axes.containers)
    assert [one.get_markerfacecolor() for one in (open_, filled)] == ["white", look.colour]
    assert open_.get_color() == filled.get_color() == look.colour


@pytest.mark.parametrize("outside", [True, False])
def test_names_of_ends_that_meet_are_moved_apart_in_their_order_and_stay_beside_the_axes(outside):
    figure, axes = plt.subplots(figsize=(5, 3))
    ends = {"second": (1.0, 0.98), "first": (1.0, 1.0), "third": (0.5, 0.96), "alone": (1.0, 0.3)}
    axes.set(xlim=(0, 2), ylim=(0, 1), xlabel="x", ylabel="y")
    looks.name_ends(axes, ends, looks.numbered(list(ends)), outside=outside)
    figures.check_legible(figure)  # no two names overlap, and none leaves the canvas
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    middles = {name: (box.y0 + box.y1) / 2 for name, box in boxes.items()}
    assert sorted(middles, key=lambda name: -middles[name]) == ["first", "second", "third", "alone"]
    assert middles["first"] < axes.bbox.y1 + 2
    alone = axes.transData.transform(ends["alone"])
    assert middles["alone"] == pytest.approx(alone[1], abs=2)  # in pixels: nothing is near it
    starts = {box.x0 > axes.bbox.x1 for box in boxes.values()}
    assert starts == {outside}
    assert 0 < boxes["alone"].x0 - alone[0] < 20 or outside


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_heights_are_moved_no_more_than_they_have_to(values):
    moved = looks.apart({str(place): value for place, value in enumerate(values)}, 10.0, 100.0)
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [moved[str(place)] for place in order]
    assert all(above - below >= 10 - 1e-6 for below, above in itertools.pairwise(found))
    assert max(found) <= 100
    assert min(found) >= min(*values, 100.0 - 10 * (len(values) - 1)) - 1e-6  # nobody goes below all unless it is full
    apart = all(abs(a - b) >= 10 for a, b in itertools.combinations(values, 2))
    assert not apart or found == sorted(values)


@pytest.mark.parametrize(("titled", "moved"), [(True, {}), (False, {}), (False, {"va": "top"})])
def test_a_head_is_upright_beside_the_axes_above_the_names_and_on_the_canvas(titled, moved):
    figure, axes = plt.subplots(figsize=(3, 2))
    axes.set(yticks=[0, 1], yticklabels=["first name", "second name"], ylim=(-0.5, 2.0), xlabel="x")
    if titled:
        axes.set_title("title")
    looks.head(axes, "names", **moved)
    figures.check_legible(figure)  # on the canvas, and no name below it
    box = axes.yaxis.label.get_window_extent()
    assert box.width > box.height
    assert box.x1 < axes.bbox.x0
    assert (box.y0 >= axes.bbox.y1) if not moved else (box.y1 <= axes.bbox.y1 + 1)


def test_rows_have_their_own_looks_open_points_gaps_and_a_shift():
    _, axes = plt.subplots()
    first, second = looks.numbered(["a", "b"]).values()
    given, found = [first, second, first, first], [FOUND[0], FOUND[1], None, FOUND[2]]
    names = ["1st", "2nd", "3rd", "4th"]
    numbers = looks.rows(axes, names, found, given, up=0.25, hollow=["4th"], zero=False, label="here")
    assert numbers["row"] == [3.25, 2.25, 0.25]  # the third is empty
    assert numbers["low"] == [0.1, 0.5, -0.4]
    points = {(line.get_ydata()[0], line.get_color(), line.get_markerfacecolor()) for line, *_ in axes.containers}
    assert points == {(3.25, *[first.colour] * 2), (2.25, *[second.colour] * 2), (0.25, first.colour, "white")}
    assert [one.get_label() for one in axes.containers] == ["here", "_here", "_here"]
    assert list(axes.get_yticks()) == [3, 2, 1, 0]  # names stand in the middle of their rows
    assert len(axes.lines) == sum(len(part) for one in axes.containers for part in one.lines[1:2]) + 3  # no line at 0
