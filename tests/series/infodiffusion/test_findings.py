"""Sentences on records: what they say is where the interval lies."""

import pandas as pd
import pytest

from lib.intervals import Interval
from lib.reporting import tables
from lib.reporting.claims import Claim, Comparison, Gate, judge
from lib.series.infodiffusion import findings
from lib.series.infodiffusion.gates import GATE, Task

UP, DOWN, OPEN = Interval(0.03, 0.01, 0.05), Interval(-0.03, -0.05, -0.01), Interval(0.01, -0.02, 0.04)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (UP, "A is ahead of B by 0.030 [0.010, 0.050] BLEU (one seed)."),
        (DOWN, "A is behind B by 0.030 [0.010, 0.050] BLEU (one seed)."),
        (OPEN, "A and B are not told apart: their difference is +0.010 [-0.020, +0.040] BLEU (one seed)."),
    ],
)
def test_who_is_ahead_is_said_by_the_interval(found, said):
    assert findings.ahead("A", "B", found, "BLEU", "one seed") == said


@pytest.mark.parametrize(
    ("ten", "one", "said"),
    [
        (UP, UP, "Both ways of decoding say the same: ahead."),
        (OPEN, OPEN, "Both ways of decoding say the same: the two are not told apart."),
        (
            DOWN,
            UP,
            "The sign turns with the number of candidates: ahead with one, behind with ten. By the paper's measure, "
            "the best of ten, the answer is no; for a single sentence it is yes.",
        ),
        (
            UP,
            DOWN,
            "The sign turns with the number of candidates: behind with one, ahead with ten. By the paper's measure, "
            "the best of ten, the answer is yes; for a single sentence it is no.",
        ),
        (
            OPEN,
            DOWN,
            "Only one candidate can tell the two apart (behind). By the paper's measure, the best of ten, "
            "neither is shown to be better.",
        ),
        (UP, OPEN, "Only ten candidates can tell the two apart (ahead)."),
    ],
)
def test_ten_candidates_and_one_are_read_together(ten, one, said):
    assert findings.turns(ten, one).startswith(said)


def test_a_gate_names_the_tasks_that_count_and_why_others_do_not():
    margins = {"A": Task(0.1, 0.2, 0.001), "B": Task(-0.1, -0.2, -0.01), "C": None}
    said = findings.gated(margins)
    assert said == (
        "Tasks that count: A. The gate is not recorded yet for C. A counts, as all three conditions hold: all sampling "
        "steps against one: +0.100 BLEU, at least 0 is asked; the better model: 0.200 above what it has to reach; BLEU "
        "gained in the last quarter of training: 0.004, at most 0.005 is allowed. B does not count, as this does not "
        "hold: more sampling steps help, a model reaches what copying or the Transformer sets and training has settled "
        "(all sampling steps against one: -0.100 BLEU, at least 0 is asked; the better model: 0.200 below what it has "
        "to reach; BLEU gained in the last quarter of training: 0.015, at most 0.005 is allowed)."
    )
    assert findings.gated({"C": None}) == "The gate is not recorded yet for C."
    assert [bool(findings.decides(gate)) for gate in margins.values()] == [False, True, True]
    assert findings.decides(margins["B"]) == "The task's gate fails, so neither difference decides a claim."


def test_all_rows_that_share_the_best_rounded_value_are_named():
    levels = {"A": Interval(0.5004, 0.4, 0.6), "B": Interval(0.4996, 0.4, 0.6), "C": Interval(0.3, 0.2, 0.4)}
    assert findings.highest(levels) == "A 0.500 [0.400, 0.600] and B 0.500 [0.400, 0.600]"


def test_ten_candidates_and_one_are_told_with_their_numbers():
    said = findings.answer("A", "B", {"best of ten": (DOWN, "one seed"), "one candidate": (UP, "one seed")})
    assert said.startswith(
        "A is behind B by 0.030 [0.010, 0.050] BLEU, best of ten (one seed). A is ahead of B by 0.03"
    )
    assert said.endswith("the answer is no; for a single sentence it is yes.")


