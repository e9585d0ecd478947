"""What an editing method is built from on any model: sizes for its defaults, and what it needs besides edits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lib.api import plain_facts, plain_sentences
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import tokens
from lib.causal_lm.layers import block, blocks, down_projection, matrix
from lib.editing import moments
from lib.editing.alphaedit import AlphaEditConfig
from lib.editing.mend import Mend, projections, shapes
from lib.editing.mend_network import Transformation
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Bench", "Sizes", "shipped_texts", "shipped_unrelated"]

# What our tables and a user's own model have in common.
MOST_EXPERTS = 64  # of LEMoE, one a batch: more than any run has
LOCATED_STEPS = 20  # of values, as released for GPT2-XL by ROME and MEMIT, the smallest model that they have
MEMIT_PREFIXES = ((10, 5),)  # MEMIT's, for ROME too: six texts an edit cost less than a third of its own 21
MEMIT_WEIGHT = 1000.0  # lambda that the tuning split prefers to the published 15,000
MEND_STEPS = 60  # of its network's training, on a model of one's own
MOMENT_TOKENS = 100_000  # that second moments are the mean over, at most
LORA_MODULES = (("q_proj", "v_proj"), ("c_attn",), ("query_key_value",), ("qkv_proj",))  # the first that a model has


class Sizes(NamedTuple):
    """What defaults depend on: the model, and how many edits the first batch has.

    Layers are shares of the depth; SmolLM2's 30 give 18 (adaptors), 24 (near the output) and 7 to 9 (located).
    """

    model: "PreTrainedModel"
    first: int

    def layer(self, share: float) -> int:
        """Return the layer at a share of the depth."""
        return min(int(share * len(blocks(self.model)) + 1e-9), len(blocks(self.model)) - 1)

    @property
    def adaptor(self) -> int:
        """Return the layer of adaptors."""
        return self.layer(18 / 30)

    @property
    def upper(self) -> int:
        """Return the layer of methods that act near the output."""
        return self.layer(24 / 30)

    @property
    def around(self) -> tuple[int, ...]:
        """Return the layer near the output and those beside it, as far as there are any."""
        return tuple(layer for layer in range(self.upper - 1, self.upper + 2) if 0 <= layer < len(blocks(self.model)))

    @property
    def located(self) -> tuple[int, ...]:
        """Return the layers that facts are located in."""
        return tuple(range(self.layer(7 / 30), self.layer(9 / 30) + 1))

    @property
    def expert_width(self) -> int:
        """Return a third of the inner width of a feed-forward part (512 of SmolLM2's 1,536)."""
        return max(1, matrix(down_projection(self.model, 0)).shape[1] // 3)

    @property
    def lora_modules(self) -> tuple[str, ...]:
        """Return the names of the attention's maps that LoRA changes; `UserError` where none is known."""
        names = {name.split(".")[-1] for name, _ in block(self.model, 0).named_modules()}
        found = next((modules for modules in LORA_MODULES if names.issuperset(modules)), None)
        if found is None:
            raise UserError(f"{type(self.model).__name__}: LoRA's maps are not known: give modules=(...)")
        return found


@dataclass(frozen=True)
class Bench:
    """A model with what a method is built from; after `load` nothing is drawn or trained anew (`prefixes`, `fresh`)."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    config: Any
    texts: Sequence[str] = ()
    unrelated: Sequence[str] = ()
    tuning: Sequence[Edit] = ()
    prefixes: Sequence[str | Sequence[str]] | None = None
    fresh: bool = True

    @cached_property
    def moments(self) -> dict[int, Tensor]:
        """Return C by layer, from `texts`; where they are few it is drawn to a multiple of I (ours), else singular.

        With n tokens and a width w, n < 10 w: C <- (1 - a) C + a tr(C) / w I, a = w / (w + n).
        """
        layers = self.config.layers if hasattr(self.config, "layers") else (self.config.layer,)
        found = moments.second_moments(self.model, self.tokenizer, self.texts, layers, MOMENT_TOKENS)
        count = min(MOMENT_TOKENS, sum(len(tokens(self.tokenizer, text)) for text in self.texts))
        if isinstance(self.config, AlphaEditConfig):  # its null space is what these texts leave alone, and inverts no C
            return found
        for layer, value in found.items():
            width = len(value)
            if count < 10 * width:
                share = width / (width + count)
                even = torch.eye(width, dtype=value.dtype, device=value.device) * (value.trace() / width)
                found[layer] = (1 - share) * value + share * even
        return found

    def transformation(self) -> Transformation:
        """Return MEND's network, trained on `tuning`; after `load` an empty one, which its state fills."""
        if self.fresh:
            return Mend.train(self.model, self.tokenizer, self.tuning, self.config)[0]
        weights = projections(self.model, self.config.layers, self.config.matrices)
        return Transformation(self.config, shapes(weights)).to(self.model.device)


def shipped_texts() -> list[str]:
    """Return plain sentences and facts, about 2,600 words: too few for a C at its best, but enough to edit with."""
    return [*plain_sentences.SENTENCES, *(f"{prompt}{answer}." for prompt, answer in plain_facts.facts())]


def shipped_unrelated(edits: Sequence[Edit]) -> list[str]:
    """Return prompts of facts and as many sentences, without those that name a subject or a prompt of the edits.

    Half and half: prose alone lies so far from any edit that a threshold set on it would let every question in.
    """
    prompts = list(dict.fromkeys(prompt for prompt, _ in plain_facts.facts()))
    named = {text for edit in edits for text in (edit.prompt.strip(), (edit.subject or "").strip()) if text}
    return [
        text for text in (*prompts, *plain_sentences.SENTENCES[: len(prompts)]) if not any(one in text for one in named)
    ]
