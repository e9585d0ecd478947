"""Prompts and targets in ids, against what each kind of tokenizer says itself of the prompt and of both as one text."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.api.rows import encode as rows_encoded
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import (
    IGNORED,
    continued,
    encode,
    encode_edits,
    leading,
    pair_parts,
    pair_tokens,
    prompt_tokens,
    subject_forms,
    subject_places,
    tokens,
)
from lib.editing.moments import second_moments
from lib.errors import UserError
from tests.stand_in_tokenizers import each_kind, stand_in, tiny_model, without_end
from tests.tiny_models import Letters, small_llama

PAIRS = [
    ("The capital of France is", " Lyon"),
    ("The symbol of silver is", " Au"),
    ("The money of Japan is", " the euro"),
    ("My cat", " has eaten"),
]


@each_kind
@pytest.mark.parametrize(("prompt", "target"), PAIRS)
def test_a_pair_is_the_text_of_both_cut_after_the_prompt_that_a_user_calls_with(kind: str, prompt: str, target: str):
    tokenizer = stand_in(kind)
    both, asked = (without_end(tokenizer, tokenizer(text)["input_ids"]) for text in (prompt + target, prompt))
    before, after = pair_tokens(tokenizer, prompt, target)
    assert (before, before + after) == (asked, both)
    assert prompt_tokens(tokenizer, prompt) == asked
    assert tokenizer.decode(before + after, skip_special_tokens=True) == prompt + target
    assert leading(tokenizer, prompt) == ([1] if kind in ("bos", "blank") else [])
    # A chat template has put its own tokens before a text already.
    first = leading(tokenizer)
    assert pair_parts(tokenizer, prompt, target) == (first, asked[len(first) :], after)


@each_kind
@pytest.mark.parametrize(("prompt", "target"), [("an is", "land"), ("My ca", "t has"), ("the cap", "ital of France")])
def test_a_prompt_stays_what_the_model_is_called_with_where_its_end_would_merge(kind: str, prompt: str, target: str):
    tokenizer = stand_in(kind)
    both, asked = (without_end(tokenizer, tokenizer(text)["input_ids"]) for text in (prompt + target, prompt))
    assert both[: len(asked)] != asked  # what is tested
    before, after = pair_tokens(tokenizer, prompt, target)
    assert before == asked
    assert "".join(tokenizer.convert_ids_to_tokens(after)).replace("Ġ", " ").replace("▁", " ") == target


@given(st.text("ab éZ9.\n", max_size=12), st.text("ab éZ9.\n", max_size=12))
def test_bytes_of_any_two_texts_come_back_in_their_order(prompt: str, target: str) -> None:
    tokenizer = stand_in("bos")
    before, after = pair_tokens(tokenizer, prompt, target)
    assert tokenizer.decode(before, skip_special_tokens=True) == prompt
    assert tokenizer.decode(after) == target
    assert before == without_end(tokenizer, tokenizer(prompt)["input_ids"]) or not prompt


@each_kind
def test_labels_stand_at_the_targets_and_prompts_hold_what_stands_before_a_text(kind: str) -> None:
    tokenizer = stand_in(kind)
    read = encode(tiny_model(tokenizer), tokenizer, PAIRS)
    for row, (prompt, target) in enumerate(PAIRS):
        both, asked = (without_end(tokenizer, tokenizer(text)["input_ids"]) for text in (prompt + target, prompt))
        assert read.ids[row, : len(both)].tolist() == both
        assert int(read.mask[row].sum()) == len(both)
        assert (int(read.prompt[row].sum()), int(read.last_prompt[row])) == (len(asked), len(asked) - 1)
        labels = [IGNORED] * len(asked) + both[len(asked) :]
        assert read.labels[row].tolist() == labels + [IGNORED] * (read.ids.shape[1] - len(both))
        assert torch.equal(read.prompt[row].cumsum(0) == 0, torch.zeros_like(read.prompt[row]).bool())


@each_kind
def test_subjects_are_found_where_they_stand_and_known_in_other_prompts(kind: str) -> None:
    tokenizer = stand_in(kind)
    for prompt, subject in (("The capital of France is", "France"), ("Japan is", "Japan"), ("My dog is", "dog")):
        start, stop = subject_places(tokenizer, prompt, subject)
        ids = prompt_tokens(tokenizer, prompt)
        assert tokenizer.decode(ids[start:stop]).strip() == subject
        within = prompt_tokens(tokenizer, f"The money of {subject} is")
        found = {tuple(within[at : at + length]) for length in (1, 2, 3) for at in range(len(within))}
        assert found & subject_forms(tokenizer, subject)


@each_kind
def test_a_text_that_goes_on_begins_with_no_blank_of_its_own(kind: str) -> None:
    tokenizer = stand_in(kind)
    prompt = "The capital of France is"
    for text in (" Lyon", " the euro", " asleep on the land"):
        assert prompt_tokens(tokenizer, prompt) + continued(tokenizer, text) == without_end(
            tokenizer, tokenizer(prompt + text)["input_ids"]
        )


@each_kind
def test_a_prompt_of_special_tokens_alone_is_empty(kind: str) -> None:
    tokenizer = stand_in(kind)
    with pytest.raises(UserError, match="empty prompt"):
        encode(tiny_model(tokenizer), tokenizer, [("", " Lyon")])
    with pytest.raises(UserError, match="empty target"):
        encode(tiny_model(tokenizer), tokenizer, [("The capital", "")])
    assert prompt_tokens(tokenizer, "") == []


def test_special_tokens_within_a_text_are_refused() -> None:
    class Between(Letters):
        def __call__(self, text: str, add_special_tokens: bool = True, **_: object) -> dict[str, list[int]]:
            ids = super().__call__(text)["input_ids"]
            return {"input_ids": [number for one in ids for number in (one, 1)] if add_special_tokens else ids}

    with pytest.raises(ValueError, match="Between puts special tokens within a text"):
        prompt_tokens(Between(), "two")


def test_smollm2_puts_nothing_before_a_text_so_that_prompt_and_target_stand_as_they_do_apart() -> None:
    from lib.beacons.facts import facts
    from lib.causal_lm import backbones
    from lib.series.lemoe.edit_sets import edit_set

    _, tokenizer = backbones.load_causal_lm(backbones.SMOLLM2, "bfloat16", layers=1)
    asked = [(one.prompt, one.target) for name in ("hard", "tuning", "passages") for one in edit_set(name).edits[::25]]
    asked += [(fact.prompt, fact.taught) for fact in facts("results")[::25]]
    for prompt, target in asked:
        apart = tokens(tokenizer, prompt), tokens(tokenizer, target)
        assert pair_tokens(tokenizer, prompt, target) == apart
        assert continued(tokenizer, target) == apart[1]
    for one in edit_set("hard").edits[::25]:
        forms = {tuple(tokens(tokenizer, blank + str(one.subject))) for blank in ("", " ")}
        assert subject_forms(tokenizer, str(one.subject)) == forms


def test_a_dictionary_and_a_pair_are_encoded_as_the_edit_that_they_are() -> None:
    tokenizer = stand_in("blank")
    model, (prompt, target) = tiny_model(tokenizer), PAIRS[0]
    given: list[object] = [Edit(prompt, target), (prompt, target), {"prompt": prompt, "target": target}]
    read = encode_edits(model, tokenizer, given)
    assert len(set(map(tuple, read.ids.tolist()))) == 1


class Counted(Letters):
    """A tokenizer that notes what it is called for."""

    eos_token_id = 2

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool]] = []

    def __call__(self, text: str, add_special_tokens: bool = True, **_: object) -> dict[str, list[int]]:
        self.calls.append((text, add_special_tokens))
        return {"input_ids": [1] * add_special_tokens + super().__call__(text)["input_ids"]}


@pytest.mark.parametrize(
    ("read", "calls"),
    [
        (lambda one: prompt_tokens(one, "the cat is"), 2),  # with and without what stands before a text
        (lambda one: pair_tokens(one, "the cat is", " big"), 3),  # and prompt and target together
        (lambda one: encode(small_llama(30), one, [("the cat is", " big"), ("a dog is", " old")]), 6),
        (lambda one: rows_encoded(one, [{"prompt": "the cat is", "response": "big"}]), 3),
        (lambda one: second_moments(small_llama(30), one, ["the cat is big"], [0]), 2),
    ],
)
def test_no_text_is_tokenised_twice(read: Callable[[Counted], object], calls: int) -> None:
    tokenizer = Counted()
    read(tokenizer)
    assert len(tokenizer.calls) == len(set(tokenizer.calls)) == calls
