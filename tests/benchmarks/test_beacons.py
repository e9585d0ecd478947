"""The benchmark of facts alone at tiny sizes: it measures what it says and leaves the model as it was."""

import torch

from lib import profiles
from lib.beacons.methods import AdapterConfig
from lib.benchmarks import beacons
from lib.series.beacons.workbench import Workbench


def test_the_benchmark_measures_and_gives_the_model_back() -> None:
    chosen = profiles.profile("smoke")
    found, adapter = Workbench(chosen.backbone, 2, chosen.beacons.dtype, "cpu"), AdapterConfig(first_layer=1, rank=4)
    facts = found.facts("tuning", chosen.beacons.answer_tokens)
    before = {name: value.clone() for name, value in found.model.named_parameters()}
    told = beacons.alone(found, adapter, facts[:3], single=2, steps=1, pairs=1)
    assert [row["way"] for row in told["rows"]][0::3] == ["one by one", "batched, cached prefix"]
    assert all(row["seconds"] > 0 for row in told["rows"])
    assert told["rows"][0]["ratio"] == 1
    shared = beacons.together(found, adapter, facts[:4], 2, ("ia3",), 1)
    assert shared[0]["seconds"] > 0
    assert all(torch.equal(value, before[name]) for name, value in found.model.named_parameters())
    machine = {"cpu": "a processor", "threads": 2}
    text = beacons.report({"profile": "smoke", "environment": machine, "alone": told, "together": shared})
    assert "2.5" in text
    assert "ia3" in text
