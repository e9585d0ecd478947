"""Scores against a plain loop, one sequence at a time and without padding, on tiny models of both styles."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast

from lib.causal_lm.edits import Edit
from lib.editing.editor import NoEdit
from lib.editing.fine_tuning import FineTuning, FineTuningConfig
from lib.editing.scoring import before, perplexity, score, summary
from lib.errors import UserError
from tests.stand_in_tokenizers import each_kind, stand_in, tiny_model, without_end
from tests.tiny_models import Words as Tokens
from tests.tiny_models import small_gpt2, small_llama

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"]


def llama() -> LlamaForCausalLM:
    return small_llama(vocabulary=19)


def gpt2() -> GPT2LMHeadModel:
    return small_gpt2(vocabulary=19)


both = pytest.mark.parametrize("make", [llama, gpt2])


class Nudged(NoEdit):
    """An "edit": noise on the last block, so that answers change."""

    def _learn(self, batch: Sequence[Edit]) -> None:
        with torch.no_grad():
            for parameter in list(self.model.parameters())[-8:]:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(batch))))


def greedy(model: torch.nn.Module, prompt: str, count: int) -> list[int]:
    ids = Tokens()(prompt)["input_ids"]
    for _ in range(count):
        ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
    return ids[-count:]


def words(ids: list[int]) -> str:
    return " ".join(WORDS[max(token, 3) - 3] for token in ids)


def edits(model: torch.nn.Module) -> list[Edit]:
    """Edits of varied lengths, targets partly what the model says already, so that no score is trivially 0."""
    draw = np.random.default_rng(1)

    def text(low: int, high: int) -> str:
        return " ".join(draw.choice(WORDS, draw.integers(low, high)))

    made = []
    for number in range(13):
        prompt, size = text(1, 9), int(draw.integers(1, 5))
        target = words(greedy(model, prompt, size)[: max(1, size - number % 2)]) + (" c" if number % 3 else "")
        rephrases = () if number == 4 else (text(1, 9), prompt + " " + prompt)
        locality = None if number == 5 else (text(1, 9), text(1, 6))
        made.append(Edit(prompt, target, rephrases=rephrases, locality=locality, identity=str(number)))
    return made


@torch.no_grad()
def said(model: torch.nn.Module, prompt: str, answer: str) -> tuple[list[int], list[int], Tensor]:
    """Tokens said and wanted at each place of an answer, and log probabilities there, token by token."""
    ids, wanted = Tokens()(prompt)["input_ids"], Tokens()(answer)["input_ids"]
    found, chances = [], []
    for token in wanted:
        logits = model(torch.tensor([ids])).logits[0, -1]
        found.append(int(logits.argmax()))
        chances.append(logits.log_softmax(-1)[token])
        ids = [*ids, token]
    return found, wanted, torch.stack(chances)


@both
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_scores_equal_a_plain_loop_without_padding(make, batch_size: int) -> None:
    model = make()
    asked = edits(model)
    editor = Nudged(model, Tokens())
    told = before(editor, asked, batch_size)
    old = [edit.locality and said(model, *edit.locality)[0] for edit in asked]
    editor.edit(asked)
    frame = score(editor, asked, told, generate=True, batch_size=batch_size)
    for edit, was, (_, row) in zip(asked, old, frame.iterrows(), strict=True):
        found, wanted, _ = said(model, edit.prompt, edit.target)
        assert row["identity"] == edit.identity
        assert row["rel"] == pytest.approx(np.mean(np.equal(found, wanted)))
        assert row["rel_exact"] == float(found == wanted)
        drawn = greedy(model, edit.prompt, len(wanted))
        if 2 not in drawn:  # greedy decoding ends there
            assert row["generated"] == Tokens().decode(drawn)
        assert row["rel_free"] == float(drawn == wanted)
        shares = [np.mean(np.equal(*said(model, prompt, edit.target)[:2])) for prompt in edit.rephrases]
        if shares:
            assert row["gen"] == pytest.approx(np.mean(shares))
            assert row["gen_exact"] == pytest.approx(np.mean([share == 1 for share in shares]))
        else:
            assert math.isnan(row["gen"])
            assert math.isnan(row["gen_exact"])
        if edit.locality:
            now = said(model, *edit.locality)[0]
            assert row["loc"] == pytest.approx(np.mean(np.equal(now, was)))
            assert row["loc_exact"] == float(now == was)
        else:
            assert math.isnan(row["loc"])
    for name in ("rel", "gen", "loc"):
        assert 0 < frame[name].mean() < 1


@both
def test_the_unedited_model_keeps_its_answers_and_two_scorings_agree(make) -> None:
    model = make()
    editor, asked = NoEdit(model, Tokens()), edits(model)
    told = before(editor, asked)
    frame = score(editor, asked, told)
    assert (frame["loc"].dropna() == 1).all()
    pd.testing.assert_frame_equal(frame, score(editor, asked, told, batch_size=2))
    some = [asked[7], asked[2]]
    pd.testing.assert_frame_equal(score(editor, some, told), frame.iloc[[7, 2]].reset_index(drop=True))


@both
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_perplexity_is_exp_of_the_mean_loss(make, batch_size: int) -> None:
    model = make()
    asked = [(edit.prompt, edit.target) for edit in edits(model)]
    chances = [said(model, *pair)[2] for pair in asked]
    editor = NoEdit(model, Tokens())
    assert perplexity(editor, asked, batch_size=batch_size) == pytest.approx(
        math.exp(-torch.cat(chances).mean()), rel=1e-4
    )
    each = [math.exp(-values.mean()) for values in chances]
    assert perplexity(editor, asked, "edits", batch_size) == pytest.approx(np.mean(each), rel=1e-4)


def test_forward_passes_are_told_their_prompt_and_need_no_gradient() -> None:
    model, seen = llama(), []

    class Watching(NoEdit):
        def reading(self, prompt: Tensor):
            seen.append(prompt)
            assert torch.is_inference_mode_enabled()
            return super().reading(prompt)

    asked = [Edit("a b c", "d e", rephrases=("f",), locality=("g h", "i"))]
    editor = Watching(model, Tokens())
    score(editor, asked, before(editor, asked), generate=True, batch_size=1)
    told = [mask[0].tolist() for mask in seen]
    # locality before; rephrase, locality and prompt after, shortest first; then the prompt alone, to generate
    assert told == [[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1]]


def test_summary_is_means_that_pass_over_missing_scores() -> None:
    nan = float("nan")
    frame = pd.DataFrame({"rel": [1, 0.5], "gen": [0.25, nan], "loc": [1, 0.5]})
    assert summary(frame) == {"Rel": 0.75, "Gen": 0.25, "Loc": 0.75, "Avg": pytest.approx(1.75 / 3)}
    assert math.isnan(summary(frame.assign(gen=nan))["Avg"])


def test_bad_input_is_one_clear_line() -> None:
    editor = NoEdit(llama(), Tokens())
    with pytest.raises(UserError, match="no edits"):
        score(editor, [], {})
    with pytest.raises(UserError, match="no edits"):
        perplexity(editor, [])
    with pytest.raises(UserError, match="'g h' was not asked before editing"):
        score(editor, [Edit("a", "b", locality=("g h", "i"))], {})
    assert before(editor, [Edit("a", "b")]) == {}


def naive(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, prompt: str, target: str
) -> tuple[list[int], list[int]]:
    """The field's definition: both texts in one call of the tokenizer, cut after as many tokens as the prompt has."""
    both, asked = (without_end(tokenizer, tokenizer(text)["input_ids"]) for text in (prompt + target, prompt))
    with torch.no_grad():
        best = model(torch.tensor([both])).logits[0].argmax(-1).tolist()
    return [int(one) for one in best[len(asked) - 1 : -1]], both[len(asked) :]


