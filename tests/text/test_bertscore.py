"""The BERTScore-like metric against a plain loop, and its properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from lib.errors import UserError
from lib.text import bertscore
from tests.rehearsal import models

sizes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000))


def vectors(sizes):
    n, m, seed = sizes
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator), torch.randn(m, 3, generator=generator)


def plain_loop(hypothesis, reference):
    def cosine(a, b):
        a, b = a.tolist(), b.tolist()
        return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    precision = sum(max(cosine(a, b) for b in reference) for a in hypothesis) / len(hypothesis)
    recall = sum(max(cosine(a, b) for a in hypothesis) for b in reference) / len(reference)
    f1 = 2 * precision * recall / (precision + recall) if min(precision, recall) > 0 else 0.0
    return precision, recall, f1


@given(sizes)
def test_equals_a_plain_loop(sizes):
    hypothesis, reference = vectors(sizes)
    assert bertscore.greedy_f1(hypothesis, reference) == pytest.approx(plain_loop(hypothesis, reference), abs=1e-9)


@given(sizes)
def test_precision_and_recall_change_places(sizes):
    hypothesis, reference = vectors(sizes)
    precision, recall, f1 = bertscore.greedy_f1(hypothesis, reference)
    assert bertscore.greedy_f1(reference, hypothesis) == pytest.approx((recall, precision, f1), abs=1e-12)


@given(sizes)
def test_identical_vectors_score_one_whatever_their_length_or_order(sizes):
    hypothesis, _ = vectors(sizes)
    assert bertscore.greedy_f1(hypothesis, 3 * hypothesis.flip(0)) == pytest.approx((1.0, 1.0, 1.0), abs=1e-12)


def test_no_tokens():
    some, none = torch.ones(2, 3), torch.empty(0, 3)
    assert bertscore.greedy_f1(some, none) == bertscore.greedy_f1(none, some) == (0.0, 0.0, 0.0)


def test_with_the_encoder():
    reference = "the king spoke to the people ."
    hypotheses = [reference, "the king talked to the people .", "a ship sank in the storm .", ""]
    same, close, far, empty = bertscore.bertscore(hypotheses, [reference] * 4)
    assert same == pytest.approx(1.0, abs=1e-6)
    assert 1.0 > close > far > empty == 0.0


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="2 hypotheses for 1 references"):
        bertscore.bertscore(["a", "b"], ["a"])


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_vectors_that_cannot_be_are_refused(wrong):
    good, bad = torch.ones(2, 3), torch.ones(2, 3)
    bad[1, 2] = wrong
    for side, name in ((0, "hypothesis"), (1, "reference")):
        with pytest.raises(ValueError, match=f"{name} holds a number that is not finite"):
            bertscore.greedy_f1(*([bad, good] if side == 0 else [good, bad]))
    for shapes in ([(2, 3), (2, 4)], [(3,), (2, 3)], [(2, 3), (3,)], [(1, 2, 3), (2, 3)], [(2, 3), (1, 2, 3)]):
        with pytest.raises(ValueError, match="give two of equal width"):
            bertscore.greedy_f1(*map(torch.ones, shapes))
    with pytest.raises(ValueError, match="1 texts have none, such as 'b'"):
        bertscore.bertscore(["a"], ["b"], {"a": good})


def test_zero_vectors_match_nothing():
    assert bertscore.greedy_f1(torch.zeros(2, 3), torch.ones(1, 3)) == (0.0, 0.0, 0.0)


def test_the_encoder_of_a_folder_gives_the_states_of_its_layer_without_special_tokens(tmp_path, monkeypatch):
    folder = models.write_deberta(tmp_path / "deberta-xlarge-mnli")
    monkeypatch.setattr(bertscore, "FOLDER", str(folder))
    monkeypatch.setattr(bertscore, "ENCODER", folder.name)
    monkeypatch.setitem(bertscore.LAYERS, folder.name, 1)
    texts = ["the old bridge", "a", "", "how narrow is the street in the old town"]
    found = bertscore.token_vectors(texts)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for text in texts:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[1][0]
        assert torch.allclose(found[text], states[1:-1], atol=1e-5)  # between [CLS] and [SEP]
    assert bertscore.bertscore(["the old bridge"], ["the old bridge"])[0] == pytest.approx(1)
    assert len(bertscore.encoder_identity()) == 64
    monkeypatch.setattr(bertscore, "FOLDER", str(tmp_path))
    with pytest.raises(UserError, match=r"BERTSCORE_MODEL=.*name a folder with an encoder's files"):
        bertscore.token_vectors(["a"])
