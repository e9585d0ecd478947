"""Alignment modules: which weights they share, learn, and leave alone."""

import pytest
import torch

from lib.distillation.alignment import Alignment
from lib.errors import UserError

LAYERS = (1, 2, 5)


def trained(module: Alignment) -> int:
    return sum(value.numel() for value in module.parameters() if value.requires_grad)


@pytest.mark.parametrize("kind", ["per_pair", "shared", "mlp", "frozen"])
def test_states_come_out_in_the_teachers_width_and_at_the_students_size(kind: str) -> None:
    states = torch.randn(500, 24, generator=torch.Generator().manual_seed(0))
    module = Alignment(kind, LAYERS, 24, 40, seed=1)
    for layer in LAYERS:
        found = module(layer, states)
        assert found.shape == (500, 40)
        # A GELU lets through 0.42 of the variance of a normal number, with its mean.
        assert 0.3 < found.square().mean() < 1.3


def test_numbers_of_weights_are_those_of_the_maps() -> None:
    pair, deep = 24 * 40 + 40, 24 * 40 + 40 + 40 * 40 + 40
    counts = {kind: trained(Alignment(kind, LAYERS, 24, 40, 0)) for kind in ("per_pair", "shared", "mlp", "none")}
    assert counts == {"per_pair": 3 * pair, "shared": pair, "mlp": 3 * deep, "none": 0}
    assert trained(Alignment("frozen", LAYERS, 24, 40, 0)) == 0


def test_only_a_shared_map_treats_layers_alike() -> None:
    states = torch.ones(1, 24)
    for kind, alike in [("shared", True), ("per_pair", False), ("mlp", False), ("frozen", False)]:
        module = Alignment(kind, LAYERS, 24, 40, 0)
        assert torch.equal(module(1, states), module(5, states)) is alike, kind


def test_a_frozen_projector_is_drawn_like_a_learnt_one_and_lets_gradients_through() -> None:
    learnt, frozen = Alignment("per_pair", LAYERS, 24, 40, 3), Alignment("frozen", LAYERS, 24, 40, 3)
    states = torch.randn(2, 24, requires_grad=True)
    assert torch.equal(learnt(2, states), frozen(2, states))
    frozen(2, states).sum().backward()
    assert states.grad.abs().sum() > 0
    assert all(value.grad is None for value in frozen.parameters())


def test_the_seed_decides_and_the_global_stream_does_not() -> None:
    one = Alignment("mlp", LAYERS, 8, 12, 0).state_dict()
    torch.randn(3)
    again, other = Alignment("mlp", LAYERS, 8, 12, 0).state_dict(), Alignment("mlp", LAYERS, 8, 12, 1).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["maps.1.0.weight"], other["maps.1.0.weight"])


def test_none_leaves_states_as_they_are() -> None:
    states = torch.randn(2, 24)
    assert Alignment("none", LAYERS, 24, 24, 0)(1, states) is states


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(UserError, match="unknown alignment module 'conv': choose one of per_pair"):
        Alignment("conv", LAYERS, 8, 8, 0)
