"""Texts that a model writes itself, put before the prompts of edits so that what is learnt holds in any context."""

from typing import TYPE_CHECKING

import torch

from lib import seeds
from lib.causal_lm.encoding import prompt_tokens
from lib.editing.values import ValueConfig
from lib.editing.wise_losses import WiseConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def draw_prefixes(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: ValueConfig
) -> tuple[str | tuple[str, ...], ...]:
    """Return the empty prefix, and a group for each length of texts that the model generates (top 5, seeded)."""
    groups: list[str | tuple[str, ...]] = [""]
    for length, number in config.prefixes:
        drawn: list[str] = []
        for index, opening in enumerate(config.openings):
            count = len(range(index, number, len(config.openings)))
            if not count:
                continue
            ids = torch.tensor([prompt_tokens(tokenizer, opening)], device=model.device)
            new = max(length - ids.shape[1], 1)
            with torch.random.fork_rng():
                torch.manual_seed(seeds.seed_of("prefixes", config.seed, length, index))
                texts = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    top_k=5,
                    num_return_sequences=count,
                    min_new_tokens=new,
                    max_new_tokens=new,
                    pad_token_id=0,
                )
            drawn += [" ".join(tokenizer.decode(text, skip_special_tokens=True).split()) for text in texts]
        groups.append(tuple(drawn))
    return tuple(groups)


def draw_contexts(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: WiseConfig
) -> tuple[str, ...]:
    """Return the texts, each with a blank at its end, that a model writes on after the openings (greedily)."""
    drawn = []
    for new, number in config.contexts:
        for opening in config.openings[:number]:
            ids = torch.tensor([prompt_tokens(tokenizer, opening)], device=model.device)
            written = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                num_beams=1,
                min_new_tokens=new,
                max_new_tokens=new,
                pad_token_id=0,
            )
            drawn.append(tokenizer.decode(written[0], skip_special_tokens=True) + " ")
    return tuple(drawn)
