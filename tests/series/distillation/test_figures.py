"""Pictures of the distillation series: what is drawn is what is saved, and nothing joins unlike students."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.intervals import Interval
from lib.reporting import figures
from lib.series.distillation import figures as drawn

A, B = Interval(1.0, 0.5, 2.0), Interval(-1.0, -3.0, -0.5)


@pytest.fixture(autouse=True)
def _style():
    figures.style()
    yield
    plt.close("all")


def checked(found):
    figure, numbers = found
    figures.check_numbers(figure, numbers)
    figures.check_legible(figure)
    return figure, numbers


def test_without_rows_a_picture_says_that_nothing_is_recorded():
    figure, numbers = checked(drawn.interval_rows({}, "nats", zero=True))
    assert numbers == {}
    assert [text.get_text() for text in figure.axes[0].texts] == ["nothing is recorded"]


def test_intervals_stand_in_rows_beside_named_levels():
    figure, numbers = checked(drawn.interval_rows({"one": {"a": A, "b": B}}, "points", {"one": {"teacher": 5.0}}))
    assert numbers["one"]["low"] == [0.5, -3.0]
    assert numbers["one"]["teacher"] == 5.0
    assert [line.get_xdata()[0] for line in figure.axes[0].lines if len(set(line.get_xdata())) == 1][-1] == 5.0


def test_rows_of_one_seed_are_hollow_and_the_head_of_the_names_says_so():
    figure, numbers = checked(drawn.interval_rows({"one": {"a": A, "b": B}}, "points", lone=["b"]))
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in hollow] == [([-1.0], [0])]
    assert numbers["one"]["one seed"] == ["b"]
    assert figure.axes[0].get_ylabel() == drawn.KEY
    figure, _ = drawn.interval_rows({"one": {"a": A, "b": B}}, "points")
    assert all(line.get_markerfacecolor() != "white" for line in figure.axes[0].lines)


def test_scores_need_no_zero_on_their_axis_and_differences_of_students_keep_it():
    high = {"a": Interval(40.0, 38.0, 42.0), "b": Interval(45.0, 44.0, 46.0)}
    figure, _ = drawn.interval_rows({"one": high}, "points", {"one": {"teacher": 60.0}})
    left, right = figure.axes[0].get_xlim()
    assert 30 < left < 38
    assert 60 < right < 65
    frame = pd.DataFrame({"student": ["a", "b"], "parameters (millions)": [1.0, 2.0], "x minus y": [*high.values()]})
    figure, _ = drawn.gain_by_student(frame, ["x minus y"])
    assert figure.axes[0].get_xlim()[0] < 0 < figure.axes[0].get_xlim()[1]


def test_a_line_at_zero_stands_where_differences_are_drawn():
    for zero in (True, False):
        figure, _ = drawn.interval_rows({"one": {"a": A, "b": B}}, "points", zero=zero)
        assert any(list(line.get_xdata()) == [0, 0] for line in figure.axes[0].lines) == zero


def test_similarities_are_drawn_with_the_layers_that_rules_take():
    matrix = np.arange(8.0).reshape(2, 4) / 10
    maps = {"uniform": {1: 2, 2: 4}, "reversed": {1: 4, 2: 2}}
    figure, numbers = checked(drawn.similarity({"before": matrix, "after": matrix[::-1]}, maps))
    assert numbers["maps"] == {"uniform": [2, 4], "reversed": [4, 2]}
    assert numbers["cka"]["after"] == matrix[::-1].tolist()
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [2, 4]
    assert np.round(line.get_ydata()) == pytest.approx([1, 2])


def test_the_weights_of_each_rule_are_drawn_over_steps():
    steps = {"step": [1, 2], "weight_ce": [1.0, 1.0], "weight_output": [1.0, 0.9], "weight_middle": [1.0, 1.1]}
    _, numbers = checked(drawn.weights_over_training({"fixed": pd.DataFrame(steps)}))
    assert numbers["fixed"]["middle"] == [1.0, 1.1]


def test_unlike_students_stand_in_rows_by_size_and_no_line_joins_them():
    frame = pd.DataFrame(
        {
            "student": ["large", "small"],
            "parameters (millions)": [2.0, 1.0],
            "ours": [A, B],
            "ours minus output": [B, A],
        }
    )
    figure, numbers = checked(drawn.gain_by_student(frame, ["ours", "ours minus output"]))
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["small, 1.0 M", "large, 2.0 M"]
    assert numbers["ours"]["estimate"] == [-1.0, 1.0]
    assert all(
        line.get_linestyle() == "None" for axes in figure.axes for line in axes.lines if len(line.get_xdata()) > 2
    )


def test_a_step_costs_what_its_bar_says():
    frame = pd.DataFrame({"method": ["a", "b"], "seconds a step": [0.2, 1.0], "MiB held": [20, 200]})
    figure, _ = checked(drawn.step_costs(frame))
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.20", "1.00"]
