"""Tiny random models of both styles in two sizes, each size with a tokenizer of single letters that can also write."""

import re
from collections.abc import Sequence

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

LETTERS = "abcdefghijklmnopqrstuvwxyz."


class Letters:
    """A tokenizer of letters and full stops; blanks are not tokens, so that texts can be joined anywhere."""

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [3 + LETTERS.index(letter) for letter in re.findall(r"[a-z.]", text.lower())]}

    def decode(self, ids: torch.Tensor, **_: object) -> str:
        return " ".join(LETTERS[number - 3] for number in ids.tolist() if number >= 3)


class Words:
    """A tokenizer of the letters a to p, parted by blanks; for the smaller models."""

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [3 + LETTERS[:16].index(word) for word in text.split()]}

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(LETTERS[token - 3] if token >= 3 else "." for token in ids)


def small_llama(vocabulary: int = 20, spread: float = 0.5) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=32, initializer_range=spread, **shape)
    return LlamaForCausalLM(config).eval()


def small_gpt2(vocabulary: int = 20, spread: float = 0.5) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32}
    config = GPT2Config(vocab_size=vocabulary, initializer_range=spread, bos_token_id=1, eos_token_id=2, **shape)
    return GPT2LMHeadModel(config).eval()


def llama(attention: str = "sdpa") -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=30, max_position_embeddings=64, initializer_range=0.4, **shape)
    config._attn_implementation = attention
    return LlamaForCausalLM(config).eval()


def gpt2(attention: str = "sdpa") -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 64, "n_inner": 24}
    config = GPT2Config(vocab_size=30, initializer_range=0.4, bos_token_id=1, eos_token_id=2, **shape)
    config._attn_implementation = attention
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # biases start at zero, which would hide them
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(0, 0.3)
    return model


both = pytest.mark.parametrize("make", [llama, gpt2])


def llama_of(vocabulary: int) -> LlamaForCausalLM:
    """A teacher whose first 20 words are the same whatever its vocabulary is padded to."""
    whole = small_llama(40)
    whole.resize_token_embeddings(vocabulary)
    return whole
