"""Sentences below tables and figures: what they say of a number is what the number is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.intervals.estimates import Interval
from lib.reporting import sentences


def test_sentences_are_shown_as_one_paragraph(capsys):
    sentences.tell("Half of the facts are lost.", "Nothing else is.")
    assert "Markdown" in capsys.readouterr().out


def test_an_estimate_stands_with_its_interval_and_never_as_minus_zero():
    assert sentences.spread(Interval(0.4033, 0.1344, 0.6722)) == "0.40 [0.13, 0.67]"
    assert sentences.spread(Interval(0.5, -0.25, 1.25), 1, signed=True) == "+0.5 [-0.2, +1.2]"
    assert sentences.spread((-0.0, -0.0, 0.0)) == "0.00 [0.00, 0.00]"


@given(st.lists(st.floats(-9, 9), min_size=3, max_size=3).map(sorted), st.floats(-9, 9))
def test_the_wording_is_that_of_the_side(values, margin):
    low, estimate, high = values
    said = sentences.by_side(Interval(estimate, low, high), "above", "below", "open", margin)
    assert (said == "above") == all(value > margin for value in values)
    assert (said == "below") == all(value < margin for value in values)


def test_counts_are_words_up_to_ten():
    assert sentences.number(1, "seed") == "one seed"
    assert sentences.number(0, "seed") == "no seeds"
    assert sentences.number(10, "batch", "batches") == "ten batches"
    assert sentences.number(1200, "fact") == "1,200 facts"


def test_names_are_listed_in_english():
    assert sentences.listed([]) == "none"
    assert sentences.listed(["GRACE"]) == "GRACE"
    assert sentences.listed(["GRACE", "WISE"]) == "GRACE and WISE"
    assert sentences.listed(["GRACE", "WISE", "MEMIT"]) == "GRACE, WISE and MEMIT"


def test_extremes_are_the_lowest_and_the_highest():
    assert sentences.extremes({"a": 2.0, "b": 1.0, "c": 3.0, "d": 3.0}) == ("b", "c")
    with pytest.raises(ValueError, match="empty"):
        sentences.extremes({})
