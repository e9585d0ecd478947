"""The widgets, moved by a program: what they show, one line for bad input, and what stands there without controls."""

import html
import io
import math
import re
from functools import partial
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.display import Image
from matplotlib import pyplot as plt
from matplotlib.image import imread

from lib.errors import UserError
from lib.reporting import figures, interactive
from lib.series.infodiffusion import cases, widgets
from lib.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.build(["the " * 8 + "school " + "of " * 4 + "rain " * 2 + "$ _a <b> $x^{$"])
SENTENCE = "the school of rain"
TEXTS = {1: "a b", 2: "x b c", 3: "x y", 4: "x b"}


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list:
    """Everything that is displayed during a test."""
    shown: list = []
    monkeypatch.setattr(widgets, "display", shown.append)
    return shown


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook with somebody in front of it."""
    monkeypatch.setattr(widgets, "interactive", lambda: True)


def parts(box: ipywidgets.Box) -> dict[str, ipywidgets.Widget]:
    """Every widget in a box by the name of its class."""
    found = {}
    for child in box.children:
        found |= parts(child) if isinstance(child, ipywidgets.Box) else {type(child).__name__: child}
        found[type(child).__name__] = child
    return found


def pixels(picture: bytes) -> np.ndarray:
    return imread(io.BytesIO(picture), format="png")


@pytest.mark.parametrize(
    ("enabled", "shell", "expected"),
    [
        (True, SimpleNamespace(kernel=object()), True),
        (False, SimpleNamespace(kernel=object()), False),  # a recorded run
        (True, SimpleNamespace(), False),  # IPython in a terminal
        (True, None, False),
    ],
)
def test_widgets_need_a_kernel_and_somebody_who_looks(
    monkeypatch: pytest.MonkeyPatch, enabled: bool, shell: object, expected: bool
) -> None:
    monkeypatch.setattr(interactive.progress, "enabled", lambda: enabled)
    monkeypatch.setattr(interactive, "get_ipython", lambda: shell)
    assert interactive.interactive() is expected


def test_the_curves_are_those_of_a_plain_derivation() -> None:
    drawn, unknown = widgets.curves(VOCABULARY, "the rain of zebra school of", 10, 0.4)
    assert unknown == ["zebra"]
    assert list(drawn) == ["school", "rain", "of", "the"]
    counts = [("the", 8), ("rain", 2), ("of", 4), ("school", 1), ("of", 4)]  # zebra says nothing
    h = [-math.log(n / VOCABULARY.total) for _, n in counts]
    for (word, _), own in zip(counts, h, strict=True):
        e = (own - sum(h) / 5) / (max(h) - min(h))
        plain = [1 - t / 10 + 0.4 * math.sin(math.pi * t / 10) * e for t in range(11)]
        assert drawn[word].tolist() == pytest.approx([min(max(a, 1e-4), 1 - 1e-4) for a in plain], abs=1e-5)


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("  ", "the sentence is empty: write some words"),
        ("zebra zebra", "no word is in the vocabulary (zebra): write others"),
        ("&", "no word is in the vocabulary (&): write others"),
        (" ".join(f"w{k}" for k in range(26)), "the sentence has 26 different words: give at most 25"),
    ],
)
def test_a_sentence_that_cannot_be_drawn_is_one_line(
    displayed: list, capsys: pytest.CaptureFixture[str], sentence: str, line: str
) -> None:
    vocabulary = Vocabulary.build([" ".join(f"w{k}" for k in range(40)) + " the"])
    widgets.schedule_explorer(vocabulary, sentence, 20)
    assert (capsys.readouterr().out, displayed) == (line + "\n", [])
    box = widgets.schedule_box(vocabulary, sentence, 20, 0.5)
    shown = parts(box)
    assert html.unescape(shown["HTML"].value) == line
    assert (shown["Image"].value, shown["Image"].layout.display) == (b"", "none")
    shown["Text"].value = "the"
    assert (shown["HTML"].value, shown["Image"].layout.display) == ("", None)
    assert pixels(shown["Image"].value).std() > 0


def test_the_largest_picture_can_be_read_in_grey() -> None:
    words = [f"{'long' * (k % 4)}word{k}" for k in range(25)]
    vocabulary = Vocabulary.build([" ".join(word for k, word in enumerate(words) for _ in range(k + 1))])
    drawn, _ = widgets.curves(vocabulary, " ".join(words), 2000, 0.5)
    with plt.rc_context():
        figures.style()
        figure = widgets.curves_figure(drawn, 2000)
        figures.check_legible(figure)
    lines = figure.axes[0].lines
    assert len({(line.get_linestyle(), line.get_marker(), line._unscaled_dash_pattern[1]) for line in lines}) == 25
    assert [line.get_label() for line in lines] == [f'"{word}"' for word in drawn]
    for line, values in zip(lines, drawn.values(), strict=True):
        assert np.array_equal(line.get_ydata(), values.numpy())
    assert plt.get_fignums() == []


def test_words_that_matplotlib_would_read_as_formulas_or_hide() -> None:
    drawn, unknown = widgets.curves(VOCABULARY, "_a $x^{$ $ <b> the", 5, 0.5)
    figure = widgets.curves_figure(drawn, 5)
    figure.draw_without_rendering()
    assert unknown == []
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert sorted(labels) == ['"$"', '"$x^{$"', '"<b>"', '"_a"', '"the"']


def test_the_slider_and_the_text_box_redraw_the_one_picture(displayed: list, person: None) -> None:
    widgets.schedule_explorer(VOCABULARY, SENTENCE, 50)
    (box,) = displayed
    shown = parts(box)
    slider, picture = shown["FloatSlider"], shown["Image"]
    assert (slider.value, slider.min, slider.max, slider.step) == (0.5, 0.0, 1.0, 0.05)
    first = picture.value
    slider.value = 0.0
    straight = picture.value
    assert not np.array_equal(pixels(first), pixels(straight))
    shown["Text"].value = SENTENCE + " zebra"
    assert shown["HTML"].value == "not in the vocabulary, and left out: zebra"
    assert picture.value == straight  # zebra takes no part in e, and the slider stays where it was
    assert len(displayed) == 1
    assert plt.get_fignums() == []


def test_without_controls_the_schedule_is_a_still_picture(displayed: list, capsys: pytest.CaptureFixture[str]) -> None:
    widgets.schedule_explorer(VOCABULARY, SENTENCE + " zebra", 50, 0.3)
    assert capsys.readouterr().out == "not in the vocabulary, and left out: zebra\n"
    assert [type(one) for one in displayed] == [Image]
    box = widgets.schedule_box(VOCABULARY, SENTENCE + " zebra", 50, 0.3)
    assert displayed[0].data == parts(box)["Image"].value  # the same bytes each time


@pytest.mark.parametrize(("steps", "lam", "line"), [(0, 0.5, "0 steps"), (5, 1.1, "lambda is 1.1"), (5, -1, "is -1")])
def test_settings_outside_the_schedule(steps: int, lam: float, line: str) -> None:
    with pytest.raises(UserError, match=line):
        widgets.schedule_explorer(VOCABULARY, SENTENCE, steps, lam)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.sampled_from("ab"), max_size=4).map(" ".join), min_size=1, max_size=6))
def test_a_word_is_settled_when_every_later_text_has_it_there(texts: list[str]) -> None:
    rows = [text.split() for text in texts]
    for step, row in enumerate(widgets.marked(texts)):
        assert [word for word, _ in row] == rows[step]
        for place, (word, settled) in enumerate(row):
            assert settled == all(later[place : place + 1] == [word] for later in rows[step:])


def test_no_text_at_all_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        widgets.marked([])


READ = partial(widgets.typed, VOCABULARY)


def test_what_is_typed_is_read_as_the_corpus_has_it() -> None:
    text, unknown = widgets.typed(VOCABULARY, "The SCHOOL, of Zebra\u2019s rain; zebra's _a $x^{$")
    assert text == "the school , of zebra's rain ; zebra's _a $x^{$"
    assert unknown == [",", "zebra's", ";"]
    assert widgets.typed(VOCABULARY, " ") == ("", [])


def test_a_picture_holds_twice_the_dots_that_it_is_wide(displayed: list) -> None:
    widgets.schedule_explorer(VOCABULARY, SENTENCE, 20)
    assert displayed[0].width * 2 == pixels(displayed[0].data).shape[1]
    shown = parts(widgets.schedule_box(VOCABULARY, SENTENCE, 20, 0.5))
    assert int(shown["Image"].width) * 2 == pixels(shown["Image"].value).shape[1]


class Writer:
    """A model that writes TEXTS for every sentence that it takes, and remembers what it was asked."""

    asked: list[tuple[str, int]]
    run = SimpleNamespace(data=SimpleNamespace(vocabulary=VOCABULARY))

    def __init__(self) -> None:
        self.asked = []

    def steps(self, source: str, seed: int) -> dict[int, str]:
        self.asked.append((source, seed))
        if not source:
            raise UserError("the sentence has 0 words: give 1 to 9, <b> none")
        return TEXTS if source != "mute" else {1: "", 2: ""}


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    """The model of every record."""
    made = Writer()
    monkeypatch.setattr(cases.Writer, "of", lambda record: made)
    return made


RECORD = SimpleNamespace(case="series/task/row/seed0")


def test_the_slider_turns_the_steps_and_settled_words_are_bold(displayed: list, person: None, writer: Writer) -> None:
    widgets.decoding_slider(RECORD, "The rain", 7)
    (box,) = displayed
    shown = parts(box)
    slider, play, page = shown["IntSlider"], shown["Play"], shown["HTML"]
    assert (slider.min, slider.max, play.min, play.max) == (1, 4, 1, 4)
    pages = []
    for step in (1, 2, 3, 4, 2):
        slider.value = step
        pages.append(page.value)
    assert pages == ["a b", "<b>x</b> b c", "<b>x</b> y", "<b>x</b> <b>b</b>", "<b>x</b> b c"]
    assert writer.asked == [("the rain", 7)]
    assert box.children[2].value == ""
    shown["Text"].value = "Zebra,"
    assert len(writer.asked) == 1  # only the button decodes
    shown["Button"].click()
    assert writer.asked[1:] == [("zebra ,", 7)]
    assert html.unescape(box.children[2].value) == "not in the vocabulary, so the model sees <unk> there: zebra, ,"
    assert (slider.value, page.value, shown["Button"].disabled) == (1, "a b", False)
    assert len(displayed) == 1


def test_a_sentence_that_the_model_does_not_take_is_one_line_and_the_next_one_decodes(
    displayed: list, person: None, writer: Writer
) -> None:
    widgets.decoding_slider(RECORD, "fine", 0)
    shown = parts(displayed[0])
    shown["IntSlider"].value = 3
    shown["Text"].value = ""
    shown["Button"].click()
    line = "the sentence has 0 words: give 1 to 9, &lt;b&gt; none"
    assert (shown["HTML"].value, shown["HBox"].layout.visibility) == (line, "hidden")
    shown["IntSlider"].value = 2
    assert shown["HTML"].value == line  # nothing of the sentence before comes back
    shown["Text"].value = "mute"
    shown["Button"].click()
    assert (shown["HTML"].value, shown["HBox"].layout.visibility) == ("(no words)", "visible")
    assert (shown["IntSlider"].max, shown["Play"].max) == (2, 2)


def test_words_with_the_signs_of_html_stay_text() -> None:
    page = parts(widgets.decoding_box(lambda _: {1: "<unk> a", 2: "<unk> &"}, "any", READ))["HTML"].value
    assert page == "<b>&lt;unk&gt;</b> a"
    assert re.sub("</?b>", "", html.unescape(page)) == "<unk> a"


def test_without_controls_a_few_steps_are_printed(
    displayed: list, writer: Writer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writer, "steps", lambda source, seed: {k: f"text {k}" if k > 1 else "" for k in range(1, 21)})
    widgets.decoding_slider(RECORD, "The rain", 7)
    steps = [f"step {k:>3}: text {k}" for k in (2, 3, 5, 8, 12, 20)]
    expected = ["source:   the rain", "step   1: (no words)", *steps]
    assert (capsys.readouterr().out.splitlines(), displayed) == (expected, [])


def test_without_controls_a_step_that_changes_nothing_is_left_out(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writer, "steps", lambda source, seed: {k: "a" if k < 5 else "b" for k in range(1, 21)})
    widgets.decoding_slider(RECORD, "the rain", 7)
    assert capsys.readouterr().out.splitlines()[1:] == ["step   1: a", "step   5: b", "step  20: the same"]


def test_without_controls_a_short_decoding_and_a_refused_sentence(
    writer: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    widgets.decoding_slider(RECORD, "the rain", 7)
    assert [line[:9] for line in capsys.readouterr().out.splitlines()[1:]] == [f"step   {k}:" for k in (1, 2, 3, 4)]
    widgets.decoding_slider(RECORD, "", 7)
    assert capsys.readouterr().out == "the sentence has 0 words: give 1 to 9, <b> none\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyError("model"), "series/task/row/seed0: no weights are published with this record"),
        (UserError("weights: damaged: run `make reproduce`"), "weights: damaged: run"),
    ],
)
def test_a_record_without_usable_weights_is_one_line(
    displayed: list,
    person: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    line: str,
) -> None:
    def fail(record: object) -> None:
        raise error

    monkeypatch.setattr(cases.Writer, "of", fail)
    widgets.decoding_slider(RECORD, "any", 0)
    printed = capsys.readouterr().out
    assert printed.startswith(line)
    assert printed.count("\n") == 1
    assert displayed == []
