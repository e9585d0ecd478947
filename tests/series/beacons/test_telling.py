"""Sentences follow where the intervals lie, and carry the numbers of the records."""

import numpy as np
import pandas as pd
import pytest

from lib.intervals import DIFFERENCE, Interval
from lib.reporting.claims import Claim, Comparison, judge
from lib.series.beacons import pushing, telling
from tests.series.beacons.made import among, path

ALONE = [among(right=1.0, again=1.0, seed=seed) for seed in range(3)]
WORSE = [among(right=1.0, again=0.25, seed=seed) for seed in range(3)]
PATHS = {name: [path(seed) for seed in range(3)] for name in ("own target", "shuffled target")}


def test_a_number_with_and_without_an_interval() -> None:
    assert telling.amount(Interval(0.5, 0.25, 0.75)) == "0.50 [0.25, 0.75]"
    assert telling.amount(0.5, 3, signed=True) == "+0.500"
    assert telling.amount(None) == "not recorded"
    sides = ("above", "below", "open")
    told = [
        telling.lies(one, *sides)
        for one in (Interval(1, 0.5, 2), Interval(-1, -2, -0.5), Interval(0, -1, 1), 1.0, None)
    ]
    assert told == ["above", "below", "open", "open", "open"]


def test_a_verdict_in_words() -> None:
    comparison = Comparison("more is right", ">", 0.1, DIFFERENCE)
    claim = Claim("made", "A claim", "nobody", (comparison,), "2_beacons/2.2_one_fact")
    draw = np.random.default_rng(0)
    ours = [draw.random(50) < 0.9 for _ in range(5)]
    theirs = [draw.random(50) < 0.2 for _ in range(5)]
    told = telling.judged(judge(claim, {"more is right": (ours, theirs)}))
    assert told.startswith("Verdict: **supported**. *More is right*: 0.")
    assert told.endswith("] (95 % interval), claimed above 0.1: supported.")
    nothing = telling.judged(judge(claim, {"more is right": None}))
    assert nothing.startswith("Verdict: **inconclusive**. *More is right*: not recorded, claimed above 0.1")


def test_pushing_is_told_with_its_peak_and_its_end() -> None:
    told = telling.peaks(PATHS)
    assert "own target 0.20 [" in told
    assert "after one update" in told
    assert told.endswith("After four updates no fact is pushed away any more.")
    stays = {name: [frame.assign(pushed=frame["step"] > 0) for frame in several] for name, several in PATHS.items()}
    assert "there remain own target 1.00" in telling.peaks(stays)
    starts = pushing.thirds([pushing.by_fact(frame)["start"] for frame in PATHS["own target"]])
    falls = telling.falling(PATHS, starts)
    assert "after two updates" in falls
    assert "to 0.00 [0.00, 0.00] after four updates" in falls
    assert "After the first update towards the own target the means are 0." in falls
    assert "the order of the thirds lasts" in falls
    rows = [{"taught": name, **telling.pushes(several)} for name, several in PATHS.items()]
    assert (rows[0]["facts"], rows[0]["ever pushed"], rows[0]["pushed at the end"]) == (90, 18, 0)
    assert rows[0]["pushes with a lower loss"] == "18 of 18"
    assert "18 of 90 (own target)" in telling.ever(rows)
    scored = {name: [pushing.by_fact(frame) for frame in several] for name, several in PATHS.items()}
    short = telling.pushed_in_short(scored["own target"], scored["shuffled target"])
    assert "a share of 0.20 [" in short
    assert "after the last update none does" in short
    assert "no more and no less often for certain than facts that are taught a wrong target" in short
    calm = [frame.assign(ever=False) for frame in scored["own target"]]
    often = telling.pushed_in_short(scored["own target"], calm)
    assert "more often than facts that are taught a wrong target" in often


def test_how_long_a_push_lasts_by_hand() -> None:
    frame = pd.DataFrame(
        {"readings": [1, 2], "facts": [6 / 24, 2 / 24], "right at the end": [1.0, 0.5], "back by update": [2, 4]}
    )
    assert telling.counted(ALONE, frame).tolist() == [6, 2]
    told = telling.transient(ALONE, frame, "own target")
    assert told == (
        "Of 8 facts pushed from their own target, 6 are so at a single reading, and 7 are right after the last update."
    )
    assert telling.transient(ALONE, frame.iloc[:0], "own target") == "No fact was pushed away from its own target."


def test_what_goes_with_what() -> None:
    up, open_ = Interval(0.4, 0.2, 0.6), Interval(0.1, -0.2, 0.3)
    told = telling.related("right soon", up, open_, "d(0)")
    assert told.startswith("*Right soon* rises with d(0) (+0.40 [+0.20, +0.60])")
    assert "given initial loss and length it does not clearly change" in told
    assert "does not vary enough" in telling.related("right soon", None, open_, "d(0)")
    assert "less often than the control" in telling.beyond({"raw": Interval(-0.4, -0.6, -0.2)})
    assert "cannot be told from the control" in telling.beyond({"raw": Interval(-0.1, -0.6, 0.2)})


def test_learning_together_costs_expression_or_recall() -> None:
    told = telling.costs(ALONE, WORSE, "equal updates per fact")
    assert told.startswith("At N = 8 and equal updates per fact")
    assert "] on the trained prompt (open) and +0.75 [" in told
    assert "on the paraphrase (a cost), over three seeds" in told
    assert telling.expression(ALONE, WORSE).startswith("Learning together costs expression more than recall: ")
    assert "costs recall or expression is open" in telling.expression(ALONE[:1], WORSE[:1])
    assert telling.costs(ALONE, [], "equal total steps") == "Not recorded yet: equal total steps."


def test_arms_and_methods_are_told_by_where_they_lie() -> None:
    told = telling.compared(WORSE, {"plain training": ALONE, "nobody": []}, "The arm", "paraphrase")
    assert told.startswith("The arm is worse than plain training (-0.75 [")
    assert told.endswith("than nobody: not recorded yet.")
    assert "better than worse" in telling.compared(ALONE, {"worse": WORSE}, "It", "paraphrase")
    runs = {"LoRA": WORSE, "DoRA": ALONE, "IA3": WORSE, "LoHa": []}
    assert telling.against_lora(runs, 8, "paraphrase").startswith("At N = 8, ahead of LoRA: DoRA (+0.75 [")
    assert "behind" not in telling.against_lora(runs, 8, "paraphrase")
    told = telling.beside_lora({1: runs, 8: runs}, "paraphrase")
    assert told == "Ahead of LoRA: DoRA (N = 1 and 8). Behind LoRA: none at any N."
    assert list(telling.apart(runs, "right")) == []
    assert telling.against_lora(runs, 8, "right") == "At N = 8 no method can be told from LoRA."


def test_all_that_share_the_highest_or_lowest_value_are_named() -> None:
    values = {"LoRA": 0.531, "DoRA": 0.534, "IA3": 0.2, "LoHa": 0.53}
    assert telling.most(values) == "LoRA, DoRA and LoHa (0.53)"
    assert telling.least(values) == "IA3 (0.20)"


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_seeds_leave_everything_open(count: int) -> None:
    assert "on the paraphrase (open)" in telling.costs(ALONE[:count], WORSE[:count], "equal total steps")
