"""Figures: the same bytes in every process, the plotted numbers beside them, what cannot be read refused."""

import errno
import json
import os
import subprocess
import sys
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from lib.errors import UserError
from lib.reporting import figures

STEM = "1_infodiffusion/noise_schedule"
T = np.arange(0, 2001, 100)
CURVES = {"school": 1 - T / 2000 + 0.32 * np.sin(np.pi * T / 2000), "λ = 0": 1 - T / 2000}

# Sunlight-adapted simulation of the three kinds of colour blindness on linear RGB (Machado et al. 2009, severity 1).
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.fixture(autouse=True)
def _style(monkeypatch, tmp_path):
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path))
    with mpl.rc_context():
        figures.style()
        yield
    plt.close("all")


def curves(**labels) -> Figure:
    figure, axes = plt.subplots()
    for name, values in CURVES.items():
        axes.plot(T, values, label=name)
    axes.set(**({"xlabel": "diffusion step t", "ylabel": "signal kept"} | labels))
    axes.legend()
    return figure


def bars() -> Figure:
    figure, axes = plt.subplots()
    for number, values in enumerate([[0.4, 0.3], [0.3, 0.2]]):
        axes.bar(np.arange(2) + 0.4 * number, values, 0.4, label=f"model {number}")
    axes.set(xlabel="task", ylabel="BLEU", ylim=(0, 0.7))
    axes.legend(loc="upper center")
    return figure


@pytest.mark.parametrize("number", range(3))
def test_the_three_files_are_replaced_together_or_not_at_all(tmp_path, monkeypatch, number):
    drawn = iter([b"first", b"first", b"second", b"second"])
    monkeypatch.setattr(figures, "_picture", lambda figure, suffix: next(drawn))
    figures.save(curves(), STEM, CURVES, "smoke", "Figure 3.")
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(before) == 3
    real, calls = os.replace, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == number + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(UserError, match="no space left"):
        figures.save(bars(), STEM, [0.4, 0.3, 0.2], "smoke", "Another one.")
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


DRAW = r"""
import numpy as np, matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
from lib.reporting import figures
figures.style()
figure, axes = plt.subplots()
for name in sorted({"alpha", "beta", "gamma"}):
    axes.plot(np.arange(5), np.arange(5) * len(name), label=name)
axes.set(xlabel=r"step $\bar\alpha$ λ", ylabel="value")
axes.legend()
numbers = {"y": [np.arange(5) * n for n in (4, 5)]}
figures.save(figure, "1_infodiffusion/noise_schedule", numbers, "smoke", "A caption")
"""


def test_two_processes_write_the_same_bytes(tmp_path):
    written = []
    for number in range(2):
        root = tmp_path / str(number)
        environment = os.environ | {
            "REPRODUCTION_WORK_ROOT": str(root),
            "PYTHONHASHSEED": str(number),
            "TZ": f"UTC+{number}",
        }
        subprocess.run([sys.executable, "-c", DRAW], env=environment, check=True)
        folder = root / "work/smoke/figures/1_infodiffusion"
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert set(written[0]) == {"noise_schedule.png", "noise_schedule.pdf", "noise_schedule.json"}
    assert written[0] == written[1]


def test_json_holds_the_plotted_numbers_and_the_caption(tmp_path):
    figure = curves()
    figures.save(figure, STEM, {"t": T, "abar": CURVES}, "smoke", "Figure 3.")
    content = json.loads((tmp_path / f"work/smoke/figures/{STEM}.json").read_text())
    assert (content["caption"], content["profile"]) == ("Figure 3.", "smoke")
    for line in figure.axes[0].lines:
        assert content["series"]["t"] == line.get_xdata().tolist()
        assert np.allclose(content["series"]["abar"][line.get_label()], line.get_ydata(), rtol=1e-9, atol=0)
    assert plt.fignum_exists(figure.number), "the notebook still has to show it"


