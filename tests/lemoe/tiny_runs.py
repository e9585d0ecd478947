"""Runs at tiny sizes on the first two layers of the backbone: what tests of the experiment and its studies share."""

from lib import profiles
from lib.lemoe import cases, experiment
from lib.lemoe.methods import METHODS, Workbench

SIZES = profiles.profile("smoke").editing.model_copy(update={"layer": 0, "upper_layer": 1})


def bench() -> Workbench:
    """Load the two layers."""
    return Workbench(profiles.profile("smoke").backbone, 2, "cpu", SIZES)


def settings(method: str) -> dict:
    """Return a row's settings at these sizes."""
    return METHODS[method].configure(SIZES).model_dump(mode="json")


def config(method: str, count: int = 4, runs: int = 1, **changes: object) -> experiment.RunConfig:
    """Return a run on the tuning split in two batches, with some settings changed."""
    return cases.configuration(METHODS[method], "tuning", count, "smoke", runs=runs, batches=2).model_copy(
        update={"settings": {**settings(method), **changes}}
    )
