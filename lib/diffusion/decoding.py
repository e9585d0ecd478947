"""From noise to sentences: the reverse process, rounding, candidates, and the step at which each word settles."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional

from lib import progress
from lib.diffusion import process, schedule
from lib.diffusion.batches import Window
from lib.diffusion.denoiser import Denoiser
from lib.text.vocabulary import Vocabulary


class DecodingConfig(BaseModel):
    """How a sentence is drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = 2000  # sampling steps, at most T
    sampler: Literal["ddim", "ancestral"] = "ancestral"
    candidates: int = 10
    information: Literal["latest", "carried"] = "latest"  # the e at the near end of a step, see `reverse`
    sentences: int = 64  # sentences (times candidates) drawn at once
    precision: str = "bfloat16"


@torch.inference_mode()
def reverse(
    model: Denoiser,
    diffusion: process.ProcessConfig,
    config: DecodingConfig,
    source: Tensor,
    places: int,
    information: Tensor,
    generator: torch.Generator,
    trace: bool = False,
) -> Tensor:
    """Draw target word ids (sentences, places) for source ids (sentences, source words), all of one length.

    The words of the current estimate of x0 give e, which serves both ends of a step ("latest"); with "carried" the far
    end keeps the e of the step before (our comparison). With `trace`, returns the words of the estimate after every
    step, (steps, sentences, places). Sampling steps are spread evenly over T. Raises `ValueError` for a step count
    outside 1..T.
    """
    if not 1 <= config.steps <= diffusion.steps:
        raise ValueError(f"sampling takes 1 to T = {diffusion.steps} steps, not {config.steps}")
    vectors = model.vectors()
    source, information = source.to(vectors.device), information.to(vectors.device)
    clean = functional.embedding(source, vectors)
    x_t = torch.randn(len(source), places, vectors.shape[1], generator=generator).to(vectors)
    estimate, carried = torch.zeros_like(x_t), None
    times = torch.linspace(diffusion.steps, 0, config.steps + 1).round().to(vectors.device)
    words: list[Tensor] = []
    for far, near in itertools.pairwise(times):
        t, s = far.expand(len(source)), near.expand(len(source))
        previous = estimate if diffusion.self_conditioning else torch.zeros_like(estimate)
        with torch.autocast(vectors.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            estimate = model(clean, x_t, previous, t, diffusion.steps)
            scores = model.logits(estimate, vectors)
            guess = scores.argmax(-1)
            if diffusion.estimate == "expected":
                estimate = model.expected(scores, vectors)
        words.append(guess)
        e = schedule.relative_information(information[guess])
        behind = carried if config.information == "carried" and carried is not None else e
        abar_t = schedule.abar(diffusion.schedule, t, diffusion.steps, behind, diffusion.lam)
        abar_s = schedule.abar(diffusion.schedule, s, diffusion.steps, e, diffusion.lam)
        carried = e
        if config.sampler == "ddim":
            x_t = process.ddim_step(x_t, estimate, abar_t, abar_s)
        elif near > 0:
            fresh = torch.randn(x_t.shape, generator=generator).to(x_t)
            x_t = process.ancestral_step(x_t, estimate, abar_t, abar_s, fresh)
    return torch.stack(words) if trace else words[-1]


def decode(
    model: Denoiser,
    diffusion: process.ProcessConfig,
    config: DecodingConfig,
    vocabulary: Vocabulary,
    sources: Sequence[str],
    information: Tensor,
    window: Window,
    seed: int,
) -> list[list[str]]:
    """Return `config.candidates` sentences for every source; batches hold sources of one length only."""
    groups: dict[int, list[int]] = defaultdict(list)
    encoded = [vocabulary.encode(source) for source in sources]
    for number, ids in enumerate(encoded):
        groups[len(ids)].append(number)
    chunks = [
        (length, members[start : start + config.sentences])
        for length, members in sorted(groups.items())
        for start in range(0, len(members), config.sentences)
    ]
    found: list[list[str]] = [[] for _ in sources]
    for number, (length, members) in enumerate(progress.bar(chunks, "decoding")):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        source = torch.tensor([encoded[m] for m in members]).repeat_interleave(config.candidates, 0)
        drawn = reverse(model, diffusion, config, source, window.places(length), information, generator)
        for row, ids in enumerate(drawn.tolist()):
            found[members[row // config.candidates]].append(vocabulary.decode(ids))
    return found
