"""Tiny random models of both styles in two sizes, each size with a tokenizer of single letters that can also write."""

import re
from collections.abc import Sequence

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz."


class Letters:
    """A tokenizer of letters and full stops; blanks are not tokens, so that texts can be joined anywhere."""

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [3 + LETTERS.index(letter) for letter in re.findall(r"[a-z.]", text.lower())]}

    def decode(self, ids: torch.Tensor, **_: object) -> str:
        return " ".join(LETTERS[number - 3] for number in ids.tolist() if number >= 3)


class Words:
    """A tokenizer of the letters a to p; blanks are not tokens, so that texts can be joined anywhere."""

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [3 + LETTERS[:16].index(letter) for letter in "".join(text.split())]}

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(LETTERS[token - 3] if token >= 3 else "." for token in ids)


def small_llama(vocabulary: int = 20, spread: float = 0.5, heads: int = 2) -> LlamaForCausalLM:
    """A model of two heads; with one `heads` they share keys and values."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": heads}
    config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=32, initializer_range=spread, **shape)
    return LlamaForCausalLM(config).eval()


def small_gpt2(vocabulary: int = 20, spread: float = 0.5) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32}
    config = GPT2Config(vocab_size=vocabulary, initializer_range=spread, bos_token_id=1, eos_token_id=2, **shape)
    return GPT2LMHeadModel(config).eval()


def llama(attention: str = "sdpa", vocabulary: int = 30, spread: float = 0.4, heads: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": heads}
    config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=64, initializer_range=spread, **shape)
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


def grouped() -> LlamaForCausalLM:
    """A model whose heads share keys and values."""
    return llama(heads=1)


def gemma2(vocabulary: int = 30) -> Gemma2ForCausalLM:
    """A model that normalises the feed-forward part's output and caps its logits: it cannot be cached."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    shape |= {"head_dim": 8, "num_key_value_heads": 2, "max_position_embeddings": 32}
    return Gemma2ForCausalLM(Gemma2Config(vocab_size=vocabulary, **shape)).eval()


both = pytest.mark.parametrize("make", [llama, gpt2])


def llama_of(vocabulary: int) -> LlamaForCausalLM:
    """A teacher whose first 20 words are the same whatever its vocabulary is padded to."""
    whole = small_llama(40)
    whole.resize_token_embeddings(vocabulary)
    return whole
