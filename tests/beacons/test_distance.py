"""The distances against plain loops, closed forms and scipy, and their behaviour at nothing."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from lib.beacons import distance
from lib.errors import UserError
from tests.stand_in_tokenizers import each_kind, stand_in, tiny_model, without_end
from tests.tiny_models import LETTERS, Letters, gpt2, llama

MODEL = llama()
PAIRS = [("ab", "cd"), ("abc", "abc"), ("q", "xyz"), ("hello", "he"), ("zz", "z")]


def plain(text, centred=False):
    """Mean of the input embeddings of a text's letters."""
    table = MODEL.get_input_embeddings().weight.detach().double().numpy()
    return np.mean([table[3 + LETTERS.index(letter)] - centred * table.mean(0) for letter in text], axis=0)


@pytest.mark.parametrize("name", ["raw", "centred"])
def test_embedding_rulers_are_one_minus_cosine_of_means(name):
    ruler = distance.ruler(name, MODEL, Letters())
    found = distance.distance(ruler, *zip(*PAIRS, strict=True))
    wanted = [cosine(plain(one, name == "centred"), plain(other, name == "centred")) for one, other in PAIRS]
    assert found.numpy() == pytest.approx(wanted, abs=1e-6)
    assert found[1] == pytest.approx(0, abs=1e-6)
    assert found[4] == pytest.approx(0, abs=1e-6), "a mean over tokens does not see how often"


class Blanks(Letters):
    """A tokenizer to which a letter after a blank is another token than it is without."""

    def __call__(self, text, **_):
        found = re.findall(r"( ?)([a-z.])", text.lower())
        return {"input_ids": [3 + (LETTERS.index(letter) + len(blank)) % 26 for blank, letter in found]}


@pytest.mark.parametrize("text", ["ab", " ab", "ab  "])
def test_a_text_is_read_as_it_follows_a_prompt_after_one_blank(text):
    table = MODEL.get_input_embeddings().weight.detach()
    after_blank = Blanks()(" ab")["input_ids"]
    assert after_blank != Blanks()("ab")["input_ids"]
    found = distance.ruler("raw", MODEL, Blanks()).vectors([text])
    torch.testing.assert_close(found[0], table[after_blank].mean(0))
    with torch.no_grad():
        ids = torch.tensor([[*Blanks()(distance.LEAD)["input_ids"], *after_blank]])
        hidden = MODEL(ids, output_hidden_states=True).hidden_states[-1][0, -2:].mean(0)
    torch.testing.assert_close(
        distance.ruler("hidden", MODEL, Blanks()).vectors([text])[0], hidden, atol=1e-5, rtol=1e-4
    )


def test_an_embedding_ruler_stays_that_of_the_base_model():
    model = llama()
    ruler = distance.ruler("raw", model, Letters())
    before = distance.distance(ruler, ["ab"], ["cd"])
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_()
    assert torch.equal(distance.distance(ruler, ["ab"], ["cd"]), before)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_last_hidden_state_is_read_after_the_lead_and_without_padding(make):
    model, texts = make(), ["ab", "qrstu", "x", "abcd"]
    found = distance.ruler("hidden", model, Letters()).vectors(texts)
    for text, vector in zip(texts, found, strict=True):
        lead, ids = (Letters()(part)["input_ids"] for part in (distance.LEAD, text))
        with torch.no_grad():
            hidden = model(torch.tensor([lead + ids]), output_hidden_states=True).hidden_states[-1]
        assert torch.allclose(vector, hidden[0, len(lead) :].mean(0), atol=1e-5)


def test_the_encoder_finds_near_what_means_the_same():
    ruler = distance.ruler("encoder", MODEL, Letters())
    near, far = distance.distance(ruler, ["Peking", "a violin concerto"], ["Beijing", "Beijing"]).tolist()
    assert near < 0.5 < far


@pytest.mark.parametrize("name", ["raw", "centred", "encoder", "hidden"])
def test_an_answer_of_nothing_is_at_a_right_angle(name):
    ruler = distance.ruler(name, MODEL, Letters())
    found = distance.distance(ruler, ["", "  ", "ab"], ["ab", "ab", " ab "])
    assert found.tolist() == pytest.approx([1, 1, 0], abs=1e-6)
    assert distance.distance(ruler, [], []).shape == (0,)


