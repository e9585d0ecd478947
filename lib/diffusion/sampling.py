"""The reverse process: from noise to the words of a target, with the estimate after every step where it is wanted."""

import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from lib.diffusion import process, schedule
from lib.diffusion.denoiser import Denoiser
from lib.errors import UserError
from lib.seq2seq import draws
from lib.seq2seq.counts import Count
from lib.settings import Settings


class SamplingConfig(Settings):
    """How the reverse process is walked."""

    steps: Count = 2000  # sampling steps, at most T
    sampler: Literal["ddim", "ancestral"] = "ancestral"
    information: Literal["latest", "carried"] = "latest"  # the e at the near end of a step, see `reverse`
    # "nearest" puts the nearest word vector in the place of every estimate ("clamping", as released)
    clamp: Literal["none", "nearest"] = "none"
    variance: process.Variance = "posterior"  # of an ancestral step; "fixed_large" is the released one
    temperature: NonNegativeFloat = 1.0  # factor on the noise of ancestral steps (our choice; x_T keeps its own)


# DiffuSeq's code, which InfoDiffusion's builds on, in as many steps as T.
RELEASED: Mapping[str, Any] = MappingProxyType({"sampler": "ancestral", "clamp": "nearest", "variance": "fixed_large"})


def nearest(estimate: Tensor, vectors: Tensor) -> Tensor:
    """Return the ids (...) of the word vectors (words, embedding) that are nearest to estimates (..., embedding)."""
    # |x - v|^2 = |x|^2 - 2 x v + |v|^2, whose first term all words share
    return likeliest(functional.linear(estimate, vectors).float() - (vectors**2).sum(-1) / 2)


def likeliest(scores: Tensor) -> Tensor:
    """Return the first of the best words (...) by scores (..., words)."""
    return scores.max(-1).indices  # on a CPU four times as fast as `argmax`, which finds the same


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
    end keeps the e of the step before (our comparison). Noise is drawn on the generator's device. With `trace`, returns
    the words of the estimate after every step, (steps, sentences, places). Sampling steps are spread evenly over T.
    Raises `UserError` for more steps than T, `ValueError` for fewer than one place.
    """
    if places < 1:
        raise ValueError(f"places={places}: a target has at least one")
    if config.steps > diffusion.steps:
        raise UserError(f"sampling takes 1 to T = {diffusion.steps} steps, not {config.steps}")
    vectors = model.vectors()
    source, information = source.to(vectors.device), information.to(vectors.device)
    clean = functional.embedding(source, vectors)
    x_t = draws.normal((len(source), places, vectors.shape[1]), generator).to(vectors)
    estimate, carried = torch.zeros_like(x_t), None
    times = torch.linspace(diffusion.steps, 0, config.steps + 1).round().to(vectors.device)
    words: list[Tensor] = []
    for step, (far, near) in enumerate(itertools.pairwise(times), start=1):
        t, s = far.expand(len(source)), near.expand(len(source))
        previous = estimate if diffusion.self_conditioning else torch.zeros_like(estimate)
        output = model(clean, x_t, previous, t, diffusion.steps)
        guess, estimate, aim = _read(model, diffusion, config, output, vectors)
        words.append(guess)
        e = schedule.relative_information(information[guess])
        behind = carried if config.information == "carried" and carried is not None else e
        abar_t = schedule.abar(diffusion.schedule, t, diffusion.steps, behind, diffusion.lam)
        abar_s = schedule.abar(diffusion.schedule, s, diffusion.steps, e, diffusion.lam)
        carried = e
        if config.sampler == "ddim":
            x_t = process.ddim_step(x_t, aim, abar_t, abar_s)
        elif step < config.steps:  # the last step ends at t = 0, where nothing is drawn any more
            fresh = config.temperature * draws.normal(x_t.shape, generator).to(x_t)
            x_t = process.ancestral_step(x_t, aim, abar_t, abar_s, fresh, config.variance)
    return torch.stack(words) if trace else words[-1]


def _read(
    model: Denoiser, diffusion: process.ProcessConfig, config: SamplingConfig, output: Tensor, vectors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the words of the network's output, its estimate of x0, and what the step goes towards.

    The two differ where estimates are clamped: the network is given back its own, as in training.
    """
    if diffusion.estimate == "network" and config.clamp == "nearest":
        guess, estimate = nearest(output, vectors), output
        return guess, estimate, functional.embedding(guess, vectors)
    scores = model.logits(output, vectors)
    guess, estimate = likeliest(scores), output
    if diffusion.estimate == "expected":
        estimate = model.expected(scores, vectors)
    if config.clamp == "none":
        return guess, estimate, estimate
    guess = nearest(estimate, vectors)
    return guess, estimate, functional.embedding(guess, vectors)
