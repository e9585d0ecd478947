"""AlphaEdit: nothing changes on the protected subspace, and batch after batch is the paper's equation in numpy."""

import copy

import numpy as np
import pytest
import torch

from lib.causal_lm.edits import Edit
from lib.editing.alphaedit import AlphaEdit, AlphaEditConfig, null_space
from lib.editing.located import locate
from lib.editing.values import at_subjects, optimise
from lib.errors import UserError
from tests.editing.test_memit import EDITS, PREFIXES, weights
from tests.editing.test_rome import moments
from tests.tiny_models import Letters, both, llama

LAYERS = (0, 1)
CONFIG = AlphaEditConfig(layers=LAYERS, steps=5, ridge=0.7)


def test_the_ridge_is_that_of_the_released_settings() -> None:
    assert AlphaEditConfig(layers=LAYERS).ridge == 10  # L2 of all their files; the paper's equation has 1


def halved(model):
    """Second moments, and for each layer a threshold amid their eigenvalues, the same for all."""
    second = moments(model, LAYERS)
    values = torch.cat([torch.linalg.eigvalsh(value) for value in second.values()])
    return second, CONFIG.model_copy(update={"threshold": values.median().item() + 1e-9})


@both
def test_what_is_protected_stays_and_the_rest_moves(make) -> None:
    model = make()
    second, config = halved(model)
    before = weights(model, LAYERS)
    editor = AlphaEdit(model, Letters(), config, second, PREFIXES)
    editor.edit(EDITS[:2])
    editor.edit(EDITS[2:])
    for layer, after in weights(model, LAYERS).items():
        values, vectors = np.linalg.eigh(second[layer].numpy())
        protected, free = vectors[:, values >= config.threshold], vectors[:, values < config.threshold]
        assert protected.shape[1] > 2
        assert free.shape[1] > 2
        change = after - before[layer]
        np.testing.assert_allclose(change @ protected, 0, atol=1e-5)  # the weights are float32
        assert np.abs(change @ free).max() > 1e-2


@both
def test_each_batch_is_the_papers_equation_with_the_keys_before_it(make) -> None:
    model = make()
    second, config = halved(model)
    editor = AlphaEdit(model, Letters(), config, second, PREFIXES)
    earlier = {layer: np.zeros((24, 0)) for layer in LAYERS}
    for batch in (EDITS[:2], EDITS[2:], EDITS[:1]):
        changes, before = {}, weights(model, LAYERS)
        located = locate(model, Letters(), batch, PREFIXES)
        found = optimise(model, located, LAYERS[-1], config)
        goal = (found.outputs + found.deltas).numpy()
        given = {}
        change_of = editor.change
        editor.change = lambda layer, residuals, keys, of=change_of, kept=given: kept.setdefault(
            layer, (residuals.numpy(), keys.numpy(), of(layer, residuals, keys))
        )[2]
        editor.edit(batch)
        editor.change = change_of
        changes = {layer: after - before[layer] for layer, after in weights(model, LAYERS).items()}
        for layer in LAYERS:
            values, vectors = np.linalg.eigh(second[layer].numpy())
            free = vectors[:, values < config.threshold]
            projection, (residual, key, _) = free @ free.T, given[layer]
            previous = earlier[layer] @ earlier[layer].T
            system = previous @ projection + key @ key.T @ projection + 0.7 * np.eye(24)
            wanted = residual @ key.T @ projection @ np.linalg.inv(system)
            np.testing.assert_allclose(changes[layer], wanted, atol=2e-5)
            earlier[layer] = np.concatenate([earlier[layer], key], axis=1)
        # The first layer's residual is half of what is missing.
        np.testing.assert_allclose(given[0][0].T, (goal - found.outputs.numpy()) / 2, atol=1e-5)
        # Keys of a layer do not depend on the layers above: after the edit they are what they were when it was written.
        keys, _ = at_subjects(model, located, list(LAYERS))
        for layer in LAYERS:
            np.testing.assert_allclose(keys[layer].numpy().T, given[layer][1], atol=1e-4)


@both
def test_restoring_gives_the_model_back_to_the_bit_and_forgets_earlier_keys(make) -> None:
    model = make()
    second, config = halved(model)
    before = copy.deepcopy(model.state_dict())
    editor = AlphaEdit(model, Letters(), config, second, PREFIXES)
    editor.edit(EDITS)
    once = weights(model, LAYERS)
    editor.restore()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    editor.edit(EDITS)
    assert all(np.array_equal(once[layer], value) for layer, value in weights(model, LAYERS).items())


def test_bad_input_is_one_clear_line() -> None:
    model = llama()
    second = moments(model, LAYERS)
    with pytest.raises(UserError, match="no eigenvalue below 1e-12"):
        AlphaEdit(model, Letters(), CONFIG.model_copy(update={"threshold": 1e-12}), second, PREFIXES)
    with pytest.raises(UserError, match="no second moments of layer 2"):
        null_space(model, second, 2, 1.0)
    with pytest.raises(UserError, match="not 24 by 24"):
        null_space(model, {1: torch.eye(3)}, 1, 1.0)
    editor = AlphaEdit(model, Letters(), CONFIG.model_copy(update={"threshold": 1e3}), second, PREFIXES)
    with pytest.raises(UserError, match="names no subject"):
        editor.edit([Edit("a b", " c")])
