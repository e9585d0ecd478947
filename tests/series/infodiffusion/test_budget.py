"""The cost of the records: no case is left out or named twice; minutes and what seeds tell, by hand."""

import numpy as np
import pytest

from lib.reporting import budgets
from lib.series.infodiffusion import budget, cases


def test_the_queue_holds_every_case_once_and_what_is_dropped_first_last(tmp_path) -> None:
    kinds = budget.queue()
    assert tuple(kinds) == budget.KINDS
    names = [case.name for listed in kinds.values() for case in listed]
    assert sorted(names) == sorted(case.name for case in cases.cases("cpu"))
    assert {case.row for case in kinds[budget.KINDS[0]]} == {"core"}
    told = budgets.table(kinds, budget.minutes)
    assert told["minutes"].iloc[:-1].sum() == pytest.approx(told["minutes"].iloc[-1])
    assert told["longest"].iloc[-1] <= budget.LONGEST
    file = tmp_path / "queue"
    assert budget.main(["--queue", str(file)]) == 0
    assert [line for line in file.read_text().splitlines() if not line.startswith("#")] == names


def test_minutes_of_one_training_by_hand() -> None:
    case = cases.case("question_generation", "infodiffusion", 0, "cpu")
    looks, written, traced = 8 * 200 * 21, 200 * 10 * 20, 20 * 20 + 200 * 50
    seconds = 3000 * 0.29 + 0.0013 * (looks + written + traced)
    assert budget.minutes(case) == pytest.approx(seconds / 60)


def test_what_three_seeds_can_tell() -> None:
    # Student's quantiles with 2 and 4 degrees of freedom
    assert budget.detectable(0.01, 3) == pytest.approx(4.302653 * 0.01 / np.sqrt(3))
    assert budget.detectable(0.01, 5) == pytest.approx(2.776445 * 0.01 / np.sqrt(5))
