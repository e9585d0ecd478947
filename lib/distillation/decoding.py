"""Writing responses: batched generation with a key-value cache, sampled at T = 1 for each decoding seed, or greedy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from lib import seeds
from lib.causal_lm.continuations import Choice, Prompts, sampled
from lib.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class DecodingConfig(Settings):
    """How responses are drawn; the defaults are the field's: T = 1 and top-p 1 (sheet, "Protocol of the field").

    The public code of MiniLLM forbids repeated 6-grams without saying so; here nothing is forbidden unless it is set.
    """

    tokens: PositiveInt  # most of a response
    temperature: PositiveFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    no_repeat_ngram_size: NonNegativeInt = 0  # 0: repeats are allowed
    batch: PositiveInt = 128


def generate(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    config: DecodingConfig,
    end: int,
    pad: int,
    seed: int | None = None,
) -> list[list[int]]:
    """Return the response ids to each prompt's ids, without the end token; greedy without a seed: one of `draws`."""
    return draws(model, prompts, config, end, pad, (seed,))[0]


def draws(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    config: DecodingConfig,
    end: int,
    pad: int,
    drawn: Sequence[int | None],
) -> list[list[list[int]]]:
    """Return, for each seed in `drawn`, the response ids to each prompt's ids, without the end token; None is greedy.

    Prompts of similar length share a batch, are padded on the left and are read once for all draws. Equal arguments
    give equal responses on an equal environment, whatever else is drawn; torch's global stream is left as it was.
    Raises `ValueError` for an empty prompt.
    """
    if any(not len(prompt) for prompt in prompts):
        raise ValueError("a prompt without tokens")
    order = sorted(range(len(prompts)), key=lambda place: (len(prompts[place]), place))
    found: list[list[list[int]]] = [[[] for _ in prompts] for _ in drawn]
    was_training = model.training
    model.eval()
    try:
        for number, start in enumerate(range(0, len(order), config.batch)):
            places = order[start : start + config.batch]
            read = _read(model, [prompts[place] for place in places], pad)
            for responses, seed in zip(found, drawn, strict=True):
                stream = seeds.generator("decoding", seed or 0, number)
                told = read.continued(config.tokens, torch.tensor([end]), _choice(config, seed is None), stream=stream)
                for place, ids in zip(places, told, strict=True):
                    responses[place] = ids[:-1] if ids[-1] == end else ids
    finally:
        model.train(was_training)
    return found


def _read(model: "PreTrainedModel", prompts: Sequence[Sequence[int]], pad: int) -> Prompts:
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return Prompts(model, ids.to(model.device), mask.to(model.device))


def _choice(config: DecodingConfig, greedy: bool) -> Choice:
    """Return how the next token is chosen: the likeliest one, or drawn."""
    rules = LogitsProcessorList()
    if config.no_repeat_ngram_size:
        rules.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if not greedy and config.temperature != 1:
        rules.append(TemperatureLogitsWarper(config.temperature))
    if not greedy and config.top_p < 1:
        rules.append(TopPLogitsWarper(config.top_p))

    def choose(ids: Tensor, logits: Tensor, uniform: Tensor) -> Tensor:
        allowed = rules(ids, logits.float())
        return allowed.argmax(-1) if greedy else sampled(allowed.softmax(-1), uniform)

    return choose
