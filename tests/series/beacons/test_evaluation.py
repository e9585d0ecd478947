"""From raw answers to scores: records made by hand, with answers that can be counted on fingers."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from lib import intervals
from lib.beacons.facts import facts
from lib.series.beacons import evaluation

NAMED = facts("results")[:4]
A, B, C, D = (fact.identity for fact in NAMED)


def said(*rows):
    """Rows of identity, prompt and whether the answer is right; a right one stands in a longer sentence."""
    named = {fact.identity: fact for fact in NAMED}
    texts = [f"surely{named[one].target} it is" if right else "never heard of it" for one, _, right in rows]
    frame = pd.DataFrame([row[:2] for row in rows], columns=["identity", "prompt"])
    return frame.assign(answer=texts, run=0)


def record(told, trained=(), seen=(A, B, C, D), **frames):
    rows = [(one, 0, one in trained, 1.0 + place, 0.1 * place, 0.2 * place) for place, one in enumerate(seen)]
    made = pd.DataFrame(rows, columns=["identity", "run", "trained", "loss", "raw", "centred"])
    return SimpleNamespace(frames={"answers": told, "facts": made, **frames}, config={}, case="made")


TOGETHER = record(
    said((A, 0, 1), (A, 1, 0), (A, 2, 1), (B, 0, 0), (B, 1, 1), (C, 0, 1), (C, 1, 1), (D, 0, 0), (D, 1, 0)),
    trained=(A, B),
)


def test_scores_of_each_fact():
    found = evaluation.scores(TOGETHER)
    assert found["right"].to_dict() == {A: 1, B: 0, C: 1, D: 0}
    assert found["paraphrase"].to_dict() == {A: 0.5, B: 1, C: 1, D: 0}
    assert found["exact"].sum() == 0
    exact = TOGETHER.frames["answers"].assign(answer=NAMED[0].target.strip())
    again = evaluation.scores(record(exact[exact["identity"] == A], seen=(A,)))
    assert again[["right", "exact"]].to_numpy().tolist() == [[1, 1]]
    assert evaluation.mean(TOGETHER, "right") == 0.5
    assert evaluation.mean(TOGETHER, "paraphrase") == 0.625
    assert evaluation.mean(TOGETHER, "loss") == 2.5


def test_kept_and_left_out_facts_are_apart():
    assert evaluation.kept(TOGETHER) == [A, B]
    assert evaluation.mean(TOGETHER, "right", evaluation.trained) == 0.5
    assert evaluation.mean(TOGETHER, "paraphrase", evaluation.left_out) == 0.5
    assert evaluation.mean(TOGETHER, "right", evaluation.among([A, C])) == 1
    everything = record(said((A, 0, 1)), trained=(A,), seen=(A,))
    assert math.isnan(evaluation.mean(everything, "right", evaluation.left_out))
    assert evaluation.over_seeds([everything] * 3, "right", evaluation.left_out) is None


@pytest.mark.filterwarnings("error")
def test_no_run_has_no_score_and_warns_of_nothing():
    assert evaluation.over_seeds([], "right") is None
    assert intervals.over_seeds_or_alone([]) is None
    assert intervals.over_seeds_or_alone([pd.Series([1.0]), pd.Series([], dtype=float)]) is None


def test_over_seeds_is_a_t_interval_from_three_on():
    right = record(said((A, 0, 1)), seen=(A,))
    wrong = record(said((A, 0, 0)), seen=(A,))
    found = evaluation.over_seeds([right, wrong, wrong], "right")
    assert found.estimate == pytest.approx(1 / 3)
    assert found[1:] == (0.0, 1.0)  # half of it is 1.43, and shares end at 0 and 1
    far = evaluation.over_seeds([right, wrong, wrong], "loss")
    assert far == 1.0  # equal losses of single facts: nothing says how much they vary
    half = 4.302652729911275 * (1 / 3)  # t of 2 degrees of freedom times the standard error, sqrt(1/3) / sqrt(3)
    assert intervals.over_seeds_or_alone([pd.Series([1.0]), pd.Series([2.0]), pd.Series([2.0])]).high == pytest.approx(
        5 / 3 + half
    )
    assert evaluation.over_seeds([right, wrong], "right") == 0.5


def test_equal_seeds_are_as_uncertain_as_their_facts():
    found = evaluation.over_seeds([TOGETHER] * 3, "right")
    half = 4.302652729911275 * math.sqrt(1 / 3 / 4)  # of 1, 0, 1, 0: a variance of 1/3 over four facts
    assert found.estimate == 0.5
    assert found[1:] == (0.0, 1.0)
    assert intervals.over_seeds_or_alone([evaluation.chosen(TOGETHER, "right")] * 3).high == pytest.approx(0.5 + half)


def test_two_trainings_are_paired_by_fact():
    ours, theirs = evaluation.paired([alone()], [TOGETHER], "right")
    assert (ours[0].to_dict(), theirs[0].to_dict()) == ({A: 1.0, B: 1.0}, {A: 1.0, B: 0.0})
    assert list(ours[0].index) == list(theirs[0].index) == sorted([A, B])


def test_a_gap_is_over_the_seeds_that_both_have_and_of_fewer_than_three_without_an_interval():
    right, wrong = (record(said((A, 0, one), (B, 0, one)), seen=(A, B)) for one in (1, 0))
    half = record(said((A, 0, 1), (B, 0, 0)), seen=(A, B))
    found = evaluation.gap([right, right, half, wrong], [wrong, wrong, wrong], "right")
    assert found.estimate == pytest.approx((1 + 1 + 0.5) / 3)
    assert found.low < found.estimate < found.high == 1
    assert evaluation.gap([half], [wrong, wrong], "right") == 0.5
    assert evaluation.gap([], [wrong], "right") is None


def test_of_few_seeds_facts_are_averaged_over_seeds_by_their_names():
    one, other = pd.Series({"a": 1.0, "b": 0.0}), pd.Series({"b": 1.0, "c": 1.0})
    found = evaluation.over_seeds_or_facts([one, other], intervals.SHARE)
    assert found == intervals.mean_interval([1.0, 0.5, 1.0], bounds=intervals.SHARE)
    assert evaluation.over_seeds_or_facts([one[:1]]) == 1.0
    assert evaluation.over_seeds_or_facts([one] * 3) == intervals.over_seeds([[1.0, 0.0]] * 3)


def alone(targets="own", taught=None):
    rows = [(one, step, 2.0 - step, 0.5, 0.6) for step in (0, 1) for one in (A, B)]
    readings = pd.DataFrame(rows, columns=["identity", "step", "loss", "raw", "centred"])
    told = said((A, 0, 1), (B, 0, 1)).drop(columns="run")
    made = pd.DataFrame({"identity": [A, B], "taught": taught or [fact.target for fact in NAMED[:2]]})
    frames = {"readings": readings, "answers": told, "facts": made}
    return SimpleNamespace(frames=frames, config={"targets": targets}, case="alone")


def test_facts_alone_are_scored_at_their_last_reading():
    found = evaluation.scores(alone())
    assert found["loss"].tolist() == [1.0, 1.0]
    assert found["right"].tolist() == [1, 1]
    assert found["trained"].all()


def test_shuffled_facts_are_scored_on_what_they_were_taught():
    swapped = alone("shuffled", [NAMED[1].target, NAMED[0].target])
    told = swapped.frames["answers"]
    assert NAMED[0].target != NAMED[1].target
    assert evaluation.scores(swapped)["right"].tolist() == [0, 0]
    swapped.frames["answers"] = told.assign(answer=told["answer"].tolist()[::-1])
    assert evaluation.scores(swapped)["right"].tolist() == [1, 1]


def test_interference_is_taken_over_facts_that_both_know():
    found = evaluation.lost(alone(), TOGETHER, "right")
    assert found.to_dict() == {A: 0.0, B: 1.0}


def test_each_fact_is_held_against_the_next_target_of_its_kind():
    frame = pd.DataFrame({"kind": ["place", "time", "place", "place"], "target": ["Lima", "1810", "Rome", "Oslo"]})
    assert evaluation.other_targets(frame).tolist() == ["Rome", "1810", "Oslo", "Lima"]


def test_rows_of_the_tables():
    row = evaluation.interference_row([alone()] * 3, [TOGETHER] * 3)
    assert (row["right alone"], row["right among N"]) == (1.0, 0.5)  # of A and B
    assert row["lost: right"] == (0.5, -1.0, 1.0)  # of A nothing, of B all: two facts say next to nothing
    assert row["added: loss (nats a token)"].estimate == pytest.approx(1.5 - 1.0)
    assert row["lost: right, paraphrase"] is None  # facts alone were not asked so here
    every = record(TOGETHER.frames["answers"], trained=(A, B, C, D))
    row = evaluation.arm_row([TOGETHER], [every])
    assert (row["full set"], row["kept"], row["kept: plain"], row["left out"]) == (0.5, 0.5, 0.5, 0.5)
    assert evaluation.arm_row([every], [every])["kept"] is None
    row = evaluation.weighing_row([TOGETHER], pd.Series([0.9, 0.1, 0.2, 0.8], index=[A, B, C, D]))
    assert (row["right, near half"], row["right, far half"]) == (0.5, 0.5)
    row = evaluation.weighing_row([TOGETHER], pd.Series([0.1, 0.9, 0.2, 0.8], index=[A, B, C, D]))
    assert (row["right, near half"], row["right, far half"]) == (1.0, 0.0)


def test_locality_counts_unchanged_answers():
    others = pd.DataFrame({"identity": ["x", "y", "z", "w"], "before": list("abcd"), "answer": list("abxx"), "run": 0})
    assert evaluation.locality(record(said((A, 0, 1)), seen=(A,), others=others)) == 0.5
    assert evaluation.locality(TOGETHER) is None


def test_pairs_of_facts_that_share_a_relation_or_a_target():
    cosines = pd.DataFrame({"one": [0, 0, 1], "other": [1, 2, 2], "before": [0.1, 0.2, 0.3], "after": 0.0})
    every = facts("results")
    first = every[0]
    near = next(fact for fact in every if fact.relation == first.relation and fact.target != first.target)
    far = next(fact for fact in every if fact.relation != first.relation and fact.target != first.target)
    told = pd.DataFrame({"identity": [first.identity, near.identity, far.identity]})
    made = SimpleNamespace(frames={"cosines": cosines, "facts": told})
    found = evaluation.cosine_table(made)
    assert found["same_relation"].tolist() == [True, False, False]
    assert found["same_target"].tolist() == [False, False, near.target == far.target]
    assert [fact.target for fact in evaluation.asked(made)] == [first.target, near.target, far.target]
