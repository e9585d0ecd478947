"""Verdicts: the truth table of the rule, its boundaries, one seed, and the correction within a claim."""

import dataclasses
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


def test_seeds_are_judged_by_the_t_interval_of_their_means_with_the_floor_of_their_items():
    scores = np.random.default_rng(0).normal(0.5, 0.1, (2, 4, 50))
    finding = claims.judge(claim(Comparison("x", ">")), {"x": tuple(scores)}).findings[0]
    assert finding.interval == intervals.over_seeds(scores[0] - scores[1])
    assert (finding.sample, finding.judged) == ("4 seeds", True)
    ragged = [[one[: 10 + seed] for seed, one in enumerate(side)] for side in scores]
    found = claims.judge(claim(Comparison("x", ">")), {"x": tuple(ragged)}).findings[0]
    assert found.interval == intervals.over_seeds([a - b for a, b in zip(*ragged, strict=True)])
    means = claims.judge(claim(Comparison("x", ">")), {"x": tuple(scores.mean(axis=2))}).findings[0]
    assert means.interval == pytest.approx(intervals.t_interval((scores[0] - scores[1]).mean(axis=1)))
    assert means.sample == "4 seeds (no items, so no floor)"


def test_equal_seeds_without_items_are_inconclusive_and_with_items_as_sure_as_those():
    equal = claims.judge(claim(Comparison("x", "<")), {"x": ([-0.21] * 3, 0.0)})
    assert (equal.outcome, equal.findings[0].interval, equal.findings[0].p) == ("inconclusive", None, None)
    assert equal.label == "inconclusive (x: 3 seeds, all -0.210: nothing says how much they vary)"
    other = claims.judge(claim(Comparison("x", "<"), Comparison("y", ">")), {"x": ([-0.21] * 3, 0.0), "y": (RIGHT, 0)})
    assert dataclasses.replace(other.findings[1], comparison=Comparison("task 0", ">")) == verdict(RIGHT).findings[0]
    few, many = (np.tile(np.repeat([-1.0, 0.0], [share, 4 * share]), (3, 1)) for share in (2, 40))
    assert claims.judge(claim(Comparison("x", "<")), {"x": (few, 0.0)}).outcome == "inconclusive"
    assert claims.judge(claim(Comparison("x", "<")), {"x": (many, 0.0)}).outcome == "supported"


def test_an_interval_stays_within_the_bounds_of_its_comparison():
    bounded = claim(Comparison("x", ">", 0.5, intervals.SHARE))
    found = claims.judge(bounded, {"x": ([0.9, 1.0, 0.8], 0.0)}).findings[0].interval
    assert found == pytest.approx((0.9, 0.9 - 4.302653 * 0.1 / np.sqrt(3), 1.0))


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_show_an_interval_over_items_and_are_not_judged(seeds):
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.9, 0.01, (seeds, 40)), rng.normal(0.1, 0.01, (seeds, 40))
    for direction in (">", "<"):
        judged = claims.judge(claim(Comparison("x", direction)), {"x": (a, b)}, resamples=500)
        counted = {1: "one seed", 2: "2 seeds"}[seeds]
        assert (judged.outcome, judged.label) == ("not judged", f"not judged: {counted}")
        finding, mean = judged.findings[0], (a - b).mean(axis=0)
        assert (finding.outcome, finding.sample) == ("not judged", f"40 items of {counted}")
        assert finding.interval == intervals.paired_bootstrap(mean, np.zeros(40), 0.95, 500)


def test_a_comparison_of_one_seed_keeps_a_claim_from_being_supported_and_not_from_failing():
    rng = np.random.default_rng(2)
    items = [rng.normal(0.9, 0.1, 40)]
    both = claim(Comparison("seeds", ">"), Comparison("items", ">"))
    assert claims.judge(both, {"seeds": (RIGHT, 0.0), "items": (items, 0.0)}, resamples=500).outcome == "not judged"
    assert claims.judge(both, {"seeds": (WRONG, 0.0), "items": (items, 0.0)}, resamples=500).outcome == "not supported"


def test_the_p_value_of_items_is_that_of_the_margin():
    items = [np.random.default_rng(5).normal(0.3, 0.1, 60)]
    at, off = (
        claims.judge(claim(Comparison("x", ">", margin)), {"x": (items, 0.0)}, resamples=1000).findings[0].p
        for margin in (float(items[0].mean()), 0.0)
    )
    assert at > 0.5
    assert off < 0.01


