"""The benchmark of editing at tiny sizes: it measures what it says and leaves the model as it was."""

from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from lib import profiles
from lib.benchmarks import lemoe
from lib.benchmarks.products import Needed, Work, multiply
from lib.series.lemoe.workbench import BenchConfig, Workbench
from tests.tiny_models import small_llama


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
    assert all(row["seconds"] > 0 and row["bound"] > 1 and row["bare"] > 0 for row in learnt)
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
    needed = Needed(reached=5, scored=1, steps=3)
    assert work.least(needed) == 5 * 2 * 10 + 3 * (2 * 5 * 10 + 2 * 8)
    # The change reaches two of five tokens: three run the block above once.
    assert work.least(replace(needed, reached=2, before=3)) == 5 * 2 * 10 + 3 * 10 + 3 * (2 * 2 * 10 + 2 * 8)
    assert work.plain(5, 3, own=4) - work.plain(5, 3) == work.least(replace(needed, own=4)) - work.least(needed) == 60
    # Four tokens of other texts run two blocks once, and through the method's part in each step.
    assert work.least(replace(needed, own=4, aside=4)) - work.least(replace(needed, own=4)) == 4 * 2 * 10 + 3 * 4 * 4


def test_the_bare_products_are_those_that_were_counted() -> None:
    model = small_llama(heads=1)
    needed = Needed(reached=3, scored=2, steps=4, own=2 * model.config.hidden_size, before=5, aside=1)
    with FlopCounterMode(display=False) as counted:
        multiply(model, 0, needed)
    assert counted.get_total_flops() == 2 * Work.of(model, 0).least(needed)
