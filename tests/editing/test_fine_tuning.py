"""Fine-tuning one matrix: its steps, bounds and penalty against plain autograd on a copy of the whole model."""

import copy

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional
from transformers import PreTrainedModel

from lib.causal_lm.edits import Edit
from lib.causal_lm.layers import down_projection, matrix
from lib.editing.fine_tuning import EwcConfig, EwcFineTuning, FineTuning, FineTuningConfig
from lib.errors import UserError
from tests.tiny_models import Letters, both, llama

EDITS = [Edit("a b c", "d"), Edit("b b a e", "f g h"), Edit("k l", "m n")]
LAYER = 2


def ids(text: str) -> torch.Tensor:
    return torch.tensor([Letters()(text)["input_ids"]])


def reference_losses(model: PreTrainedModel, edits: list[Edit], kind: str) -> list[torch.Tensor]:
    """Return each edit's losses of its target tokens, one sequence after the other and without padding."""
    found = []
    for edit in edits:
        prompt, target = ids(edit.prompt), ids(edit.target)
        if kind == "last_position":
            logits = model(prompt).logits[0, -1:].expand(target.shape[1], -1)
        else:
            logits = model(torch.cat([prompt, target], 1)).logits[0, prompt.shape[1] - 1 : -1]
        found.append(functional.cross_entropy(logits, target[0], reduction="none"))
    return found


@both
@pytest.mark.parametrize("average", ["edit", "token"])
@pytest.mark.parametrize("kind", ["last_position", "teacher_forcing"])
def test_bounded_steps_are_those_of_adam_on_the_whole_model(make, kind: str, average: str) -> None:
    """As released, a batch's loss is the mean over edits of each one's mean; the mean over all tokens by name."""
    model = make()
    config = FineTuningConfig(layer=LAYER, rate=1e-2, steps=3, radius=0.015, loss=kind, average=average, chunk=2)
    copied = copy.deepcopy(model)
    weight = down_projection(copied, LAYER).weight
    start = weight.detach().clone()
    optimiser = torch.optim.Adam([weight], 1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        losses = reference_losses(copied, EDITS, kind)
        each = torch.stack([loss.mean() for loss in losses])
        (each.mean() if average == "edit" else torch.cat(losses).mean()).backward()
        optimiser.step()
        weight.data = torch.maximum(torch.minimum(weight.data, start + 0.015), start - 0.015)
    FineTuning(model, Letters(), config).edit(EDITS)
    moved = down_projection(model, LAYER).weight
    assert torch.allclose(moved, weight, atol=1e-5)
    assert ((moved - start).abs() > 0.0149).float().mean() > 0.2
    others = dict(copied.named_parameters())
    changed = [name for name, value in model.named_parameters() if not torch.allclose(value, others[name], atol=1e-5)]
    assert not changed


@both
@pytest.mark.parametrize(("centre", "bound"), [("edit", 0.02), ("first", 0.01)])
def test_the_bound_holds_for_each_batch_or_for_all(make, centre: str, bound: float) -> None:
    model = make()
    start = down_projection(model, LAYER).weight.detach().clone()
    editor = FineTuning(model, Letters(), FineTuningConfig(layer=LAYER, rate=2e-2, steps=2, radius=0.01, centre=centre))
    editor.edit(EDITS[:1])
    editor.edit(EDITS[1:])
    assert (down_projection(model, LAYER).weight - start).abs().max().item() == pytest.approx(bound, abs=1e-6)


def test_the_default_averages_over_edits_as_released() -> None:
    assert FineTuningConfig().average == "edit"
    assert FineTuningConfig().loss == "last_position"


@pytest.mark.parametrize("changes", [{"layer": -1}, {"rate": float("inf")}, {"radius": -1.0}, {"steps": 0}])
def test_settings_that_cannot_be_are_refused(changes) -> None:
    with pytest.raises(ValidationError):
        FineTuningConfig(**changes)


def loose(model: PreTrainedModel) -> FineTuning:
    config = FineTuningConfig(layer=LAYER, rate=3e-2, radius=None, loss="teacher_forcing", steps=100, enough=0.1)
    return FineTuning(model, Letters(), config)


def dear(model: PreTrainedModel) -> EwcFineTuning:
    return EwcFineTuning(model, Letters(), EwcConfig(layer=LAYER, rate=3e-2))


@both
@pytest.mark.parametrize("method", [loose, dear])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_edits_are_learnt_and_taken_back_to_the_bit(make, method, dtype: torch.dtype) -> None:
    model = make().to(dtype)
    before = copy.deepcopy(model.state_dict())
    editor = method(model)
    for edit in EDITS[:2]:
        editor.edit([edit])
        drawn = model.generate(ids(edit.prompt), max_new_tokens=ids(edit.target).shape[1], do_sample=False)
        assert drawn[0].tolist() == ids(edit.prompt + edit.target)[0].tolist()
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert len(changed) == 1
    editor.restore()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.requires_grad and value.grad is None for value in model.parameters())
    assert not down_projection(model, LAYER)._forward_hooks
    assert editor.memory() == 0


