"""MEMIT: the closed form against numpy, values hit as the weight of C vanishes, the residual spread over layers."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lib.causal_lm.edits import Edit
from lib.causal_lm.layers import block, down_projection, matrix
from lib.editing.located import locate
from lib.editing.memit import Memit, MemitConfig
from lib.editing.values import at_subjects, optimise
from lib.errors import UserError
from tests.editing.test_rome import moments, text_keys
from tests.tiny_models import Letters, both, llama

CONFIG = MemitConfig(layers=(0, 1, 2), steps=5, weight=2.0)
PREFIXES = ("", "m n", "q r s t")
GROUPS = ("", ("m n", "q r s t"))
EDITS = [
    Edit("a b c d", " e f", subject="b c"),
    Edit("g h i", " j", subject="g"),
    Edit("k l m n o", " p q r", subject="m n o"),
]


def weights(model, layers=(0, 1, 2)):
    return {layer: matrix(down_projection(model, layer)).detach().double().numpy().copy() for layer in layers}


def bare_outputs(model, layer):
    """The outputs of a block at the last tokens of the subjects of the bare prompts, by ordinary passes."""
    found = []
    for edit in EDITS:
        place = len(Letters()(edit.prompt[: edit.prompt.rindex(edit.subject) + len(edit.subject)])["input_ids"]) - 1
        hook = block(model, layer).register_forward_hook(
            lambda _, __, output, place=place: found.append(output[0, place].detach().double().numpy())
        )
        model(torch.tensor([Letters()(edit.prompt)["input_ids"]]))
        hook.remove()
    return np.stack(found)


@both
def test_the_update_is_numpys_ridge_layer_by_layer(make) -> None:
    model, replayed = make(), make().requires_grad_(False)
    second = moments(model, (0, 1, 2))
    before = weights(model)
    Memit(model, Letters(), CONFIG, second, GROUPS).edit(EDITS)
    after = weights(model)
    # The same by hand on another copy: numpy solves, the states come from the copy as it changes. As released, the key
    # is the mean of the bare prompt's and of the mean behind prefixes, the residual that of the bare prompt.
    located = locate(replayed, Letters(), EDITS, GROUPS)
    found = optimise(replayed, located, 2, CONFIG)
    goal = bare_outputs(replayed, 2) + found.deltas.numpy()
    for left, layer in ((3, 0), (2, 1), (1, 2)):
        texts = [text_keys(replayed, edit, layer) for edit in EDITS]
        key = np.stack([(one[0] + one[1:].mean(0)) / 2 for one in texts]).T
        flat = np.stack([one.mean(0) for one in texts]).T
        assert np.abs(key - flat).max() > 1e-2
        residual = (goal - bare_outputs(replayed, 2)).T / left
        change = residual @ key.T @ np.linalg.inv(2.0 * second[layer].numpy() + key @ key.T)
        assert np.abs(after[layer] - before[layer] - change).max() < 1e-4 * np.abs(change).max() + 1e-7
        assert np.abs(change).max() > 1e-3
        with torch.no_grad():
            matrix(down_projection(replayed, layer)).add_(torch.from_numpy(change).float())


@both
def test_without_weight_the_last_layer_reaches_every_value(make) -> None:
    model = make()
    second = moments(model, (0, 1, 2))
    located = locate(model, Letters(), EDITS, PREFIXES)
    config = CONFIG.model_copy(update={"weight": 1e-9, "averaged": "all"})
    editor = Memit(model, Letters(), config, second, PREFIXES)
    found = optimise(model, located, 2, config)
    editor.edit(EDITS)
    _, outputs = at_subjects(model, located, [], [2])
    goal = found.outputs + found.deltas
    assert (found.deltas.norm(dim=1) > 0.3).all()
    assert torch.allclose(outputs[2], goal, atol=1e-4)


@both
def test_the_more_weight_the_smaller_the_change_and_a_batch_is_not_one_by_one(make) -> None:
    sizes, model = [], make()
    second, before = moments(model, (0, 1, 2)), weights(model)
    for weight in (0.1, 10.0, 1e6):
        editor = Memit(model, Letters(), CONFIG.model_copy(update={"weight": weight}), second, PREFIXES)
        editor.edit(EDITS)
        sizes.append(sum(np.linalg.norm(weights(model)[layer] - before[layer]) for layer in before))
        editor.restore()
    assert sizes[0] > sizes[1] > 100 * sizes[2] > 0
    editor = Memit(model, Letters(), CONFIG, second, PREFIXES)
    editor.edit(EDITS)
    mass = weights(model)
    editor.restore()
    for edit in EDITS:
        editor.edit([edit])
    assert max(np.abs(mass[layer] - value).max() for layer, value in weights(model).items()) > 1e-3


@both
def test_restoring_gives_the_model_back_to_the_bit(make) -> None:
    model = make()
    before = copy.deepcopy(model.state_dict())
    editor = Memit(model, Letters(), CONFIG, moments(model, (0, 1, 2)), PREFIXES)
    editor.edit(EDITS[:2])
    editor.edit(EDITS[2:])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {n for n in before if n.endswith(("down_proj.weight", "mlp.c_proj.weight")) and ".3." not in n}
    editor.restore()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bad_input_is_one_clear_line() -> None:
    model = llama()
    second = moments(model, (0, 1))
    with pytest.raises(UserError, match="do not ascend"):
        Memit(model, Letters(), CONFIG.model_copy(update={"layers": (1, 0)}), second, PREFIXES)
    with pytest.raises(UserError, match="layer 4 does not exist"):
        Memit(model, Letters(), CONFIG.model_copy(update={"layers": (1, 4)}), second, PREFIXES)
    with pytest.raises(UserError, match="no second moments of layer 2"):
        Memit(model, Letters(), CONFIG, second, PREFIXES)
    with pytest.raises(ValidationError):
        MemitConfig(layers=())
    with pytest.raises(ValidationError):
        MemitConfig(layers=(1,), weight=0.0)
    with pytest.raises(UserError, match="names no subject"):
        Memit(model, Letters(), CONFIG.model_copy(update={"layers": (0, 1)}), second, PREFIXES).edit([Edit("k", " m")])
