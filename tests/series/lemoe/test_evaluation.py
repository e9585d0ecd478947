"""From raw scores to tables: a record made by hand, with answers that can be counted on fingers."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from lib.series.lemoe import evaluation


def record(rows: list[tuple[int, int, int, str, float, float, float]], routes: list[dict] | None = None):
    names = ["run", "batches", "batch", "identity", "rel", "gen", "loc"]
    frame = pd.DataFrame(rows, columns=names)
    for name in ("rel", "gen", "loc"):
        frame[f"{name}_exact"] = (frame[name] == 1).astype(float).where(frame[name].notna())
    frames = {"scores": frame} | ({"routes": pd.DataFrame(routes)} if routes else {})
    return SimpleNamespace(frames=frames, case="made")


RUN = record(
    [
        (0, 1, 0, "a", 1.0, 1.0, 1.0),
        (0, 1, 0, "b", 1.0, 0.5, 1.0),
        (0, 2, 0, "a", 0.5, 0.0, 1.0),
        (0, 2, 0, "b", 0.0, 0.0, 0.0),
        (0, 2, 1, "c", 1.0, 1.0, 0.0),
        (0, 2, 1, "d", 1.0, 1.0, 1.0),
    ],
    [
        {"run": 0, "batches": 1, "batch": -1, "edits": 1.0, "rephrases": 1.0, "unrelated": 0.0, "agreement": 1.0},
        {"run": 0, "batches": 2, "batch": -1, "edits": 0.5, "rephrases": 0.25, "unrelated": 0.0, "agreement": 0.75},
    ],
)


def test_final_scores_are_those_after_the_last_batch() -> None:
    final = evaluation.final(RUN)
    assert list(final.index) == [(0, "a"), (0, "b"), (0, "c"), (0, "d")]
    assert final["avg"].round(4).tolist() == [0.5, 0.0, 0.6667, 1.0]
    cells = evaluation.cells(RUN)
    assert [round(cells[name].estimate, 4) for name in ("rel", "gen", "loc", "avg")] == [0.625, 0.5, 0.5, 0.5417]


def test_a_score_that_no_edit_has_is_no_cell() -> None:
    bare = record([(0, 1, 0, "a", 1.0, math.nan, 1.0), (0, 1, 0, "b", 0.0, math.nan, 1.0)])
    cells = evaluation.cells(bare)
    assert cells["gen"] is None
    assert cells["avg"].estimate == 0.75


def test_what_is_forgotten_is_the_fall_of_earlier_batches_alone() -> None:
    assert evaluation.over_time(RUN).loc[0].tolist() == [1.0, 0.25]
    assert math.isnan(evaluation.over_time(RUN).loc[1, 1])
    assert evaluation.forgotten(RUN).to_dict() == {"a": 0.5, "b": 1.0}
    assert evaluation.learnt(RUN) == 1.0
    # Batches of unequal size count alike: of one edit that falls by 1, and of three that stay.
    rows = [(0, 1, 0, "a", 1.0, 0, 0), *((0, 2, 1, name, 1.0, 0, 0) for name in "bcd"), (0, 3, 2, "e", 0.0, 0, 0)]
    rows += [(0, 3, 0, "a", 0.0, 0, 0), *((0, 3, 1, name, 1.0, 0, 0) for name in "bcd")]
    fallen = evaluation.forgotten(record(rows))
    assert (fallen.to_dict(), fallen.mean()) == ({"a": 2.0, "b": 0.0, "c": 0.0, "d": 0.0}, 0.5)


def test_the_first_batch_is_read_at_half_of_the_edits_and_at_their_end() -> None:
    rows = [(0, after, 0, "a", rel, 0, 0) for after, rel in ((1, 1.0), (2, 0.75), (3, 0.5), (4, 0.25), (5, 0.125))]
    rows += [(0, 5, batch, "bcde"[batch - 1], 1.0, 0, 0) for batch in range(1, 5)]
    assert evaluation.kept(record(rows)).to_dict("list") == {"half": [0.5], "all": [0.125]}  # the third of five batches
    rows = [(0, after, 0, "a", rel, 0, 0) for after, rel in ((1, 1.0), (2, 0.75), (3, 0.5))]
    rows += [(0, 3, 1, name, 1.0, 0, 0) for name in "bcd"] + [(0, 3, 2, "e", 1.0, 0, 0)]
    assert evaluation.kept(record(rows)).to_dict("list") == {"half": [0.75], "all": [0.5]}  # four of five are made


def test_routes_are_read_at_the_end() -> None:
    assert evaluation.agreement(RUN) == 0.75
    assert evaluation.consistency(RUN) == {"edits": 0.5, "rephrases": 0.25, "unrelated": 0.0}
    assert set(evaluation.consistency(record([(0, 1, 0, "a", 1.0, 1.0, 1.0)])).values()) == {None}


def test_pairs_are_aligned_by_edit() -> None:
    other = record([(0, 1, 0, "d", 0.25, 0.0, 0.0), (0, 1, 0, "a", 0.75, 0.0, 0.0), (0, 1, 0, "x", 1.0, 0.0, 0.0)])
    ours, theirs = evaluation.paired(RUN, other, "rel")
    assert (ours.tolist(), theirs.tolist()) == ([0.5, 1.0], [0.75, 0.25])
    with pytest.raises(ValueError, match="share no edit"):
        evaluation.paired(RUN, record([(0, 1, 0, "x", 1.0, 1.0, 1.0)]), "rel")


def test_what_went_wrong_with_an_edit_can_be_several_things() -> None:
    found = {kind: flags.droplevel("run") for kind, flags in evaluation.kinds(RUN).items()}
    marked = {kind: list(flags.index[flags]) for kind, flags in found.items()}
    assert marked["wrong token"] == ["a"]
    assert marked["missed"] == ["b"]
    assert marked["failed rephrase"] == ["a", "b"]
    assert marked["leak"] == ["b", "c"]  # a missed edit leaks too, and one that is said right
    assert marked["right"] == ["d"]
    rephrase = record([(0, 1, 0, "a", 1.0, 0.5, 0.0), (0, 1, 0, "b", 1.0, math.nan, math.nan)])
    assert evaluation.kinds(rephrase)["leak"].tolist() == [True, False]  # nothing unrelated was asked of b
    assert evaluation.kinds(rephrase)["right"].tolist() == [False, True]


def test_scores_over_seeds_are_aligned_within_each() -> None:
    ours, theirs = evaluation.over_seeds([RUN, RUN], [RUN, RUN], "loc")
    assert [found.tolist() for found in (*ours, *theirs)] == [[1.0, 0.0, 0.0, 1.0]] * 4
    with pytest.raises(ValueError, match="zip"):
        evaluation.over_seeds([RUN], [RUN, RUN], "loc")


def test_unrelated_answers_are_grouped_by_how_sure_the_model_was() -> None:
    texts = pd.DataFrame(
        {
            "kind": ["unrelated"] * 5 + ["edit"],
            "margin": [3.0, 1.0, 2.0, 5.0, 4.0, 0.0],
            "kept": [0.5, 0.0, 0.0, 1.0, 1.0, 0.3],
        }
    )
    found = evaluation.by_margin(texts, parts=2)
    assert found["margin"].tolist() == [2.0, 4.5]
    assert found["kept"].round(6).tolist() == [0.166667, 1.0]
    assert (found["low"] <= found["kept"]).all()
    assert (found["kept"] <= found["high"]).all()
    assert len(evaluation.by_margin(texts, parts=9)) == 2  # of at least two texts each
