"""Weights by distance: closed forms, no gradient, and controls with the same values."""

import numpy as np
import pytest
import torch
from scipy import stats

from lib import seeds
from lib.beacons import reweighting
from lib.errors import UserError


def test_weights_are_the_clipped_z_scores_of_scipy_and_carry_no_gradient():
    d = torch.tensor(np.random.default_rng(0).uniform(0, 1, 30), requires_grad=True)
    z = stats.zscore(d.detach().numpy())
    for alpha in (1.0, -1.0, 2.5):
        found = reweighting.weights(d, alpha, 0.1)
        assert found.numpy() == pytest.approx(np.maximum(1 + alpha * z, 0.1), abs=1e-4)
        assert not found.requires_grad
    assert reweighting.weights(d, 0.5, 0.01).mean().item() == pytest.approx(1.0)  # nothing is clipped
    far, near = int(d.argmax()), int(d.argmin())
    assert reweighting.weights(d, 1.0, 0.1)[far] > 1 > reweighting.weights(d, 1.0, 0.1)[near]
    assert reweighting.weights(d, -1.0, 0.1)[far] < 1 < reweighting.weights(d, -1.0, 0.1)[near]


def test_equal_distances_weigh_one():
    assert reweighting.weights(torch.full((5,), 0.3), 1.0, 0.1).tolist() == [1.0] * 5


def test_token_weights_are_scaled_over_all_marked_tokens():
    random = np.random.default_rng(1)
    d, mask = torch.tensor(random.uniform(0, 1, (4, 3))), torch.tensor(random.uniform(size=(4, 3)) < 0.7)
    found = reweighting.token_weights(d, mask, 1.0, 0.1)
    assert found[mask].numpy() == pytest.approx(np.maximum(1 + stats.zscore(d[mask].numpy()), 0.1), abs=1e-4)
    assert (found[~mask] == 0).all()
    changed = torch.where(mask, d, d + 100)  # what stands in the padding does not matter
    assert torch.equal(reweighting.token_weights(changed, mask, 1.0, 0.1), found)
    with pytest.raises(ValueError, match="no distance"):
        reweighting.token_weights(d, torch.zeros_like(mask), 1.0, 0.1)


def test_token_distances_against_numpy():
    table = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    guesses, targets = torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0, 4], [5, 3]])
    found = reweighting.token_distances(table, guesses, targets)
    rows = table.double().numpy()
    for place in np.ndindex(2, 2):
        a, b = rows[guesses[place]], rows[targets[place]]
        assert found[place].item() == pytest.approx(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)
    assert found[0, 0].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("facts", [2, 3, 50])
def test_permuted_weights_keep_their_values_and_no_fact_its_own(facts):
    found = reweighting.permutation(facts, 0)
    assert sorted(found.tolist()) == list(range(facts))
    assert not (found == torch.arange(facts)).any()
    assert torch.equal(found, reweighting.permutation(facts, 0))
    if facts > 3:
        assert not torch.equal(found, reweighting.permutation(facts, 1))


def test_each_fact_takes_the_weight_of_the_one_drawn_after_it():
    order = torch.randperm(7, generator=seeds.generator("beacons/permuted_weights", 3)).tolist()
    found = reweighting.permutation(7, 3).tolist()
    assert [found[one] for one in order] == [*order[1:], order[0]]


def test_refusals():
    with pytest.raises(UserError, match="normalised weight"):
        reweighting.check_batch(1)
    reweighting.check_batch(2)
    with pytest.raises(UserError, match="at least two facts"):
        reweighting.permutation(1, 0)
    for run in (
        lambda: reweighting.weights(torch.rand(3), 1.0, 0.0),
        lambda: reweighting.token_weights(torch.rand(3, 1), torch.ones(3, 1, dtype=torch.bool), 1.0, -1.0),
    ):
        with pytest.raises(ValueError, match="least weight"):
            run()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused_by_name(wrong):
    d, mask = torch.tensor([0.1, 0.5, wrong]), torch.ones(3, dtype=torch.bool)
    good, table = torch.rand(3), torch.tensor([[1.0, 2.0], [wrong, 1.0]])
    part = None  # the weights are looked at first
    for run, name in (
        (lambda: reweighting.standardised(d), "distances"),
        (lambda: reweighting.weights(d, 1.0, 0.1), "distances"),
        (lambda: reweighting.token_weights(d[:, None], mask[:, None], 1.0, 0.1), "distances"),
        (lambda: reweighting.weights(good, wrong, 0.1), "alpha"),
        (lambda: reweighting.token_weights(good, mask, wrong, 0.1), "alpha"),
        (lambda: reweighting.weights(good, 1.0, wrong), "least weight"),
        (lambda: reweighting.token_distances(table, torch.tensor([0]), torch.tensor([1])), "embeddings"),
        (lambda: reweighting.fact_loss(part, d), "weights"),
        (lambda: reweighting.token_loss(part, d[:, None]), "weights"),
        (lambda: reweighting.fact_loss(part, -good), "weights"),
        (lambda: reweighting.fact_loss(part, good * 0), "weights"),
        (lambda: reweighting.standardised(good, mask[:2]), "mask of shape"),
        (lambda: reweighting.standardised(good[:0]), "no distance"),
    ):
        with pytest.raises(ValueError, match=name):
            run()
    masked = torch.tensor([True, True, False])  # what stands outside the mask does not count
    assert reweighting.standardised(d, masked).tolist() == pytest.approx([-1, 1, 0], abs=1e-4)
