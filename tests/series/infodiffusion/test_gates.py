"""When a task counts for a claim: margins worked out by hand, each condition alone, and what is no look."""

import dataclasses
from types import SimpleNamespace

import pytest

from lib.reporting import claims
from lib.series.infodiffusion import gates, hypotheses


def training(*bleu: float, one_step: float = 0.0) -> list[dict[str, float]]:
    """A training whose looks are evenly spaced, with the points between them that have losses only."""
    looks = [
        {"step": 100 * (k + 1), "validation_bleu": value, "one_step_bleu": one_step} for k, value in enumerate(bleu)
    ]
    return [point for look in looks for point in ({"step": look["step"] - 50, "rounding": 1.0}, look)]


# Three seeds of two models and of the Transformer, four looks each.
PAIR = {
    "a": [training(0.1, 0.2, 0.299, 0.300, one_step=0.25), training(0.1, 0.2, 0.308, 0.310, one_step=0.29)],
    "b": [training(0.1, 0.2, 0.259, 0.260, one_step=0.22), training(0.1, 0.2, 0.249, 0.250, one_step=0.24)],
}
RIVAL = [training(0.30), training(0.34)]


def judged(task: gates.Task) -> claims.Verdict:
    claim = hypotheses.information()
    return claims.judge(claim, {claim.comparisons[0].name: ([0.1, 0.2, 0.3], 0.0)}, task.margin)


def test_margins_by_hand() -> None:
    found = gates.judged(PAIR, RIVAL, copied=0.5)
    assert found.steps == pytest.approx(0.025)  # b gains .04 and .01, a .05 and .02
    assert found.reach == pytest.approx(0.305 - 0.8 * 0.32)  # a is the better, copying is out of reach
    assert found.trained == pytest.approx(0.005 - 0.0015)  # a gained .001 and .002, b .001 twice
    assert found.margin == pytest.approx(found.trained)
    assert found.passes
    assert found.rises
    assert gates.judged(PAIR, RIVAL, copied=0.2).reach == pytest.approx(0.105)  # copying is reached sooner


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        ({"b": [training(0.1, 0.2, 0.259, 0.260, one_step=0.27)]}, "steps"),
        ({"a": [training(0.1, 0.1, 0.199, 0.200)], "b": [training(0.1, 0.1, 0.199, 0.200)]}, "reach"),
        ({"b": [training(0.1, 0.2, 0.250, 0.260, one_step=0.2)]}, "trained"),
    ],
)
def test_each_condition_alone_fails_a_task(change: dict, condition: str) -> None:
    found = gates.judged(PAIR | change, RIVAL, copied=0.5)
    margins = dataclasses.asdict(found)
    assert [name for name, margin in margins.items() if margin < 0] == [condition]
    assert not found.passes
    verdict = claims.judge(
        hypotheses.information(), {"real minus shuffled information": ([0.1, 0.2, 0.3], 0.0)}, found.margin
    )
    assert verdict.outcome == claims.NOT_TESTABLE


def test_more_steps_that_change_nothing_still_pass_and_do_not_rise() -> None:
    same = training(0.3, 0.3, 0.3, 0.3, one_step=0.3)
    found = gates.judged({"a": [same], "b": [same]}, RIVAL, copied=0.1)
    assert (found.steps, found.passes, found.rises) == (0, True, False)
    verdict = claims.judge(
        hypotheses.information(), {"real minus shuffled information": ([0.1, 0.2, 0.3], 0.0)}, found.margin
    )
    assert verdict.gate_outcome == claims.HOLDS


def test_the_last_quarter_begins_at_the_last_look_before_it() -> None:
    looks = training(0.1, 0.2, 0.25, 0.30, 0.301, 0.302)  # looks at 67 % and 83 % of the training
    found = gates.judged({"a": [looks]}, RIVAL, copied=0.1)
    assert found.trained == pytest.approx(0.005 - 0.002)


def test_records_without_the_looks_that_a_gate_needs_give_none() -> None:
    def record(curve: list) -> SimpleNamespace:
        return SimpleNamespace(values={"curve": curve})

    pair = {name: [record(curve) for curve in curves] for name, curves in PAIR.items()}
    rival = [record(curve) for curve in RIVAL]
    assert gates.of_records(pair, rival, 0.5) == gates.judged(PAIR, RIVAL, 0.5)
    assert gates.of_records(pair, [], 0.5) is None
    assert gates.of_records(pair | {"b": []}, rival, 0.5) is None
    old = [{key: value for key, value in point.items() if key != "one_step_bleu"} for point in PAIR["a"][0]]
    assert gates.of_records({"a": [record(old)]}, rival, 0.5) is None
    with pytest.raises(ValueError, match="one sampling step"):
        gates.judged({"a": [old]}, RIVAL, 0.5)
    with pytest.raises(ValueError, match="last quarter"):
        gates.judged({"a": [training(0.3)]}, RIVAL, 0.5)
    with pytest.raises(ValueError, match="without a look"):
        gates.judged({"a": [[{"step": 1, "rounding": 2.0}]]}, RIVAL, 0.5)


def test_every_claim_has_the_gate_of_its_task_and_a_name_of_its_own() -> None:
    found = hypotheses.every(("clamped", "ddim"), hypotheses.RIVALS)
    assert len({claim.id for claim in found}) == len(found) == 4 * 2 + 3 + 4 * 2
    assert all(claim.gate == gates.GATE for claim in found)
    assert {comparison.margin for claim in found for comparison in claim.comparisons} == {0.0}
