"""Why unrelated answers change: pushes and margins against a pass written out by hand, weaker experts at both ends."""

import pytest
import torch

from lib.causal_lm.edits import Edit
from lib.errors import UserError
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.series.lemoe import cases, locality
from lib.series.lemoe import run as experiment
from lib.series.lemoe.edit_sets import edit_set
from lib.series.lemoe.workbench import Workbench
from tests.series.lemoe.tiny_runs import config


def study(run: experiment.RunConfig) -> locality.LocalityConfig:
    return locality.LocalityConfig(run=run, scales=cases.SCALES)


def test_an_expert_that_adds_nothing_pushes_nothing_and_changes_no_answer(bench: Workbench) -> None:
    adaptor = Adaptor.attach(bench.model, AdaptorConfig(layer=0))
    adaptor.add_expert()
    found = locality.texts(adaptor, bench, edit_set("tuning").edits[:3])
    adaptor.detach()
    assert (found[["push", "kl"]].abs() < 1e-6).all().all()
    assert (found["kept"] == 1).all()
    assert (found["margin"] >= 0).all()
    assert (found["right_before"] == found["right_after"]).all()
    assert found["kind"].value_counts().to_dict() == {"edit": 3, "rephrase": 6, "unrelated": 3}


def test_push_margin_and_divergence_are_those_of_a_single_text_by_hand(bench: Workbench) -> None:
    edit = Edit("The capital of France is", " Lyon", rephrases=(), locality=("The sun rises in the", " east"))
    adaptor = Adaptor.attach(bench.model, AdaptorConfig(layer=0, rate=1e-2, steps=3))
    adaptor.edit(bench.tokenizer, [edit])
    found = locality.texts(adaptor, bench, [edit, Edit("A much longer prompt than the other one has", " x")])
    expert = adaptor.experts[0]
    adaptor.detach()
    row = found[found["kind"] == "unrelated"].iloc[0]
    ids = bench.tokenizer(edit.locality[0], return_tensors="pt", add_special_tokens=False).input_ids
    seen = {}
    hook = bench.model.model.layers[0].mlp.register_forward_hook(
        lambda _, given, output: seen.update(given=given[0], output=output)
    )
    with torch.no_grad():
        before = bench.model(ids).logits[0, -1]
        added = expert(seen["given"])[0, -1]
        push = added.norm() / seen["output"][0, -1].norm()
        hook.remove()
        hook = bench.model.model.layers[0].mlp.register_forward_hook(lambda _, given, output: output + expert(given[0]))
        after = bench.model(ids).logits[0, -1]
        hook.remove()
    best = before.sort(descending=True).values
    p, q = before.double().softmax(-1), after.double().softmax(-1)
    assert row["push"] == pytest.approx(push.item(), rel=1e-4)
    assert push > 0
    assert row["margin"] == pytest.approx((best[0] - best[1]).item(), abs=1e-4)
    assert row["kl"] == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-3)
    assert row["kept"] == float(before.argmax() == after.argmax())


def test_experts_scaled_to_nothing_are_the_unedited_model_and_in_full_the_edited_one(bench: Workbench) -> None:
    before = {name: value.clone() for name, value in bench.model.named_parameters()}
    pool, asked = edit_set("tuning").edits, config("lemoe", steps=3, rate=1e-2)
    found = locality.studied(study(asked), bench, pool, 0).frames["scales"]
    edited = experiment.run(asked, bench, pool, 0).frames["scores"]
    unedited = experiment.run(config("no_edit"), bench, pool, 0).frames["scores"]
    scores = ["rel", "gen", "loc"]
    for scale, run in ((0.0, unedited), (1.0, edited)):
        one = found[found["scale"] == scale].set_index("identity")[scores]
        other = run[run["batches"] == 2].set_index("identity")[scores].loc[one.index]
        assert one.equals(other)
    assert (
        not found[found["scale"] == 0][scores]
        .reset_index(drop=True)
        .equals(found[found["scale"] == 1][scores].reset_index(drop=True))
    )
    assert all(torch.equal(value, before[name]) for name, value in bench.model.named_parameters())


def test_a_method_without_an_adaptor_and_too_few_edits_are_refused(bench: Workbench) -> None:
    with pytest.raises(UserError, match="no_edit has no adaptor"):
        locality.studied(study(config("no_edit")), bench, edit_set("tuning").edits, 0)
    with pytest.raises(UserError, match="4 edits are needed"):
        locality.studied(study(config("lemoe")), bench, edit_set("tuning").edits[:3], 0)


def test_a_scale_is_not_negative() -> None:
    with pytest.raises(ValueError, match="scales"):
        locality.LocalityConfig(run=config("lemoe"), scales=(0.5, -0.5))