def test_training_stops_where_it_is_enough() -> None:
    model = llama()
    before = down_projection(model, LAYER).weight.detach().clone()
    FineTuning(model, Letters(), FineTuningConfig(layer=LAYER, enough=100)).edit(EDITS)
    best = {letter: model(ids(letter)).logits[0, -1].argmax().item() for letter in "abcdefgh"}
    known = [Edit(letter, Letters().decode(torch.tensor([token]))) for letter, token in best.items() if token >= 3]
    known = [edit for edit in known if edit.target != edit.prompt]
    assert known
    EwcFineTuning(model, Letters(), EwcConfig(layer=LAYER)).edit(known)
    assert torch.equal(down_projection(model, LAYER).weight, before)


def reference_fisher(model: PreTrainedModel, edits: list[Edit]) -> torch.Tensor:
    weight = down_projection(model, LAYER).weight.requires_grad_()
    losses = [loss.mean() for loss in reference_losses(model, edits, "teacher_forcing")]
    return sum(torch.autograd.grad(loss, weight)[0] ** 2 for loss in losses) / len(edits)


@both
def test_the_fisher_information_is_that_of_the_last_edits_one_by_one(make) -> None:
    model = make()
    editor = EwcFineTuning(model, Letters(), EwcConfig(layer=LAYER, recent=2, steps=1))
    assert not editor.fisher().any()
    editor.edit(EDITS[:2])
    editor.edit(EDITS[2:])
    expected = reference_fisher(copy.deepcopy(model), EDITS[1:])
    found = editor.fisher()
    assert found.max() > 0.01
    shown = found if make is llama else found.T
    assert torch.allclose(shown, expected, rtol=1e-3, atol=1e-6)
    assert editor.memory() == 8 * (7 + 4)


@both
def test_steps_with_the_penalty_are_those_of_adam_on_the_whole_model(make) -> None:
    model = make()
    editor = EwcFineTuning(model, Letters(), EwcConfig(layer=LAYER, weight=20, steps=4))
    editor.edit(EDITS[:2])
    copied = copy.deepcopy(model)
    fisher = reference_fisher(copied, EDITS[:2])
    weight = down_projection(copied, LAYER).weight
    start = weight.detach().clone()
    optimiser, penalties = torch.optim.Adam([weight], 1e-2), []
    for _ in range(4):
        optimiser.zero_grad()
        penalties.append(20 * (fisher * (weight - start) ** 2).sum())
        (torch.cat(reference_losses(copied, EDITS[2:], "teacher_forcing")).mean() + penalties[-1]).backward()
        optimiser.step()
    editor.edit(EDITS[2:])
    assert penalties[-1] > 0.01
    assert torch.allclose(down_projection(model, LAYER).weight, weight, atol=1e-5)
    as_matrix = (lambda value: value) if make is llama else (lambda value: value.T)
    hand = 20 * (fisher * (weight - start) ** 2).sum()
    assert editor.penalty(as_matrix(weight), as_matrix(start), as_matrix(fisher)).item() == pytest.approx(hand.item())
    assert matrix(down_projection(model, LAYER)).shape == (16, 24)


@both
def test_bad_input_is_one_clear_line_and_changes_nothing(make) -> None:
    model = make()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError, match="layer 4 does not exist"):
        FineTuning(model, Letters(), FineTuningConfig(layer=4))
    for editor in (loose(model), dear(model)):
        with pytest.raises(UserError, match="no edits"):
            editor.edit([])
        with pytest.raises(UserError, match="empty target"):
            editor.edit([EDITS[0], Edit("a", " ")])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
