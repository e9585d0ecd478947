"""Draws of edits at tiny sizes: which edits they hold, what is asked at a distance, what is noted of training."""

import dataclasses

import numpy as np
import pytest

from lib import profiles
from lib.causal_lm.edits import Edit
from lib.editing import scoring
from lib.editing.editor import NoEdit
from lib.errors import UserError
from lib.records import frames
from lib.series.lemoe import distant, drawn, drawn_cases, mend_training
from lib.series.lemoe.configurations import configuration
from lib.series.lemoe.edit_sets import edit_set
from lib.series.lemoe.frames import DRAWN
from lib.series.lemoe.stopped import LOCALITY, STOPPED
from lib.series.lemoe.workbench import Workbench
from tests.series.lemoe.tiny_runs import config


def draw(method: str, draw: int = 0, **changes: object) -> drawn.DrawConfig:
    run = config(method, **{"count": 4, **changes})
    return drawn.DrawConfig(run=run, draw=draw, spacing=8, order_seed=draw)


def test_draws_share_no_edit_and_begin_alike() -> None:
    pool = edit_set("facts").edits
    columns = {
        (count, seed): drawn.edits_of_draw(pool, drawn_cases.column("ewc", count, seed, "cpu").config)
        for count in profiles.profile("cpu").editing.drawn
        for seed in (0, 1, 2)
    }
    names = {key: [edit.identity for edit in edits] for key, edits in columns.items()}
    for seed in (0, 1, 2):
        assert names[200, seed][:100] == names[100, seed]
        assert names[100, seed][:20] == names[10, seed]  # two runs of ten
    assert len({name for seed in (0, 1, 2) for name in names[200, seed]}) == 600
    assert columns[100, 0] == list(pool[:100])
    with pytest.raises(UserError, match="a draw of 9 edits reaches into the next"):
        drawn.edits_of_draw(pool, draw("ewc", count=3, runs=3))
    with pytest.raises(UserError, match="draw 2 ends at edit 20, the set has 19"):
        drawn.edits_of_draw(pool[:19], draw("ewc", 2))


def test_a_draw_is_edited_scored_and_asked_at_a_distance(bench: Workbench) -> None:
    pool = edit_set("tuning").edits
    asked = draw("lemoe", 1, runs=2, steps=4, until_right=True, enough=30.0)
    found = drawn.drawn(asked, bench, pool)
    frames.check(found.frames, DRAWN, "a draw")
    wanted = [edit.identity for edit in pool[8:16]]
    assert sorted(found.frames["distant"]["identity"]) == sorted(wanted)
    assert found.frames["distant"]["kind"].tolist() == [one.kind for one in distant.questions("tuning", 8, 8)]
    assert found.frames["scores"].groupby(["run", "batches"]).size().tolist() == [2, 4, 2, 4]
    assert np.shape(found.values["steps"]) == np.shape(found.values["losses"]) == (2, 2)
    steps, losses = np.ravel(found.values["steps"]), np.ravel(found.values["losses"])
    assert ((losses < 30) | (steps == 4)).all()
    assert (steps < 4).any()
    assert not bench.model.base_model._forward_pre_hooks  # it is given back


def test_what_is_kept_is_the_share_of_equal_tokens_and_all_of_the_unedited_model(bench: Workbench) -> None:
    edits = [Edit("The sky is", " red", locality=("Paris is", " a city in France"), identity="sky")]
    editor = NoEdit(bench.model, bench.tokenizer)
    before = scoring.before(editor, edits)
    assert drawn.kept_answers(editor, edits, before)[["kept", "kept_exact"]].to_numpy().tolist() == [[1, 1]]
    (answer,) = before.values()
    other = {edits[0].locality: (answer[0] + 1, *answer[1:])}
    found = drawn.kept_answers(editor, edits, other)
    assert found["kept"].tolist() == [1 - 1 / len(answer)]
    assert found["kept_exact"].tolist() == [0]
    assert drawn.drawn(draw("no_edit"), bench, edit_set("tuning").edits).frames["distant"]["kept"].eq(1).all()