@pytest.mark.parametrize(
    ("differences", "gate", "outcome"),
    [
        (RIGHT, [0.6, 0.7, 0.5], "supported"),
        (RIGHT, [0.4, 0.5, 0.6], "not testable at this size"),  # its mean is on the bound, not above it
        (WRONG, [0.1, 0.2, 0.3], "not testable at this size"),
        (UNCLEAR, 0.2, "not testable at this size"),
        (RIGHT, None, "inconclusive"),  # not recorded: the claim stays open
        (WRONG, None, "not supported"),
    ],
)
def test_a_gate_says_whether_a_claim_can_be_tested(differences, gate, outcome):
    gated = dataclasses.replace(claim(Comparison("x", ">")), gate=claims.Gate("experts learn", above=0.5))
    judged = claims.judge(gated, {"x": (differences, 0.0)}, gate)
    assert judged.outcome == outcome
    row = judged.table("1_series/claim_x").rows()[0]
    assert (row["comparison"], row["claimed"]) == ("gate: experts learn", "mean > 0.5")
    assert row["difference"] == pytest.approx(None if gate is None else np.mean(gate))
    assert row["over"] == ("not recorded" if gate is None else "one seed" if np.ndim(gate) == 0 else "3 seeds")
    if gate is not None:  # one number can be a result of several seeds
        named = dataclasses.replace(gated, gate=claims.Gate("experts learn", above=0.5, over="means over seeds"))
        assert (
            claims.judge(named, {"x": (differences, 0.0)}, gate).table("1_series/claim_x").rows()[0]["over"]
            == "means over seeds"
        )


@pytest.mark.parametrize(("found", "outcome"), [(0.5, "supported"), (0.499, "not testable at this size")])
def test_a_gate_with_its_bound_included_holds_there(found, outcome):
    gate = claims.Gate("experts learn", above=0.5, inclusive=True)
    judged = claims.judge(dataclasses.replace(claim(Comparison("x", ">")), gate=gate), {"x": (RIGHT, 0.0)}, found)
    assert judged.outcome == outcome
    assert judged.table().rows()[0]["claimed"] == "mean >= 0.5"
    if outcome != "supported":
        assert judged.label.endswith("(experts learn: 0.499, below 0.5)")


def test_a_failed_gate_and_an_open_claim_tell_their_numbers():
    gated = dataclasses.replace(claim(Comparison("x", ">")), gate=claims.Gate("teacher ahead"))
    assert claims.judge(gated, {"x": (RIGHT, 0.0)}, -1.25).label == (
        "not testable at this size (teacher ahead: -1.250, not above 0)"
    )
    high = intervals.t_interval(UNCLEAR).high
    assert verdict(UNCLEAR).label == f"inconclusive (task 0: above {high:.3f} is ruled out)"
    below = claims.judge(claim(Comparison("x", "<")), {"x": (UNCLEAR, 0.0)})
    assert below.label == f"inconclusive (x: below {intervals.t_interval(UNCLEAR).low:.3f} is ruled out)"
    wide = claims.judge(claim(Comparison("x", ">", 0.5, intervals.SHARE)), {"x": ([0.2, 0.9, 1.0], 0.0)})
    assert wide.label == "inconclusive (x: no effect is ruled out)"  # its interval ends where shares do
    one = claims.judge(gated, {"x": ([[0.1, 0.2, 0.4]], 0.0)}, -1.25, resamples=100)
    assert one.outcome == "not judged"  # one seed tells neither


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
    assert (content["claim"], content["verdict"]) == ("example_1", judged.label)
    assert (content["notebook"], content["source"]) == ("1_infodiffusion/1.2_keyinfo_first", "Table 1")
    first = content["rows"][0]
    assert (first["outcome"], first["claimed"]) == ("supported", "difference > 0")
    assert first["difference"] == pytest.approx(judged.findings[0].interval._asdict())
    assert "Verdict: inconclusive (task 1: above" in (folder / "claim_example.md").read_text()


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
        (lambda: Comparison("x", ">", 1.0, intervals.DIFFERENCE), "between the bounds"),
        (lambda: claims.Gate("x", float("inf")), "gate x"),
        (lambda: claims.judge(claim(Comparison("x", ">")), {"x": (RIGHT, 0)}, 0.5), "it has none"),
        (lambda: Comparison("x", ">", float("nan")), "margin"),
        (lambda: claim(), "needs comparisons"),
        (lambda: claim(Comparison("x", ">"), Comparison("x", "<")), "different names"),
        (lambda: Claim("a b", "t", "s", (Comparison("x", ">"),), "n"), "no stem"),
        (lambda: claims.judge(claim(Comparison("x", ">")), {}), "data for"),
        (lambda: claims.judge(claim(Comparison("x", ">")), {"x": (RIGHT, 0), "y": (RIGHT, 0)}), "data for"),
        (
            lambda: claims.judge(claim(Comparison("x", ">")), {"x": ([1, 2], [0, 0])}),
            "x: numbers of 2 seeds: three are",
        ),
        (lambda: claims.judge(claim(Comparison("x", ">")), {"x": (RIGHT, [0, 0])}), "equal shapes"),
        (lambda: claims.judge(claim(Comparison("x", ">")), {"x": ([[RIGHT]], [[WRONG]])}), "numbers or vectors"),
        (lambda: claims.judge(claim(Comparison("x", ">")), {"x": ([RIGHT, [1.0]], 0.0)}), "equal numbers"),
        (lambda: claims.judge(claim(Comparison("x", ">")), {"x": (0.5, 0.0)}), "one entry a training seed"),
        (lambda: claims.judge(claim(Comparison("x", ">")), {"x": ([1.0, float("nan"), 2.0], 0.0)}), "not finite"),
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
    assert none.label == "inconclusive (a: not recorded)"
    none.save("cpu", "1_series/claim_none")
    assert json.loads((tmp_path / "1_series/claim_none.json").read_text())["rows"][0]["difference"] is None
