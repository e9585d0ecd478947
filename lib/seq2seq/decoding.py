"""From a trained model to sentences: candidates for every source, in batches of one source length."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from lib import progress
from lib.machine import bfloat16  # noqa: F401  # makes such products quick where the processor has none
from lib.seq2seq import draws
from lib.seq2seq.batches import Window
from lib.seq2seq.counts import Count
from lib.settings import Settings
from lib.text.vocabulary import Vocabulary

Sampler = Callable[[Tensor, int, torch.Generator], Tensor]


class DecodingConfig(Settings):
    """How many sentences are drawn, and how many at once."""

    candidates: Count = 10
    sentences: Count = 64  # sources (times candidates) drawn at once
    precision: Literal["bfloat16", "float32"] = "bfloat16"


def chunks(encoded: Sequence[list[int]], most: int) -> list[tuple[int, list[int]]]:
    """Return (source words, numbers of at most `most` sources of that length), short sources first.

    Raises `ValueError` for a source without words.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for number, ids in enumerate(encoded):
        if not ids:
            raise ValueError(f"source {number} has no words: give one at least")
        groups[len(ids)].append(number)
    return [
        (length, members[start : start + most])
        for length, members in sorted(groups.items())
        for start in range(0, len(members), most)
    ]


def decode(
    sample: Sampler,
    config: DecodingConfig,
    vocabulary: Vocabulary,
    sources: Sequence[str],
    window: Window,
    seed: int,
    device: str = "cpu",
) -> list[list[str]]:
    """Return `config.candidates` sentences for every source, drawn by `sample`; the reference plays no part.

    Each batch has a stream of its own, of the device's generator (see `draws`): a CPU and a GPU write other sentences.
    """
    encoded = [vocabulary.encode(source) for source in sources]
    found: list[list[str]] = [[] for _ in sources]
    for number, (length, members) in enumerate(progress.bar(chunks(encoded, config.sentences), "decoding")):
        source = torch.tensor([encoded[m] for m in members], device=device).repeat_interleave(config.candidates, 0)
        with torch.autocast(source.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            drawn = sample(source, window.places(length), draws.stream(source.device, "decoding", seed, number))
        for row, ids in enumerate(drawn.tolist()):
            found[members[row // config.candidates]].append(vocabulary.decode(ids))
    return found
