"""Two widgets of the InfoDiffusion series; where nobody can move them, a picture or a text takes their place."""

import html
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import ipywidgets
import numpy as np
import torch
from IPython.display import Image, display
from matplotlib.figure import Figure
from torch import Tensor

from lib.diffusion import schedule, settling
from lib.errors import UserError
from lib.records import Record
from lib.reporting import figures
from lib.reporting.interactive import PLAY_INTERVAL, interactive
from lib.reporting.looks import LINES, MARKERS
from lib.series.infodiffusion import cases
from lib.text import bible
from lib.text.vocabulary import Vocabulary

# A line style and a marker for each word, so that a grey print loses nothing.
MOST_WORDS = len(LINES) * len(MARKERS)
ROWS = 16  # of a legend as high as the picture
FEW = (1, 2, 3, 5, 8, 12)  # sampling steps that are printed, with the last
NOTHING = "(no words)"
WIDTH, SHARP = 720, 200  # pixels that a picture is wide on the page, and the dots an inch that it holds

Decode = Callable[[str], Mapping[int, str]]
Read = Callable[[str], tuple[str, list[str]]]


def schedule_explorer(vocabulary: Vocabulary, sentence: str, steps: int, lam: float = 0.5) -> None:
    """Show the signal that each word of a sentence keeps over t = 0 .. T = steps, with a slider for lambda in [0, 1].

    The sentence is read as `typed` says. A picture without controls where nobody can move them; one line for a sentence
    that cannot be drawn. Raises
    `UserError` for fewer than 1 step and for another lambda.
    """
    if steps < 1:
        raise UserError(f"the schedule has {steps} steps: give 1 or more")
    if not 0 <= lam <= 1:
        raise UserError(f"lambda is {lam}: give a number from 0 to 1")
    if interactive():
        display(schedule_box(vocabulary, sentence, steps, lam))
        return
    picture, note = _picture(vocabulary, sentence, steps, lam)
    if note:
        print(note)
    if picture:
        display(Image(data=picture, format="png", width=WIDTH))


def decoding_slider(record: Record, sentence: str, seed: int) -> None:
    """Show how the model of a record rewrites a sentence, with a slider over its sampling steps; settled words bold.

    The sentence is read as `typed` says. Where nobody can move a slider, a few steps as text, those that change
    something; one line where the record has no published weights, and for a sentence that the model does not take.
    """
    try:
        writer = cases.Writer.of(record)
    except KeyError:
        print(f"{record.case}: no weights are published with this record, so it cannot decode here")
        return
    except UserError as error:
        print(error)
        return
    read = partial(typed, writer.run.data.vocabulary)
    decode = partial(writer.steps, seed=seed)
    if interactive():
        display(decoding_box(decode, sentence, read))
    else:
        _print_steps(decode, sentence, read)


def typed(vocabulary: Vocabulary, sentence: str) -> tuple[str, list[str]]:
    """Return what somebody typed as the corpus has it, and its unknown words, each once.

    In lower case, words and punctuation marks apart; a word that the vocabulary knows as it stands is left alone.
    """
    words: list[str] = []
    for word in sentence.lower().split():
        known = vocabulary.unk not in vocabulary.encode(word)
        words += [word] if known else bible.normalise(word).split() or [word]
    return " ".join(words), [word for word in dict.fromkeys(words) if vocabulary.unk in vocabulary.encode(word)]


def schedule_box(vocabulary: Vocabulary, sentence: str, steps: int, lam: float) -> ipywidgets.VBox:
    """Return the controls of `schedule_explorer` and what they draw: text box, slider, picture and note."""
    text = _text_box(sentence)
    slider = ipywidgets.FloatSlider(
        value=lam, min=0.0, max=1.0, step=0.05, description="lambda", continuous_update=False
    )
    picture, note = ipywidgets.Image(format="png", width=WIDTH), ipywidgets.HTML()

    def show(_: object = None) -> None:
        drawn, line = _picture(vocabulary, text.value, steps, slider.value)
        picture.value, note.value = drawn, html.escape(line)
        picture.layout.display = None if drawn else "none"

    text.observe(show, "value")
    slider.observe(show, "value")
    show()
    return ipywidgets.VBox([text, slider, picture, note])


def decoding_box(decode: Decode, sentence: str, read: Read) -> ipywidgets.VBox:
    """Return the controls of `decoding_slider` and what they show; `decode` gives {step from 1: text} of a sentence.

    `read` gives what somebody typed as words of the corpus, and which of them are unknown.

    The sentence is decoded at once, and again whenever the button is clicked; a `UserError` of `decode` is the line
    that is shown then.
    """
    text, button = _text_box(sentence), ipywidgets.Button(description="decode")
    play = ipywidgets.Play(min=1, max=1, value=1, interval=PLAY_INTERVAL)
    slider = ipywidgets.IntSlider(min=1, max=1, value=1, description="step")
    ipywidgets.jslink((play, "value"), (slider, "value"))
    controls, note, shown = ipywidgets.HBox([play, slider]), ipywidgets.HTML(), ipywidgets.HTML()
    pages: list[str] = []

    def turn(_: object = None) -> None:
        if pages:
            shown.value = pages[slider.value - 1]

    def click(_: object = None) -> None:
        pages.clear()
        button.disabled = True  # until the model has written: clicks in between would wait in line
        try:
            source, unknown = read(text.value)
            note.value = html.escape(_unread(unknown))
            pages.extend(_bold(words) for words in marked(list(decode(source).values())))
            play.max = slider.max = len(pages)
            slider.value = 1
            turn()
        except UserError as error:
            shown.value = html.escape(str(error))
        finally:
            button.disabled = False
            controls.layout.visibility = "visible" if pages else "hidden"

    slider.observe(turn, "value")
    button.on_click(click)
    click()
    return ipywidgets.VBox([text, button, note, controls, shown])


