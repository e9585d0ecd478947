"""The series' experiment at tiny sizes: edits in batches, scores after each, the model given back; the cases' plan."""

import pytest
import torch

from lib import profiles
from lib.causal_lm.edits import Edit
from lib.errors import UserError
from lib.series.lemoe import cases, run
from lib.series.lemoe.edit_sets import edit_set
from lib.series.lemoe.rows import METHODS
from lib.series.lemoe.run import RunConfig
from lib.series.lemoe.variants import ROWS
from lib.series.lemoe.workbench import Workbench
from tests.series.lemoe.tiny_runs import config


def test_all_edits_so_far_are_scored_after_every_batch_and_the_model_is_given_back(bench: Workbench) -> None:
    before = {name: value.clone() for name, value in bench.model.named_parameters()}
    pool = edit_set("tuning").edits
    found = run.run(config("lemoe", runs=2, steps=2), bench, pool, 0)
    sizes = found.frames["scores"].groupby(["run", "batches"]).size()
    assert sizes.tolist() == [2, 4, 2, 4]
    assert set(found.frames["scores"]["identity"]) == {edit.identity for edit in pool[:8]}
    assert found.frames["routes"].groupby(["run", "batches"]).size().tolist() == [1, 1, 1, 1]
    assert found.cost["seconds_an_edit"] > 0
    assert all(torch.equal(value, before[name]) for name, value in bench.model.named_parameters())
    again = run.run(config("lemoe", runs=2, steps=2), bench, pool, 0)
    assert found.frames["scores"].equals(again.frames["scores"])


def test_the_unedited_model_keeps_every_unrelated_answer(bench: Workbench) -> None:
    found = run.run(config("no_edit"), bench, edit_set("tuning").edits, 0)
    assert (found.frames["scores"]["loc"] == 1).all()
    assert found.values["memory"] == 0
    assert "routes" not in found.frames


def test_too_few_edits_and_unknown_orders_are_refused(bench: Workbench) -> None:
    with pytest.raises(UserError, match="40 edits are needed"):
        run.run(config("no_edit", count=40), bench, edit_set("tuning").edits[:5], 0)
    with pytest.raises(UserError, match="unknown order"):
        run.dealt([Edit("a", " b"), Edit("c", " d")], "alphabetical", 2, 0)


def test_an_order_deals_every_edit_once() -> None:
    edits = list(edit_set("tuning").edits[:12])
    for order in run.ORDERS:
        batches, similarity = run.dealt(edits, order, 3, 0)
        assert [len(batch) for batch in batches] == [4, 4, 4]
        assert sorted(edit.identity for batch in batches for edit in batch) == sorted(e.identity for e in edits)
        assert -1 <= similarity.between <= 1
    assert run.dealt(edits, "given", 3, 0)[0][0] == edits[:4]


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu", "paper"])
def test_every_case_has_a_name_of_its_own_and_a_valid_configuration(profile: str) -> None:
    if profile == "paper":  # its backbone is not here, but its sizes must fit every method
        for row in METHODS.values():
            row.configure(profiles.profile("paper").editing)
        return
    found = cases.cases(profile)
    assert len({case.name for case in found}) == len(found)
    for row in ROWS.values():
        row.configure(profiles.profile(profile).editing)


def test_a_configuration_that_was_written_as_json_is_read_as_it_was() -> None:
    for method in METHODS:
        made = cases.main(method, 4, "smoke").config
        again = RunConfig.model_validate_json(made.model_dump_json())
        assert again == made
        assert type(again.settings) is METHODS[method].settings
    with pytest.raises(UserError, match="unknown method 'none'"):
        RunConfig.model_validate({**made.model_dump(mode="json"), "row": "none"})


def test_only_rows_that_need_moments_or_unrelated_texts_depend_on_them() -> None:
    plain, located, gated = (cases.main(name, 4, "smoke").config.bench for name in ("ft", "rome", "defer"))
    assert (plain.moment_layers, plain.moment_tokens, plain.unrelated) == ((), 0, 0)
    assert located.moment_tokens > 0 == located.unrelated
    assert gated.unrelated > 0 == gated.moment_tokens
    assert cases.ablation("ablation/null", "smoke").config.bench.unrelated > 0
    assert cases.ablation("ablation/lora", "smoke").config.bench.unrelated == 0


def test_the_list_of_cases_reads_no_edits_once_their_digests_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    cases.cases("smoke")
    edit_set.cache_clear()
    monkeypatch.setattr("lib.series.lemoe.edit_sets.EDIT_SETS", {})
    assert cases.cases("smoke")


def test_the_oracle_is_told_each_batch_and_is_asked_no_unrelated_question(bench: Workbench) -> None:
    told = config("lemoe", steps=2).model_copy(update={"row": "routing/oracle"})
    found = run.run(told, bench, edit_set("tuning").edits, 0).frames["scores"]
    assert found["loc"].isna().all()
    assert found[found["batches"] == 2]["batch"].tolist() == [0, 0, 1, 1]


def test_the_rows_of_a_column_have_the_same_edits() -> None:
    wanted = profiles.profile("cpu").editing.ablation
    configs = [cases.main(method, wanted, "cpu").config for method in METHODS]
    assert {(c.edits, c.count, c.runs) for c in configs} == {("facts", wanted, 1)}


def test_settings_that_are_compared_are_valid_and_on_the_tuning_split() -> None:
    for name, (method, _) in cases.TUNING.items():
        run = cases.tuning(name, "cpu").config
        assert type(run.settings).model_validate(run.settings.model_dump()) == run.settings
        assert type(run.settings) is METHODS[method].settings
        assert run.edits == "tuning"


def test_the_tuning_edits_are_in_no_table() -> None:
    one, other = ({edit.subject for edit in edit_set(name).edits} for name in ("facts", "tuning"))
    assert not one & other
    prompts = {edit.prompt for edit in edit_set("facts").edits}
    assert not prompts & {edit.prompt for edit in edit_set("tuning").edits}


@pytest.mark.parametrize(
    ("row", "later"), [("wise", "activated"), ("grace", "where"), ("lora", "dropout"), ("defer", "learns")]
)
def test_settings_of_an_older_record_are_read_as_the_row_has_them(row: str, later: str) -> None:
    """A field that came later, with the released way as its default, does not change what an older record says."""
    made = cases.configuration(row, "facts", 10, "smoke").model_dump(mode="json")
    now = RunConfig.model_validate(made)
    del made["settings"][later]
    assert RunConfig.model_validate(made) == now
    assert getattr(now.settings, later) != ROWS[row].settings.model_fields[later].default
