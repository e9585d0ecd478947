"""Writing responses: batched generation with a key-value cache, sampled at T = 1 for each decoding seed, or greedy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict
from transformers import GenerationConfig

from lib import seeds

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class DecodingConfig(BaseModel):
    """How responses are drawn; the defaults are the field's: T = 1 and top-p 1 (sheet, "Protocol of the field").

    The public code of MiniLLM forbids repeated 6-grams without saying so; here nothing is forbidden unless it is set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int  # most of a response
    temperature: float = 1.0
    top_p: float = 1.0
    no_repeat_ngram_size: int = 0  # 0: repeats are allowed
    batch: int = 128


def generate(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    config: DecodingConfig,
    end: int,
    pad: int,
    seed: int | None = None,
) -> list[list[int]]:
    """Return the response ids to each prompt's ids, without the end token; greedy without a seed, else sampled.

    Prompts of similar length share a batch and are padded on the left. Equal arguments give equal responses on an equal
    environment; torch's global stream is left as it was. Raises `ValueError` for an empty prompt.
    """
    if any(not len(prompt) for prompt in prompts):
        raise ValueError("a prompt without tokens")
    chosen = GenerationConfig(
        max_new_tokens=config.tokens,
        do_sample=seed is not None,
        no_repeat_ngram_size=config.no_repeat_ngram_size,
        eos_token_id=end,
        pad_token_id=pad,
        **({} if seed is None else {"temperature": config.temperature, "top_p": config.top_p, "top_k": 0}),
    )
    order = sorted(range(len(prompts)), key=lambda place: (len(prompts[place]), place))
    found: list[list[int]] = [[] for _ in prompts]
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            for number, start in enumerate(range(0, len(order), config.batch)):
                places = order[start : start + config.batch]
                torch.manual_seed(0 if seed is None else seeds.seed_of("decoding", seed, number))
                for place, ids in zip(places, _written(model, [prompts[p] for p in places], chosen), strict=True):
                    found[place] = ids[: ids.index(end)] if end in ids else ids
    finally:
        model.train(was_training)
    return found


def _written(model: "PreTrainedModel", prompts: Sequence[Sequence[int]], how: GenerationConfig) -> list[list[int]]:
    """Return what the model writes after each prompt of one batch, with end and padding tokens."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[how.pad_token_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    written = model.generate(
        input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=how
    )
    return written[:, longest:].tolist()