def test_picture_has_a_fixed_size_no_dates_and_outline_fonts(tmp_path):
    figures.save(curves(), STEM, CURVES, "smoke", "Figure 3.")
    base = tmp_path / "work/smoke/figures" / STEM
    pixels = plt.imread(base.with_suffix(".png"))
    assert pixels.shape[:2] == (800, 1280)
    pdf = base.with_suffix(".pdf").read_bytes()
    assert b"Date" not in pdf
    assert b"/Type3" not in pdf
    assert b"/FontFile2" in pdf
    assert b"Software" not in base.with_suffix(".png").read_bytes()


def refused(figure: Figure, message: str, numbers=None) -> None:
    with pytest.raises(ValueError, match=message):
        figures.save(figure, STEM, numbers or CURVES, "smoke", "A caption")


def test_other_numbers_than_the_plotted_are_refused(tmp_path):
    refused(
        curves(), "'school' are not among the numbers", {"school": CURVES["school"] * 1.001, "λ = 0": CURVES["λ = 0"]}
    )
    refused(curves(), "'λ = 0' are not among", {"school": CURVES["school"]})
    refused(bars(), "'model 1' are not among", [0.4, 0.3])
    figure = curves()
    figure.axes[0].errorbar(T, CURVES["school"] - 0.3, yerr=0.01, label="lower")
    refused(figure, "'lower' are not among")
    refused(curves(), "nan is not a number", {"school": [float("nan")]})
    assert not any(tmp_path.iterdir()), "nothing is written before everything is checked"


def test_gaps_and_reference_lines_need_no_number():
    figure = curves()
    figure.axes[0].axhline(0.5)
    figure.axes[0].lines[0].set_ydata(np.where(T == 500, np.nan, CURVES["school"]))
    figures.check_numbers(figure, {name: values.tolist() for name, values in CURVES.items()})


def test_numbers_of_seaborn_lines_are_checked_too():
    import pandas as pd
    import seaborn as sns

    data = pd.DataFrame({"t": T, "abar": CURVES["school"], "word": "school"})
    figure, axes = plt.subplots()
    sns.lineplot(data, x="t", y="abar", hue="word", ax=axes)
    figures.check_numbers(figure, CURVES["school"].tolist())
    with pytest.raises(ValueError, match="not among"):
        figures.check_numbers(figure, CURVES["λ = 0"].tolist())


@pytest.mark.parametrize("axis", ["x", "y"])
def test_an_axis_without_label_is_refused(axis):
    refused(curves(**{f"{axis}label": ""}), f"the {axis} axis of panel 1 has no label")


@pytest.mark.parametrize(("names", "passes"), [(["GRU", "GPT-2 base"], True), (["10", "20"], False), (["a", "b"], 0)])
def test_an_axis_of_names_needs_no_label(names, passes):
    figure = curves()
    figure.axes[0].set_yticks(figure.axes[0].get_ylim(), names)
    figure.axes[0].set_ylabel("")
    if passes:
        figures.check_legible(figure)
    else:
        refused(figure, "the y axis of panel 1 has no label")


def test_shared_and_hidden_axes_need_no_label():
    figure, axes = plt.subplots(1, 2, sharey=True)
    for panel in axes:
        panel.plot([0, 1])
    figure.supxlabel("step")
    axes[0].set_ylabel("score")
    figures.check_legible(figure)
    figure, axes = plt.subplots()
    axes.set_axis_off()
    figures.check_legible(figure)


@pytest.mark.parametrize("label", ["time seconds", "time, minutes", "share %", "memory / GiB"])
def test_units_out_of_brackets_are_refused(label):
    refused(curves(ylabel=label), "belongs in brackets")


@pytest.mark.parametrize(
    "label", ["time (seconds)", "share [%]", "sampling steps", "items (tokens/s)", "rate (GB a second)"]
)
def test_units_in_brackets_pass(label):
    figures.check_legible(curves(ylabel=label))


def test_overlapping_tick_labels_are_refused():
    figure = curves()
    figure.axes[0].set_xticks(T, [f"step {t}" for t in T])
    refused(figure, "'step 0' and 'step 100' overlap")


def test_text_over_other_text_is_refused():
    figure = curves()
    figure.axes[0].text(500, 0.1, "one note")
    figure.axes[0].text(510, 0.1, "another note")
    refused(figure, "'one note' and 'another note' overlap")


