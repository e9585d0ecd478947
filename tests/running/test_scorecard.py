"""The scorecard: which comparison decides, where verdicts are read from, and one line for each that is missing."""

import json

import numpy as np
import pytest

from lib import paths
from lib.errors import UserError
from lib.reporting import claims, forest, provenance
from lib.running import contract, scorecard
from lib.running.contract import Contract, Minutes


def promise(name, *stems):
    return Contract(
        notebook=paths.NOTEBOOKS / f"{name}.ipynb",
        item="Table 1",
        title="A",
        claim="B",
        minutes=Minutes(smoke=0, cpu=0),
        load="light",
        cases=[],
        writes=list(stems),
        kinds=dict.fromkeys(stems, "table"),
        timeout=1,
    )


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """A project with two claims: one supported, with a gate; one of one seed, its third comparison wrong."""
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "work_figures", lambda profile: tmp_path / "figures")
    monkeypatch.delenv("REPRODUCTION_WORK_ROOT", raising=False)
    promises = [promise("1_infodiffusion/1.2_a", "1_infodiffusion/claim_good", "1_infodiffusion/table")]
    promises.append(promise("4_hetero_kd/4.2_b", "4_hetero_kd/claim_mixed"))
    monkeypatch.setattr(contract, "all_notebooks", lambda: promises)
    draw = np.random.default_rng(0)
    good = claims.Claim(
        "good", "A | good claim", "Paper, Table 1", (claims.Comparison("x", ">"),), "1_infodiffusion/1.2_a",
        claims.Gate("it learns"),
    )  # fmt: skip
    claims.judge(good, {"x": ([0.9, 0.8, 0.85], 0.1)}, 0.25).save("cpu", "1_infodiffusion/claim_good")
    names = ["first", "second", "third"]
    parts = tuple(claims.Comparison(name, ">") for name in names)
    mixed = claims.Claim("mixed", "A mixed claim", "Paper", parts, "4_hetero_kd/4.2_b")
    shifts = dict(zip(names, (1.0, 0.0, -1.0), strict=True))
    data = {name: ([draw.normal(shift, 0.1, 50)], 0.0) for name, shift in shifts.items()}
    claims.judge(mixed, data).save("cpu", "4_hetero_kd/claim_mixed")
    return tmp_path / "figures"


def test_each_claim_has_a_row_with_the_comparison_that_decides(judged):
    frame = scorecard.table("cpu", "5_scorecard/scorecard").frame
    assert list(frame["paper"]) == ["InfoDiffusion", "Heterogeneous distillation"]
    assert list(frame["verdict"]) == ["supported", "not judged: one seed"]
    assert list(frame["comparisons"]) == [1, 3]  # without the gate
    assert frame["the one that decides"][1] == "third, difference > 0"
    assert frame["measured"][1].high < 0
    assert list(frame["notebook"]) == ["1.2_a", "4.2_b"]


def test_every_comparison_is_listed(judged):
    frame = scorecard.comparisons("cpu", "5_scorecard/comparisons").frame
    assert list(frame["comparison"]) == ["gate: it learns", "x", "first", "second", "third"]
    assert list(frame["outcome"]) == ["holds", "supported", *["not judged"] * 3]
    assert frame["measured"][0] == 0.25


def test_the_forest_plot_has_every_claim_turned_so_that_right_is_as_claimed(judged, monkeypatch):
    good, mixed = scorecard.forest_rows("cpu")
    assert scorecard.counts([good, mixed, mixed]) == {"supported": 1, "not judged": 2}
    assert (good.paper, good.text, good.unit) == ("InfoDiffusion", "A | good claim", claims.SHARE_UNIT)
    assert good.beyond[0].estimate == pytest.approx(0.75)
    assert [found.estimate > 0.5 for found in mixed.beyond] == [True, False, False]
    assert mixed.decides == 2
    (judged / "1_infodiffusion/claim_good.json").unlink()
    monkeypatch.setattr(scorecard, "unjudged", lambda profile: ["1_infodiffusion/claim_good"])
    assert scorecard.forest_rows("cpu")[0] == forest.Row("InfoDiffusion", "B", claims.NOT_RECORDED, ())


def test_a_unit_other_than_shares_reaches_the_forest_plot(judged):
    parts = (claims.Comparison("loss", "<", unit="nats"),)
    claim = claims.Claim("good", "A", "Paper", parts, "1_infodiffusion/1.2_a")
    claims.judge(claim, {"loss": ([1.0, 1.1, 1.2], 1.6)}).save("cpu", "1_infodiffusion/claim_good")
    row = scorecard.forest_rows("cpu")[0]
    assert row.unit == "nats"
    assert row.beyond[0].estimate == pytest.approx(0.5)


def test_a_claim_is_told_in_a_sentence_with_the_number_that_decides(judged):
    good, mixed = map(scorecard.told, scorecard.verdicts("cpu"))
    assert scorecard.told_by_paper("cpu") == {"InfoDiffusion": [good], "Heterogeneous distillation": [mixed]}
    assert good.startswith("**A | good claim.** So it is here (x, claimed above 0: 0.750 [")
    assert good.endswith("], 3 seeds (no items, so no floor)).")
    assert "Not judged, since one seed says nothing about another (third, claimed above 0: -0.9" in mixed
    parts = (claims.Comparison("x", ">"),)
    claim = claims.Claim("good", "A", "Paper", parts, "1_infodiffusion/1.2_a", claims.Gate("it learns", above=0.5))
    claims.judge(claim, {"x": ([0.9, 0.8, 0.85], 0.1)}, 0.25).save("cpu", "1_infodiffusion/claim_good")
    told = scorecard.told(scorecard.verdicts("cpu")[0])
    assert told == "**A.** It cannot be tested at this size: it learns is 0.250, and more than 0.5 is needed."


