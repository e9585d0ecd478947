"""Interference between facts: aligned differences, gradients against torch, components against the covariance."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from lib.beacons import interference


def test_interference_is_alone_minus_among_aligned_by_fact():
    alone = pd.DataFrame({"exact": [1.0, 1.0, 0.0]}, index=["a", "b", "c"])
    among = pd.DataFrame({"exact": [1, 0]}, index=["c", "a"])
    assert interference.lost(alone, among, "exact").to_dict() == {"c": -1.0, "a": 1.0}
    with pytest.raises(ValueError, match="not learnt alone: d"):
        interference.lost(alone, pd.DataFrame({"exact": [1]}, index=["d"]), "exact")
    with pytest.raises(ValueError, match="two rows"):
        interference.lost(alone, among.loc[["a", "a"]], "exact")


def test_gradients_of_facts_are_those_of_backward_and_leave_no_trace():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    unused = torch.nn.Parameter(torch.ones(2))
    inputs, parameters = torch.randn(5, 4), [*model.parameters(), unused]

    def loss(fact):
        return model(inputs[fact]).square().sum()

    found = interference.fact_gradients(loss, 5, parameters)
    assert found.shape == (5, sum(p.numel() for p in parameters))
    assert all(p.grad is None for p in parameters)
    for fact in range(5):
        model.zero_grad()
        loss(fact).backward()
        wanted = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
        assert torch.allclose(found[fact, :-2], wanted)
        assert (found[fact, -2:] == 0).all()


def test_cosines_of_pairs():
    found = interference.cosines([[1, 0], [0, 2], [-3, 0], [1, 1], [0, 0]])
    assert found[0].tolist() == pytest.approx([1, 0, -1, 0.5**0.5, 0])
    assert found[4].tolist() == [0] * 5
    vectors = np.random.default_rng(0).normal(size=(6, 9))
    assert interference.cosines(vectors) == pytest.approx(interference.cosines(7 * vectors))
    table = interference.cosines(vectors)
    assert sorted(interference.pairs(table)) == pytest.approx(sorted(table[i, j] for i in range(6) for j in range(i)))


def test_principal_components_are_eigenvectors_of_the_covariance():
    random = np.random.default_rng(0)
    points = random.normal(size=(50, 6)) @ random.normal(size=(6, 6)) + 10
    found = interference.principal(points, 3)
    values, vectors = np.linalg.eigh(np.cov(points, rowvar=False, bias=True))
    assert found.explained == pytest.approx(values[::-1][:3] / values.sum())
    assert np.abs((found.axes * vectors.T[::-1][:3]).sum(axis=1)) == pytest.approx(np.ones(3))
    assert found.places.var(axis=0) == pytest.approx(values[::-1][:3])
    whole = interference.principal(points, 6)
    assert whole.places @ whole.axes + whole.mean == pytest.approx(points)
    assert whole.explained.sum() == pytest.approx(1)
    flipped = interference.principal(-points, 3)
    assert flipped.axes == pytest.approx(found.axes)


def test_points_without_spread_and_too_many_components():
    assert interference.principal(np.ones((4, 3)), 2).explained.tolist() == [0, 0]
    with pytest.raises(ValueError, match="3 components"):
        interference.principal(np.ones((2, 5)), 3)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_by_name(wrong):
    rows = np.eye(3)
    rows[1, 2] = wrong
    for run, name in (
        (lambda: interference.cosines(rows), "vectors"),
        (lambda: interference.pairs(rows), "matrix"),
        (lambda: interference.principal(rows), "points"),
        (lambda: interference.cosines([1.0, 2.0]), "vectors"),
        (lambda: interference.pairs(np.ones((2, 3))), "not square"),
        (lambda: interference.principal(np.eye(3), 0), "0 components"),
        (lambda: interference.principal(np.empty((0, 3)), 1), "1 components"),
        (
            lambda: interference.fact_gradients(torch.tensor, 0, [torch.nn.Parameter(torch.ones(1))]),
            "facts=0",
        ),
        (lambda: interference.fact_gradients(torch.tensor, 1, []), "0 parameters"),
    ):
        with pytest.raises(ValueError, match=name):
            run()
    alone = pd.DataFrame({"loss": [1.0, wrong]}, index=["a", "b"])
    if math.isinf(wrong):
        with pytest.raises(ValueError, match="alone: loss holds infinity"):
            interference.lost(alone, alone, "loss")
    else:  # a score that a fact has not
        assert interference.lost(alone, alone, "loss").isna().tolist() == [False, True]


def test_cosines_of_rows_of_any_finite_size():
    rows = np.array([[1e200, 0], [1e-200, 1e-200], [0, -1e308], [0, 0]])
    root = 0.5**0.5
    wanted = [[1, root, 0, 0], [root, 1, -root, 0], [0, -root, 1, 0], [0, 0, 0, 0]]
    assert interference.cosines(rows) == pytest.approx(np.array(wanted))
    assert interference.cosines(np.empty((0, 4))).shape == (0, 0)
