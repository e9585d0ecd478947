"""Filters of facts: exact where they say so (all subsets), local optima elsewhere, and their controls."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.beacons import filtering
from lib.errors import UserError


def subsets(n, k):
    return [np.array(chosen) for chosen in combinations(range(n), k)]


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 5.0, 100.0])
@pytest.mark.parametrize(("n", "k"), [(5, 1), (7, 3), (9, 4), (8, 7)])
def test_filter_a_and_its_reverse_are_the_best_of_all_subsets(n, k, weight):
    for seed in range(8):
        random = np.random.default_rng([seed, n, k])
        d = random.uniform(0, 2, n) if seed % 2 else random.integers(0, 4, n) / 3  # with ties
        every = [d[s].mean() - weight * ((d[s] - d[s].mean()) ** 2).mean() for s in subsets(n, k)]
        for found, best in (
            (filtering.filter_a(d, k, weight), min(every)),
            (filtering.reversed_a(d, k, weight), max(every)),
        ):
            assert found.objective == pytest.approx(best, abs=1e-12)
            assert filtering.objective_a(d[found.places], weight) == pytest.approx(best, abs=1e-12)
            assert len(found.places) == len(set(found.places.tolist())) == k
        split = filtering.filter_a(d, k, weight)
        assert (split.nearest, split.farthest) in {(j, k - j) for j in range(k + 1)}
        assert sorted(d[split.places])[: split.nearest] == sorted(d)[: split.nearest]
        assert sorted(d[split.places])[split.nearest :] == sorted(d)[n - split.farthest :]


def test_without_weight_filter_a_keeps_the_nearest_and_with_much_of_it_both_ends():
    d = np.random.default_rng(0).permutation(np.linspace(0, 1, 40))
    nearest = filtering.filter_a(d, 20, 0.0)
    assert (nearest.nearest, nearest.farthest) == (20, 0)
    assert sorted(d[nearest.places]) == pytest.approx(np.sort(d)[:20])
    both = filtering.filter_a(d, 20, 1e6)
    assert (both.nearest, both.farthest) == (10, 10)
    assert set(filtering.reversed_a(d, 20, 0.0).places) == set(np.argsort(d)[20:])


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_filter_b_finds_the_best_of_all_subsets_on_small_cases(weight):
    for seed in range(12):
        random = np.random.default_rng(seed)
        d, e = random.uniform(0, 1, 10), random.normal(size=(10, 3)) + 5  # far from the origin
        every = [filtering.objective_b(d[s], e[s], weight) for s in subsets(10, 4)]
        found = filtering.filter_b(d, e, 4, weight)
        assert found.objective == pytest.approx(min(every), abs=1e-9)
        assert filtering.objective_b(d[found.places], e[found.places], weight) == found.objective


def test_objective_b_is_the_trace_of_numpys_covariance():
    random = np.random.default_rng(3)
    d, e = random.uniform(0, 1, 9), random.normal(size=(9, 5))
    covariance = np.cov(e, rowvar=False, bias=True)
    assert filtering.objective_b(d, e, 2.0) == pytest.approx(d.mean() - 2 * np.trace(covariance))


def test_no_exchange_improves_what_filter_b_returns_on_larger_cases():
    random = np.random.default_rng(1)
    d, e = random.uniform(0, 1, 40), random.normal(size=(40, 8))
    found = filtering.filter_b(d, e, 15, 0.2)
    for out in found.places:
        for new in set(range(40)) - set(found.places.tolist()):
            places = np.append(found.places[found.places != out], new)
            assert filtering.objective_b(d[places], e[places], 0.2) >= found.objective - 1e-9


def test_controls():
    one, again, other = (filtering.random_subset(50, 20, seed) for seed in (0, 0, 1))
    assert one.tolist() == again.tolist() != other.tolist()
    assert len(set(one.tolist())) == 20
    assert max(one) < 50
    assert filtering.lowest_loss([3.0, 1.0, 2.0, 1.0], 2).tolist() == [1, 3]
    classes = ["unknown", "weakly known", "highly known", "maybe known", "weakly known", "unknown"]
    assert filtering.half_known(classes, 3).tolist() == [1, 3, 4]
    assert filtering.half_known(classes, 5).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="not somewhat"):
        filtering.half_known(["somewhat", "highly known"], 1)


@pytest.mark.parametrize(("kept", "what"), [(0, "nothing"), (4, "everything"), (9, "everything")])
def test_keeping_nothing_or_everything_is_refused(kept, what):
    d = np.arange(4.0)
    for run in (
        lambda: filtering.filter_a(d, kept, 1.0),
        lambda: filtering.reversed_a(d, kept, 1.0),
        lambda: filtering.filter_b(d, d[:, None], kept, 1.0),
        lambda: filtering.random_subset(4, kept, 0),
        lambda: filtering.lowest_loss(d, kept),
        lambda: filtering.half_known(["maybe known"] * 4, kept),
        lambda: filtering.count(4, kept / 4),
    ):
        with pytest.raises(UserError, match=f"keep {what}"):
            run()
    assert filtering.count(4, 0.5) == 2
    with pytest.raises(UserError, match=r"keep everything \(1 of 1"):
        filtering.random_subset(1, 1, 0)


def test_wrong_calls():
    with pytest.raises(ValueError, match="weight of the variance"):
        filtering.filter_a([1.0, 2.0], 1, -1.0)
    with pytest.raises(ValueError, match="finite"):
        filtering.filter_a([1.0, float("nan")], 1, 1.0)
    with pytest.raises(ValueError, match="as many embeddings"):
        filtering.filter_b([1.0, 2.0], np.zeros((3, 2)), 1, 1.0)


BROKEN = (float("nan"), float("inf"), float("-inf"))


@pytest.mark.parametrize("wrong", BROKEN)
def test_numbers_that_are_not_finite_are_refused_by_name(wrong):
    d, e = np.arange(4.0), np.arange(8.0).reshape(4, 2)
    bad_d, bad_e = np.where(d == 2, wrong, d), np.where(e == 5, wrong, e)
    for run, name in (
        (lambda: filtering.filter_a(bad_d, 2, 1.0), "distances"),
        (lambda: filtering.reversed_a(bad_d, 2, 1.0), "distances"),
        (lambda: filtering.filter_b(bad_d, e, 2, 1.0), "distances"),
        (lambda: filtering.filter_b(d, bad_e, 2, 1.0), "embeddings"),
        (lambda: filtering.objective_a(bad_d, 1.0), "distances"),
        (lambda: filtering.objective_b(bad_d, e, 1.0), "distances"),
        (lambda: filtering.objective_b(d, bad_e, 1.0), "embeddings"),
        (lambda: filtering.lowest_loss(bad_d, 2), "losses"),
        (lambda: filtering.filter_a(d, 2, wrong), "weight"),
        (lambda: filtering.reversed_a(d, 2, wrong), "weight"),
        (lambda: filtering.filter_b(d, e, 2, wrong), "weight"),
        (lambda: filtering.objective_a(d, wrong), "weight"),
        (lambda: filtering.objective_b(d, e, wrong), "weight"),
        (lambda: filtering.objective_a([], 1.0), "distances"),
        (lambda: filtering.filter_a(d[:, None], 2, 1.0), "distances: one finite number for each fact"),
        (lambda: filtering.filter_b(e, e, 2, 1.0), "distances: one finite number for each fact"),
        (lambda: filtering.lowest_loss(d[None], 1), "losses: one finite number for each fact"),
        (lambda: filtering.objective_b([], np.empty((0, 2)), 1.0), "distances"),
    ):
        with pytest.raises(ValueError, match=name):
            run()
    with pytest.raises(UserError, match="the share of facts to keep"):
        filtering.count(4, wrong)


hostile = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.sampled_from(
    [0.0, 1e-300, 1e150, 1e300, -1e308]
)


@given(arrays(np.float64, 6, elements=hostile), arrays(np.float64, (6, 2), elements=hostile), hostile)
@example(np.zeros(6), np.full((6, 2), np.nan), 1.0)
@example(np.zeros(6), np.eye(6, 2), np.inf)
@example(np.zeros(6), np.eye(6, 2) * 1e200, 1.0)
@example(np.full(6, 1e308), np.eye(6, 2), 0.0)
@example(np.array([0, 1e12, -1e12, 1e-3, 7.0, 1e12]), np.eye(6, 2) * 1e7, 1e10)
def test_filters_of_any_numbers_end_with_a_subset_or_a_reason(d, e, weight):
    for run in (
        lambda: filtering.filter_a(d, 3, weight),
        lambda: filtering.reversed_a(d, 3, weight),
        lambda: filtering.filter_b(d, e, 3, weight),
    ):
        found, said = None, ""
        try:
            found = run()
        except ValueError as error:
            said = str(error)
        assert found is None or len(set(found.places.tolist())) == 3
        assert found is None or np.isfinite(found.objective)
        assert found or said.startswith(("distances", "embeddings", "the weight of the variance"))


def test_an_exchange_that_rounding_leads_round_in_a_circle_ends(monkeypatch):
    """Gains that always promise something, as rounding can at large scales: each step would undo the one before."""
    monkeypatch.setattr(filtering.np, "argmin", lambda gains: 0)
    monkeypatch.setattr(filtering.np, "unravel_index", lambda best, shape: (0, 0))
    d = np.array([0.0, 5.0, 5.0, 5.0])
    gram = np.array([[0.0, 9, 9, 9], [9, 0, 9, 9], [9, 9, 0, 9], [9, 9, 9, 0.0]])
    assert len(filtering._exchanged(d, gram, np.array([1, 2]), 1.0)) == 2
