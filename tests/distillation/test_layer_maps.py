"""Mapping rules against tables written by hand, and the monotone rule against trying all maps."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.distillation import layer_maps
from lib.errors import UserError

depths = st.integers(1, 60)


def test_uniform_maps_are_those_worked_out_by_hand() -> None:
    assert layer_maps.uniform(6, 12) == {1: 2, 2: 4, 3: 6, 4: 8, 5: 10, 6: 12}
    # 4 l / 3, rounded: every third student layer skips one of the teacher's.
    by_hand = [1, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 19, 20, 21, 23, 24]
    by_hand += [25, 27, 28, 29, 31, 32, 33, 35, 36, 37, 39, 40, 41, 43, 44, 45, 47, 48]
    assert list(layer_maps.uniform(36, 48).values()) == by_hand
    assert layer_maps.uniform(4, 30) == {1: 8, 2: 15, 3: 23, 4: 30}  # 7.5 and 22.5 are rounded up
    assert layer_maps.uniform(4, 2) == {1: 1, 2: 1, 3: 2, 4: 2}


@given(students=depths, teachers=depths)
def test_a_uniform_map_is_monotone_ends_at_the_end_and_is_never_off_by_more_than_a_half(
    students: int, teachers: int
) -> None:
    found = layer_maps.uniform(students, teachers)
    assert list(found) == list(range(1, students + 1))
    assert found[students] == teachers
    for layer, target in found.items():
        assert -students < 2 * (target * students - layer * teachers) <= students  # within (-1/2, 1/2]


def test_the_last_layers_and_skipping() -> None:
    assert layer_maps.last_k(6, 12) == {1: 7, 2: 8, 3: 9, 4: 10, 5: 11, 6: 12}
    assert layer_maps.last_k(6, 12, 2) == {5: 11, 6: 12}
    assert layer_maps.last_k(6, 4) == {3: 1, 4: 2, 5: 3, 6: 4}
    assert layer_maps.skip(6, 12) == {1: 2, 2: 4, 3: 6, 4: 8, 5: 10, 6: 12}
    assert layer_maps.skip(4, 30) == {1: 7, 2: 14, 3: 21, 4: 28}
    assert layer_maps.skip(5, 3) == {1: 1, 2: 2, 3: 3, 4: 3, 5: 3}


def test_controls() -> None:
    assert layer_maps.reversed_order(4, 30) == {1: 30, 2: 23, 3: 15, 4: 8}
    assert layer_maps.all_to_one(3, 30) == {1: 15, 2: 15, 3: 15}
    assert layer_maps.all_to_one(2, 30, 30) == {1: 30, 2: 30}
    drawn = [layer_maps.random_layers(4, 30, seed) for seed in range(40)]
    assert drawn[0] == layer_maps.random_layers(4, 30, 0)
    assert all(len(set(one.values())) == 4 for one in drawn)
    assert {layer for one in drawn for layer in one.values()} == set(range(1, 31))
    assert any(list(one.values()) != sorted(one.values()) for one in drawn)
    assert sorted(layer_maps.random_layers(6, 3).values()) == [1, 1, 2, 2, 3, 3]


def by_trying_all(similarity: np.ndarray, strict: bool) -> tuple[dict[int, int], float]:
    students, teachers = similarity.shape
    best, found = -np.inf, {}
    for places in product(range(teachers), repeat=students):
        if all(one < other if strict else one <= other for one, other in pairwise(places)):
            total = sum(similarity[layer, place] for layer, place in enumerate(places))
            if total > best + 1e-12:
                best, found = total, {layer + 1: place + 1 for layer, place in enumerate(places)}
    return found, best


@settings(max_examples=60, deadline=None)
@given(students=st.integers(1, 4), teachers=st.integers(1, 6), seed=st.integers(0, 1000), strict=st.booleans())
def test_the_monotone_map_is_the_best_of_all(students: int, teachers: int, seed: int, strict: bool) -> None:
    similarity = np.random.default_rng(seed).uniform(-1, 1, (students, teachers))
    if strict and students > teachers:
        with pytest.raises(ValueError, match="no strict map"):
            layer_maps.cka_monotone(similarity, strict)
        return
    assert layer_maps.cka_monotone(similarity, strict) == by_trying_all(similarity, strict)[0]


def test_of_equally_good_maps_the_monotone_one_has_the_lower_layers() -> None:
    assert layer_maps.cka_monotone(np.ones((3, 5))) == {1: 1, 2: 1, 3: 1}
    assert layer_maps.cka_monotone(np.ones((3, 5)), strict=True) == {1: 1, 2: 2, 3: 3}


def test_where_the_best_layers_are_in_order_each_gets_its_own() -> None:
    similarity = np.zeros((3, 9))
    similarity[[0, 1, 2], [1, 4, 7]] = 1
    assert layer_maps.cka_monotone(similarity) == {1: 2, 2: 5, 3: 8}


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((0, 3)), np.full((2, 2), np.nan)])
def test_similarities_that_are_none_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        layer_maps.cka_monotone(bad)


def test_layers_that_do_not_exist_are_told() -> None:
    assert layer_maps.check({1: 8, 2: 30}, 30, 2) == {1: 8, 2: 30}
    with pytest.raises(UserError, match="state 31 of the teacher, which has 0"):
        layer_maps.check({1: 31}, 30)
    with pytest.raises(UserError, match=r"state 5 of the student, which has 0 .* to 4"):
        layer_maps.check({5: 30}, 30, 4)
    with pytest.raises(UserError, match="state -1 of the teacher"):
        layer_maps.check({1: -1}, 30)
    with pytest.raises(UserError, match="state -1 of the student"):
        layer_maps.check({-1: 1}, 30, 4)
    assert layer_maps.check({0: 0, 4: 30}, 30, 4) == {0: 0, 4: 30}
    with pytest.raises(UserError, match="empty layer map"):
        layer_maps.check({}, 30)
    with pytest.raises(UserError, match="the last 5 layers"):
        layer_maps.last_k(4, 30, 5)
    with pytest.raises(UserError, match="state 40"):
        layer_maps.all_to_one(4, 30, 40)


@pytest.mark.parametrize("rule", layer_maps.RULES.values())
def test_every_rule_names_layers_that_exist_and_refuses_no_layers(rule: layer_maps.Rule) -> None:
    for students, teachers in [(4, 30), (6, 12), (5, 3), (1, 1), (36, 48)]:
        similarity = np.random.default_rng(0).uniform(size=(students, teachers))
        layer_maps.check(rule(students, teachers, lambda found=similarity: found), teachers, students)
    with pytest.raises(UserError, match="each needs one"):
        rule(0, 3, lambda: np.zeros((0, 3)))


def test_only_the_rule_that_reads_similarities_asks_for_them() -> None:
    def refused() -> np.ndarray:
        raise AssertionError("read")

    for name, rule in layer_maps.RULES.items():
        if name != "cka_monotone":
            rule(4, 30, refused)
    with pytest.raises(AssertionError, match="read"):
        layer_maps.RULES["cka_monotone"](4, 30, refused)
