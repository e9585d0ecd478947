"""Batches: masks against a loop over the rows, truncation, padding that changes no loss, the order of training."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lib.distillation import batches
from lib.distillation.batches import Example, collate, encode, order
from lib.distillation.students import student
from lib.distillation.vocabularies import RestrictedVocabulary, TrainedVocabulary
from lib.errors import UserError
from lib.text.instructions import Instruction, render
from tests.stand_in_tokenizers import each_kind, stand_in

VOCABULARY = TrainedVocabulary(["Instruction: say it.\nInput: thou\nResponse: you"], 270)
EXAMPLES = st.lists(
    st.builds(
        Example,
        st.lists(st.integers(2, 30), min_size=1, max_size=9).map(tuple),
        st.lists(st.integers(2, 30), min_size=1, max_size=5).map(tuple),
    ),
    min_size=1,
    max_size=6,
)


def item(output: str, given: str = "thou hast") -> Instruction:
    return Instruction("Say it.", given, output, "modern", f"modern/{output}", (output,))


def test_a_prompt_and_its_response_are_the_tokens_of_their_joined_text():
    (example,) = encode([item("you have")], VOCABULARY, (999, 999))
    assert VOCABULARY.decode(example.prompt) == render(item("")) == "Instruction: Say it.\nInput: thou hast\nResponse:"
    assert [*example.prompt, *example.response[:-1]] == VOCABULARY.encode(f"{render(item(''))} you have")
    assert example.response[-1] == VOCABULARY.end
    (other,) = encode([item("you have")], VOCABULARY, (999, 999), ["thy"])
    assert VOCABULARY.decode(other.response) == " thy"


def test_truncation_keeps_the_end_of_the_prompt_and_the_start_of_the_response():
    (whole,) = encode([item("you have it")], VOCABULARY, (999, 999))
    (cut,) = encode([item("you have it")], VOCABULARY, (7, 3))
    assert cut == Example(whole.prompt[-7:], whole.response[:3])
    assert VOCABULARY.decode(cut.prompt).endswith("Response:")
    size = len(whole.response)
    assert encode([item("you have it")], VOCABULARY, (999, size))[0].response[-1] == VOCABULARY.end
    assert VOCABULARY.end not in encode([item("you have it")], VOCABULARY, (999, size - 1))[0].response


def test_no_token_left_is_an_error_that_names_the_instruction():
    for text, longest in (("you", (9, 0)), ("", (9, 9)), ("  ", (9, 9))):
        with pytest.raises(UserError, match=f"modern/{text}: no response token is left"):
            encode([item(text)], VOCABULARY, longest)
    with pytest.raises(UserError, match="modern/you: no prompt token is left within 0"):
        encode([item("you")], VOCABULARY, (0, 9))
    with pytest.raises(ValueError, match="zip"):
        encode([item("you")], VOCABULARY, (9, 9), [])


@given(EXAMPLES, st.sampled_from(["left", "right"]))
def test_masks_agree_with_a_loop_over_the_rows(examples, side):
    batch = collate(examples, pad=0, side=side)
    longest = max(map(len, examples))
    targets, places = [], []
    for row, one in enumerate(examples):
        start = longest - len(one) if side == "left" else 0
        end = start + len(one)
        assert batch.ids[row, start:end].tolist() == [*one.prompt, *one.response]
        assert batch.mask[row].tolist() == [start <= place < end for place in range(longest)]
        assert batch.positions[row, start:end].tolist() == list(range(len(one)))
        assert (batch.ids[row][~batch.mask[row]] == 0).all()
        for offset, token in enumerate(one.response):
            targets.append(token)
            places.append((row, start + len(one.prompt) + offset - 1))
    assert batch.ids[batch.response].tolist() == targets
    assert [tuple(place) for place in batch.predicting.nonzero().tolist()] == places
    assert batch.tokens == len(targets)


@pytest.mark.parametrize("style", ["gpt2", "llama"])
def test_padding_on_either_side_changes_no_token_of_the_loss(style):
    torch.manual_seed(0)
    model = student(style, 16, 2, 2, VOCABULARY)
    examples = [Example((5, 6, 7), (8, 9)), Example((3,), (4,)), Example((11, 12, 13, 14, 15), (16, 17, 18))]

    def nats(batch: batches.Batch) -> torch.Tensor:
        logits = model(input_ids=batch.ids, attention_mask=batch.mask.long(), position_ids=batch.positions).logits
        return functional.cross_entropy(logits[batch.predicting], batch.ids[batch.response], reduction="none")

    with torch.no_grad():
        alone = torch.cat([nats(collate([one], 0)) for one in examples])
        for side in ("left", "right"):
            for pad in (0, 21):
                torch.testing.assert_close(nats(collate(examples, pad, side)), alone, rtol=1e-5, atol=1e-5)


def test_wrong_calls_of_collate():
    with pytest.raises(ValueError, match="give some"):
        collate([], 0)
    with pytest.raises(ValueError, match="padded on the top"):
        collate([Example((1,), (2,))], 0, "top")


@settings(max_examples=30)
@given(st.lists(st.integers(1, 70), min_size=4, max_size=90), st.integers(1, 4), st.integers(1, 60), st.integers(0, 9))
def test_every_row_comes_as_often_as_every_other_and_a_shorter_run_is_a_prefix(lengths, size, steps, seed):
    found = order(lengths, size, steps, seed)
    assert [len(rows) for rows in found] == [size] * steps
    assert order(lengths, size, steps + 20, seed)[:steps] == found
    counts = Counter(row for rows in found for row in rows)
    seen = [counts[row] for row in range(len(lengths))]
    assert max(seen) - min(seen) <= 1
    for rows in found:
        assert [lengths[row] for row in rows] == sorted(lengths[row] for row in rows)


def test_a_batch_is_a_fair_sample_and_seeds_differ():
    lengths = [10] * 200 + [60] * 200  # two sets that differ in length
    found = order(lengths, 32, 100, 0)
    short = torch.tensor([sum(lengths[row] == 10 for row in rows) for rows in found]).double()
    assert 15 < short.mean() < 17
    assert short.std() < 4  # drawn without putting back: less than the binomial's 2.8; sets apart would give 16
    assert order(lengths, 32, 100, 1) != found
    with pytest.raises(ValueError, match="batches of 9 out of 8 rows"):
        order(lengths[:8], 9, 1, 0)


@given(st.lists(st.integers(1, 20), max_size=30), st.integers(1, 7))
def test_by_length_holds_every_row_once_from_short_to_long(lengths, size):
    rows = [row for batch in batches.by_length(lengths, size) for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths)


@each_kind
def test_what_a_tokenizer_puts_before_a_text_stands_before_every_prompt_also_a_cut_one(kind: str) -> None:
    tokenizer = stand_in(kind)
    first = [tokenizer.bos_token_id] if kind in ("bos", "blank") else []
    asked = Instruction("The capital of France is", "", "Lyon", "facts", "facts/1", ("Lyon",))
    both = tokenizer(f"{render(asked)} Lyon", add_special_tokens=False)["input_ids"]
    vocabulary = RestrictedVocabulary.of(tokenizer, [f"{render(asked)} Lyon"])
    for longest in (999, 4):
        (found,) = encode([asked], vocabulary, (longest, 9))
        prompt, response = (vocabulary.to_large(torch.tensor(ids)).tolist() for ids in (found.prompt, found.response))
        assert [*prompt[len(first) :], *response] == [*both, tokenizer.eos_token_id][-(len(found) - len(first)) :]
        assert prompt[: len(first)] == first
        assert tokenizer.decode(response[:-1]).strip() == "Lyon"
        assert len(prompt) == min(longest, len(first) + len(both) + 1 - len(response))
