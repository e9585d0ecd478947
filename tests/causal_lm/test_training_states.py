"""The state of a training on disk: it comes back whole or is named and left, whatever was done to the file."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib.causal_lm import training_states
from lib.errors import UserError

TOLD = {"step": 7, "curve": [{"step": 7, "loss": 0.25}]}


def trained() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(3)
    model = torch.nn.Linear(5, 4)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    model(torch.randn(6, 5)).square().mean().backward()
    optimiser.step()
    return model, optimiser


def saved(folder):
    model, optimiser = trained()
    half = {"none": torch.zeros(0, 3), "one": torch.tensor(2.5), "half": torch.randn(3, 2).bfloat16()}
    training_states.save(folder, TOLD, [optimiser], model=model.state_dict(), other=half)
    return model, optimiser, half


def fresh() -> torch.optim.Optimizer:
    return torch.optim.AdamW(torch.nn.Linear(5, 4).parameters(), 1e-2)


def test_all_that_was_saved_comes_back_to_the_bit(tmp_path):
    model, optimiser, half = saved(tmp_path)
    other = fresh()
    told, parts = training_states.load(tmp_path, [other])
    assert told == TOLD
    for part, tensors in (("model", model.state_dict()), ("other", half)):
        assert parts[part].keys() == tensors.keys()
        assert all(torch.equal(parts[part][name], value) for name, value in tensors.items())
        assert all(parts[part][name].dtype == value.dtype for name, value in tensors.items())
    mine, theirs = (one.state_dict()["state"] for one in (optimiser, other))
    assert all(torch.equal(mine[place][name], theirs[place][name]) for place in mine for name in mine[place])
    assert training_states.load(tmp_path / "none", []) is None


def every_64th_byte(content):
    """Places in a file: the header's length, the header, and tensors."""
    return [*range(0, len(content), 64), len(content) - 1]


def test_a_flipped_bit_anywhere_is_one_line_and_training_starts_anew(tmp_path, capsys):
    saved(tmp_path)
    path = tmp_path / training_states.NAME
    whole = path.read_bytes()
    for place in every_64th_byte(whole):
        damaged = bytearray(whole)
        damaged[place] ^= 0b100
        path.write_bytes(damaged)
        assert training_states.load(tmp_path, [fresh()]) is None, place
        told = capsys.readouterr().err
        assert "state.safetensors is damaged (" in told
        assert "training starts anew" in told
        assert told.count("\n") == 1
        assert not path.exists()


def test_numbers_told_beside_the_tensors_are_checked_too(tmp_path, capsys):
    saved(tmp_path)
    path = tmp_path / training_states.NAME
    tensors = load_file(path)
    for header in ({"told": json.dumps(TOLD)}, {"told": json.dumps(TOLD | {"step": 8}), "sha256": "0" * 64}, None):
        save_file(tensors, path, header)
        assert training_states.load(tmp_path, [fresh()]) is None
        assert capsys.readouterr().err.count("\n") == 1


def test_a_full_disk_keeps_the_state_of_before(tmp_path, monkeypatch):
    saved(tmp_path)
    before = (tmp_path / training_states.NAME).read_bytes()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 2**20))
    with pytest.raises(UserError, match="MiB are free on its disk"):
        saved(tmp_path)
    assert (tmp_path / training_states.NAME).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [training_states.NAME]