@each_kind
def test_scores_are_those_of_the_fields_own_definition_whatever_the_tokenizer_puts_before_a_text(kind: str) -> None:
    tokenizer = stand_in(kind)
    model = tiny_model(tokenizer)
    found = [
        Edit("The capital of France is", " Lyon", None, ("A capital of France is", "France"), ("My cat", " has eaten")),
        Edit("The symbol of silver is", " Au", None, ("silver is",), ("The dog of Japan is", " asleep on the land")),
        Edit("The money of Japan is", " the euro", None, ("Japan is", "The money is"), ("A river", " is in it")),
    ]
    editor = FineTuning(
        model, tokenizer, FineTuningConfig(layer=1, radius=None, steps=8, rate=3e-3, loss="teacher_forcing")
    )
    unedited = before(editor, found)
    kept = [naive(model, tokenizer, *edit.locality)[0] for edit in found]
    assert [list(unedited[edit.locality]) for edit in found] == kept
    editor.edit(found)
    frame = score(editor, found, unedited, generate=True)

    def share(one: Sequence[int], other: Sequence[int]) -> float:
        return float(np.mean([a == b for a, b in zip(one, other, strict=True)]))

    for number, (edit, row) in enumerate(zip(found, frame.to_dict("records"), strict=True)):
        assert row["rel"] == share(*naive(model, tokenizer, edit.prompt, edit.target))
        assert row["gen"] == np.mean([share(*naive(model, tokenizer, text, edit.target)) for text in edit.rephrases])
        assert row["loc"] == share(naive(model, tokenizer, *edit.locality)[0], kept[number])
        asked = without_end(tokenizer, tokenizer(edit.prompt)["input_ids"])
        wanted = naive(model, tokenizer, edit.prompt, edit.target)[1]
        said = model.generate(torch.tensor([asked]), max_new_tokens=len(wanted), do_sample=False)[0, len(asked) :]
        assert row["rel_free"] == float(said.tolist() == wanted)
        assert row["generated"] == tokenizer.decode(said)
    means = frame[["rel", "gen", "loc"]].mean()
    assert ((means > 0) & (means < 1)).any()  # not all alike