def test_zero_vectors_have_a_distance_and_no_gradient_of_nan():
    ours = torch.zeros(2, 3)
    ours[1] = torch.tensor([1.0, 0, 0])
    ours.requires_grad_()
    found = distance.between(ours, torch.tensor([[1.0, 2, 3], [-1, 0, 0]]))
    assert found.tolist() == [1, 2]
    (gradient,) = torch.autograd.grad(found.sum(), ours)
    assert gradient.isfinite().all()


def test_opposite_and_equal_rows_are_at_the_ends_whatever_rounding_says():
    rows = torch.randn(500, 7, generator=torch.Generator().manual_seed(3))
    for sign, end in ((1, 0.0), (-1, 2.0)):
        cosines = (rows * sign * rows).sum(-1) / (rows.norm(dim=-1) * (sign * rows).norm(dim=-1))
        assert (cosines.abs() > 1).any()  # a plain quotient leaves its range
        found = distance.between(rows, sign * rows)
        assert found.tolist() == pytest.approx([end] * 500, abs=1e-6)
        assert 0 <= found.min() <= found.max() <= 2


def test_wrong_calls_are_refused():
    with pytest.raises(UserError, match="unknown ruler 'cosine': choose one of raw, "):
        distance.ruler("cosine", MODEL, Letters())
    with pytest.raises(ValueError, match="1 answers for 2 targets"):
        distance.distance(distance.ruler("raw", MODEL, Letters()), ["a"], ["a", "b"])
    with pytest.raises(ValueError, match="at least two"):
        distance.anisotropy(torch.ones(1, 3))


def test_the_expected_distance_is_that_of_the_mixture_of_embeddings():
    generator = torch.Generator().manual_seed(0)
    table, logits = torch.randn(7, 5, generator=generator), torch.randn(6, 7, generator=generator)
    labels, sequence = torch.tensor([1, 2, 3, 4, 5, 6]), torch.tensor([0, 0, 2, 2, 2, 3])
    found = distance.expected(table, logits, labels, sequence, 4)
    mixed = torch.stack([sum(p * table[v] for v, p in enumerate(row.softmax(0))) for row in logits])
    for fact in (0, 2, 3):
        ours, theirs = mixed[sequence == fact].mean(0), table[labels[sequence == fact]].mean(0)
        assert found[fact] == pytest.approx(cosine(ours.numpy(), theirs.numpy()), abs=1e-6)
    assert found[1] == 1, "a fact without places"


def test_the_expected_distance_is_smooth_and_ends_at_the_hard_one():
    """Its gradient against finite differences, and logits so sharp that the mixture is one token."""
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(6, 4, generator=generator, dtype=torch.double)
    logits = torch.randn(3, 6, generator=generator, dtype=torch.double).requires_grad_()
    labels, sequence = torch.tensor([0, 3, 5]), torch.tensor([0, 0, 1])

    def smooth(values):
        return distance.expected(table.float(), values, labels, sequence, 2).double().sum()

    (gradient,) = torch.autograd.grad(smooth(logits), logits)
    step = torch.zeros_like(logits)
    step[1, 3] = 1e-2
    slope = (smooth(logits + step) - smooth(logits - step)) / 2e-2
    assert gradient[1, 3] == pytest.approx(float(slope.detach()), abs=2e-4)
    sharp = 100 * torch.nn.functional.one_hot(torch.tensor([0, 3, 1]), 6).float()
    wanted = [0, float(cosine(table[1].numpy(), table[5].numpy()))]
    assert distance.expected(table.float(), sharp, labels, sequence, 2).tolist() == pytest.approx(wanted, abs=1e-5)


