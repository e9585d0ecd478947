"""Two processes on a CPU, each with its part of every batch, train an adapter as one does, also resumed."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.beacons import training
from lib.beacons.cached_facts import Chosen, run_once
from lib.beacons.methods import attach
from lib.beacons.reweighting import fact_loss, fact_mass, token_loss, token_mass
from lib.beacons.training import WeightedLoss
from lib.causal_lm.upper_layers import UpperLayers
from tests.beacons.made_facts import ADAPTER, made_facts
from tests.launching import launch
from tests.tiny_models import Letters, llama

HERE = "tests.beacons.test_several_processes"
FACTS, STEPS = made_facts(), 7
BY_FACT = torch.tensor([5.0, 0.2, 1.0, 3.0, 0.1, 2.0])
WEIGHINGS = {
    "none": None,
    "facts": WeightedLoss(lambda _: BY_FACT, fact_loss),
    "tokens": WeightedLoss(lambda _: BY_FACT[:, None] * torch.arange(1, 7), token_loss, token_mass),
}


RUNS = [("lora", "none"), ("full", "none"), ("lora", "facts"), ("full", "tokens"), ("adalora", "none")]
RUNS += [("prefix", "none"), ("bottleneck", "facts")]


def trained(folder: Path, stop: int | None = None) -> dict[str, Any]:
    """Train by each method and weighing; `stop`: as if killed after so many steps."""
    found, once = {}, training.Learner.advance
    for method, weighing in RUNS:
        seen: list[float] = []

        def advance(self: training.Learner, *given: Any, seen: list[float] = seen) -> float:
            if len(seen) == stop:
                raise KeyboardInterrupt
            seen.append(once(self, *given))
            return seen[-1]

        training.Learner.advance = advance
        place = folder / f"{method} {weighing}"
        place.mkdir(parents=True, exist_ok=True)
        losses: list[float] = []
        with attach(llama(), method, ADAPTER, STEPS, seed=0) as handle:
            with suppress(KeyboardInterrupt):
                losses = training.train(
                    handle, Letters(), FACTS, STEPS, 4, 2e-2, 0, WEIGHINGS[weighing], place, save_every=3
                )
            found[place.name] = losses, [value.detach().clone() for value in handle.parameters()]
        training.Learner.advance = once
    return found


def straight_and_resumed(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    straight = trained(folder / "straight")
    trained(folder / "resumed", stop=5)  # saved after 3
    return straight, trained(folder / "resumed")


@pytest.mark.thorough
def test_two_processes_have_the_losses_of_one_also_resumed(tmp_path: Path) -> None:
    one = trained(tmp_path / "one")
    for straight, resumed in launch(2, HERE, "straight_and_resumed", tmp_path / "two"):
        for name, (losses, weights) in one.items():
            theirs, others = straight[name]
            assert len(losses) == STEPS
            assert theirs == pytest.approx(losses, rel=1e-6, abs=1e-6), name
            for mine, other in zip(weights, others, strict=True):
                torch.testing.assert_close(other, mine, rtol=1e-3, atol=1e-4)
            assert resumed[name][0] == theirs, name
            assert all(torch.equal(*pair) for pair in zip(resumed[name][1], others, strict=True))


def test_parts_weighted_by_their_mass_are_the_batch() -> None:
    whole: UpperLayers = run_once(llama(), Letters(), FACTS, 2)
    rows = torch.tensor([4, 0, 2, 5, 1])
    tokens = BY_FACT[:, None] * torch.arange(1, 7)
    for loss, mass, weights in ((fact_loss, fact_mass, BY_FACT), (token_loss, token_mass, tokens)):
        parts = [(Chosen(whole, one), weights[one]) for one in rows.split([2, 3])]
        masses = [mass(*part) for part in parts]
        found = sum(loss(*part) * one for part, one in zip(parts, masses, strict=True)) / sum(masses)
        torch.testing.assert_close(found, loss(Chosen(whole, rows), weights[rows]))