def curves(vocabulary: Vocabulary, sentence: str, steps: int, lam: float) -> tuple[dict[str, Tensor], list[str]]:
    """Return abar (steps + 1,) at t = 0 .. steps of each known word, the most informative first, and the unknown words.

    The sentence is read as `typed` says. Each word once, with its e(w) in this sentence. Raises `UserError` for a
    sentence without a known word and for one with more different words than lines can be told apart (25, our choice).
    """
    sentence, unknown = typed(vocabulary, sentence)
    if not sentence:
        raise UserError("the sentence is empty: write some words")
    ids = [number for number in vocabulary.encode(sentence) if number != vocabulary.unk]
    if not ids:
        raise UserError(f"no word is in the vocabulary ({', '.join(unknown)}): write others")
    if len(set(ids)) > MOST_WORDS:
        raise UserError(f"the sentence has {len(set(ids))} different words: give at most {MOST_WORDS}")
    e = schedule.relative_information(vocabulary.information()[ids])
    abar = schedule.abar("information", torch.arange(steps + 1.0), steps, e.expand(steps + 1, -1), lam)
    order = sorted(range(len(ids)), key=lambda place: -e[place].item())
    return {vocabulary.words[ids[place]]: abar[:, place] for place in order}, unknown


def curves_figure(drawn: Mapping[str, Tensor], steps: int) -> Figure:
    """Return the figure of at most 25 named curves over t = 0 .. T = steps, outside pyplot: nobody has to close it."""
    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.subplots()
    for number, (word, values) in enumerate(drawn.items()):
        row, column = divmod(number, len(LINES))
        look = {"linestyle": LINES[column], "marker": MARKERS[(column + row) % len(MARKERS)], "color": f"C{column}"}
        axes.plot(values, label=f'"{word}"', markevery=0.1, **look)
    axes.set(xlabel=f"time t (of T = {steps})", ylabel="signal kept, $\\bar{\\alpha}_t$", ylim=(-0.03, 1.03))
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1, 1), ncols=1 if len(drawn) <= ROWS else 2)
    for label in legend.get_texts():
        label.set_parse_math(False)  # a word may be a dollar sign
    return figure


def marked(texts: Sequence[str]) -> list[list[tuple[str, bool]]]:
    """Return for each step the words of its text, each with whether it stays the word at that place from here on.

    `texts` are the estimates in the order of sampling, at least one (`ValueError` else).
    """
    rows = [text.split() for text in texts]
    width = max(map(len, rows), default=0)
    grid = np.array([row + [""] * (width - len(row)) for row in rows], dtype=object).reshape(len(rows), width)
    steps = settling.settling_steps(grid).tolist()
    return [[(word, step >= steps[place]) for place, word in enumerate(row)] for step, row in enumerate(rows, 1)]


def _picture(vocabulary: Vocabulary, sentence: str, steps: int, lam: float) -> tuple[bytes, str]:
    """PNG of the curves and a line on unknown words ("" for none), or no bytes and a line that says why."""
    try:
        drawn, unknown = curves(vocabulary, sentence, steps, lam)
    except UserError as error:
        return b"", str(error)
    buffer = io.BytesIO()
    curves_figure(drawn, steps).savefig(buffer, format="png", dpi=SHARP, metadata=figures.METADATA["png"])
    return buffer.getvalue(), f"not in the vocabulary, and left out: {', '.join(unknown)}" if unknown else ""


def _text_box(sentence: str) -> ipywidgets.Text:
    layout = ipywidgets.Layout(width="95%")
    return ipywidgets.Text(value=sentence, description="sentence", continuous_update=False, layout=layout)


def _bold(words: Sequence[tuple[str, bool]]) -> str:
    parts = [f"<b>{html.escape(word)}</b>" if settled else html.escape(word) for word, settled in words]
    return " ".join(parts) or NOTHING


def _unread(unknown: Sequence[str]) -> str:
    return f"not in the vocabulary, so the model sees <unk> there: {', '.join(unknown)}" if unknown else ""


def _print_steps(decode: Decode, sentence: str, read: Read) -> None:
    source, unknown = read(sentence)
    try:
        texts = decode(source)
    except UserError as error:
        print(error)
        return
    print(f"source:   {source}")
    if unknown:
        print(_unread(unknown))
    before = None
    for step in sorted({*FEW, len(texts)} & texts.keys()):
        if texts[step] != before:
            print(f"step {step:3}: {texts[step] or NOTHING}")
        elif step == len(texts):
            print(f"step {step:3}: the same")
        before = texts[step]
