"""Scores of trajectories on hand-made ones, and the widget that shows them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.beacons.facts import facts
from lib.reporting import figures
from lib.series.beacons import pushing, widgets

NAMED = {fact.identity: fact for fact in facts("results")[:3]}
A, B, C = NAMED
RIGHT = {name: fact.target.strip() for name, fact in NAMED.items()}
# Distances and losses after 0, 1 and 4 updates: A rises while wrong and comes back, B rises but is right, C falls.
ROWS = [
    (A, 0, "x", 0.5, 3.0), (A, 1, "y", 0.6, 2.0), (A, 4, RIGHT[A], 0.0, 0.1),
    (B, 0, "x", 0.2, 2.0), (B, 1, f"it is {RIGHT[B]}", 0.4, 1.0), (B, 4, "x", 0.205, 0.5),
    (C, 0, "x", 0.9, 5.0), (C, 1, "", 1.0, 6.0), (C, 4, "z", 0.95, 4.0),
]  # fmt: skip


def record(targets: str = "own", taught: dict[str, str] | None = None) -> Any:
    frame = pd.DataFrame(ROWS, columns=["identity", "step", "answer", "raw", "loss"])
    frame = frame.assign(centred=2 * frame["raw"], x=frame["raw"], y=-frame["loss"])
    told = pd.DataFrame(list((taught or {}).items()), columns=["identity", "taught"])
    return SimpleNamespace(frames={"readings": frame, "facts": told}, config={"targets": targets})


def test_a_fact_is_pushed_where_it_is_farther_and_wrong() -> None:
    frame = pushing.trajectories(record())
    assert frame[frame["pushed"]][["identity", "step"]].to_numpy().tolist() == [[A, 1], [C, 1], [C, 4]]
    assert frame["start"].tolist() == [0.5] * 3 + [0.2] * 3 + [0.9] * 3
    assert frame[frame["right"]][["identity", "step"]].to_numpy().tolist() == [[A, 4], [B, 1]]
    assert pushing.trajectories(record(), "centred")["d"].tolist() == (2 * frame["d"]).tolist()
    found = pushing.by_fact(frame)
    assert found["ever"].to_dict() == {A: True, B: False, C: True}
    assert found["finally"].to_dict() == {A: False, B: False, C: True}
    assert found["quick"].to_dict() == {A: 0.5, B: 0.5, C: 0.0}
    assert found["lighter"].fillna(-1).to_dict() == {A: 1.0, B: -1.0, C: 0.5}


def test_shuffled_facts_are_judged_by_what_they_were_taught() -> None:
    taught = {A: NAMED[B].target, B: NAMED[A].target, C: NAMED[C].target}
    frame = pushing.trajectories(record("shuffled", taught))
    assert not frame["right"].any()


def test_shares_over_steps_are_means_with_intervals() -> None:
    frame = pushing.trajectories(record())
    alone = pushing.rate([frame])
    assert alone["step"].tolist() == [0, 1, 4]
    assert alone["mean"].tolist() == pytest.approx([0, 2 / 3, 1 / 3])
    assert (alone["low"] <= alone["mean"]).all()
    other = frame.assign(pushed=False)
    three = pushing.rate([frame, frame, other])
    assert three["mean"].tolist() == pytest.approx([0, 4 / 9, 2 / 9])
    # A t interval over three seeds would reach from -0.5 to 1.4; before the first update nothing was drawn.
    assert (three["low"][1], three["high"][1]) == (0.0, 1.0)
    assert three.loc[0, ["mean", "low", "high"]].tolist() == [0, 0, 0]
    still = pushing.rate([other] * 3)
    assert still["mean"][1] == 0 < still["high"][1]  # three equal seeds of three facts are no certainty
    assert pushing.rate([frame, frame, frame], "d")["high"].max() <= 2


def test_the_excess_compares_facts_that_started_alike() -> None:
    edges = pushing.thirds([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    assert pushing.start_of([0.0, edges[0], 0.35, 0.9], edges).tolist() == ["near", "near", "middle", "far"]
    draw = np.random.default_rng(0)

    def made(count: int, low: float, rate: dict[str, float]) -> pd.DataFrame:
        start = draw.uniform(low, 1, count)
        chance = [rate[name] for name in pushing.start_of(start, np.array([0.3, 0.6]))]
        return pd.DataFrame({"start": start, "ever": draw.random(count) < chance})

    # The control starts farther out, where pushes are rare for everybody: the plain difference would mislead.
    rates = {"near": 0.8, "middle": 0.4, "far": 0.1}
    ours, control = made(4000, 0.0, rates), made(4000, 0.25, rates)
    assert ours["ever"].mean() - control["ever"].mean() > 0.1
    assert abs(pushing.excess(ours, control, np.array([0.3, 0.6])).mean()) < 0.06
    more = made(4000, 0.0, {name: rate + 0.15 for name, rate in rates.items()})
    assert pushing.excess(more, control, np.array([0.3, 0.6])).mean() == pytest.approx(0.15, abs=0.06)
    with pytest.raises(ValueError, match="no facts of ours started where"):
        pushing.excess(ours[ours["start"] < 0.3], control[control["start"] > 0.6], np.array([0.3, 0.6]))


def test_thirds_of_some_seeds_and_correlations_where_there_are_any() -> None:
    frame = pushing.trajectories(record())
    parts = pushing.started([frame, frame[frame["identity"] != A]], "middle", np.array([0.3, 0.6]))
    assert [part["identity"].unique().tolist() for part in parts] == [[A]]
    draw = np.random.default_rng(0)
    x, z = draw.normal(size=(2, 200))
    assert pushing.related(x, x + z).low > 0.4
    assert abs(pushing.related(x + z, 2 * z + draw.normal(size=200) / 99, [z]).estimate) < 0.3
    assert pushing.related(x, np.ones(200)) is None
    assert pushing.related(x[:3], z[:3]) is None


def test_the_excess_spreads_by_fact_as_it_does_when_facts_are_drawn_anew() -> None:
    draw, edges = np.random.default_rng(1), np.array([0.3, 0.6])
    names = [f"fact {number}" for number in range(90)]

    def made() -> tuple[pd.DataFrame, pd.DataFrame]:
        sides = []
        for rate in (0.5, 0.3):
            start = draw.uniform(0, 1, 90)
            sides.append(pd.DataFrame({"start": start, "ever": draw.random(90) < rate}, index=names))
        return sides[0], sides[1]

    found = [pushing.excess(*made(), edges) for _ in range(100)]
    assert all(rows.index.tolist() == sorted(names) for rows in found)
    spread = np.std([rows.mean() for rows in found])
    told = np.mean([rows.std() / np.sqrt(len(rows)) for rows in found])
    assert told == pytest.approx(spread, rel=0.2)
    ours, control = made()
    third = [pushing.start_of(frame["start"], edges) for frame in (ours, control)]
    rates = {name: control["ever"][third[1] == name].mean() for name in pushing.STARTS}
    expected = ours["ever"].mean() - np.mean([rates[name] for name in third[0]])
    assert pushing.excess(ours, control, edges).mean() == pytest.approx(expected)


def test_two_seeds_with_different_facts_are_averaged_by_fact() -> None:
    frame = pushing.trajectories(record())
    both = pushing.rate([frame, frame[frame["identity"] == A]])
    assert both["mean"].tolist() == pytest.approx([0, 2 / 3, 1 / 3])


def test_scores_over_seeds_need_facts() -> None:
    part = pd.Series([0.0, 1.0])
    assert pushing.over_seeds([part]) == 0.5
    assert pushing.over_seeds([part] * 3) == (0.5, 0.0, 1.0)
    assert pushing.over_seeds([part, part, part.iloc[:0]]) == 0.5
    assert pushing.over_seeds([part, part, pd.Series([np.nan])]) is None
    assert pushing.over_seeds([pd.Series([np.nan, 1.0])] * 3) == 1.0  # single facts, equal
    assert pushing.over_seeds([part.iloc[:0]] * 3) is None


def test_the_widget_shows_the_path_up_to_the_reading() -> None:
    frame = pushing.trajectories(record())
    box = widgets.trajectory_box(frame, NAMED, A)
    choice, controls, picture, text = box.children
    assert bytes(picture.value).startswith(b"\x89PNG")
    assert "step  4" in text.value
    before = bytes(picture.value)
    controls.children[1].value = 1
    assert "step  0: x" in text.value
    assert "step  1" not in text.value
    assert bytes(picture.value) != before
    choice.value = C
    controls.children[1].value = 2
    assert "(nothing)  [d 1.00, loss 6.00, pushed away]" in text.value
    figures.check_legible(widgets.path_figure(frame, C, 3))


def test_without_a_reader_the_picture_and_the_answers_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pushing.trajectories(record())
    widgets.trajectory_explorer(frame, NAMED, B)
    told = capsys.readouterr().out
    assert NAMED[B].prompt in told
    assert "right]" in told
    with pytest.raises(KeyError):
        widgets.trajectory_explorer(frame, NAMED, "nobody")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_distances_that_are_not_finite_are_refused(wrong: float) -> None:
    for run, name in (
        (lambda: pushing.is_pushed([0.5, wrong], [0.1, 0.2], [False, False]), "distances"),
        (lambda: pushing.is_pushed([0.5, 0.5], [0.1, wrong], [False, False]), "starts"),
        (lambda: pushing.thirds([[0.1, wrong]]), "starts"),
        (lambda: pushing.start_of([wrong], np.array([0.3, 0.6])), "starts"),
    ):
        with pytest.raises(ValueError, match=f"{name}: a distance is not finite"):
            run()
    unread = record()
    unread.frames["readings"] = unread.frames["readings"].query("not (identity == @A and step == 0)")
    with pytest.raises(ValueError, match="was not read at step 0"):
        pushing.trajectories(unread)


def test_a_share_lies_within_its_range_and_of_one_fact_has_no_width():
    assert pushing.share([True]) == (1.0, 1.0, 1.0)
    found = pushing.share([1.0, 0.0, float("nan"), 1.0, 1.0])
    assert found.estimate == 0.75
    assert 0 <= found.low < 0.75 < found.high <= 1
