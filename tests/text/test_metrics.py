"""The text metrics against nltk, rouge-score, sacrebleu and values worked out by hand."""

import itertools
import math

import numpy as np
import pytest
import sacrebleu
from hypothesis import example, given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_score.rouge_scorer import RougeScorer

from lib.text import bertscore, mbr, metrics

# Few words, so that n-grams match, repeat and are clipped.
texts = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=9).map(" ".join)


def nltk_bleu(hypothesis, reference):
    return sentence_bleu(
        [reference.split()], hypothesis.split(), smoothing_function=SmoothingFunction().method4, weights=[0.25] * 4
    )


@given(texts, texts)
@example("", "a b")
@example("a b", "")
@example("a", "a b c d")
@example("a b c", "a b c")
def test_bleu_is_the_authors(hypothesis, reference):
    assert metrics.bleu([hypothesis], [reference])[0] == nltk_bleu(hypothesis, reference)


def test_bleu_by_hand():
    # 5 of 6 words, 3 of 5 pairs, 1 of 4 triples; no 4-gram of 3, smoothed to ln 6 / (2 * 5); same length.
    score = metrics.bleu(["the cat sat on the mat"], ["the cat sat near the mat"])[0]
    assert score == pytest.approx((5 / 6 * 3 / 5 * 1 / 4 * (math.log(6) / 10) / 3) ** 0.25, abs=1e-12)


@given(st.lists(texts, min_size=1, max_size=5))
@example(["", "", "a"])
@example(["a b c d e", "a b c d e"])
@example(["a", "b", "a b", "c c c c c"])
def test_pairwise_bleu_equals_nltk(candidates):
    expected = [[nltk_bleu(row, column) for column in candidates] for row in candidates]
    assert metrics.pairwise_bleu(candidates) == pytest.approx(np.array(expected), abs=1e-12)


@given(st.lists(texts, min_size=2, max_size=4))
def test_self_bleu_is_the_mean_over_ordered_pairs(candidates):
    expected = np.mean([nltk_bleu(a, b) for a, b in itertools.permutations(candidates, 2)])
    assert metrics.self_bleu([candidates])[0] == pytest.approx(expected, abs=1e-12)


@given(st.lists(texts, min_size=2, max_size=4))
@example(["a b", "a b c d e"])
def test_self_bleu_as_released_takes_each_pair_once_the_later_text_as_hypothesis(candidates):
    expected = np.mean([nltk_bleu(later, earlier) for earlier, later in itertools.combinations(candidates, 2)])
    assert metrics.self_bleu([candidates], "released")[0] == pytest.approx(expected, abs=1e-12)


def test_self_bleu_needs_two_candidates():
    with pytest.raises(ValueError, match="at least 2"):
        metrics.self_bleu([["a b"]])


@given(texts, texts)
def test_rouge_l_is_the_f1_of_the_library_with_the_reference_as_target(hypothesis, reference):
    score = RougeScorer(["rougeL"]).score(target=reference, prediction=hypothesis)["rougeL"]
    assert metrics.rouge_l([hypothesis], [reference])[0] == score.fmeasure
    precision, recall = score.precision, score.recall
    if precision + recall:
        assert score.fmeasure == pytest.approx(2 * precision * recall / (precision + recall))


def test_rouge_l_by_hand():
    # Longest common subsequence "the sat on mat": 4 of 5 and 4 of 6 words.
    assert metrics.rouge_l(["the sat on a mat"], ["the cat sat on the mat"])[0] == pytest.approx(8 / 11)


def test_diversity_by_hand():
    assert metrics.dist_1(["a b a c", "", "a"]).tolist() == [0.75, 0.0, 1.0]
    # 4-grams: abcd, bcde; abcd; none.
    assert metrics.diverse_4([["a b c d e", "a b c d", "a b c"], ["a b"]]).tolist() == [pytest.approx(2 / 3), 0.0]
    assert metrics.length(["a b  c", ""]).tolist() == [3.0, 0.0]