def test_text_outside_the_canvas_is_refused():
    figure = curves()
    figure.axes[0].annotate("far away", (0, 0), xytext=(1.2, 0.5), textcoords="axes fraction", annotation_clip=False)
    figure.axes[0].texts[0].set_in_layout(False)
    refused(figure, "'far away' leaves the canvas")


def test_ticks_beyond_the_view_do_not_count():
    figure = curves()
    figure.axes[0].set_xticks([0, 500, 1000, 1001, 1002, 1003])
    figure.axes[0].set_xlim(0, 1000)
    figures.check_legible(figure)


def test_series_that_only_colour_distinguishes_are_refused():
    figure, axes = plt.subplots()
    for number, colour in enumerate(["#c00000", "#007000"]):
        axes.plot([0, 1, 2], [number] * 3, color=colour, linestyle="-", marker="o", label=colour)
    axes.set(xlabel="x", ylabel="y")
    assert abs(figures.lightness("#c00000") - figures.lightness("#007000")) < figures.LIGHTNESS_STEP
    with pytest.raises(ValueError, match="look alike in grey"):
        figures.check_legible(figure)
    axes.lines[1].set_linestyle("--")
    figures.check_legible(figure)


def test_more_series_than_the_style_tells_apart_are_refused():
    figure, axes = plt.subplots()
    for number in range(6):
        axes.plot([0, 1, 2], [number] * 3, label=f"series {number}")
    axes.set(xlabel="x", ylabel="y")
    with pytest.raises(ValueError, match="'series 0' and 'series 5' look alike"):
        figures.check_legible(figure)


def test_a_legend_over_data_is_refused():
    figure = curves()
    figure.axes[0].legend(loc="upper left")
    refused(figure, "the legend hides points of 'school'")
    figure = bars()
    figure.axes[0].legend(loc="lower left")
    refused(figure, "the legend hides bars of 'model 0'", [0.4, 0.3, 0.2])


def palette() -> list[str]:
    return plt.rcParams["axes.prop_cycle"].by_key()["color"]


def test_lightness_of_known_colours():
    # Black, white, and the L* of the sRGB primaries and of middle grey.
    known = {"black": 0, "white": 100, "red": 53.24, "lime": 87.73, "blue": 32.30, "#777777": 50.03}
    assert {colour: figures.lightness(colour) for colour in known} == pytest.approx(known, abs=0.02)


def test_palette_is_told_apart_in_grey_by_lightness_and_by_style():
    cycle = plt.rcParams["axes.prop_cycle"].by_key()
    assert min(abs(figures.lightness(a) - figures.lightness(b)) for a, b in combinations(palette(), 2)) >= 14
    assert all(len({str(look) for look in cycle[key]}) == 5 for key in ("color", "linestyle", "marker"))


@pytest.mark.parametrize("kind", BLINDNESS)
def test_palette_is_told_apart_by_colour_blind_eyes(kind):
    def seen(colour: str) -> np.ndarray:
        rgb = np.array(mpl.colors.to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        linear = np.clip(np.array(BLINDNESS[kind]) @ linear, 0, 1)
        xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
        root = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 1e-4))
        return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])

    # A distance of 2 is just visible; 15 is plain at a glance.
    assert min(np.linalg.norm(seen(a) - seen(b)) for a, b in combinations(palette(), 2)) > 15


@pytest.mark.parametrize("stem", ["noise_schedule", "/tmp/x", "1_infodiffusion/../x", "1_infodiffusion/Noise.png"])
def test_bad_stems_are_refused(stem):
    with pytest.raises(ValueError, match="no stem"):
        figures.save(curves(), stem, CURVES, "smoke", "A caption")


def test_an_empty_caption_is_refused():
    with pytest.raises(ValueError, match="caption"):
        figures.save(curves(), STEM, CURVES, "smoke", " ")


def test_caption_is_shown_in_a_notebook_only(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    figures.show_caption("Figure 3.")
    assert shown == []
    monkeypatch.setattr("IPython.get_ipython", object)
    figures.show_caption("Figure 3.")
    assert shown[0].data == "Figure 3."
