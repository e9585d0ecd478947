"""The minimum Bayes risk choice against brute force with nltk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from lib.text import mbr, metrics

texts = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=7).map(" ".join)


def brute_force(candidates):
    best, best_score = 0, -1.0
    for i, text in enumerate(candidates):
        score = 0.0
        for j, other in enumerate(candidates):
            if i != j:
                smoothing = SmoothingFunction().method4
                score += sentence_bleu([other.split()], text.split(), smoothing_function=smoothing)
        if score > best_score + 1e-10:
            best, best_score = i, score
    return best


@given(st.lists(st.lists(texts, min_size=1, max_size=6), max_size=3))
def test_the_choice_is_that_of_brute_force(candidates):
    assert mbr.choose(candidates) == [brute_force(one) for one in candidates]
    assert mbr.select(candidates) == [one[brute_force(one)] for one in candidates]


def test_the_candidate_is_the_hypothesis_not_the_reference():
    # A lone word is punished for brevity beside the long text, which the other way round loses in precision only.
    assert mbr.choose([["a", "a b c d e f g h"]]) == [1]
    assert mbr.choose([["a", "a b c d e f g h"]], "reference") == [0]  # as released


def test_copies_count_as_often_as_they_occur():
    # Without its copy "x y z w" would share nothing with the others.
    assert mbr.select([["a b c q", "a b d r", "x y z w", "x y z w"]]) == ["x y z w"]


def test_ties_go_to_the_first():
    assert mbr.choose([["a b", "c d", "e f"], ["", ""], ["only one"]]) == [0, 0, 0]
    assert mbr.choose([["b a", "a b c d", "a b c d"]]) == [1]


@pytest.mark.parametrize(("apart", "chosen"), [(3e-13, 0), (3e-12, 1)])
def test_sums_are_equal_where_twelve_digits_are(apart, chosen, monkeypatch):
    scores = np.array([[1.0, 0.5, 0.25], [0.5, 1.0, 0.25 + apart], [0.1, 0.1, 1.0]])
    monkeypatch.setattr(metrics, "pairwise_bleu", lambda texts: scores.copy())
    assert mbr.choose([["a", "b", "c"]]) == [chosen]


def test_no_candidates():
    assert mbr.choose([]) == []
    with pytest.raises(ValueError, match="without candidates"):
        mbr.choose([["a"], []])
