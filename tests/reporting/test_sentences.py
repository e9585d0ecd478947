"""Sentences below tables and figures: what they say of a number is what the number is."""

import re

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


def test_a_small_difference_keeps_its_sign_and_zero_has_none():
    assert sentences.spread((-0.0047, -0.078, 0.069), signed=True) == "-0.005 [-0.078, +0.069]"
    assert sentences.spread((0.0, -0.1, 0.1), signed=True) == "0.00 [-0.10, +0.10]"
    assert sentences.spread((0.2, 0.1, 0.3), signed=True) == "+0.20 [+0.10, +0.30]"
    assert sentences.spread((-0.02, -0.0004, 0.05), signed=True) == "-0.02 [0.00, +0.05]"  # across 0 in any case
    assert sentences.spread((0.03, 0.0004, 0.05), signed=True) == "+0.0300 [+0.0004, +0.0500]"
    assert sentences.spread((1e-17, -0.1, 0.1), signed=True) == "0.00 [-0.10, +0.10]"
    assert sentences.difference(-0.004) == "-0.004"
    assert [sentences.difference(one, 1) for one in (-0.0, 0.24, 12)] == ["0.0", "+0.2", "+12.0"]


@given(st.lists(st.floats(-0.02, 0.02), min_size=3, max_size=3).map(sorted), st.integers(1, 3))
def test_a_difference_is_read_on_the_side_of_zero_on_which_it_lies(values, digits):
    values = [value if abs(value) > 10 ** -(digits + 3) else 0.0 for value in values]
    low, estimate, high = values
    told = sentences.spread(Interval(estimate, low, high), digits, signed=True)
    written = [float(one) for one in re.findall(r"[-+]?[0-9]+[.][0-9]+", told)]
    assert len(written) == 3
    assert (written[0] > 0, written[0] < 0) == (estimate > 0, estimate < 0)
    assert (written[1] > 0, written[2] < 0) == (low > 0, high < 0)
    assert not re.search(r"[-+]0[.]0*(?![0-9])", told)  # no signed zero
    assert written == pytest.approx([estimate, low, high], abs=0.5001 * 10**-digits)


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


def test_all_that_share_the_best_value_as_it_is_told_are_named():
    values = {"LoRA": 0.531, "DoRA": 0.534, "IA3": 0.2, "LoHa": 0.204}
    assert sentences.ties(values) == ["LoRA", "DoRA"]
    assert sentences.ties(values, lowest=True) == ["IA3", "LoHa"]
    assert sentences.ties(values, 3) == ["DoRA"]
    with pytest.raises(ValueError, match="empty"):
        sentences.ties({})


def test_extremes_are_the_lowest_and_the_highest():
    assert sentences.extremes({"a": 2.0, "b": 1.0, "c": 3.0, "d": 3.0}) == ("b", "c")
    with pytest.raises(ValueError, match="empty"):
        sentences.extremes({})
