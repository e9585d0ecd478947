"""Verdicts: the truth table of the rule, its boundaries, one seed, and the correction within a claim."""

import json

import numpy as np
import pytest

from lib import intervals
from lib.intervals import Interval
from lib.reporting import claims
from lib.reporting.claims import Claim, Comparison

RIGHT, WRONG, UNCLEAR = [0.30, 0.31, 0.32], [-0.30, -0.31, -0.32], [-0.3, 0.0, 0.35]


def claim(*comparisons: Comparison) -> Claim:
    return Claim("example_1", "A beats B", "Table 1", comparisons, "1_infodiffusion/1.2_keyinfo_first")


def verdict(*differences: list[float]) -> claims.Verdict:
    names = [f"task {number}" for number in range(len(differences))]
    tested = claim(*(Comparison(name, ">") for name in names))
    return claims.judge(tested, {name: (values, 0.0) for name, values in zip(names, differences, strict=True)})


@pytest.mark.parametrize(
    ("differences", "outcome"),
    [
        ([RIGHT], "supported"),
        ([RIGHT, RIGHT], "supported"),
        ([RIGHT, UNCLEAR], "inconclusive"),
        ([UNCLEAR], "inconclusive"),
        ([WRONG], "not supported"),
        ([RIGHT, WRONG], "not supported"),
        ([UNCLEAR, WRONG, RIGHT], "not supported"),
    ],
)
def test_verdict_over_the_combinations_of_comparisons(differences, outcome):
    assert verdict(*differences).outcome == outcome


@pytest.mark.parametrize(
    ("direction", "margin", "low", "high", "outcome"),
    [
        (">", 0.0, 0.1, 0.2, "supported"),
        (">", 0.0, 0.0, 0.2, "inconclusive"),  # it touches the margin: not beyond it
        (">", 0.0, -0.2, 0.0, "inconclusive"),
        (">", 0.0, -0.2, -0.1, "not supported"),
        (">", 0.15, 0.1, 0.2, "inconclusive"),
        (">", 0.3, 0.1, 0.2, "not supported"),  # better, but by less than claimed
        (">", -0.3, -0.2, -0.1, "supported"),  # not worse than by 0.3
        ("<", 0.0, -0.2, -0.1, "supported"),
        ("<", 0.0, -0.2, 0.0, "inconclusive"),
        ("<", 0.0, 0.1, 0.2, "not supported"),
        ("<", 0.3, 0.1, 0.2, "supported"),
        ("<", -0.15, -0.2, -0.1, "inconclusive"),
        ("<", -0.3, -0.2, -0.1, "not supported"),
    ],
)
def test_outcome_of_an_interval_by_direction_and_margin(direction, margin, low, high, outcome):
    comparison = Comparison("x", direction, margin)
    assert comparison.outcome(Interval((low + high) / 2, low, high)) == outcome


def test_difference_is_a_minus_b():
    data = {"x": ([0.5, 0.52, 0.51], [0.1, 0.11, 0.12])}
    assert claims.judge(claim(Comparison("x", ">")), data).outcome == "supported"
    assert claims.judge(claim(Comparison("x", "<")), data).outcome == "not supported"


def test_seeds_are_judged_by_the_t_interval_of_their_means():
    scores = np.random.default_rng(0).normal(0.5, 0.1, (2, 4, 50))
    finding = claims.judge(claim(Comparison("x", ">")), {"x": tuple(scores)}).findings[0]
    assert finding.interval == intervals.t_interval((scores[0] - scores[1]).mean(axis=1))
    assert (finding.sample, finding.items_only) == ("4 seeds", False)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_fall_back_to_items_and_are_never_supported(seeds):
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.9, 0.01, (seeds, 40)), rng.normal(0.1, 0.01, (seeds, 40))
    judged = claims.judge(claim(Comparison("x", ">")), {"x": (a, b)}, resamples=500)
    assert judged.findings[0].outcome == "supported"
    assert (judged.outcome, judged.items_only, judged.findings[0].sample) == ("inconclusive", True, "40 items")
    assert "items only" in judged.label
    against = claims.judge(claim(Comparison("x", "<")), {"x": (a, b)}, resamples=500)
    assert against.outcome == "not supported"


def test_items_are_judged_by_the_paired_bootstrap_and_taint_the_claim():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.9, 0.1, 40), rng.normal(0.1, 0.1, 40)
    both = claim(Comparison("seeds", ">"), Comparison("items", ">", kind="items"))
    judged = claims.judge(both, {"seeds": (RIGHT, 0.0), "items": (a, b)}, resamples=500, seed=4)
    finding = judged.findings[1]
    assert finding.interval == intervals.paired_bootstrap(a, b, finding.level, 500, 4)
    assert {finding.outcome for finding in judged.findings} == {"supported"}
    assert judged.outcome == "inconclusive"


