"""The scores of one system, against direct calls of the metrics."""

import math

import numpy as np
import pandas as pd
import pytest
from rouge_score import rouge_scorer
from scipy import stats

from lib.text import metrics, scores

REFERENCES = ["the king went to the old city .", "they said to his son , come ."]
CANDIDATES = [
    ["the king went to the city .", "the king went to a city .", "a dog", "the king went to the city ."],
    ["they said to the son , come .", "they said , come .", "go .", "they said to the son , come ."],
]


def test_quality_is_that_of_the_minimum_risk_candidate_and_diversity_that_of_the_first_three() -> None:
    found = scores.compare({"": CANDIDATES}, REFERENCES)[""]
    assert list(found.columns) == list(scores.NAMES)
    chosen = [candidates[0] for candidates in CANDIDATES]  # drawn twice, so closest to the others
    assert found["bleu"].tolist() == pytest.approx(metrics.bleu(chosen, REFERENCES).tolist())
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    expected = [scorer.score(r, c)["rougeL"].fmeasure for r, c in zip(REFERENCES, chosen, strict=True)]
    assert found["rouge_l"].tolist() == pytest.approx(expected)
    three = [candidates[:3] for candidates in CANDIDATES]
    assert found["self_bleu"].tolist() == pytest.approx(metrics.self_bleu(three).tolist())
    assert found["diverse_4"].tolist() == pytest.approx(metrics.diverse_4(three).tolist())


def test_without_bertscore_nothing_is_encoded_and_the_rest_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scores.compare({"": CANDIDATES}, REFERENCES)[""]
    monkeypatch.setattr(scores.kept_scores, "bertscores", None)
    found = scores.compare({"": CANDIDATES}, REFERENCES, close=False)[""]
    pd.testing.assert_frame_equal(found, whole.drop(columns="bertscore"))


def test_as_released_the_reference_is_the_hypothesis() -> None:
    found = scores.compare({"": CANDIDATES}, REFERENCES, released=True)[""]
    chosen = [candidates[0] for candidates in CANDIDATES]
    assert found["bleu"].tolist() == pytest.approx(metrics.bleu(REFERENCES, chosen).tolist())
    assert found["bleu"].tolist() != pytest.approx(metrics.bleu(chosen, REFERENCES).tolist())
    three = [candidates[:3] for candidates in CANDIDATES]
    assert found["self_bleu"].tolist() == pytest.approx(metrics.self_bleu(three, "released").tolist())


def test_one_candidate_has_no_diversity() -> None:
    found = scores.compare({"": [[r] for r in REFERENCES]}, REFERENCES)[""]
    assert found["bleu"].tolist() == pytest.approx([1, 1])
    assert found["bertscore"].tolist() == pytest.approx([1, 1], abs=1e-5)
    assert all(math.isnan(value) for value in found["self_bleu"])
    summary = scores.summary(found)
    assert summary["self_bleu"] is None
    assert summary["bleu"].estimate == pytest.approx(1)


def test_items_that_are_all_right_or_all_wrong_are_no_certainty() -> None:
    """By hand: ones with a zero and a one joined have sd sqrt(k (n + 2 - k) / ((n + 2) (n + 1))), k = n + 1."""
    count = 8
    frame = pd.DataFrame({"bleu": np.ones(count) - 2e-16, "rouge_l": np.zeros(count), "length": np.full(count, 7.0)})
    found = scores.summary(frame)
    half = stats.t.ppf(0.975, count - 1) * math.sqrt((count + 1) / ((count + 2) * (count + 1))) / math.sqrt(count + 2)
    assert found["bleu"] == pytest.approx((1, 1 - half, 1))
    assert found["rouge_l"] == pytest.approx((0, 0, half))
    assert found["length"] == (7, 7, 7)


def test_another_number_of_references_is_refused() -> None:
    with pytest.raises(ValueError, match="2 items but 1 references"):
        scores.compare({"": CANDIDATES}, REFERENCES[:1])
    with pytest.raises(ValueError, match="no references"):
        scores.compare({"": []}, [])
