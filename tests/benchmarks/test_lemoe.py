"""The benchmark of editing at tiny sizes: it measures what it says and leaves the model as it was."""

import torch

from lib import profiles
from lib.benchmarks import lemoe
from lib.series.lemoe.workbench import BenchConfig, Workbench


def test_the_benchmark_measures_and_gives_the_model_back() -> None:
    chosen = profiles.profile("smoke")
    sizes = chosen.editing
    found = Workbench(chosen.backbone, 4, sizes.dtype, "cpu", BenchConfig())
    before = {name: value.clone() for name, value in found.model.named_parameters()}
    told = lemoe.steps(found, sizes, 1)
    assert told["bound"] == (8 - 1) / (2 * 3)
    assert min(told["cached_seconds"], told["full_seconds"]) > 0
    rows = lemoe.methods(found, sizes, ("grace", "lemoe"), 1)
    assert [row["method"] for row in rows] == ["GRACE", "LEMoE"]
    assert all(row["seconds_an_edit"] > 0 for row in rows)
    assert all(torch.equal(value, before[name]) for name, value in found.model.named_parameters())
    machine = {"cpu": "a processor", "threads": 2}
    text = lemoe.report({"profile": "smoke", "environment": machine, "steps": told, "methods": rows})
    assert "of it" in text
    assert "LEMoE" in text
