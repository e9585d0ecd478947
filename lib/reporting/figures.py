"""Figures that a reader sees: one style, the plotted numbers beside every picture, and a check that it can be read.

A figure is saved as PNG, PDF and JSON of one name. Pictures are byte-stable for one lock: no dates, no versions, fixed
size and fonts.
"""

import io
import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from lib import paths
from lib.files import write_together
from lib.reporting import provenance, tables

Drawn = tuple[Figure, dict[str, Any]]  # a figure and the numbers in it, as `save` takes them

STYLE = Path(__file__).with_name("style.mplstyle")
DPI = 200
# Matplotlib holds these for settings of a machine and not of a style, but they reach a figure or a notebook's output.
NO_STYLE = ("timezone", "date.epoch", "figure.max_open_warning")
# Two series of one line style and marker (bars: one hatch) need this distance of lightness (CIE L*, 0 to 100).
LIGHTNESS_STEP = 12.0
# Written metadata that would change from run to run or from version to version; None leaves an entry out.
METADATA = {"png": {"Software": None}, "pdf": {"Creator": None, "Producer": None, "CreationDate": None}}

UNIT = r"(?:seconds|minutes|hours|ms|[KMG]i?B|percent|%|tokens/s|tokens a second)"
BARE_UNIT = re.compile(rf"(?<![\w/]){UNIT}(?![\w/])")
BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")


def style() -> None:
    """Set the look of all figures drawn from here on: seaborn's white grid under the project's style sheet.

    Both stand on matplotlib's own defaults, so that no setting of the user's shows through.
    """
    plt.style.use("default")
    plt.rcParams.update({name: value for name, value in plt.rcParamsDefault.items() if name in NO_STYLE})
    sns.set_theme(style="whitegrid")
    plt.style.use(STYLE)


def save(figure: Figure, stem: str, numbers: Mapping[str, Any], profile: str, caption: str) -> None:
    """Write stem.png, stem.pdf and stem.json into the work folder of `profile`, all or none; the figure stays open.

    `numbers` are the plotted series (arrays, data frames, nested); the JSON holds caption, profile, series with 10
    significant digits, and the records read for them. The caption is shown above the figure. Raises `ValueError`,
    before anything is written, for a bad stem, an empty caption, NaN, a figure that is not legible, and a line or bar
    whose values are not among `numbers`; `UserError` where the disk does not take them.
    """
    tables.check_stem(stem)
    if not caption.strip():
        raise ValueError(f"{stem}: a figure needs a caption")
    series = tables.plain(numbers, stem)
    check_numbers(figure, series)
    check_legible(figure)
    pictures = {suffix: _picture(figure, suffix) for suffix in METADATA}
    base = paths.work_figures(profile) / stem
    caption = provenance.captioned(caption)
    told = provenance.json_of({"caption": caption, "profile": profile, "series": series})
    made = {base.with_suffix(f".{suffix}"): content for suffix, content in pictures.items()}
    write_together(made | {base.with_suffix(".json"): told})
    show_caption(caption)


def show_caption(caption: str) -> None:
    """Show a caption as Markdown in a notebook; elsewhere do nothing."""
    from IPython import get_ipython
    from IPython.display import Markdown, display

    if get_ipython() is not None:
        display(Markdown(caption))


def lightness(colour: Any) -> float:
    """Lightness of a colour as a grey print shows it: CIE L* from 0 (black) to 100 (white)."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return 116 * luminance ** (1 / 3) - 16 if luminance > 216 / 24389 else luminance * 24389 / 27


def check_numbers(figure: Figure, numbers: Any) -> None:
    """Raise `ValueError` unless every bar and every value of a line is among `numbers` (any nesting).

    Let through: gaps (NaN) in a line, unlabelled lines between two points, error bars and bands.
    """
    kept = np.unique(np.fromiter(_leaves(numbers), dtype=np.float64))
    for axes in figure.axes:
        for label, values in _plotted(axes):
            values = values[np.isfinite(values)]
            if len(values) and not _contained(values, kept):
                raise ValueError(f"the plotted values of {label!r} are not among the numbers saved with the figure")


def check_legible(figure: Figure) -> None:
    """Raise `ValueError` naming everything that keeps a reader from reading `figure`, by the boxes of its drawn text.

    Checked: labels on every axis of numbers; units in brackets; no overlapping texts (tick labels, titles,
    legends); all text inside the canvas; no legend on top of data; no two series of one panel that only colour, or
    nothing, tells apart. Slanted text counts with its whole upright box.
    """
    # The layout settles in the first drawing.
    figure.draw_without_rendering()
    faults = [*_label_faults(figure), *_text_faults(figure), *_series_faults(figure), *_legend_faults(figure)]
    if faults:
        raise ValueError("the figure is not legible: " + "; ".join(faults))


def _picture(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    # Explicit, so that a figure drawn without style() is stable as well.
    with plt.rc_context({"pdf.fonttype": 42, "pdf.compression": 6}):
        figure.savefig(buffer, format=suffix, dpi=DPI, metadata=METADATA[suffix], bbox_inches=None, facecolor="white")
    return buffer.getvalue()


def _axis_pairs(figure: Figure) -> Iterator[tuple[str, Axis]]:
    """Every drawn axis with the name by which a fault calls it."""
    for number, axes in enumerate(figure.axes, start=1):
        if axes.get_visible() and axes.axison:
            panel = axes.get_title() or f"panel {number}"
            yield f"x axis of {panel}", axes.xaxis
            yield f"y axis of {panel}", axes.yaxis


def _tick_labels(axis: Axis) -> tuple[list[Text], list[Text]]:
    """Tick labels of an axis: those drawn, and those that matplotlib keeps but does not draw."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    drawn: list[Text] = []
    hidden: list[Text] = []
    for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
        inside = axis.get_visible() and tick.get_visible() and low - slack <= tick.get_loc() <= high + slack
        for text in (tick.label1, tick.label2):
            shown = inside and text.get_visible() and text.get_text().strip()
            (drawn if shown else hidden).append(text)
    return drawn, hidden


