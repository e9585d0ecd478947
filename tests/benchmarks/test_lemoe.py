"""The benchmark of editing at tiny sizes: it measures what it says and leaves the model as it was."""

import torch

from lib import profiles
from lib.benchmarks import lemoe
from lib.benchmarks.plain_editing import Work
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
    learnt = lemoe.learning(found, sizes, dict.fromkeys(lemoe.LEARNING, 1), 1, 1)
    ways = {(row["method"], row["way"]) for row in learnt}
    assert ways == {(method, way) for method in lemoe.LEARNING for way in ("equal", "one by one")}
    assert all(row["seconds"] > 0 and row["bound"] > 1 for row in learnt)
    held = lemoe.experts(found, sizes, 1, 1)
    assert held["ratio"] > 0
    assert all(value.grad is None for value in found.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in found.model.named_parameters())
    machine = {"cpu": "a processor", "threads": 2}
    measured = {"learning": learnt, "learning_steps": 1, "experts": held, "steps": told, "methods": rows}
    text = lemoe.report({"profile": "smoke", "environment": machine, **measured})
    assert "of it" in text
    assert "LEMoE" in text


def test_the_bound_is_what_counting_by_hand_gives() -> None:
    """Three blocks of 10 weights and a head of 8, the second edited: 5 tokens, one of them scored, 3 steps."""
    work = Work(blocks=3, layer=1, block=10, head=8)
    assert work.plain(tokens=5, steps=3) == 3 * 5 * (3 * 10 + 8 + 10 + 8)
    assert work.least(tokens=5, scored=1, steps=3) == 5 * 2 * 10 + 3 * (2 * 5 * 10 + 2 * 8)
    # The change reaches two of five tokens: three run the block above once.
    assert work.least(tokens=2, scored=1, steps=3, below=5) == 5 * 2 * 10 + 3 * 10 + 3 * (2 * 2 * 10 + 2 * 8)
    assert work.plain(5, 3, own=4) - work.plain(5, 3) == work.least(5, 1, 3, own=4) - work.least(5, 1, 3) == 3 * 5 * 4
