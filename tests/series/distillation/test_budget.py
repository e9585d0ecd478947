"""What the language rows cost, and how many seeds the claims need: by hand, and against the exact power of a t test."""

import math

import pytest
from scipy import stats

from lib.reporting import budgets
from lib.series.distillation import budget, cases, language_cases, power


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """The digest of the instructions without reading them all."""
    monkeypatch.setattr(cases, "instructions_digest", lambda _: "digest")


def test_the_queue_holds_every_language_case_once_and_fits(tmp_path) -> None:
    kinds = budget.queue()
    assert tuple(kinds) == budget.KINDS
    names = [case.name for listed in kinds.values() for case in listed]
    assert sorted(names) == sorted(case.name for case in language_cases.listed("cpu"))
    assert [case.name.split("/")[-1] for case in kinds[budget.KINDS[0]]] == ["adapted", "cache"]
    told = budgets.table(kinds, budget.minutes)
    assert told["minutes"].iloc[:-1].sum() == pytest.approx(told["minutes"].iloc[-1])
    file = tmp_path / "queue"
    assert budget.main(["--queue", str(file)]) == 0  # no case, nor all of them, too long
    assert [line for line in file.read_text().splitlines() if not line.startswith("#")] == names


def test_seeds_are_computed_in_whole_pairs() -> None:
    kinds = budget.queue()
    for kind in budget.KINDS[1:]:
        assert [case.seed for case in kinds[kind]] == sorted(case.seed for case in kinds[kind])
    first = {tuple(case.name.split("/")[2:4]) for case in kinds[budget.KINDS[1]]}
    assert first == {(student, method) for student in language_cases.MAIN for method in language_cases.MANY_SEEDS}


def test_minutes_of_one_student_by_hand(monkeypatch) -> None:
    monkeypatch.setattr(budget, "seconds_a_step", lambda name, profile="cpu": 0.3)
    case = language_cases.arm("gpt2", "ours", 0, "cpu")
    seconds = 150 * 0.3 + 150 * 5 * 6 * budget.WRITTEN + (6 * 100 * 4 + 2 * 150 * 5) * budget.READ
    assert budget.minutes(case) == pytest.approx(seconds / 60)
    later = language_cases.arm("gpt2", "ours", 3, "cpu")  # draws no answers
    assert budget.minutes(case) - budget.minutes(later) == pytest.approx(150 * 5 * 5 * budget.WRITTEN / 60)


def test_seconds_are_what_a_record_says() -> None:
    assert 0.05 < budget.seconds_a_step("pairs/gpt2_2x192/ours") < budget.seconds_a_step("pairs/gpt2_8x192/ours") < 5


@pytest.mark.parametrize("seeds", [6, 10, 18])
def test_what_is_found_four_times_out_of_five(seeds) -> None:
    effect, critical = power.detectable(0.05, seeds), stats.t.ppf(0.975, seeds - 1)
    noncentral = effect * math.sqrt(seeds) / 0.05
    exact = stats.nct.sf(critical, seeds - 1, noncentral) + stats.nct.cdf(-critical, seeds - 1, noncentral)
    assert exact == pytest.approx(0.8, abs=0.015)


def test_more_seeds_where_the_first_six_differ_by_more_than_was_said_before() -> None:
    calm, wide = [0.04, -0.04] * 3, [0.06, -0.06] * 3
    assert power.needed(calm, 10) == 10
    assert power.needed(wide, 10) == 18
    assert power.needed(wide[:5], 10) == 10  # not before six are there
    assert power.needed([*calm, 5.0], 10) == 10  # by the first six alone
    with pytest.raises(ValueError, match="do not spread"):
        power.detectable(0.05, 1)