def _label_faults(figure: Figure) -> Iterator[str]:
    for name, axis in _axis_pairs(figure):
        shared = figure.get_supxlabel() if name.startswith("x") else figure.get_supylabel()
        label = axis.get_label_text().strip() or shared
        drawn = _tick_labels(axis)[0]
        if not label and drawn and not all(map(_is_name, drawn)):
            yield f"the {name} has no label"
        if unit := BARE_UNIT.search(BRACKETS.sub("", label)):
            yield f"the unit {unit.group()!r} on the {name} belongs in brackets"


def _is_name(text: Text) -> bool:
    """Whether a tick label has a word of three letters or more, as no number has: a name says itself what it is."""
    return re.search(r"[^\W\d_]{3,}", re.sub(r"\\\w+", "", text.get_text())) is not None


def _text_faults(figure: Figure) -> Iterator[str]:
    hidden = {text for _, axis in _axis_pairs(figure) for text in _tick_labels(axis)[1]}
    for axes in figure.axes:
        if not (axes.get_visible() and axes.axison):
            hidden |= {text for axis in (axes.xaxis, axes.yaxis) for text in axis.findobj(Text)}
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    boxes = {text: text.get_window_extent() for text in texts if text not in hidden}
    # One pixel is left for antialiasing.
    canvas = figure.bbox.padded(1)
    for text, box in boxes.items():
        if box.x0 < canvas.x0 or box.y0 < canvas.y0 or box.x1 > canvas.x1 or box.y1 > canvas.y1:
            yield f"{text.get_text()!r} leaves the canvas"
    for (first, box), (second, other) in combinations(boxes.items(), 2):
        if box.padded(-0.5).overlaps(other.padded(-0.5)):
            yield f"{first.get_text()!r} and {second.get_text()!r} overlap"


def _series_faults(figure: Figure) -> Iterator[str]:
    for axes in figure.axes:
        looks = [(name, (line.get_linestyle(), line.get_marker()), line.get_color()) for name, line in _labelled(axes)]
        looks += [
            (str(container.get_label()), (container[0].get_hatch() or "", "bar"), container[0].get_facecolor())
            for container in _bars(axes)
            if len(container)
        ]
        for (first, look, colour), (second, other, other_colour) in combinations(looks, 2):
            if look == other and abs(lightness(colour) - lightness(other_colour)) < LIGHTNESS_STEP:
                yield f"{first!r} and {second!r} look alike in grey: give them other line styles, markers or hatches"


def _legend_faults(figure: Figure) -> Iterator[str]:
    for axes in figure.axes:
        if (legend := axes.get_legend()) is None:
            continue
        box = legend.get_window_extent()
        for label, line in _lines(axes):
            points = line.get_transform().transform(line.get_xydata())
            if box.count_contains(points[np.isfinite(points).all(axis=1)]):
                yield f"the legend hides points of {label!r}"
        for container in _bars(axes):
            if any(box.overlaps(bar.get_window_extent()) for bar in container):
                yield f"the legend hides bars of {container.get_label()!r}"


def _labelled(axes: Axes) -> list[tuple[str, Line2D]]:
    """Every line with a label, with or without error bars; of seaborn's lines those that it drew for the legend."""
    lines = [(str(line.get_label()), line) for line in axes.lines]
    lines += [
        (str(container.get_label()), container.lines[0])
        for container in axes.containers
        if isinstance(container, ErrorbarContainer) and container.lines[0] is not None
    ]
    return [(label, line) for label, line in lines if line.get_visible() and not label.startswith("_")]


def _lines(axes: Axes) -> list[tuple[str, Line2D]]:
    """Every line that shows data: labelled, or drawn through three points or more; a bare reference line has two."""
    labelled = _labelled(axes)
    known = {line for _, line in labelled}
    others = [line for line in axes.lines if line not in known and line.get_visible() and np.size(line.get_xdata()) > 2]
    return labelled + [(str(line.get_label()), line) for line in others if line.get_linestyle() != "None"]


def _bars(axes: Axes) -> list[BarContainer]:
    return [container for container in axes.containers if isinstance(container, BarContainer)]


def _plotted(axes: Axes) -> Iterator[tuple[str, np.ndarray]]:
    """Label and plotted values of every labelled line and of every series of bars."""
    for label, line in _lines(axes):
        yield label, np.asarray(line.get_ydata(orig=False), dtype=np.float64)
    for container in _bars(axes):
        horizontal = container.orientation == "horizontal"
        lengths = [bar.get_width() if horizontal else bar.get_height() for bar in container]
        yield str(container.get_label()), np.asarray(lengths, dtype=np.float64)


def _contained(values: np.ndarray, kept: np.ndarray) -> bool:
    """Whether each value equals one of the sorted `kept` up to the digits that the JSON keeps."""
    if not len(kept):
        return False
    right = np.clip(np.searchsorted(kept, values), 0, len(kept) - 1)
    nearest = np.minimum(np.abs(kept[right] - values), np.abs(kept[np.maximum(right - 1, 0)] - values))
    return bool((nearest <= 1e-9 * np.abs(values) + 1e-12).all())


def _leaves(numbers: Any) -> Iterator[float]:
    if isinstance(numbers, Mapping | list):
        for item in numbers.values() if isinstance(numbers, Mapping) else numbers:
            yield from _leaves(item)
    elif isinstance(numbers, int | float):
        yield float(numbers)
