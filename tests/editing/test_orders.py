"""Orders of edits: permutations cut at the borders of clusters, on clusters that are known, and against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.causal_lm.edits import Edit, in_batches
from lib.editing.orders import (
    adversarial_order,
    edit_vectors,
    hierarchical_order,
    kmeans_order,
    random_order,
    similarity,
)
from lib.errors import UserError

ORDERS = [random_order, kmeans_order, hierarchical_order, adversarial_order]
clustered = pytest.mark.parametrize("make", [kmeans_order, hierarchical_order])


def blobs(sizes: list[int], noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Vectors about orthogonal centres in shuffled order, at lengths that must not matter, and their clusters."""
    draw = np.random.default_rng(len(sizes))
    labels = draw.permutation(np.repeat(np.arange(len(sizes)), sizes))
    vectors = np.eye(8)[labels] + noise * draw.standard_normal((len(labels), 8))
    return vectors * draw.uniform(0.1, 10, (len(labels), 1)), labels


def batches_of(order: list[int], batches: int) -> list[list[int]]:
    edits = [Edit(f"p{index}", "t", identity=str(index)) for index in order]
    return [[int(edit.identity) for edit in batch] for batch in in_batches(edits, batches)]


@pytest.mark.parametrize("make", ORDERS)
@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 24), batches=st.integers(1, 24), seed=st.integers(0, 3), equal=st.booleans())
def test_an_order_is_a_permutation_and_is_repeatable(make, count: int, batches: int, seed: int, equal: bool) -> None:
    vectors = np.random.default_rng(count).standard_normal((count, 5))
    if equal:
        vectors[: count // 2 + 1] = 1
    if batches > count:
        with pytest.raises(UserError, match="cannot fill"):
            make(vectors, batches, seed)
        return
    order = make(vectors, batches, seed)
    assert sorted(order) == list(range(count))
    assert order == make(vectors, batches, seed)


@pytest.mark.parametrize("make", ORDERS)
def test_seeds_give_other_orders(make) -> None:
    vectors, _ = blobs([5, 5, 5, 5])
    assert len({tuple(make(vectors, 4, seed)) for seed in range(6)}) > 2


@clustered
@pytest.mark.parametrize("sizes", [[5, 5, 5, 5], [7, 7], [6]])
def test_a_batch_is_one_cluster_where_clusters_have_the_size_of_batches(make, sizes: list[int]) -> None:
    vectors, labels = blobs(sizes)
    for batch in batches_of(make(vectors, len(sizes), 0), len(sizes)):
        assert len(set(labels[batch])) == 1


@clustered
def test_a_cluster_larger_than_its_batch_spills_only_what_is_over(make) -> None:
    vectors, labels = blobs([9, 5, 4])
    counts = [np.bincount(labels[batch], minlength=3) for batch in batches_of(make(vectors, 3, 0), 3)]
    # of 9, 6 fill one batch and 3 fill the others' free places; the rest stay together
    assert sorted(sorted(count.tolist()) for count in counts) == [[0, 0, 6], [0, 1, 5], [0, 2, 4]]


def test_the_balanced_assignment_costs_least_of_all() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((7, 3))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    from lib.editing.orders import _balanced, _kmeans

    centres = _kmeans(vectors, 3, 0)

    def cost(parts: list[list[int]]) -> float:
        # which batch has which centre is not told: the cheapest reading
        distance = [[((unit[part] - centre) ** 2).sum() for centre in centres] for part in parts]
        return min(sum(distance[i][c] for i, c in enumerate(order)) for order in itertools.permutations(range(3)))

    for seed in range(4):
        # sizes are 2, 2, 3; which cluster has three places is drawn, so the least cost is per such choice
        order = _balanced(unit, centres, 3, seed)
        parts = batches_of(order, 3)
        assert [len(part) for part in parts] == [2, 2, 3]
        owner = min(
            itertools.permutations(range(3)),
            key=lambda own: sum(((unit[part] - centres[c]) ** 2).sum() for part, c in zip(parts, own, strict=True)),
        )
        found = cost(parts)
        best = min(
            sum(
                ((unit[list(part)] - centres[c]) ** 2).sum()
                for part, c in zip((one, two, set(range(7)) - set(one) - set(two)), owner, strict=True)
            )
            for one in itertools.combinations(range(7), 2)
            for two in itertools.combinations(sorted(set(range(7)) - set(one)), 2)
        )
        assert found == pytest.approx(best)


def test_kmeans_finds_the_centres() -> None:
    vectors, labels = blobs([8, 8, 8, 8])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    from lib.editing.orders import _kmeans

    found, true = _kmeans(vectors, 4, 0), np.stack([unit[labels == label].mean(0) for label in range(4)])
    assert np.allclose(found[np.lexsort(found.round(3).T)], true[np.lexsort(true.round(3).T)])


@pytest.mark.parametrize("sizes", [[6, 6, 6], [10, 5, 4], [7, 6, 4]])
def test_the_adversarial_order_spreads_each_cluster(sizes: list[int]) -> None:
    vectors, labels = blobs(sizes)
    for seed in range(10):
        parts = batches_of(adversarial_order(vectors, 3, seed), 3)
        counts = np.array([np.bincount(labels[part], minlength=3) for part in parts])
        assert (counts.max(0) - counts.min(0) <= 1).all()


def test_clustered_random_and_adversarial_orders_rank_by_similarity() -> None:
    vectors, _ = blobs([10] * 5, noise=0.3)
    found = {make: similarity(vectors, make(vectors, 5, 0), 5) for make in ORDERS}
    within = [found[make].within for make in (kmeans_order, random_order, adversarial_order)]
    between = [found[make].between for make in (kmeans_order, random_order, adversarial_order)]
    assert within == sorted(within, reverse=True)
    assert between == sorted(between)
    assert found[hierarchical_order].within > found[random_order].within + 0.3


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 15), batches=st.integers(1, 15), seed=st.integers(0, 100))
def test_similarity_is_the_mean_over_all_pairs(count: int, batches: int, seed: int) -> None:
    batches = min(batches, count)
    draw = np.random.default_rng(seed)
    vectors, order = draw.standard_normal((count, 4)), draw.permutation(count).tolist()
    batch = {index: number for number, part in enumerate(batches_of(order, batches)) for index in part}
    cosines: dict[bool, list[float]] = {True: [], False: []}
    for one, two in itertools.combinations(range(count), 2):
        cosine = vectors[one] @ vectors[two] / np.linalg.norm(vectors[one]) / np.linalg.norm(vectors[two])
        cosines[batch[one] == batch[two]].append(cosine)
    found = similarity(vectors, order, batches)
    for value, kind in ((found.within, True), (found.between, False)):
        assert value == pytest.approx(np.mean(cosines[kind]) if cosines[kind] else np.nan, nan_ok=True)


def test_an_order_that_is_no_permutation_is_refused() -> None:
    with pytest.raises(UserError, match="no permutation of 3 edits"):
        similarity(np.eye(3), [0, 1, 1], 2)


def test_edit_vectors_bring_like_texts_together() -> None:
    texts = ["The capital of France is", "Which city is the capital of France?", "He plays the violin in", ""]
    vectors = edit_vectors(texts)
    assert vectors.shape == (4, 384)
    assert not vectors[3].any()
    assert similarity(vectors[:2], [0, 1], 1).within > similarity(vectors[[0, 2]], [0, 1], 1).within + 0.2
    assert edit_vectors([]).shape == (0, 384)