def test_anisotropy_is_the_mean_cosine_of_all_pairs():
    vectors = torch.randn(9, 4, generator=torch.Generator().manual_seed(2)) + 1
    vectors[3] = 0
    pairs = [(i, j) for i in range(9) for j in range(9) if i != j]
    wanted = np.mean([0 if 3 in pair else 1 - cosine(*vectors[list(pair)].double().numpy()) for pair in pairs])
    assert distance.anisotropy(vectors) == pytest.approx(wanted, abs=1e-9)
    assert distance.anisotropy(torch.eye(4)) == pytest.approx(0)
    assert distance.anisotropy(torch.ones(4, 3)) == pytest.approx(1)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_vectors_that_are_not_finite_have_no_distance(wrong):
    good, bad = torch.ones(2, 3), torch.ones(2, 3)
    bad[1, 0] = wrong
    for ours, theirs, name in ((bad, good, "ours"), (good, bad, "theirs"), (bad, torch.zeros(2, 3), "ours")):
        with pytest.raises(ValueError, match=f"{name} holds a number that is not finite"):
            distance.between(ours, theirs)
    with pytest.raises(ValueError, match="vectors holds"):
        distance.anisotropy(bad)
    with pytest.raises(ValueError, match="not finite"):
        distance.distance(distance.Ruler(lambda texts: bad), ["a"], ["b"])
    with pytest.raises(ValueError, match="not finite"):
        distance.expected(good, torch.full((1, 2), wrong), torch.tensor([0]), torch.tensor([0]), 1)
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(3, 3\)"):
        distance.between(good, torch.ones(3, 3))


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(st.tuples(finite, finite, finite), min_size=2, max_size=2), finite.filter(lambda x: x > 0))
@example([(1e-30, 0.0, 0.0), (1e-30, 0.0, 0.0)], 1.0)
@example([(3e38, 3e38, 0.0), (3e38, -3e38, 1.0)], 1.0)
@example([(1e-45, 0.0, 0.0), (1.0, 0.0, 0.0)], 1.0)
def test_the_distance_of_any_finite_rows_is_that_of_their_directions(rows, scale):
    ours, theirs = torch.tensor(rows, dtype=torch.float32).split(1)
    found = distance.between(ours, theirs).item()
    wide = [row.double().numpy()[0] / max(abs(row).max().item(), 5e-324) for row in (ours, theirs)]
    lengths = [np.linalg.norm(row) for row in wide]
    wanted = 1 - wide[0] @ wide[1] / (lengths[0] * lengths[1]) if all(lengths) else 1
    assert found == pytest.approx(wanted, abs=1e-5)
    assert distance.anisotropy(torch.cat([ours, theirs])) == pytest.approx(1 - wanted, abs=1e-5)


def test_powers_of_two_change_no_bit():
    ours, theirs = torch.randn(2, 500, 7, generator=torch.Generator().manual_seed(5)) * 3
    plain = (1 - (ours * theirs).sum(-1) / (ours.norm(dim=-1) * theirs.norm(dim=-1))).clamp(0, 2)
    assert torch.equal(distance.between(ours, theirs), plain)
    assert torch.equal(distance.between(ours * 2.0**60, theirs * 2.0**-70), plain)


@each_kind
def test_an_answer_is_measured_by_the_tokens_that_it_has_after_a_prompt(kind):
    tokenizer = stand_in(kind)
    model = tiny_model(tokenizer)
    table = model.get_input_embeddings().weight.detach()
    prompt = tokenizer("The capital of France is", add_special_tokens=False)["input_ids"]
    for text in ("Lyon", "the euro", "asleep on the land"):
        both = tokenizer(f"The capital of France is {text}", add_special_tokens=False)["input_ids"]
        wanted = table[both[len(prompt) :]].mean(0)
        torch.testing.assert_close(distance.raw(model, tokenizer).vectors([text])[0], wanted)
        lead = without_end(tokenizer, tokenizer("Answer:")["input_ids"])
        ids = torch.tensor([[*lead, *both[len(prompt) :]]])
        with torch.inference_mode():
            states = model.base_model(ids).last_hidden_state[0, len(lead) :].mean(0)
        found = distance.ruler("hidden", model, tokenizer).vectors([text])[0]
        torch.testing.assert_close(found, states, atol=1e-5, rtol=1e-4)
