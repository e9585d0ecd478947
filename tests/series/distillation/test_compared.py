"""Rows of the main comparison as notebooks tell them: differences, controls, and what is not recorded."""

import types

import pandas as pd
import pytest

from lib.intervals import Interval
from lib.reporting import claims
from lib.series.distillation import cases, compared, evaluation
from lib.series.distillation.answered import TEACHER, Answered

SETS = ("facts", "modern", "chat", "describe", "simple")


def scores(level: float, spread: float = 1.0) -> pd.DataFrame:
    """Four items a set around a level."""
    rows = [(name, f"{name}{n}", level + spread * (n - 1.5)) for name in SETS for n in range(4)]
    frame = pd.DataFrame(rows, columns=["set", "identity", "rouge"]).assign(exact=0.0, changed=0.0, tokens=3.0)
    return frame.set_index(["set", "identity"]).sort_index()


@pytest.fixture
def read(monkeypatch):
    """Three seeds of three rows and a teacher, whose scores are known."""
    found = Answered("cpu")
    levels = {"sft": (40.0, 41.0, 39.0), "forward_kl": (44.0, 45.5, 43.0), "ours": (43.0, 44.0, 42.5), TEACHER: (60.0,)}
    records = {name: [types.SimpleNamespace(level=one) for one in several] for name, several in levels.items()}
    monkeypatch.setattr(found, "records_of", records.get)
    monkeypatch.setattr(
        evaluation, "of_test", lambda run, items, sampled=True: scores(run.level + (0 if sampled else 10))
    )
    monkeypatch.setattr(Answered, "items", {})
    monkeypatch.setattr(Answered, "names", list(records))
    monkeypatch.setattr(compared, "changed", lambda read, name: None)
    monkeypatch.setattr(compared, "first_seed", lambda read, name: read.sampled(name)[0])
    return found


def test_the_difference_of_two_rows_is_paired_by_seed(read):
    found = read.difference("ours", "forward_kl", read.trained)
    assert found.estimate == pytest.approx(-1.0)
    assert found.low < -1.0 < found.high
    assert read.difference("ours", "forward_kl", read.trained, greedy=True).estimate == pytest.approx(-1.0)


def test_a_teacher_is_compared_with_every_seed_of_a_student(read):
    assert read.difference(TEACHER, "sft", read.trained).estimate == pytest.approx(20.0)


def test_a_row_that_is_not_recorded_gives_no_difference_and_opens_the_claim(read):
    assert read.difference("middle", "sft", read.trained) is None
    assert compared.controls(read).outcome == claims.INCONCLUSIVE


def test_the_claim_is_ours_minus_output_only_behind_the_gate_of_the_teacher(read):
    verdict = compared.middle(read)
    assert verdict.findings[0].interval.estimate == pytest.approx(-1.0)
    assert list(verdict.gate) == pytest.approx([20.0, 19.0, 21.0])
    assert verdict.table("a/claim_b").details["units"] == {"ours minus output only, four sets": claims.POINTS_UNIT}


def test_differences_leave_out_what_is_not_recorded(read):
    frame = compared.differences(read)
    assert list(frame["seeds"]) == [3] * 3  # without middle only and the controls
    assert frame["four sets"][0].estimate == pytest.approx(4.1667, abs=1e-3)


def test_a_verdict_is_shown_by_the_names_of_the_tables_and_published_by_its_own(read):
    verdict = compared.middle(read)
    shown = compared.shown(verdict)
    assert list(shown.frame["comparison"])[1:] == ["both losses minus output loss, four sets"]
    assert shown.cells()["difference"][1].startswith("-1.0 [")
    assert list(verdict.table("a/claim_b").frame["comparison"])[1:] == ["ours minus output only, four sets"]
    assert shown.caption.endswith(f"Verdict: {verdict.outcome}.")
    controls = compared.shown(compared.controls(read))
    assert "both losses beat reversed" in controls.caption
    assert not [name for name in controls.frame["comparison"] if "ours" in name]


def test_with_more_steps_each_difference_stands_beside_its_levels(read, monkeypatch):
    monkeypatch.setattr(compared.records, "whole", lambda cases: None)
    frame = compared.by_steps(read).set_index("method")
    assert frame.loc["both losses", "minus output loss, sampled"].estimate == pytest.approx(-1.0)
    assert frame.loc["both losses", "minus cross-entropy, greedy"].estimate == pytest.approx(43.1667 - 40, abs=1e-3)
    assert frame.loc["output loss: forward KL", "minus output loss, sampled"] is None
    assert frame.loc["SFT: cross-entropy alone", "minus cross-entropy, sampled"] is None


def test_a_student_above_its_teacher_is_named_with_both_scores():
    rows = {"teacher": (50, 40), "copy": (90, 90), "a": (51, 30), "b": (60, 39)}
    cells = [{"method": name, "one": Interval(x, x, x), "two": Interval(y, y, y)} for name, (x, y) in rows.items()]
    told = compared.above_teacher(pd.DataFrame(cells), ["teacher", "copy"], ["one", "two"])
    assert told == ["*b* on one (60.0 [60.0, 60.0] against 50.0 [50.0, 50.0])"]


def test_rows_are_told_apart_by_whole_intervals():
    found = {"better": Interval(1, 0.5, 2), "open": Interval(1, -1, 2), "worse": Interval(-1, -2, -0.1)}
    assert compared.told_apart(found) == (["better"], ["worse"])


def test_controls_are_rows_of_the_registry():
    assert set(compared.CONTROLS) <= set(cases.ABLATIONS)