def test_only_a_row_whose_interval_stands_apart_is_bold():
    frame = pd.DataFrame(
        {
            "model": ["A", "B", "copy"],
            "up": [Interval(0.5, 0.45, 0.55), Interval(0.3, 0.25, 0.35), Interval(0.9, 0.8, 1.0)],
            "near": [Interval(0.5, 0.4, 0.6), Interval(0.3, 0.25, 0.45), Interval(0.1, 0.0, 0.2)],
            "down": [Interval(0.5, 0.45, 0.55), Interval(0.3, 0.25, 0.35), None],
        }
    )
    best = {"up": "highest", "near": "highest", "down": "lowest"}
    assert findings.clear(frame, best, ["copy"]) == {"up": "highest", "down": "lowest"}
    assert findings.clear(frame, best) == {"up": "highest", "down": "lowest"}
    assert findings.clear(frame.iloc[:1], best) == {}


def test_what_was_measured_is_bold_where_a_row_is_clearly_best():
    frame = pd.DataFrame({"model": ["A", "B"], "BLEU, here": [UP, DOWN], "BLEU, paper": [0.2, 0.1]})
    table = findings.bold(tables.Table(frame, "c", "s/t", formats={"BLEU, here": ".2f"}))
    assert list(table.frame.columns) == ["model", "BLEU, here", "BLEU, paper"]
    assert (table.formats, table.best) == ({"BLEU, here": ".2f"}, {"BLEU, here": "highest"})


def test_the_halves_of_a_sentence_are_told_by_their_information():
    said = findings.settled("A", ["the", "wolf", "sees"], [9, 1, 2], [1.0, 8.0, 7.0])
    assert said == (
        'A: 1 of three words stand after the first step for good; the last to settle is "the", at step 9. The half of '
        "the words with more information settles at step 1.0 on average, the other at 5.5."
    )
    assert "half" not in findings.settled("A", ["the"], [9], [1.0])
    assert findings.settled("A", [], [], []) == "A writes no word."


@pytest.mark.parametrize(("margin", "passes"), [(0.0, True), (-1e-12, False)])
def test_a_task_passes_where_its_least_margin_is_not_below_0(margin, passes):
    assert Task(margin, 0.1, 0.2).passes is passes
    one = Claim("c", "A beats B", "paper", (Comparison("m", ">"),), "n", gate=GATE)
    assert (
        judge(one, {"m": ([[0.5, 0.6, 0.7]] * 3, 0.1)}, margin).outcome == "not testable at this size"
    ) is not passes


def claim(count: int) -> Claim:
    comparisons = tuple(Comparison(f"measure {k}", ">") for k in range(count))
    return Claim("c", "A beats B", "paper", comparisons, "n", gate=Gate("margin"))


def test_a_verdict_is_said_with_its_numbers_or_their_count_and_its_gate():
    items = [[[0.5, 0.6, 0.7], [0.5, 0.7, 0.7], [0.6, 0.6, 0.7]], 0.1]
    said = findings.judged(judge(claim(1), {"measure 0": items}, 0.2))
    assert said.startswith("The claim is **supported**. Measured, over 3 seeds: measure 0 +0.5")
    assert "gate" not in said
    said = findings.judged(judge(claim(2), {"measure 0": items, "measure 1": None}, -0.2))
    assert said.startswith("The claim is **not testable at this size**.")
    assert said.endswith("Not recorded yet: measure 1. The gate fails, so these differences decide nothing.")
    steady = [[0.60 + seed / 1000, 0.61 + seed / 1000] for seed in range(3)]
    many = judge(claim(8), {f"measure {k}": (steady, 0.1 if k else 0.99) for k in range(8)})
    said = findings.judged(many)
    assert "Of 8 differences 7 lie on the claimed side with their whole interval, 1 on the other, and 0" in said
    assert "The gate is not recorded yet" in findings.judged(many)


def test_recorded_seeds_are_counted():
    assert (
        findings.recorded(1, (0, 1, 2)) == "Recorded so far: one training seed of 3; the others are not recorded yet."
    )
    assert findings.recorded(3, (0, 1, 2)) == "All three training seeds are recorded."


def test_different_numbers_of_sentences_are_told_by_their_range():
    few, more = [[0.5, 0.6]], [[0.5, 0.6, 0.7]]
    said = findings.judged(judge(claim(2), {"measure 0": (few, 0.1), "measure 1": (more, 0.1)}))
    assert "Measured, over 2 to 3 items of one seed: measure 0" in said
