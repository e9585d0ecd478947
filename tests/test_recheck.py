"""A record whose code changed is re-verified only where its prefix is equal to the bit."""

import json
from pathlib import Path

import pytest
import torch
from made_records import Counted, case, make_package

from lib import environment, paths, records


@pytest.fixture
def package(tmp_path, monkeypatch):
    return make_package(tmp_path, monkeypatch)


def refactor(package: Path) -> None:
    (package / "model.py").write_text("def loss(x):\n    one = 1.0\n    return x - one\n")


def test_recheck_stamps_a_record_whose_prefix_is_equal(package):
    old, weights = records.get(case()), records.trained_weights(case(), "denoiser")
    refactor(package)
    compute = Counted()
    assert records.recheck(case(compute)) == "re-verified"
    assert records.recheck(case(compute)) == "current"
    new = records.get(case(compute))
    assert compute.runs == 0
    assert new.values == old.values
    (note,) = new.provenance["reverified"]
    assert (note["from"], note["to"]) == (old.fingerprint["code"], case().fingerprint()["code"])
    assert {"commit", "date"} <= note.keys()
    assert new.provenance["date"] == old.provenance["date"]
    assert torch.equal(records.load_weights(case(), "denoiser")["weight"], weights["weight"])


def test_recheck_lists_what_must_be_computed(package, monkeypatch):
    assert records.recheck(case()) == "recompute: missing"
    path = records.get(case()).path
    before = path.read_bytes()
    assert records.recheck(case(seed=1)) == "recompute: stale: config"
    refactor(package)
    assert records.recheck(case(data={"pairs": "1" * 64})) == "recompute: stale: data, code"
    assert records.recheck(case(prefix=lambda: "other")).endswith("its prefix gives other bits")
    assert records.recheck(case(prefix=None)).endswith("no prefix to compare")
    here = environment.describe()
    monkeypatch.setattr(environment, "describe", lambda: {**here, "threads": here["threads"] + 1})
    assert records.recheck(case()).endswith("equal bits need an equal environment (threads differ)")
    assert path.read_bytes() == before


def test_same_numerics_asks_for_lock_threads_and_cpu_capability():
    here = environment.describe()
    assert environment.same_numerics(here, {**here, "commit": None, "cpu": "another of its kind"})
    for name in ("lock", "threads", "cpu_capability", "packages"):
        assert not environment.same_numerics(here, {**here, name: "other"})


def test_the_environment_names_neither_the_machine_nor_a_path():
    import platform

    text = json.dumps(environment.describe())
    assert platform.node() not in text
    assert str(paths.ROOT) not in text
    assert str(Path.home()) not in text
