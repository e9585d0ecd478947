"""Free answers against generation one by one, without cache or padding; where they end, and which are right."""

import dataclasses
from collections import Counter

import pytest
import torch

from lib.beacons import answers
from lib.errors import UserError
from tests.beacons.made_facts import made_facts
from tests.stand_in_tokenizers import each_kind, stand_in, tiny_model, without_end
from tests.tiny_models import LETTERS, Letters, both, llama

PROMPTS = ["abc", "fghijklm", "q", "zyx", "bcdefg"]
DOT = 3 + LETTERS.index(".")


def one_by_one(model, prompt, longest):
    """Return the greedy answer of one prompt, the whole text read at each step."""
    ids, said = Letters()(prompt)["input_ids"], []
    for _ in range(longest):
        with torch.no_grad():
            word = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if word == DOT:
            break
        ids, said = [*ids, word], [*said, word]
    return Letters().decode(torch.tensor(said))


def towards(model, word, by):
    """Return the model with a bias towards one word, by way of a hook on its head."""
    model.get_output_embeddings().register_forward_hook(
        lambda _, __, logits: logits + by * torch.nn.functional.one_hot(torch.tensor(word), logits.shape[-1])
    )
    return model


@both
@pytest.mark.parametrize("batch_size", [1, 2, None])
def test_greedy_answers_are_those_of_one_prompt_at_a_time(make, batch_size):
    model = make()
    wanted = [one_by_one(model, prompt, 6) for prompt in PROMPTS]
    assert answers.greedy(model, Letters(), PROMPTS, 6, batch_size) == wanted
    assert len(set(wanted)) > 1, "equal answers would hide a mistake in the order"


@pytest.mark.parametrize("by", [2.0, 5.0])
def test_an_answer_ends_before_the_full_stop(by):
    model = towards(llama(), DOT, by)
    wanted = [one_by_one(model, prompt, 8) for prompt in PROMPTS]
    found = answers.greedy(model, Letters(), PROMPTS, 8)
    assert found == wanted
    assert not any("." in text for text in found)
    assert any(len(text.split()) < 8 for text in found)
    drawn = answers.sampled(model, Letters(), PROMPTS, 8, 3, seed=0)
    assert not any("." in text for row in drawn for text in row)


def test_one_batch_in_the_order_given():
    """As adapters per example need it: row i of every pass is prompt i."""
    model, rows = llama(), []
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: rows.append(inputs[0]))
    answers.greedy(model, Letters(), PROMPTS, 3, batch_size=None)
    assert {len(ids) for ids in rows} == {len(PROMPTS)}
    for ids, prompt in zip(rows[0].tolist(), PROMPTS, strict=True):
        assert ids[-len(prompt) :] == Letters()(prompt)["input_ids"]


def test_a_model_s_own_generation_settings_do_not_bear_on_answers():
    model = llama()
    plain = answers.greedy(model, Letters(), PROMPTS, 5)
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, max_length=9)
    assert answers.greedy(model, Letters(), PROMPTS, 5) == plain


def test_sampled_answers_follow_their_distribution():
    """First words over many draws against the softmax at the temperature, over the likeliest alone."""
    model, draws = llama(), 3000
    drawn = answers.sampled(model, Letters(), ["abc", "q"], 1, draws, seed=0)
    counts = Counter(drawn[0][1:])
    with torch.no_grad():
        logits = model(torch.tensor([Letters()("abc")["input_ids"]])).logits[0, -1]
    wanted = (logits / answers.TEMPERATURE).softmax(0)
    for word in range(3, 29):
        share = counts[LETTERS[word - 3]] / draws
        assert share == pytest.approx(
            float(wanted[word]), abs=4 * float(wanted[word] * (1 - wanted[word]) / draws) ** 0.5 + 1e-3
        )
    assert drawn[0] != drawn[1]


def test_later_words_of_a_sample_are_drawn_after_its_own_earlier_ones(monkeypatch):
    """With one word to choose from, every sample is the greedy answer, word by word."""
    model = llama()
    monkeypatch.setattr(answers, "TOP_K", 1)
    drawn = answers.sampled(model, Letters(), PROMPTS, 6, 3, seed=0, batch_size=2)
    assert drawn == [[one_by_one(model, prompt, 6)] * 4 for prompt in PROMPTS]


def test_the_seed_decides_the_samples():
    once, again, other = (answers.sampled(llama(), Letters(), PROMPTS, 4, 2, seed) for seed in (0, 0, 1))
    assert once == again != other


def test_wrong_calls_are_refused():
    for prompts, longest, size in (([], 3, 2), ([""], 3, 2), (["a"], 0, 2), (["a"], 3, 0)):
        with pytest.raises(UserError):
            answers.greedy(llama(), Letters(), prompts, longest, size)
    with pytest.raises(UserError, match="at least 1"):
        answers.sampled(llama(), Letters(), ["a"], 3, 0, seed=0)


@pytest.mark.parametrize(
    ("answer", "right", "exact"),
    [
        ("the United States", True, True),
        ("united states", True, True),
        ("USA", True, True),
        ("the USA, since 1776", True, False),
        ("Côte d'Ivoire", False, False),
        ("USAID", False, False),
        ("states united", False, False),
        ("", False, False),
    ],
)
def test_right_answers_hold_the_target_or_an_alias_as_words(answer, right, exact):
    fact = dataclasses.replace(made_facts(1)[0], target=" the United States", aliases=("USA",))
    assert (answers.is_right(answer, fact), answers.is_exact(answer, fact)) == (right, exact)


def test_accents_and_marks_do_not_matter_but_years_are_whole():
    fact = dataclasses.replace(made_facts(1)[0], target=" São Tomé-et-Príncipe")
    assert answers.is_exact("sao tome et principe!", fact)
    year = dataclasses.replace(fact, target=" 1898")
    assert answers.is_right("1898 by the Curies", year)
    assert not answers.is_right("18980", year)
    assert not answers.is_right("189", year)


@each_kind
def test_an_answer_is_what_the_model_says_to_the_prompt_as_a_user_gives_it(kind):
    tokenizer = stand_in(kind)
    model = tiny_model(tokenizer)
    prompts = ["The capital of France is", "My cat", "The symbol of silver is"]
    found = answers.greedy(model, tokenizer, prompts, 5)
    for prompt, said in zip(prompts, found, strict=True):
        ids = torch.tensor([without_end(tokenizer, tokenizer(prompt)["input_ids"])])
        with torch.inference_mode():
            whole = model.generate(ids, max_new_tokens=5, do_sample=False)[0, ids.shape[1] :]
        assert said == tokenizer.decode(whole, skip_special_tokens=True).split("\n")[0].split(".")[0].strip()