def test_correction_within_a_claim_can_cost_the_verdict():
    # Alone each interval excludes 0 at 95 % (p about 0.04); the two together must do so at 97.5 %.
    values = [0.2, 0.3, 0.42, 0.08, 0.05]
    assert 0.025 < intervals.t_p_value(values) < 0.05
    assert verdict(values).outcome == "supported"
    pair = verdict(values, values)
    assert pair.outcome == "inconclusive"
    assert [finding.level for finding in pair.findings] == pytest.approx([0.975, 0.975])


def test_intervals_and_adjusted_p_values_say_the_same():
    rng = np.random.default_rng(3)
    for _ in range(100):
        judged = verdict(*(rng.normal(0.3, 0.2, 4).tolist() for _ in range(3)))
        for finding in judged.findings:
            assert (finding.outcome != "inconclusive") == (finding.p_holm < 0.05)


def test_saved_verdict_holds_what_a_scorecard_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path))
    judged = verdict(RIGHT, UNCLEAR)
    judged.save("smoke", "1_infodiffusion/claim_example")
    folder = tmp_path / "work/smoke/figures/1_infodiffusion"
    assert {path.suffix for path in folder.iterdir()} == {".csv", ".md", ".tex", ".json"}
    content = json.loads((folder / "claim_example.json").read_text())
    assert (content["claim"], content["verdict"], content["items_only"]) == ("example_1", "inconclusive", False)
    assert (content["notebook"], content["source"]) == ("1_infodiffusion/1.2_keyinfo_first", "Table 1")
    first = content["rows"][0]
    assert (first["outcome"], first["claimed"]) == ("supported", "difference > 0")
    assert first["difference"] == pytest.approx(judged.findings[0].interval._asdict())
    assert "Verdict: inconclusive." in (folder / "claim_example.md").read_text()


def test_show_gives_text_and_html(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    verdict(RIGHT).show()
    assert all("Verdict: supported" in shown[0][kind] for kind in ("text/plain", "text/html"))
    assert "difference &gt; 0" in shown[0]["text/html"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Comparison("x", ">="), "direction"),
        (lambda: Comparison("x", ">", kind="runs"), "kind"),
        (lambda: Comparison("x", ">", float("nan")), "margin"),
        (lambda: claim(), "needs comparisons"),
        (lambda: claim(Comparison("x", ">"), Comparison("x", "<")), "different names"),
        (lambda: Claim("a b", "t", "s", (Comparison("x", ">"),), "n"), "no stem"),
        (lambda: claims.judge(claim(Comparison("x", ">")), {}), "data for"),
        (lambda: claims.judge(claim(Comparison("x", ">")), {"x": (RIGHT, 0), "y": (RIGHT, 0)}), "data for"),
        (lambda: claims.judge(claim(Comparison("x", ">")), {"x": ([1, 2], [0, 0])}), "2 seeds; three are needed"),
        (lambda: claims.judge(claim(Comparison("x", ">")), {"x": (RIGHT, [0, 0])}), "equal shapes"),
        (lambda: claims.judge(claim(Comparison("x", ">", kind="items")), {"x": ([RIGHT], [WRONG])}), "does not fit"),
        (lambda: verdict(RIGHT).save("smoke", "1_infodiffusion/example"), "claim_"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_nobody_has_recorded_leaves_a_claim_open_and_the_other_intervals_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(claims.tables.paths, "work_figures", lambda profile: tmp_path)
    parts = [Comparison(name, ">") for name in "abc"]
    two = claims.judge(claim(*parts[:2]), {"a": (RIGHT, 0.0), "b": (RIGHT, 0.0)})
    three = claims.judge(claim(*parts), {"a": (RIGHT, 0.0), "c": None, "b": (RIGHT, 0.0)})
    assert (two.outcome, three.outcome) == ("supported", "inconclusive")
    assert three.findings[:2] == two.findings
    assert (three.findings[2].outcome, three.findings[2].sample) == ("inconclusive", "not recorded")
    assert claims.judge(claim(*parts[1:]), {"b": (WRONG, 0.0), "c": None}).outcome == "not supported"
    none = claims.judge(claim(*parts[:1]), {"a": None})
    assert (none.outcome, none.items_only) == ("inconclusive", False)
    none.save("cpu", "1_series/claim_none")
    assert json.loads((tmp_path / "1_series/claim_none.json").read_text())["rows"][0]["difference"] is None
