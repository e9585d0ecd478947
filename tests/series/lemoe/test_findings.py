"""Sentences on made-up records: they name the right rows, and their wording follows the intervals."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lib.intervals import DIFFERENCE, SHARE, Interval
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.reporting import claims, tables
from lib.series.lemoe import findings
from lib.series.lemoe import tables as rows_of
from tests.series.lemoe.test_evaluation import RUN, record

FOUND = {"a": Interval(0.2, 0.1, 0.3), "b": Interval(-0.2, -0.3, -0.1), "c": Interval(0.0, -0.1, 0.1), "d": None}


def test_names_are_grouped_by_where_their_intervals_lie():
    assert findings.grouped(FOUND, ("Above", "Below", "Open")) == (
        "Above: a (+0.20 [+0.10, +0.30]). Below: b (-0.20 [-0.30, -0.10]). "
        "Open: c (0.00 [-0.10, +0.10]). Not recorded yet: d."
    )
    assert findings.grouped({"a": FOUND["a"]}, ("Above", "Below", "Open"), margin=0.15).startswith("Open: a")


@pytest.mark.parametrize(("direction", "side"), [(">", "On the claimed side"), ("<", "On the other side")])
def test_a_verdict_tells_on_which_side_of_its_margin_a_comparison_lies(direction, side):
    comparisons = (
        claims.Comparison("x", direction, 0.1, DIFFERENCE),
        claims.Comparison("y", direction, 0.0, DIFFERENCE),
    )
    claim = claims.Claim("id", "text", "source", comparisons, "3_lemoe/3.1", claims.Gate("learnt", above=0.5))
    verdict = claims.judge(claim, {"x": ([[0.4, 0.5], [0.5, 0.4], [0.5, 0.5]], 0.0), "y": None}, [0.4, 0.4, 0.4])
    told = findings.judged(verdict)
    assert "The gate fails: learnt is 0.40." in told
    assert f"{side}: x (+0.47 [" in told
    assert "margin +0.1)" in told
    assert "Not recorded or without spread: y." in told


def test_the_best_row_and_the_place_of_another_are_told():
    avg = {"one": Interval(0.5, 0.4, 0.6), "two": Interval(0.7, 0.6, 0.8), "three": Interval(0.55, 0.5, 0.6)}
    assert findings.placed(avg, "one") == (
        "two has the highest Avg, 0.70 [0.60, 0.80]; one has 0.50 [0.40, 0.60], place 3 of 3."
    )
    assert "next is three" in findings.placed(avg, "two")
    assert findings.placed({"one": avg["one"]}, "one", "Loc") == "one has the highest Loc, 0.50 [0.40, 0.60]."
    assert findings.like(avg, "one") == ["three"]
    assert findings.lower(avg, "three") == ["one"]
    tied = {"a": Interval(0.9981, 0.9, 1.0), "b": Interval(1.0, 0.96, 1.0), "c": Interval(0.5, 0.4, 0.6)}
    assert findings.placed(tied, "c", "Loc") == (
        "b and a have the highest Loc, 1.00; c has 0.50 [0.40, 0.60], place 3 of 3."
    )
    assert findings.placed(tied, "a", "Loc").endswith("1.00; next is c with 0.50 [0.40, 0.60].")


def test_rows_beside_the_unedited_model_and_rows_that_are_high_in_all():
    better = record([(0, 1, 0, name, 1.0, 1.0, 1.0) for name in "abcd"])
    idle = record([(0, 1, 0, name, 0.0, 0.0, 1.0) for name in "abcd"])
    told = findings.beside_idle({1: better, 10: idle, 50: better}, {1: idle, 10: idle, 50: idle}, "X")
    assert told == (
        "X is above no edit in Avg at T = 1 (1.000 against 0.333) and T = 50 (1.000 against 0.333). "
        "X is not told apart from no edit in Avg at T = 10 (0.333 against 0.333)."
    )
    one, none = Interval(0.9, 0.8, 1.0), Interval(0.1, 0.0, 0.2)
    cells = {"a": {"rel": one, "gen": none, "loc": one}, "b": {"rel": one, "gen": None, "loc": one}}
    assert findings.all_high(cells) == ("No row is above 0.5 in Rel, Gen and Loc at once: the highest Gen is 0.10 (a).")
    cells["c"] = dict.fromkeys(("rel", "gen", "loc"), one)
    assert findings.all_high(cells).endswith("at once: c.")


def test_farther_questions_explain_a_part_of_what_loc_lacks():
    near = {"a": Interval(0.2, 0.1, 0.3), "b": Interval(1.0, 0.9, 1.0)}
    far = {"a": Interval(0.4, 0.3, 0.5), "b": Interval(1.0, 0.9, 1.0)}
    told = findings.farther(near, far, ("a", "b", "c"))
    assert told == "a 0.200 and 0.400. So farther questions explain 0.25 of what a lacks to 1."
    assert findings.farther({}, far, ("a",)) == "not recorded yet."
    assert findings.lower(near, "c") == []


def test_differences_are_paired_by_edit_and_leave_out_other_edits():
    better = record([(0, 1, 0, name, 1.0, 1.0, 1.0) for name in "abcd"])
    elsewhere = record([(0, 1, 0, name, 1.0, 1.0, 1.0) for name in "xyz"])
    found = findings.differences({"better": better, "elsewhere": elsewhere}, RUN, "rel")
    assert list(found) == ["better"]
    assert found["better"].estimate == pytest.approx((0.5 + 1.0 + 0 + 0) / 4)


def test_leaks_are_edits_with_a_changed_unrelated_answer():
    row = findings.leaks({"run": RUN}).iloc[0]
    assert (row["leaks"], row["edits"]) == (2, 4)  # of b and c
    assert row["Loc"].estimate == 0.5


def test_the_bytes_by_hand_are_those_of_an_adaptor_but_for_its_two_scalars():
    total, told = findings.kept_bytes(hidden=12, inner=7, key=5, batches=3)
    adaptor = Adaptor(AdaptorConfig(expert_width=7, router_width=5), 12, 12, 7, 12)
    adaptor._place = lambda: None
    adaptor._attached = [SimpleNamespace(device=SimpleNamespace(type="cpu"))]
    for _ in range(3):
        adaptor.add_expert()
    held = sum(value.numel() * value.element_size() for value in adaptor.state_dict().values())
    assert held - total == 8
    assert f"{total:,} bytes" in told


def test_routes_are_compared_with_one_expert_for_all():
    rel = {"bad": 0.5, "near": 0.6, "good": 0.9}
    told = findings.routed({"bad": 0.2, "near": 0.25, "good": 0.8}, rel, 5)
    assert "for 0.20 of the edits" in told
    assert "Between 0.10 and 0.30 lie: bad (0.20) and near (0.25)." in told
    assert "with good: 0.80. Rel is 0.50 where the fewest" in told
    assert told.endswith("0.90 where the most are.")
    assert "lies: none. The most" in findings.routed({"bad": 0.9}, rel, 5)
    assert findings.routed({}, rel, 5).startswith("No row is recorded")


def test_a_share_is_counted_out_by_hand():
    told = findings.by_hand({"bad": 0.2, "good": 0.84}, 50, 5)
    assert told.startswith(
        "*good*: 42 of 50 edits end at the expert of their batch, 42 / 50 = 0.84. With 5 batches of 10,"
    )
    assert told.endswith("10 / 50 = 0.20.")
    assert findings.by_hand({}, 50, 5).startswith("There is no share")


def test_tables_tell_what_was_learnt_and_what_was_kept():
    row = rows_of.learnt_and_kept({"run": RUN}).iloc[0]
    assert (row["learnt"], row["kept"], row["own expert"]) == (1.0, 0.625, 0.5)
    assert rows_of.learnt_and_kept({}).iloc[0]["method"] == "none recorded"
    routes = rows_of.with_routes({"run": RUN})
    assert rows_of.by_title(routes, "own expert") == {"run": 0.5}
    assert rows_of.by_title(routes.assign(**{"own expert": None}), "own expert") == {}


def test_a_table_of_some_columns_keeps_their_formats():
    frame = pd.DataFrame([{"method": "a", "Avg, here": 0.5, "Avg, paper": 0.7}])
    table = tables.Table(frame, "c.", "3_lemoe/t", {"Avg, here": ".1f", "Avg, paper": ".2f"})
    found = rows_of.only(table, ["method", "Avg, here"])
    assert list(found.frame) == ["method", "Avg, here"]
    assert found.formats == {"Avg, here": ".1f"}


def test_a_verdict_calls_a_mean_that_is_held_against_a_number_no_difference():
    comparisons = (claims.Comparison("x", ">", 0.0, DIFFERENCE), claims.Comparison("Loc", ">", 0.99, SHARE))
    claim = claims.Claim("id", "text", "source", comparisons, "3_lemoe/3.1")
    data = {"x": ([[0.4, 0.5], [0.5, 0.4], [0.5, 0.5]], 0.0), "Loc": ([[0.1, 0.2], [0.2, 0.1], [0.1, 0.1]], 0.0)}
    verdict = claims.judge(claim, data)
    table = rows_of.verdict(verdict)
    assert list(table.frame["claimed"]) == ["difference > 0", "mean > 0.99"]
    assert "difference or mean" in table.frame
    assert table.formats["difference or mean"] == ".4f"
    assert "difference" in verdict.table("3_lemoe/claim_x").frame  # what is saved keeps its names
    assert "Loc (0.13 [" in findings.judged(verdict)
    assert "column level" in findings.judged(verdict)
