"""Mapping rules: which state of the teacher's residual stream each state of the student's is compared with.

State 0 is the embedding, state l what block l gives, state N (or M) what the last block gives, before the final norm.
A student has N blocks, a teacher M. A map is a dictionary from student to teacher states, of the states 1 to N.
"""

from collections.abc import Callable

import numpy as np
import torch

from lib import seeds
from lib.errors import UserError
from lib.registry import Registry

__all__ = [
    "RULES",
    "LayerMap",
    "Rule",
    "all_to_one",
    "by_depths",
    "by_similarity",
    "check",
    "cka_monotone",
    "last_k",
    "random_layers",
    "reversed_order",
    "skip",
    "uniform",
]

LayerMap = dict[int, int]
# What a rule may need: both depths, and how alike all pairs of layers are, which is computed only where it is called.
Rule = Callable[[int, int, Callable[[], np.ndarray]], LayerMap]


def uniform(students: int, teachers: int) -> LayerMap:
    """Return g(l) = floor(l M / N + 1/2), for any depths; g(0) would be 0, and g(N) is M (sheet, "Mapping rule")."""
    _depths(students, teachers)
    # In whole numbers: floating point would round some halves down.
    return {layer: (2 * layer * teachers + students) // (2 * students) for layer in range(1, students + 1)}


def last_k(students: int, teachers: int, k: int | None = None) -> LayerMap:
    """Map the last k states to the teacher's last k, in order (PKD-last, with the last states too: our choice).

    k is as many as both have by default. Raises `UserError` where one of them has fewer than k blocks.
    """
    _depths(students, teachers)
    k = min(students, teachers) if k is None else k
    if not 0 < k <= min(students, teachers):
        raise UserError(f"the last {k} layers: student and teacher have {students} and {teachers}")
    return {students - back: teachers - back for back in range(k - 1, -1, -1)}


def skip(students: int, teachers: int) -> LayerMap:
    """Map state l to l floor(M / N), PKD-skip: a constant stride, which need not reach the teacher's last state.

    Where the student is the deeper one the stride is 1 and its upper states share the teacher's last.
    """
    _depths(students, teachers)
    stride = max(1, teachers // students)
    return {layer: min(teachers, layer * stride) for layer in range(1, students + 1)}


def cka_monotone(similarity: np.ndarray, strict: bool = False) -> LayerMap:
    """Return the monotone map with the largest sum of similarities, (N, M) of the states from 1 on: our main rule.

    Each state takes the teacher's most similar one as far as the order of layers allows; `strict` allows no two the
    same. Of equal maps the one with the lower layers. Raises `ValueError` for a matrix that is empty, not
    two-dimensional or not finite, and for a strict map of a student that is deeper than its teacher.
    """
    if similarity.ndim != 2 or not similarity.size or not np.isfinite(similarity).all():
        raise ValueError(f"similarities of shape {similarity.shape}: give finite numbers, student states by teacher's")
    students, teachers = similarity.shape
    if strict and students > teachers:
        raise ValueError(f"no strict map from {students} student layers to {teachers}")
    # best[l, m]: the largest sum of states 1..l when none of them is above m; chosen[l, m]: where l goes then.
    best = np.full((students + 1, teachers + 1), -np.inf)
    best[0] = 0
    chosen = np.zeros((students + 1, teachers + 1), dtype=int)
    for layer in range(1, students + 1):
        for upto in range(1, teachers + 1):
            here = best[layer - 1, upto - strict] + similarity[layer - 1, upto - 1]
            better = here > best[layer, upto - 1]
            best[layer, upto] = here if better else best[layer, upto - 1]
            chosen[layer, upto] = upto if better else chosen[layer, upto - 1]
    found, upto = {}, teachers
    for layer in range(students, 0, -1):
        found[layer] = int(chosen[layer, upto])
        upto = found[layer] - strict
    return dict(sorted(found.items()))


def reversed_order(students: int, teachers: int) -> LayerMap:
    """Return the uniform map upside down, a control: the first state learns from the last."""
    given = uniform(students, teachers)
    return dict(zip(given, list(given.values())[::-1], strict=True))


def random_layers(students: int, teachers: int, seed: int = 0) -> LayerMap:
    """Return states of the teacher drawn at random, in any order, a control; none twice where there are enough."""
    _depths(students, teachers)
    stream = seeds.generator("random layer map", seed, students, teachers)
    rounds = -(-students // teachers)
    drawn = torch.cat([torch.randperm(teachers, generator=stream) for _ in range(rounds)])[:students]
    return {layer: place + 1 for layer, place in enumerate(drawn.tolist(), start=1)}


def all_to_one(students: int, teachers: int, layer: int | None = None) -> LayerMap:
    """Map every state to one of the teacher, a control; its middle one by default. `UserError` where it has none."""
    _depths(students, teachers)
    return check(dict.fromkeys(range(1, students + 1), (teachers + 1) // 2 if layer is None else layer), teachers)


def by_depths(rule: Callable[[int, int], LayerMap]) -> Rule:
    """Return a rule that needs the two depths alone in the form of all rules."""
    return lambda students, teachers, _: rule(students, teachers)


def by_similarity(rule: Callable[[np.ndarray], LayerMap]) -> Rule:
    """Return a rule that reads similarities in the form of all rules; its map raises `UserError` for no layers."""

    def mapped(students: int, teachers: int, similarity: Callable[[], np.ndarray]) -> LayerMap:
        _depths(students, teachers)
        return rule(similarity())

    return mapped


# By the names that a case carries.
RULES: Registry[Rule] = Registry(
    "mapping rule",
    {
        "uniform": by_depths(uniform),
        "last_k": by_depths(last_k),
        "skip": by_depths(skip),
        "reversed": by_depths(reversed_order),
        "random": by_depths(random_layers),
        "all_to_one": by_depths(all_to_one),
        "cka_monotone": by_similarity(cka_monotone),
    },
)


def check(mapping: LayerMap, teachers: int, students: int | None = None) -> LayerMap:
    """Return the map; raises `UserError` for an empty one and one that names a layer which does not exist."""
    if not mapping:
        raise UserError("an empty layer map: name at least one pair of layers")
    named = [("teacher", teachers, layer) for layer in mapping.values()]
    named += [("student", students, layer) for layer in mapping if students is not None]
    for whose, depth, layer in named:
        if not 0 <= layer <= depth:
            raise UserError(f"the layer map names state {layer} of the {whose}, which has 0 (embedding) to {depth}")
    return mapping


def _depths(students: int, teachers: int) -> None:
    if students < 1 or teachers < 1:
        raise UserError(f"a student of {students} layers and a teacher of {teachers}: each needs one at least")