def test_a_question_that_a_method_was_shown_is_not_asked() -> None:
    edits = [Edit("a", " b", locality=("c", " d")), Edit("e", " f", locality=("g", " h")), Edit("i", " j")]
    kept = drawn.unseen(edits, ["g", "i"])
    assert [edit.locality for edit in kept] == [("c", " d"), None, None]
    assert kept[1] == dataclasses.replace(edits[1], locality=None)


def test_rows_with_the_stop_rule_have_the_common_cap_and_other_authors_their_own_steps() -> None:
    sizes = profiles.profile("cpu").editing
    for row in STOPPED:
        settings = configuration(row, "facts", 100, "cpu").settings
        if row == "validated/mend":
            assert settings.steps == sizes.mend_cap
            assert drawn_cases.training("cpu").config.settings == settings
        else:
            assert (settings.steps, settings.until_right, settings.enough) == (sizes.cap, True, 0)
    assert configuration("ewc", "facts", 100, "cpu").settings.steps == 100
    assert configuration("learnt/lemoe_paper", "facts", 100, "cpu").settings.projection == "shared"
    for name, (row, changes) in LOCALITY.items():
        made = drawn_cases.locality(name, "cpu").config.run
        assert made.row == row
        assert made.edits == "tuning"
        assert all(getattr(made.settings, field) == value for field, value in changes.items())


def test_a_seed_draws_edits_order_and_weights_and_orders_of_one_draw_differ_in_nothing_else() -> None:
    columns = [drawn_cases.column("learnt/lemoe", 100, seed, "cpu").config for seed in (0, 3)]
    assert [(one.draw, one.order_seed, one.run.settings.seed) for one in columns] == [(0, 0, 0), (3, 3, 3)]
    orders = [drawn_cases.ordered("learnt/lemoe_random", seed, "cpu").config for seed in (0, 7)]
    assert orders[1].model_copy(update={"order_seed": 0}) == orders[0]
    weights = [drawn_cases.weighted("learnt/lemoe_random", seed, "cpu").config for seed in (0, 7)]
    assert [(one.draw, one.order_seed, one.run.settings.seed) for one in weights] == [(0, 0, 0), (0, 0, 7)]
    assert orders[0].run.order == "random"


def test_every_case_has_a_name_of_its_own_none_is_core_and_claims_have_their_draws() -> None:
    found = drawn_cases.cases("cpu")
    assert len({case.name for case in found}) == len(found)
    assert {case.row for case in found} == {"extended"}
    by_row = {}
    for case in found:
        if case.name.startswith("3_lemoe/drawn/columns/"):
            by_row.setdefault((case.config.run.row, case.config.run.count), set()).add(case.seed)
    for row in drawn_cases.NAMED:
        assert by_row[row, 100] == {0, 1, 2, 3, 4}
        assert by_row[row, 1] == by_row[row, 10] == {0, 1, 2}
        assert by_row[row, 200] == {0}
    assert by_row["alphaedit", 100] == {0}
    assert ("alphaedit", 200) not in by_row
    assert {case.row for case in drawn_cases.cases("smoke")} == {"core"}
    assert drawn_cases.cases("paper") == drawn_cases.cases("gpu") == []


@pytest.mark.thorough
def test_mends_network_goes_from_its_case_to_its_row(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path))
    monkeypatch.setenv("REPRODUCTION_RECORDS", "compute")
    case = drawn_cases.column("validated/mend", 4, 0, "smoke")
    found = mend_training.edit_and_score(case)
    assert set(found.frames) == {"scores", "distant"}
    bench = drawn.bench_of(case.config.run, "cpu")
    given = bench.transformation(case.config.run.settings)
    assert given is bench.transformation(mend_training.trained(case.inputs["network"], bench).config)
