"""Scores on the language sets, by hand: edits, the mean loss, and what needs no model."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lib.records import frames
from lib.series.distillation import evaluation, language_scores
from lib.series.distillation.evaluation import GREEDY
from lib.series.distillation.frames import LANGUAGE
from lib.text.instructions import Instruction


def item(name: str, number: int, given: str, wanted: str) -> Instruction:
    return Instruction("Do.", given, wanted, name, f"{name}/{number}", (wanted,))


TEST = [item("ask", 0, "you are here.", "are you here?"), item("ask", 1, "it was late.", "was it late?")]
TEST += [item("shorter", 0, "a great big house.", "a house.")]
ITEMS = {one.identity: one for one in TEST}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a house.", 100.0),
        ("a great big house.", 0.0),  # the copy
        ("a big house.", 100 * 2 * 1 / (1 + 2)),  # one of the two words that had to go
        ("a small house.", 100 * 2 * 2 / (3 + 2)),  # both went, and one came that should not
    ],
)
def test_edits_are_the_words_that_come_and_go(text, wanted) -> None:
    assert language_scores.edits("a great big house.", text, ("a house.",)) == pytest.approx(wanted)


def test_nothing_to_change_is_met_by_the_copy_alone() -> None:
    assert language_scores.edits("as it is", "As it is.", ("as it is",)) == 100
    assert language_scores.edits("as it is", "as it was", ("as it is", "as it was")) == 100
    assert language_scores.edits("as it is", "as it was", ("as it is",)) == 0


def losses() -> pd.DataFrame:
    rows = [
        (9, one.name, one.identity, nats, tokens) for one, nats, tokens in zip(TEST, (2, 6, 8), (2, 3, 2), strict=True)
    ]
    rows += [(3, one.name, one.identity, 1.0, 1) for one in TEST]
    return pd.DataFrame(rows, columns=["step", "set", "identity", "nats", "tokens"])


def test_every_set_and_in_it_every_row_counts_alike_in_the_loss() -> None:
    last = losses()[losses()["step"] == 9]
    assert language_scores.mean_loss(last) == pytest.approx(((2 / 2 + 6 / 3) / 2 + 8 / 2) / 2)


def test_a_students_loss_is_its_last_or_that_of_its_best_step() -> None:
    record = SimpleNamespace(frames={"losses": losses()}, values={"best": 3})
    assert language_scores.losses_of(record)["loss"].tolist() == [1.0, 2.0, 4.0]
    assert language_scores.losses_of(record, best=True)["loss"].tolist() == [1.0, 1.0, 1.0]


def test_scores_that_are_kept_are_those_of_the_texts() -> None:
    rows = {"split": "test", "set": [one.name for one in TEST], "identity": list(ITEMS), "seed": GREEDY}
    outputs = pd.DataFrame({**rows, "text": ["are you here", "it was late.", "house"], "tokens": [4, 4, 2]})
    whole = language_scores.greedy(SimpleNamespace(frames={"outputs": outputs}), ITEMS)
    kept = language_scores.scored(outputs, ITEMS)[["set", "identity", *language_scores.SCORES]]
    assert language_scores.greedy(SimpleNamespace(frames={"scores": kept, "outputs": outputs[:1]}), ITEMS).equals(whole)
    assert whole["exact"].tolist() == [100.0, 0.0, 0.0]
    assert language_scores.sampled(SimpleNamespace(frames={"outputs": outputs}), ITEMS) is None
    drawn = pd.concat([outputs.assign(seed=seed, text=text) for seed, text in ((1, "a house"), (2, "b"))])
    found = language_scores.sampled(SimpleNamespace(frames={"outputs": drawn}), ITEMS)
    assert found.loc["shorter", "exact"].tolist() == [50.0]


def test_scores_of_answers_of_which_none_is_right_are_numbers_of_the_kind_that_a_record_holds() -> None:
    rows = {"set": [one.name for one in TEST], "identity": list(ITEMS), "text": ["", "", ""], "tokens": [0, 0, 0]}
    found = language_scores.scored(pd.DataFrame(rows), ITEMS)
    assert [str(found[name].dtype) for name in ("rouge", "exact", "edits")] == ["float64"] * 3
    frames.check({"scores": found[["set", "identity", *language_scores.SCORES]]}, LANGUAGE, "case")


def test_the_nearest_prompt_is_of_the_same_set_and_of_all_where_that_is_not_trained_on() -> None:
    train = [item("ask", 8, "you are late.", "first"), item("ask", 9, "you are here now.", "second")]
    train += [item("modern", 8, "a great big house.", "third")]
    assert language_scores.nearest(train, TEST) == ["second", "first", "third"]
    rows = language_scores.without_a_model(train, TEST)
    assert list(rows) == ["most frequent answer", "copy the input", language_scores.NEAREST]
    assert rows["copy the input"]["edits"].tolist() == [100.0, 100.0, 0.0]  # of order edits know nothing
    expected = [evaluation.rouge_l(one.input, one.references) for one in TEST]
    assert rows["copy the input"]["rouge"].tolist() == expected
