"""A widget of the Beacons series: pick a fact, watch the distance of its answer, update after update.

Where nobody can move it, a picture and the answers of one fact take its place.
"""

import html
import io
from collections.abc import Mapping

import ipywidgets
import pandas as pd
from IPython.display import Image, display
from matplotlib.figure import Figure

from lib.beacons.facts import BeaconFact
from lib.reporting import figures
from lib.reporting.interactive import PLAY_INTERVAL, interactive

NOTHING = "(nothing)"


def trajectory_explorer(frame: pd.DataFrame, named: Mapping[str, BeaconFact], identity: str) -> None:
    """Show a fact's distance over updates (`pushing.trajectories`), with a choice of facts and a slider over readings.

    `named` are the facts by identity, `identity` is shown first. A picture and its answers where nobody can move a
    slider. Raises `KeyError` for a fact without a trajectory.
    """
    if interactive():
        display(trajectory_box(frame, named, identity))
        return
    path = _path(frame, identity)
    display(Image(data=_picture(frame, identity, len(path)), format="png"))
    for line in answers_of(path, named[identity], len(path)):
        print(line)


def trajectory_box(frame: pd.DataFrame, named: Mapping[str, BeaconFact], identity: str) -> ipywidgets.VBox:
    """Return the controls of `trajectory_explorer` and what they show: choice, slider, picture and answers."""
    options = [(named[name].prompt, name) for name in frame["identity"].unique()]
    layout = ipywidgets.Layout(width="95%")
    choice = ipywidgets.Dropdown(options=options, value=identity, description="fact", layout=layout)
    last = int(frame.groupby("identity").size().max())
    play = ipywidgets.Play(min=1, max=last, value=last, interval=PLAY_INTERVAL)
    slider = ipywidgets.IntSlider(min=1, max=last, value=last, description="reading")
    ipywidgets.jslink((play, "value"), (slider, "value"))
    picture, text = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_: object = None) -> None:
        picture.value = _picture(frame, choice.value, slider.value)
        lines = answers_of(_path(frame, choice.value), named[choice.value], slider.value)
        text.value = "<br>".join(html.escape(line) for line in lines)

    choice.observe(show, "value")
    slider.observe(show, "value")
    show()
    return ipywidgets.VBox([choice, ipywidgets.HBox([play, slider]), picture, text])


def path_figure(frame: pd.DataFrame, identity: str, readings: int) -> Figure:
    """Return the figure of a fact's distance over its first readings, beside d(0) as a dotted line; outside pyplot."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    curve = figure.subplots()
    path = _path(frame, identity).iloc[:readings]
    away = path[path["pushed"]]
    curve.axhline(float(path["d"].iloc[0]), color="0.5", linestyle=":", label="d(0), before training")
    curve.plot(path["step"], path["d"], "k-o", label="distance d", markevery=1)
    curve.plot(away["step"], away["d"], "rX", markersize=10, label="pushed away", markevery=1)
    top = max(1.0, float(_path(frame, identity)["d"].max()))
    curve.set(xlabel="updates", ylabel="distance d", xlim=(-0.5, frame["step"].max() + 0.5), ylim=(-0.05, top + 0.05))
    figure.legend(*curve.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def answers_of(path: pd.DataFrame, fact: BeaconFact, readings: int) -> list[str]:
    """Return the prompt and a line for each of the first readings: step, answer, distance, and what became of it.

    The target is the fact's own; nothing is rendered as mark-up.
    """
    lines = [f"{fact.prompt} ... (target:{fact.target})"]
    for row in path.iloc[:readings].itertuples(index=False):
        state = "right" if row.right else "pushed away" if row.pushed else "wrong"
        lines.append(f"step {row.step:2}: {row.answer or NOTHING}  [d {row.d:.2f}, loss {row.loss:.2f}, {state}]")
    return lines


def _path(frame: pd.DataFrame, identity: str) -> pd.DataFrame:
    path = frame[frame["identity"] == identity].sort_values("step", kind="stable")
    if path.empty:
        raise KeyError(identity)
    return path


def _picture(frame: pd.DataFrame, identity: str, readings: int) -> bytes:
    buffer = io.BytesIO()
    path_figure(frame, identity, readings).savefig(buffer, format="png", dpi=100, metadata=figures.METADATA["png"])
    return buffer.getvalue()