def test_what_a_gate_needs_is_told_with_its_bound_where_it_is_included(judged):
    parts, gate = (claims.Comparison("x", ">"),), claims.Gate("it learns", inclusive=True)
    claim = claims.Claim("good", "A", "Paper", parts, "1_infodiffusion/1.2_a", gate)
    claims.judge(claim, {"x": ([0.9, 0.8, 0.85], 0.1)}, -0.25).save("cpu", "1_infodiffusion/claim_good")
    told = scorecard.told(scorecard.verdicts("cpu")[0])
    assert told == "**A.** It cannot be tested at this size: it learns is -0.250, and 0 or more is needed."


def test_a_failed_gate_is_told_with_its_number(judged):
    parts = (claims.Comparison("x", ">"),)
    claim = claims.Claim("good", "A", "Paper", parts, "1_infodiffusion/1.2_a", claims.Gate("it learns", above=0.5))
    claims.judge(claim, {"x": ([0.9, 0.8, 0.85], 0.1)}, 0.25).save("cpu", "1_infodiffusion/claim_good")
    row = scorecard.markdown(paths.NOTEBOOKS.parent).splitlines()[2]
    assert "**not testable at this size (it learns: 0.250, not above 0.5)**" in row
    assert "x: 0.750" in row


def test_the_readme_links_each_notebook_and_escapes_the_text(judged):
    head, rule, good, mixed = scorecard.markdown(paths.NOTEBOOKS.parent).splitlines()
    assert head.count("|") == rule.count("|") == mixed.count("|")
    assert "A \\| good claim" in good
    assert "[4.2_b](notebooks/4_hetero_kd/4.2_b.ipynb)" in mixed


def test_a_comparison_without_records_is_shown_as_such(judged):
    parts = (claims.Comparison("first", ">"), claims.Comparison("second", ">"))
    claim = claims.Claim("good", "Half of it", "Paper", parts, "1_infodiffusion/1.2_a")
    claims.judge(claim, {"first": ([0.9, 0.8, 0.85], 0.1), "second": None}).save("cpu", "1_infodiffusion/claim_good")
    assert scorecard.forest_rows("cpu")[0].verdict == "inconclusive, 1 of 2 recorded"
    row = scorecard.markdown(paths.NOTEBOOKS.parent).splitlines()[2]
    assert "| second: not recorded | **inconclusive (second: not recorded)** |" in row
    assert scorecard.comparisons("cpu", "5_scorecard/comparisons").frame["measured"].isna().sum() == 1
    claims.judge(claim, {"first": None, "second": None}).save("cpu", "1_infodiffusion/claim_good")
    assert scorecard.forest_rows("cpu")[0].verdict == claims.NOT_RECORDED
    assert scorecard.told(scorecard.verdicts("cpu")[0]) == "**Half of it.** Not recorded yet."


def test_the_readme_of_a_series_has_its_own_claims(judged):
    _, _, mixed = scorecard.markdown(paths.NOTEBOOKS / "4_hetero_kd").splitlines()
    assert "[4.2_b](4.2_b.ipynb)" in mixed


def test_a_claim_whose_records_are_all_missing_is_named_and_left_out(judged, monkeypatch):
    contract.all_notebooks()[0].cases.append("1_infodiffusion/sampling")
    (judged / "1_infodiffusion/claim_good.json").unlink()
    there = True
    monkeypatch.setattr(scorecard.catalogue, "recorded", lambda prefixes, profile: there)
    with pytest.raises(UserError, match="missing"):
        scorecard.verdicts("cpu")
    assert scorecard.unjudged("cpu") == []
    there = False
    assert scorecard.unjudged("cpu") == ["1_infodiffusion/claim_good"]
    assert [verdict["claim"] for verdict in scorecard.verdicts("cpu")] == ["mixed"]


@pytest.mark.parametrize(("content", "fault"), [(None, "missing"), ("{", "damaged"), ("gpu", "of profile gpu")])
def test_a_verdict_that_cannot_be_read_names_its_notebook(judged, content, fault):
    file = judged / "1_infodiffusion/claim_good.json"
    found = json.loads(file.read_text())
    file.unlink()
    if content:
        file.write_text(content if content == "{" else json.dumps(found | {"profile": content}))
    with pytest.raises(UserError, match=f"claim_good.json: {fault}: run notebooks/1_infodiffusion/1.2_a.ipynb"):
        scorecard.verdicts("cpu")


def test_the_scorecard_rests_on_the_records_of_the_verdicts(judged, monkeypatch):
    record = provenance.Source("4_hetero_kd/main/ours/seed0", "data/results/cpu/4_hetero_kd/main/ours/seed0.json", "d")
    path = judged / "4_hetero_kd/claim_mixed.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"records": [record.entry()]}))
    monkeypatch.setattr(provenance, "_ALL", {})
    scorecard.verdicts("cpu")
    assert provenance.sources() == [record]
