"""Runs at tiny sizes on the first two layers of the backbone: what tests of the experiment and its studies share."""

from lib import profiles
from lib.series.lemoe import run
from lib.series.lemoe.rows import METHODS
from lib.series.lemoe.workbench import BenchConfig, Workbench

SMOKE = profiles.profile("smoke")
SIZES = SMOKE.editing.model_copy(update={"layer": 0, "upper_layer": 1})


def bench() -> Workbench:
    """Load the two layers."""
    return Workbench(SMOKE.backbone, 2, SIZES.dtype, "cpu", BenchConfig(unrelated=SIZES.unrelated))


def config(method: str, count: int = 4, runs: int = 1, **changes: object) -> run.RunConfig:
    """Return a run on the tuning split in two batches, with some settings changed."""
    row = METHODS[method]
    return run.RunConfig(
        method=method,
        row=method,
        settings=row.configure(SIZES).model_copy(update=changes),
        edits="tuning",
        count=count,
        runs=runs,
        batches=2,
        order=row.order,
        backbone=SMOKE.backbone,
        layers=2,
        dtype=SIZES.dtype,
        bench=BenchConfig(),
        every_batch=True,
        generate=False,
        perplexity=False,
    )
