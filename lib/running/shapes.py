"""Memory and operations of networks from their shapes: what a plan reckons with, held to real modules by its tests."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lib.errors import UserError
from lib.profiles.fields import SMOLLM2

Family = Literal["llama", "gpt2"]


@dataclass(frozen=True)
class Shape:
    """A causal language model: `inner` is the width of its feed-forward parts, `groups` the heads of keys and values.

    `inner` and `groups` matter for Llama's family (Mistral's is the same); GPT-2's has 4 times its width.
    """

    family: Family
    layers: int
    width: int
    heads: int
    vocabulary: int
    inner: int = 0
    groups: int = 0
    positions: int = 0
    tied: bool = False

    @property
    def keys(self) -> int:
        """Return the width of keys, and of values."""
        return self.width * (self.groups or self.heads) // self.heads

    @property
    def hidden(self) -> int:
        """Return the width of the feed-forward parts."""
        return self.inner or 4 * self.width

    @property
    def block(self) -> int:
        """Return the parameters of a block."""
        if self.family == "gpt2":
            return 12 * self.width**2 + 13 * self.width
        return 2 * self.width * (self.width + self.keys) + 3 * self.width * self.hidden + 2 * self.width

    @property
    def embeddings(self) -> int:
        """Return the parameters of the embeddings, positions too."""
        return (self.vocabulary + self.positions) * self.width

    @property
    def parameters(self) -> int:
        """Return all parameters, the head's where it is not tied to the embeddings."""
        norm = self.width * (2 if self.family == "gpt2" else 1)
        head = 0 if self.tied or self.family == "gpt2" else self.vocabulary * self.width
        return self.embeddings + self.layers * self.block + norm + head

    def trained(self, first: int) -> int:
        """Return the parameters of the blocks from `first` on, and of the final norm."""
        return (self.layers - first) * self.block + self.width * (2 if self.family == "gpt2" else 1)

    def operations(self, first: int = 0) -> float:
        """Return the operations of a forward pass per token from block `first` on: matrix products, attention left out.

        A backward pass costs as much again for each of inputs and weights.
        """
        return 2.0 * ((self.layers - first) * self.block + self.vocabulary * self.width)

    def activations(self, stream: int = 4) -> float:
        """Return the bytes that a block keeps per token for its backward pass, under bfloat16 products.

        `stream`: bytes of a number of the residual stream, 4 where the weights are float32. Attention is the kernel
        that keeps no scores.
        """
        if self.family == "gpt2":
            return (2 * stream + 2 * 2 + 6 + 4) * self.width + 10 * self.hidden  # without dropout
        norms = 2 * (4 + stream + 2) * self.width
        attention = 2 * (self.width + self.keys) + 2 * self.keys + 4 * self.width
        return norms + attention + 8 * self.hidden

    def states(self, stream: int = 4) -> float:
        """Return the bytes that a block keeps per token where it is checkpointed: what enters it."""
        return stream * self.width

    def cached(self, size: int = 2) -> int:
        """Return the bytes that all blocks keep per token while text is generated: keys and values."""
        return self.layers * 2 * self.keys * size


# By hub name, so that a plan needs neither a network nor the files.
KNOWN = {
    "meta-llama/Llama-2-7b-hf": Shape("llama", 32, 4096, 32, 32000, 11008, 32),
    "mistralai/Mistral-7B-v0.1": Shape("llama", 32, 4096, 32, 32000, 14336, 8),
    "gpt2": Shape("gpt2", 12, 768, 12, 50257, positions=1024),
    "gpt2-medium": Shape("gpt2", 24, 1024, 16, 50257, positions=1024),
    "gpt2-large": Shape("gpt2", 36, 1280, 20, 50257, positions=1024),
    "gpt2-xl": Shape("gpt2", 48, 1600, 25, 50257, positions=1024),
    SMOLLM2: Shape("llama", 30, 576, 9, 49152, 1536, 3, tied=True),
}


def of_model(name: str, layers: int | None = None) -> Shape:
    """Return the shape of a model, of its first blocks where `layers` says how many.

    `name` is one of `KNOWN` or a folder with a config.json. Raises `UserError` for any other, and another architecture.
    """
    file = Path(name) / "config.json"
    if name in KNOWN:
        found = KNOWN[name]
    elif file.is_file():
        found = read(json.loads(file.read_text(encoding="utf-8")), str(file))
    else:
        raise UserError(f"{name}: its shape is not known here: give a folder with its config.json as BACKBONE")
    return found if layers is None else replace(found, layers=min(layers, found.layers))


def read(config: dict[str, Any], place: str) -> Shape:
    """Return the shape that a config.json of transformers describes; `UserError` naming it for another architecture."""
    try:
        if config["model_type"] in ("llama", "mistral"):
            return Shape(
                "llama",
                config["num_hidden_layers"],
                config["hidden_size"],
                config["num_attention_heads"],
                config["vocab_size"],
                config["intermediate_size"],
                config.get("num_key_value_heads") or config["num_attention_heads"],
                tied=bool(config.get("tie_word_embeddings", False)),
            )
        if config["model_type"] == "gpt2":
            layers, width, heads = (config[name] for name in ("n_layer", "n_embd", "n_head"))
            inner, positions = config.get("n_inner") or 0, config["n_positions"]
            return Shape("gpt2", layers, width, heads, config["vocab_size"], inner, positions=positions)
    except (KeyError, TypeError) as error:
        raise UserError(f"{place}: {error}: not the configuration of a causal language model") from error
    raise UserError(f"{place}: model_type {config['model_type']!r}: a plan knows llama, mistral and gpt2")


def block_of_ours(width: int, dropout: bool = True) -> float:
    """Return the bytes that a block of `lib.seq2seq.blocks`, or of BERT, keeps per word under bfloat16 products.

    Numbers of two bytes: what enters each norm, what leaves it, queries, keys and values before and after they are
    turned, the attended and the merged, the feed-forward part before and after its bend; and two masks of dropout.
    """
    return (2 * 2 + 2 * 2 + 6 + 4 + 4 + 2 * 8 + (2 if dropout else 0)) * width


def scores(vocabulary: int) -> float:
    """Return the bytes of the scores of a word over a vocabulary and its loss: bfloat16, float32, log-softmax."""
    return 10.0 * vocabulary
