"""Gates, claims and verdicts on made-up losses: what is known to come out comes out."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.reporting import claims
from lib.series.distillation import gates, hypotheses, language_cases, verdicts

ROWS = pd.MultiIndex.from_product([["ask", "simple"], range(6)], names=["set", "identity"])


def runs(mean: float, seeds: int = 10, spread: float = 0.02) -> list[pd.DataFrame]:
    """Losses of a row: hard and easy items alike for all, a seed's own part, and its noise."""
    hard = np.random.default_rng(0).normal(0, 0.5, len(ROWS))
    found = []
    for seed in range(seeds):
        stream = np.random.default_rng([seed, int(1000 * mean)])
        values = mean + hard + spread * stream.normal() + 0.01 * stream.normal(size=len(ROWS))
        found.append(pd.DataFrame({"loss": values}, index=ROWS))
    return found


def shifted(by: list[float]) -> list[pd.DataFrame]:
    return [pd.DataFrame({"loss": np.full(len(ROWS), value)}, index=ROWS) for value in by]


def test_the_gate_is_the_lower_end_of_the_smaller_gain() -> None:
    alone, output = shifted([3.0, 3.1, 3.2]), shifted([2.0, 2.0, 2.3])
    found = gates.judged(alone, shifted([1.0])[0], output)
    gains = np.array([1.0, 1.1, 0.9])
    half = stats.t.ppf(0.975, 2) * gains.std(ddof=1) / math.sqrt(3)
    assert found.output.low == pytest.approx(1 - half)
    assert found.teacher.estimate == pytest.approx(2.1)
    assert found.margin == found.output.low
    assert found.passes
    assert not gates.judged(alone, shifted([4.0])[0], output).passes  # a teacher that knows less


def test_distance_counts_doublings_and_the_type_of_blocks() -> None:
    assert hypotheses.distance("llama", 30, 576, (30, 576)) == 0
    assert hypotheses.distance("gpt2", 15, 144, (30, 576)) == pytest.approx(1 + 2 + 1)
    assert hypotheses.distance("llama", 60, 576, (30, 576)) == pytest.approx(1)
    apart = verdicts.distances("cpu")
    assert set(apart) == set(language_cases.students("cpu"))
    assert min(apart, key=apart.get) == "llama_8x192"
    near, far = hypotheses.halves(apart).values()
    assert max(apart[name] for name in near) <= min(apart[name] for name in far)
    assert hypotheses.halves({"a": 3.0, "b": 1.0, "c": 2.0}) == {"nearest": ["b"], "farthest": ["a"]}


def test_losses_are_to_fall_and_answers_to_rise() -> None:
    for claim in hypotheses.every():
        assert {one.margin for one in claim.comparisons} == {0.0}
        wanted = ">" if claim.id == "middle_answers" else "<"
        assert {one.direction for one in claim.comparisons} == {wanted}
        assert claim.gate is gates.GATE
    assert len({claim.id for claim in hypotheses.every()}) == 5


class Planted(verdicts.Known):
    """Records whose losses are known: by method, less what a student gains by it."""

    def __init__(self, means: dict[str, float], seeds: int = 5) -> None:
        super().__init__("cpu")
        self.means, self.seeds = means, seeds

    def losses(self, student, method, few=False, best=False):
        if method not in self.means:
            return None
        seeds = 3 if few or method not in language_cases.MANY_SEEDS else self.seeds
        return runs(self.means[method] - 0.3 * best, seeds)

    def answers(self, student, method):
        found = self.losses(student, method)
        return None if found is None else [-10 * frame.rename(columns={"loss": "rouge"}) for frame in found]

    def gate(self, students, few=False):
        alone, output = (self.losses("", name, few, name == "sft") for name in ("sft", "forward_kl"))
        if alone is None or output is None:
            return None
        return gates.judged(alone, runs(self.means["teacher"])[0], output)


def judged(monkeypatch, known: Planted, rule: str | None = None) -> dict[str, str]:
    monkeypatch.setattr(verdicts, "Known", lambda _: known)
    monkeypatch.setattr(verdicts, "chosen_rule", lambda _: rule)
    return {verdict.claim.id: verdict.outcome for verdict in verdicts.every("cpu")}


GOOD = {"teacher": 1.0, "sft": 4.0, "forward_kl": 2.0, "ours": 1.8}
GOOD |= {"rule_reversed": 1.95, "rule_random": 1.9, "module_frozen": 2.0}


def test_what_was_planted_is_found(monkeypatch) -> None:
    found = judged(monkeypatch, Planted({**GOOD, "proportions_gradnorm": 1.7}), "proportions_gradnorm")
    assert set(found.values()) == {claims.SUPPORTED}
    harmful = judged(monkeypatch, Planted({**GOOD, "ours": 2.2}))
    assert harmful["middle"] == harmful["middle_answers"] == harmful["controls"] == claims.NOT_SUPPORTED


def test_where_the_teacher_teaches_nothing_no_claim_is_testable(monkeypatch) -> None:
    found = judged(monkeypatch, Planted({**GOOD, "sft": 2.1}))  # at its best step it is as good as what it is taught
    assert {found[name] for name in ("middle", "middle_answers", "controls", "heterogeneous")} == {claims.NOT_TESTABLE}


def test_what_is_not_recorded_is_left_open(monkeypatch) -> None:
    assert set(judged(monkeypatch, Planted({"teacher": 1.0})).values()) == {claims.INCONCLUSIVE}
    missing = {name: value for name, value in GOOD.items() if name != "module_frozen"}
    found = judged(monkeypatch, Planted(missing))
    assert (found["middle"], found["controls"], found["proportions"]) == (
        claims.SUPPORTED,
        claims.INCONCLUSIVE,
        claims.INCONCLUSIVE,
    )


def test_an_arm_is_read_when_all_its_planned_seeds_are_there(monkeypatch) -> None:
    known, there = verdicts.Known("cpu"), set(range(9))
    monkeypatch.setattr(known, "record", lambda student, method, seed: seed if seed in there else None)
    assert known.of("gpt2", "ours") is None
    assert known.of("gpt2", "ours", few=True) == [0, 1, 2]
    assert known.of("gpt2", "middle") == [0, 1, 2]
    there.add(9)
    assert known.of("gpt2", "ours") == list(range(10))
