"""The series' experiment at tiny sizes: edits in batches, scores after each, the model given back; the cases' plan."""

import pytest
import torch

from lib import profiles
from lib.editing.edits import Edit
from lib.errors import UserError
from lib.lemoe import cases, experiment
from lib.lemoe.methods import METHODS, Workbench
from tests.lemoe.tiny_runs import config


def test_all_edits_so_far_are_scored_after_every_batch_and_the_model_is_given_back(bench: Workbench) -> None:
    before = {name: value.clone() for name, value in bench.model.named_parameters()}
    pool = cases.edit_set("tuning").edits
    found = experiment.run(config("lemoe", runs=2, steps=2), METHODS["lemoe"], bench, pool, 0)
    sizes = found.scores.groupby(["run", "batches"]).size()
    assert sizes.tolist() == [2, 4, 2, 4]
    assert set(found.scores["identity"]) == {edit.identity for edit in pool[:8]}
    assert len(found.seconds) == 2
    assert all(torch.equal(value, before[name]) for name, value in bench.model.named_parameters())
    again = experiment.run(config("lemoe", runs=2, steps=2), METHODS["lemoe"], bench, pool, 0)
    assert found.scores.equals(again.scores)


def test_the_unedited_model_keeps_every_unrelated_answer(bench: Workbench) -> None:
    found = experiment.run(config("no_edit"), METHODS["no_edit"], bench, cases.edit_set("tuning").edits, 0)
    assert (found.scores["loc"] == 1).all()
    assert found.values["memory"] == 0


def test_too_few_edits_and_unknown_orders_are_refused(bench: Workbench) -> None:
    with pytest.raises(UserError, match="40 edits are needed"):
        experiment.run(config("no_edit", count=40), METHODS["no_edit"], bench, cases.edit_set("tuning").edits[:5], 0)
    with pytest.raises(UserError, match="unknown order"):
        experiment.dealt([Edit("a", " b"), Edit("c", " d")], "alphabetical", 2, 0)


def test_an_order_deals_every_edit_once() -> None:
    edits = list(cases.edit_set("tuning").edits[:12])
    for order in ("given", *experiment.ORDERS):
        batches, similarity = experiment.dealt(edits, order, 3, 0)
        assert [len(batch) for batch in batches] == [4, 4, 4]
        assert sorted(edit.identity for batch in batches for edit in batch) == sorted(e.identity for e in edits)
        assert -1 <= similarity.between <= 1
    assert experiment.dealt(edits, "given", 3, 0)[0][0] == edits[:4]


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu", "paper"])
def test_every_case_has_a_name_of_its_own_and_a_valid_configuration(profile: str) -> None:
    if profile == "paper":  # its backbone is not here, but its sizes must fit every method
        for row in METHODS.values():
            row.configure(profiles.profile("paper").editing)
        return
    found = cases.cases(profile)
    assert len({case.name for case in found}) == len(found)
    rows = {**METHODS, **cases.ROUTING, **cases.ABLATIONS}
    for row in rows.values():
        row.configure(profiles.profile(profile).editing)


def test_the_rows_of_a_column_have_the_same_edits() -> None:
    wanted = profiles.profile("cpu").editing.ablation
    configs = [cases.main(method, wanted, "cpu").config for method in METHODS]
    assert {(c.edits, c.count, c.runs) for c in configs} == {("facts", wanted, 1)}


def test_settings_that_are_compared_are_valid_and_on_the_tuning_split() -> None:
    for name, (method, _) in cases.TUNING.items():
        run = cases.tuning(name, "cpu").config
        type(METHODS[method].configure(profiles.profile("cpu").editing)).model_validate(run.settings)
        assert run.edits == "tuning"


def test_the_tuning_edits_are_in_no_table() -> None:
    one, other = ({edit.subject for edit in cases.edit_set(name).edits} for name in ("facts", "tuning"))
    assert not one & other
    prompts = {edit.prompt for edit in cases.edit_set("facts").edits}
    assert not prompts & {edit.prompt for edit in cases.edit_set("tuning").edits}
