"""Cost and number of draws: no case is left out or named twice; minutes and half widths by hand."""

import numpy as np
import pytest

from lib.intervals import t_interval
from lib.series.lemoe import budget, drawn_cases, power


def test_the_queue_holds_every_case_on_draws_once_and_no_case_is_too_long(tmp_path, capsys) -> None:
    file = tmp_path / "queue"
    assert budget.main(["--queue", str(file)]) == 0
    names = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert sorted(names) == sorted(case.name for case in drawn_cases.cases("cpu"))
    lines = [line.removeprefix("# ") for line in file.read_text().splitlines() if line.startswith("#")]
    assert tuple(lines) == budget.KINDS
    assert "hours of one thread" in capsys.readouterr().out
    kinds = budget.queue()
    assert {case.seed for case in kinds[budget.KINDS[0]]} == {0}
    assert len(kinds[budget.KINDS[0]]) == len(budget.CORE_ROWS)
    mend = next(place for place, name in enumerate(names) if name == "3_lemoe/mend/network")
    assert all("validated/mend" not in name for name in names[:mend])  # its network is there before its rows


def test_minutes_by_hand() -> None:
    released = drawn_cases.column("ewc", 100, 0, "cpu")
    seconds = 8 + 100 * 0.2 + 100 * (4 * 0.14 + 0.1) + 100 * 0.5
    assert budget.minutes(released) == pytest.approx(seconds / 60)
    stopped = drawn_cases.column("learnt/lemoe", 100, 0, "cpu")
    step = 5 * 0.06 + 100 * 0.03
    rest = 8 + 100 * (4 * 0.14 + 0.1) + 100 * 0.5
    assert budget.minutes(stopped) == pytest.approx((50 * step + rest) / 60)
    assert budget.minutes(stopped, most=True) == pytest.approx((200 * step + rest) / 60)


def test_half_widths_are_those_of_the_intervals_that_judge() -> None:
    means = np.array([0.1, 0.16, 0.13, 0.2])
    interval = t_interval(means, 0.95)
    assert power.Seen(means, None).half_width(4, 50, 0.95) == pytest.approx((interval.high - interval.low) / 2)
    # Items alone: one seed, whose spread between seeds nobody has seen.
    one = power.Seen.of([np.resize([0.0, 1.0], 50)])
    assert one.seed_sd is None
    assert one.half_width(5, 50, 0.95) == pytest.approx(2.776445 * np.std(np.resize([0, 1], 50), ddof=1) / 250**0.5)


def test_the_draws_that_are_needed_are_the_fewest_that_leave_out_the_margin() -> None:
    one = power.Seen(np.array([0.1, 0.16, 0.13]), None)
    needed = one.needed(0.05, 50, 0.95)
    assert one.half_width(needed, 50, 0.95) < 0.08 <= one.half_width(needed - 1, 50, 0.95)
    assert one.needed(0.13, 50, 0.95) is None


@pytest.mark.thorough
def test_the_estimate_is_made_of_the_committed_records() -> None:
    found = power.table()
    assert len(found) == 34
    forgets = found.set_index("comparison").loc["forgets > 0.1"]
    assert forgets["draws"] == 5
    assert 0.8 < forgets["seen"] <= 1
