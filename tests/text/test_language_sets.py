"""Sets that need language: what a statement asks for, what describes, and that no text is in two splits."""

import pytest

from lib.errors import UserError
from lib.text import language_sets
from lib.text.instruction_sets import Row, canonical
from lib.text.language_sets import NAMES, TRAINED, UNSEEN, apart, stated, without_descriptions
from lib.text.suites import SUITES


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("are you here ?", "you are here ."),
        ("have you eaten ?", "you have eaten ."),
        ("do you have a dog ?", "you have a dog ."),  # asked with "do", for "have" is no auxiliary here
        ("did it rain ?", "it did rain ."),
    ],
)
def test_a_statement_is_the_question_with_its_subject_first(asked, wanted) -> None:
    assert stated(asked) == wanted


@pytest.mark.parametrize(
    ("words", "tags", "kept"),
    [
        ("an evil spirit came", "DET ADJ NOUN VERB", "a spirit came"),
        ("a great old enemy fled .", "DET ADJ ADJ NOUN VERB PUNCT", "an enemy fled ."),
        ("he was good .", "PRON AUX ADJ PUNCT", "he was good ."),  # said of him, not beside a noun
        ("he shall surely not die .", "PRON AUX ADV ADV VERB PUNCT", "he shall not die ."),
        ("great", "ADJ", "great"),
    ],
)
def test_adjectives_before_nouns_and_spare_adverbs_are_left_out(words, tags, kept) -> None:
    assert without_descriptions(words.split(), tags.split()) == kept.split()


def row(given: str, wanted: str, split: str) -> Row:
    return Row("Do.", given, wanted, (wanted,), "group", split)


def test_a_text_is_in_one_split_whether_it_is_given_or_wanted_and_in_whatever_set() -> None:
    sets = {
        "one": [row("a", "b", "train"), row("A!", "c", "train"), row("d", "e", "train"), row("f", "g", "validation")],
        "two": [row("x", "D.", "test"), row("g", "h", "test"), row("i", "j", "validation"), row("j", "k", "train")],
    }
    kept = apart(sets)
    assert kept["one"] == [row("a", "b", "train")]  # its other form is the same input; d and g are the test's
    assert kept["two"] == [row("x", "D.", "test"), row("g", "h", "test"), row("i", "j", "validation")]


def test_one_set_is_trained_on_by_nobody() -> None:
    suite = SUITES["language"]
    assert (suite.trained, suite.tested) == (TRAINED, NAMES)
    assert set(NAMES) - set(TRAINED) == {UNSEEN}
    with pytest.raises(UserError, match="no instruction set 'chat': choose one of modern"):
        language_sets.load("chat")


@pytest.mark.thorough  # reads two Bibles and all conversations, and tags some thousand passages
def test_no_prompt_and_no_answer_of_a_split_is_in_another_of_any_set() -> None:
    texts: dict[str, set[str]] = {}
    for name in NAMES:
        loaded = language_sets.load(name)
        assert len(loaded["test"]) >= 80
        assert len(loaded["validation"]) >= 70
        assert name == UNSEEN or len(loaded["train"]) >= 600  # what `cpu` reads: with answers, and further prompts
        for split, items in loaded.items():
            inputs = [canonical(item.input.lower()) for item in items]
            assert len(set(inputs)) == len(inputs)
            assert all(1 < len(item.output.split()) <= 14 for item in items)
            texts.setdefault(split, set()).update(inputs, (canonical(item.output.lower()) for item in items))
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not texts[one] & texts[other]
    asked = {canonical(item.output) for item in language_sets.load("ask")["train"]}
    assert not asked & {canonical(item.input) for item in language_sets.load("state")["train"]}
