"""The figures of the series: what they draw is what they are given, and they can be read."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.intervals import Interval
from lib.reporting import figures
from lib.series.infodiffusion import figures as drawn
from lib.series.infodiffusion import process_figures

PAIR = ("InfoDiffusion", "DiffuSeq")
ONE = Interval(0.4, 0.35, 0.45)


@pytest.fixture(autouse=True)
def _style():
    figures.style()
    yield
    plt.close("all")


def checked(figure, numbers):
    """Hold a figure to what `figures.save` asks of it."""
    figures.check_numbers(figure, figures.tables.plain(numbers, "s/x"))
    figures.check_legible(figure)
    return figure


def words(step: int) -> pd.DataFrame:
    """Four sentences of six nouns, settled between `step` and the end of ten steps."""
    rows = [(item, "noun", (step + (item + place) % 3) / 10, 2.0 + place) for item in range(4) for place in range(6)]
    return pd.DataFrame(rows, columns=["item", "group", "share", "information"])


def test_the_pair_looks_the_same_everywhere_and_unlike_each_other():
    assert list(drawn.LOOKS)[:2] == list(PAIR)
    first, second = (drawn.LOOKS[title] for title in PAIR)
    assert (first.colour, first.style, first.marker) != (second.colour, second.style, second.marker)


def test_schedules_are_drawn_over_all_times():
    curves = {"high": np.linspace(1, 0, 101) ** 0.5, "low": np.linspace(1, 0, 101) ** 2}
    points = pd.DataFrame({"t": [50], "abar_read_off": [0.6]})
    figure = checked(*drawn.schedules(curves, points))
    for line, curve in zip(figure.axes[0].lines[:2], curves.values(), strict=True):
        assert np.array_equal(line.get_ydata(), curve)


def test_names_of_curves_that_meet_stand_apart():
    """Words of a sentence may have nearly the same information: one curve lies on the other."""
    curves = {name: np.linspace(1, 0, 11) ** (2 + k / 50) for k, name in enumerate(["river", "town", "bridge"])}
    checked(*drawn.schedules(curves))


def test_three_seeds_of_a_training_have_an_interval_and_one_has_none():
    three = [{100: 0.1, 200: 0.3}, {100: 0.2, 200: 0.4}, {100: 0.3, 200: 0.5, 300: 0.6}]
    figure, numbers = drawn.training({PAIR[0]: three, PAIR[1]: [{100: 0.1, 200: 0.2}]}, 0.45)
    checked(figure, numbers)
    assert numbers[PAIR[0]]["x"] == [100, 200]
    assert numbers[PAIR[0]]["estimate"] == pytest.approx([0.2, 0.4])
    assert numbers[PAIR[0]]["low"][1] < 0.3
    assert numbers[PAIR[1]]["low"] == numbers[PAIR[1]]["high"] == [0.1, 0.2]
    faces = [container.lines[0].get_markerfacecolor() for container in figure.axes[0].containers]
    assert [face == "white" for face in faces] == [False, True]
    assert max(figure.axes[0].get_xticks()) <= 200


def test_curves_that_end_at_one_place_are_named_one_above_the_other():
    checked(*drawn.training({title: [{100: 0.1, 200: 0.3 + k / 1000}] for k, title in enumerate(PAIR)}, 0.45))


def test_above_each_word_stands_the_step_that_settled_it():
    sentence = np.array(["the", "wolf", "$sees", "stars"], dtype=object)
    figure, numbers = drawn.settled_words({title: (sentence, np.array([4, 1, 2, 20])) for title in PAIR}, 20)
    checked(figure, numbers)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["the", "4", "wolf", "1", "$sees", "2", "stars", "20"]
    shades = [float(text.get_bbox_patch().get_facecolor()[0]) for text in figure.axes[0].texts[::2]]
    assert shades[1] < shades[2] < shades[0] < shades[3] == 1


def test_models_and_ranks_and_differences():
    found = {task: {title: ONE for title in drawn.LOOKS if "times" not in title} for task in ("A", "B", "C")}
    checked(*drawn.by_task(found, dict.fromkeys(found, 0.3), "BLEU"))
    ours = {"A": {"InfoDiffusion": 0.3, "DiffuSeq": 0.5, "GRU-attention": 0.1, "alone": 0.9}}
    figure, numbers = drawn.ranks(ours, {"A": {"InfoDiffusion": 0.9, "DiffuSeq": 0.8, "GRU-attention": 0.7}})
    checked(figure, numbers)
    assert numbers["A"] == {
        "models": ["InfoDiffusion", "DiffuSeq", "GRU-attention"],
        "here": [2, 1, 3],
        "paper": [1, 2, 3],
    }
    gaps = {"best of ten": {"A: BLEU": ONE, "B: BLEU": None}, "one candidate": {"A: BLEU": None, "B: BLEU": None}}
    figure, numbers = drawn.differences(gaps, "A minus B", single=["A: BLEU"])
    checked(figure, numbers)
    assert figure.axes[0].containers[0].lines[0].get_markerfacecolor() == "white"
    assert numbers["best of ten"] == {"row": [1], "A: BLEU": ONE}
    checked(*drawn.over_lambda({0.0: ONE, 0.5: ONE}))


def test_curves_over_steps_and_the_plateaus_of_the_paper():
    walk = {step: ONE for step in (1, 10, 200)}
    walks = {task: {key: walk for key in itertools.product(PAIR, ("clamped", "ddim"))} for task in ("A", "B")}
    plateaus = {"A": {PAIR[0]: (110, 110), PAIR[1]: (180, 190)}}
    figure, numbers = process_figures.over_steps(walks, "BLEU", plateaus, {"A": 1, "B": 3})
    checked(figure, numbers)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["A (one seed)", "B (three seeds)"]
    assert numbers["A"]["the paper's plateau, DiffuSeq"] == [180, 190]
    assert numbers["B"]["DiffuSeq, DDIM"]["x"] == [1, 10, 200]
    seconds = {PAIR[0]: {1: 0.01, 200: 1.0}, PAIR[1]: {1: 0.012, 200: 1.1}}
    checked(*process_figures.seconds(seconds))


@pytest.mark.parametrize("warmths", [(1.0,), (0.0, 0.5, 1.0)])
def test_quality_over_diversity_is_a_line_over_temperatures_or_one_point(warmths):
    lines = {title: {w: (Interval(0.3 + 0.2 * w + k / 10, 0, 1), ONE) for w in warmths} for k, title in enumerate(PAIR)}
    figure, numbers = process_figures.tradeoff({"A": lines})
    checked(figure, numbers)
    assert numbers["A"][PAIR[0]]["diverse_4"][:, 0] == pytest.approx([0.3 + 0.2 * w for w in warmths])


def test_the_share_of_words_settled_rises_to_all_of_them():
    found = {PAIR[0]: words(1), PAIR[1]: words(8)}
    figure, numbers = process_figures.settled_share(found, ["noun", "verb"], bins=10)
    checked(figure, numbers)
    assert numbers["noun"][PAIR[0]]["settled"] == pytest.approx([1 / 3, 2 / 3] + [1] * 8)
    assert numbers["noun"][PAIR[1]]["settled"] == pytest.approx([0] * 7 + [1 / 3, 2 / 3, 1])
    assert numbers["verb"] == {}
    low, high = (numbers["noun"][PAIR[0]][end] for end in ("low", "high"))
    assert (low <= numbers["noun"][PAIR[0]]["settled"] + 1e-9).all()
    assert (high >= numbers["noun"][PAIR[0]]["settled"] - 1e-9).all()
    checked(*process_figures.by_information(found, classes=3))
