"""ROME: the edited key maps to its value, what is orthogonal under C^-1 stays, and the model comes back."""

import copy

import numpy as np
import pytest
import torch

from lib.causal_lm.edits import Edit
from lib.causal_lm.layers import down_projection, matrix
from lib.editing.located import locate
from lib.editing.moments import second_moments
from lib.editing.rome import Rome, RomeConfig, add, factor, ridge
from lib.editing.values import at_subjects, optimise
from lib.errors import UserError
from tests.tiny_models import Letters, both, llama

RELEASED = RomeConfig(layer=1, steps=6, clamp=3.0)
CONFIG = RomeConfig.rebuilt(layer=1, steps=6, clamp=3.0)
PREFIXES = ("", "m n", "q r s t")
EDITS = [Edit("a b c d", " e f", subject="b c"), Edit("g h i", " j", subject="g")]


def moments(model, layers=(1,), seed=0):
    letters = torch.randint(0, 26, (40, 12), generator=torch.Generator().manual_seed(seed))
    texts = [" ".join(chr(97 + number) for number in row) for row in letters.tolist()]
    return second_moments(model, Letters(), texts, layers)


@both
def test_the_edited_key_maps_to_its_value_and_protected_keys_stay(make) -> None:
    model = make()
    second = moments(model)
    editor = Rome(model, Letters(), CONFIG, second, PREFIXES)
    located = locate(model, Letters(), EDITS[:1], PREFIXES)
    found = optimise(model, located, 1, CONFIG)
    key, delta = found.keys[0].numpy(), found.deltas[0].numpy()
    before = matrix(down_projection(model, 1)).detach().double().numpy().copy()
    editor.edit(EDITS[:1])
    after = matrix(down_projection(model, 1)).detach().double().numpy()
    change = after - before
    assert np.linalg.norm(delta) > 0.5
    np.testing.assert_allclose(after @ key, before @ key + delta, atol=1e-5)
    # Against numpy: the minimiser of the change measured by C under the constraint.
    direction = np.linalg.solve(second[1].numpy(), key)
    np.testing.assert_allclose(change, np.outer(delta, direction) / (key @ direction), atol=1e-5)
    protected = np.random.default_rng(0).normal(size=(24, 20))
    protected -= np.outer(direction, direction @ protected) / (direction @ direction)
    np.testing.assert_allclose(change @ protected, 0, atol=1e-4)
    # The mean key is unchanged, so the mean of the MLP's outputs over the prefixes has moved by delta.
    keys, _ = at_subjects(model, located, [1])
    np.testing.assert_allclose(keys[1][0].numpy(), key, atol=1e-5)


def text_keys(model, edit, layer):
    """The inputs of a down projection at the subject's last token of each text, by ordinary passes; the bare first."""
    keys, tokenizer = [], Letters()
    for prefix in PREFIXES:
        text = f"{prefix}. {edit.prompt}" if prefix else edit.prompt
        place = len(tokenizer(text[: text.rindex(edit.subject) + len(edit.subject)])["input_ids"]) - 1
        hook = down_projection(model, layer).register_forward_hook(
            lambda _, given, __, place=place: keys.append(given[0][0, place].detach().double().numpy())
        )
        model(torch.tensor([tokenizer(text)["input_ids"]]))
        hook.remove()
    return np.stack(keys)


@both
def test_the_released_update_divides_by_the_bare_prompts_key(make) -> None:
    """u = C^-1 k over its norm, k the mean over all texts; W += (v* - W k') u^T / (k' u), k' of the bare prompt."""
    model = make()
    second = moments(model)
    found = optimise(model, locate(model, Letters(), EDITS[:1], PREFIXES), 1, RELEASED)
    keys = text_keys(model, EDITS[0], 1)
    before = matrix(down_projection(model, 1)).detach().double().numpy().copy()
    Rome(model, Letters(), RELEASED, second, PREFIXES).edit(EDITS[:1])
    change = matrix(down_projection(model, 1)).detach().double().numpy() - before
    left = np.linalg.inv(second[1].numpy()) @ keys.mean(0)
    left /= np.linalg.norm(left)
    expected = np.outer(found.deltas[0].numpy() / (keys[0] @ left), left)
    assert np.abs(change - expected).max() < 1e-4 * np.abs(expected).max()
    mixed = np.outer(found.deltas[0].numpy() / (keys.mean(0) @ left), left)
    assert np.abs(change - mixed).max() > 1e-2 * np.abs(expected).max()


@both
def test_edits_are_written_one_after_the_other(make) -> None:
    together, apart = make(), make()
    Rome(together, Letters(), CONFIG, moments(together), PREFIXES).edit(EDITS)
    editor = Rome(apart, Letters(), CONFIG, moments(apart), PREFIXES)
    for edit in EDITS:
        editor.edit([edit])
    once = matrix(down_projection(apart, 1)).clone()
    assert torch.equal(matrix(down_projection(together, 1)), once)
    editor.restore()
    editor.edit(EDITS[::-1])
    assert not torch.allclose(matrix(down_projection(apart, 1)), once, atol=1e-3)


@both
def test_only_one_matrix_changes_and_restoring_gives_the_model_back_to_the_bit(make) -> None:
    model = make()
    before = copy.deepcopy(model.state_dict())
    editor = Rome(model, Letters(), CONFIG, moments(model), PREFIXES)
    editor.edit(EDITS)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == [name for name in before if name.endswith(("1.mlp.down_proj.weight", "1.mlp.c_proj.weight"))]
    assert editor.memory() == 0
    editor.restore()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_a_change_is_rounded_once_in_half_precision() -> None:
    weight = torch.full((2, 2), 1.0, dtype=torch.bfloat16)
    add(weight, torch.full((2, 2), 2.0**-8 + 2.0**-20, dtype=torch.float64))  # rounded first, it would tie to even: 1
    assert torch.equal(weight, torch.full((2, 2), 1 + 2.0**-7, dtype=torch.bfloat16))


def test_ridge_without_weight_solves_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(7, 3, dtype=torch.float64, generator=generator)
    residuals = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    root = torch.randn(7, 9, dtype=torch.float64, generator=generator)
    change = ridge(residuals, keys, torch.linalg.cholesky(root @ root.T), 0.0)
    assert torch.allclose(change @ keys, residuals)


def test_prefixes_come_from_the_unedited_model_unless_given() -> None:
    model = llama()
    config = CONFIG.model_copy(update={"prefixes": ((2, 3),), "openings": ("a", "b")})
    drawn = Rome(model, Letters(), config, moments(model)).prefixes
    assert [len(group) for group in drawn[1:]] == [3]
    assert Rome(model, Letters(), config, moments(model), drawn[:2]).prefixes == drawn[:2]


def test_bad_input_is_one_clear_line_and_changes_nothing() -> None:
    model = llama()
    second = moments(model)
    with pytest.raises(UserError, match="layer 9 does not exist"):
        Rome(model, Letters(), CONFIG.model_copy(update={"layer": 9}), second, PREFIXES)
    with pytest.raises(UserError, match="no second moments of layer 2"):
        Rome(model, Letters(), CONFIG.model_copy(update={"layer": 2}), second, PREFIXES)
    with pytest.raises(UserError, match="not 24 by 24"):
        factor(model, {1: torch.eye(5)}, 1)
    with pytest.raises(UserError, match="singular: make them from more tokens"):
        factor(model, {1: torch.zeros(24, 24)}, 1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError, match="names no subject"):
        Rome(model, Letters(), CONFIG, second, PREFIXES).edit([EDITS[0], Edit("k l", " m")])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
