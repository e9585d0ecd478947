"""The reverse process: from noise to the words of a target, with the estimate after every step where it is wanted."""

import itertools
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from lib.diffusion import process, schedule
from lib.diffusion.denoiser import Denoiser
from lib.errors import UserError
from lib.seq2seq.counts import Count
from lib.settings import Settings


class SamplingConfig(Settings):
    """How the reverse process is walked."""

    steps: Count = 2000  # sampling steps, at most T
    sampler: Literal["ddim", "ancestral"] = "ancestral"
    information: Literal["latest", "carried"] = "latest"  # the e at the near end of a step, see `reverse`


@torch.inference_mode()
def reverse(
    model: Denoiser,
    diffusion: process.ProcessConfig,
    config: SamplingConfig,
    source: Tensor,
    places: int,
    information: Tensor,
    generator: torch.Generator,
    trace: bool = False,
) -> Tensor:
    """Draw target word ids (sentences, places) for source ids (sentences, source words), all of one length.

    The words of the current estimate of x0 give e, which serves both ends of a step ("latest"); with "carried" the far
    end keeps the e of the step before (our comparison). With `trace`, returns the words of the estimate after every
    step, (steps, sentences, places). Sampling steps are spread evenly over T. Raises `UserError` for more steps than T,
    `ValueError` for fewer than one place.
    """
    if places < 1:
        raise ValueError(f"places={places}: a target has at least one")
    if config.steps > diffusion.steps:
        raise UserError(f"sampling takes 1 to T = {diffusion.steps} steps, not {config.steps}")
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
