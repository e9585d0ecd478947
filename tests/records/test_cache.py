"""The cache of a case gives back what was kept, or says that it was damaged."""

import dataclasses

import pytest
import safetensors.torch
import torch

from lib import paths, records
from lib.errors import UserError
from lib.records import Outcome, cache, stamps
from tests.records.made_records import NAME, Counted, case, make_package, outcome


@pytest.fixture
def package(tmp_path, monkeypatch):
    return make_package(tmp_path, monkeypatch)


def test_weights_are_kept_in_the_cache_and_computed_again_when_lost(package, capsys, monkeypatch):
    compute = Counted()
    record = records.get(case(compute))
    expected = outcome().weights["denoiser"]
    (file,) = paths.cache().rglob("weights/**/denoiser.safetensors")
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:-4] + b"\1\2\3\4", b""):
        file.write_bytes(damaged)
        assert records.load_weights(case(compute), "denoiser") is None
        assert "denoiser.safetensors: truncated or edited: not used" in capsys.readouterr().err
    monkeypatch.setenv("REPRODUCTION_RECORDS", "read")
    with pytest.raises(UserError, match="without its weights 'denoiser'"):
        records.trained_weights(case(compute), "denoiser")
    monkeypatch.delenv("REPRODUCTION_RECORDS")
    capsys.readouterr()
    loaded = records.trained_weights(case(compute), "denoiser")
    assert compute.runs == 2
    told = capsys.readouterr().err
    assert f"{NAME}: its weights are not in the cache: computing them again" in told
    assert "other bits" not in told
    assert records.load_weights(case(compute), "denoiser").keys() == loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    folder = cache.folder("weights", case(compute))
    assert record.weight_digests["denoiser"] == cache.keep(folder, "denoiser", expected)
    assert records.load_weights(case(seed=1), "denoiser") is None  # another identity


def test_weights_of_other_bits_than_the_records_say_so_every_time(package, capsys):
    def elsewhere() -> Outcome:
        told = outcome()
        return dataclasses.replace(told, weights={"denoiser": {k: v + 1 for k, v in told.weights["denoiser"].items()}})

    records.get(case())
    records.trained_weights(case(), "denoiser")
    assert capsys.readouterr().err == ""
    (file,) = paths.cache().rglob("weights/**/denoiser.safetensors")
    file.unlink()
    for _ in range(2):  # first computed again, then read from the cache
        records.trained_weights(case(elsewhere), "denoiser")
        assert f"{NAME}: weights 'denoiser' have other bits than the record's" in capsys.readouterr().err


def test_weights_may_be_given_as_a_file_and_may_be_tied(package):
    shared = torch.ones(2)

    def compute() -> Outcome:
        path = records.workspace(case()) / "last.safetensors"
        safetensors.torch.save_file({"w": shared}, path)
        return Outcome(values={}, weights={"file": path, "tied": {"a": shared, "b": shared}})

    records.get(case(compute))
    assert torch.equal(records.load_weights(case(), "file")["w"], shared)
    assert records.load_weights(case(), "tied").keys() == {"a", "b"}


def test_published_weights_are_rounded_to_bf16(package):
    loaded = records.get(case()).weights("denoiser")
    expected = outcome().published["denoiser"]
    assert loaded["weight"].dtype == torch.bfloat16
    assert torch.equal(loaded["weight"], expected["weight"].bfloat16())
    assert torch.equal(loaded["step"], expected["step"])


def test_a_computation_that_failed_finds_its_checkpoints(package):
    def compute() -> Outcome:
        checkpoint = records.workspace(case()) / "checkpoint"
        if not checkpoint.exists():
            checkpoint.write_text("step 5")
            raise InterruptedError
        return Outcome(values={"resumed": checkpoint.read_text()})

    with pytest.raises(InterruptedError):
        records.get(case(compute))
    assert records.status(case()) == "missing"
    assert records.get(case(compute)).values == {"resumed": "step 5"}
    assert not (paths.cache() / "runs" / NAME / stamps.identity(case())[:16]).exists()