def test_corpus_bleu_is_sacrebleu_on_words(capfd):
    hypotheses = ["the cat , sat on the mat .", "who bakes the bread ?"] * 60
    references = ["the cat , sat by the mat .", "who bakes my bread ?"] * 60
    score, signature = metrics.corpus_bleu(hypotheses, references)
    assert score == sacrebleu.corpus_bleu(hypotheses, [references], tokenize="none", force=True).score
    assert f"tok:none|smooth:exp|version:{sacrebleu.__version__}" in signature
    assert capfd.readouterr().err == ""


def test_rouge_l_does_not_stem():
    # "they" alone is common: 1 of 2 and 1 of 2; stems would be equal.
    assert metrics.rouge_l(["they walked"], ["they walking"]).tolist() == [0.5]
    assert metrics.rouge_scorer(stemmed=True).score("they walking", "they walked")["rougeL"].fmeasure == 1


PAIRED = (metrics.bleu, metrics.rouge_l, metrics.corpus_bleu, bertscore.bertscore)
SINGLE = (metrics.dist_1, metrics.length, metrics.pairwise_bleu)


@pytest.mark.parametrize("metric", PAIRED)
def test_unequal_numbers_and_what_is_no_text_are_refused(metric):
    for one, other in ((["a"], ["a", "b"]), (["a", "b"], ["a"]), ([], ["a"]), (["a"], [])):
        with pytest.raises(ValueError, match=f"{len(one)} hypotheses for {len(other)} references"):
            metric(one, other)
    for one, other, name in (("ab", ["a", "b"], "hypotheses"), (["a", "b"], "ab", "references")):
        with pytest.raises(TypeError, match=f"{name} is one text, '"):
            metric(one, other)
    for one, other, name in (([None], ["a"], "hypotheses"), (["a"], [3.0], "references")):
        with pytest.raises(TypeError, match=f"{name} holds .* which is no text"):
            metric(one, other)


def test_what_is_no_list_of_texts_is_refused_everywhere():
    for metric in SINGLE:
        for wrong in ("ab", [None], [["a"]]):
            with pytest.raises(TypeError, match="text"):
                metric(wrong)
    for metric in (metrics.self_bleu, metrics.diverse_4, mbr.choose, mbr.select):
        for wrong in (["a b", "c d"], [["a", 3]]):
            with pytest.raises(TypeError, match="text"):
                metric(wrong)
    with pytest.raises(ValueError, match="no sentences"):
        metrics.corpus_bleu([], [])


any_text = st.text(max_size=12) | texts


@given(st.lists(st.tuples(any_text, any_text), max_size=4))
@example([("", ""), (" ", "\n"), ("。", "。")])
def test_every_score_of_any_text_is_a_number_in_its_range(pairs):
    hypotheses, references = [list(side) for side in zip(*pairs, strict=True)] or [[], []]
    for metric in (metrics.bleu, metrics.rouge_l):
        found = metric(hypotheses, references)
        assert found.shape == (len(pairs),)
        assert ((found >= 0) & (found <= 1)).all()
    for metric in (metrics.dist_1, lambda several: metrics.diverse_4([several])):
        found = metric(hypotheses)
        assert ((found >= 0) & (found <= 1)).all()
    if pairs:
        score, _ = metrics.corpus_bleu(hypotheses, references)
        assert 0 <= score <= 100 + 1e-9
    if len(pairs) > 1:
        assert 0 <= metrics.self_bleu([hypotheses])[0] <= 1 + 1e-12


def test_one_value_per_item_and_none_for_none():
    for metric in (metrics.bleu, metrics.rouge_l):
        assert metric(["a b", "c"], ["a b", "d"]).shape == (2,)
        assert metric([], []).shape == (0,)
    assert metrics.self_bleu([]).shape == metrics.diverse_4([]).shape == metrics.dist_1([]).shape == (0,)
