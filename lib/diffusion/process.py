"""The diffusion over word embeddings: noising, training loss, and one step back by DDIM or ancestral sampling."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from lib.diffusion import schedule as noise_schedule
from lib.diffusion.denoiser import Denoiser
from lib.seq2seq import draws
from lib.seq2seq.counts import Count
from lib.settings import Settings, Share

Variance = Literal["posterior", "fixed_large"]  # of an ancestral step


class ProcessConfig(Settings):
    """The process of one model; `RELEASED` names what the authors' code does where that is no default."""

    steps: Count = 2000  # T
    schedule: noise_schedule.ScheduleName = "information"
    lam: Share = 0.5  # lambda, Figure 3
    self_conditioning: Share = 0.5  # probability in training (the released "denoise rate"); 0 switches it off
    timesteps: Literal["uniform", "skewed", "loss_aware"] = "loss_aware"
    squared_error: NonNegativeFloat = 1.0
    rounding: NonNegativeFloat = 1.0
    # "network" is the paper's; "expected" replaces the network's estimate by the mean word vector under its own
    # distribution over words, so that it never leaves the words' hull (our choice).
    estimate: Literal["network", "expected"] = "network"
    rounding_of: Literal["estimate", "clean"] = "clean"  # "clean" is DiffuSeq's, "estimate" is our choice
    # What the squared error reads: the network's output, or the estimate that sampling uses (our choice). The expected
    # vector is best where the distribution is the true one, and there the cross entropy of the estimate is, too.
    squared_error_of: Literal["output", "estimate"] = "output"
    # "released": x0 is a word vector plus noise of the variance that t = 1 has, in source and target.
    x0_noise: Literal["none", "released"] = "none"
    averaged_over: Literal["target", "both"] = "target"  # the words that the terms are means over; "both" is DiffuSeq's


# DiffuSeq's code, which InfoDiffusion's builds on, beside the defaults above: each term of the loss counts once.
RELEASED: Mapping[str, Any] = MappingProxyType(
    {"timesteps": "loss_aware", "rounding_of": "clean", "x0_noise": "released", "averaged_over": "both"}
)

# Our choices, alike for both models (docs/infodiffusion.md): both losses read the network's output, and at sharpness 1
# have their optimum at one place.
OURS: Mapping[str, Any] = MappingProxyType({"rounding_of": "estimate", "timesteps": "skewed"})
# What DiffuSeq's process has in the place of InfoDiffusion's defaults, and nothing else.
DIFFUSEQ: Mapping[str, Any] = MappingProxyType({"schedule": "sqrt", "self_conditioning": 0.0})

_BELOW_ONE, _ABOVE_ZERO = 1 - 2**-24, 2**-126  # the float32 numbers next to 1 and to 0


def noise(x0: Tensor, abar: Tensor, epsilon: Tensor) -> Tensor:
    """Draw x_t ~ N(sqrt(abar) x0, (1 - abar) I) for every word from standard normal `epsilon`.

    x0 and epsilon (sentences, words, embedding), abar (sentences, words). Raises `ValueError` for abar outside [0, 1].
    """
    _check("abar", abar, 0, 1)
    abar = abar[..., None]
    return abar.sqrt() * x0 + (1 - abar).sqrt() * epsilon


def losses(
    model: Denoiser,
    config: ProcessConfig,
    source: Tensor,
    target: Tensor,
    e: Tensor,
    t: Tensor,
    generator: draws.Stream,
    conditioned: bool,
) -> dict[str, Tensor]:
    """Return the terms of the training loss for each sentence: `squared_error`, `rounding`, `prior` (DiffuSeq).

    source and target are word ids (sentences, words), e (sentences, target words), t (sentences,) in 1..T. With
    `conditioned`, a first estimate without gradient is given back to the network (self-conditioning). `squared_error`
    is a mean per dimension relative to the variance of a word vector, `rounding` the mean of -log p(w | x0) in nats,
    `prior` the mean square of the mean of x_T. With "released" `x0_noise` all three read the noised x0, of which the
    squared error takes the plain word vectors at t = 1; averaged over "both", all are means over source and target.
    """
    vectors, both = model.vectors(), config.averaged_over == "both"
    given, x0 = functional.embedding(source, vectors), functional.embedding(target, vectors)
    aim = torch.cat([given, x0], 1) if both else x0
    e_given = e.new_zeros(source.shape)  # the source is not noised word by word
    if config.x0_noise == "released":
        given = _start(config, given, t, e_given, generator)
        x0 = _start(config, x0, t, e, generator)
    abar = noise_schedule.abar(config.schedule, t, config.steps, e, config.lam)
    noised = noise(x0, abar, draws.normal(x0.shape, generator).to(x0))
    previous = torch.zeros_like(x0)
    if conditioned:
        with torch.no_grad():
            previous = model(given, noised, previous, t, config.steps)
            if config.estimate == "expected":
                previous = model.mean_word(previous, vectors)
    output = model(given, noised, previous, t, config.steps, both=both)
    if both:
        x0, e, target = torch.cat([given, x0], 1), torch.cat([e_given, e], 1), torch.cat([source, target], 1)
    rounding, mean = model.read(output if config.rounding_of == "estimate" else x0, vectors, target)
    if config.squared_error_of == "estimate" and config.estimate == "expected":
        output = mean if config.rounding_of == "estimate" else model.read(output, vectors, target)[1]
    if config.x0_noise == "released":
        aim = torch.where((t == 1)[:, None, None], aim, x0)
    last = noise_schedule.abar(config.schedule, torch.full_like(t, config.steps), config.steps, e, config.lam)
    return {
        "squared_error": ((output - aim) ** 2).mean((1, 2)) / model.config.embedding_scale**2,
        "rounding": rounding.mean(1),
        "prior": (last[..., None] * x0**2).mean((1, 2)),
    }


def _start(config: ProcessConfig, vectors: Tensor, t: Tensor, e: Tensor, generator: draws.Stream) -> Tensor:
    """Draw x0 around word vectors (sentences, words, embedding) with the variance 1 - abar of t = 1, as released."""
    first = noise_schedule.abar(config.schedule, torch.ones_like(t), config.steps, e, config.lam)[..., None]
    return vectors + (1 - first).sqrt() * draws.normal(vectors.shape, generator).to(vectors)


def ddim_step(x_t: Tensor, estimate: Tensor, abar_t: Tensor, abar_s: Tensor) -> Tensor:
    """Go from x_t to x_s, s < t, without new noise (DDIM, eta = 0); abar (sentences, words) at t and s.

    Raises `ValueError` for abar_t outside [0, 1), which a step divides by, and abar_s outside [0, 1].
    """
    _check("abar_t", abar_t, 0, _BELOW_ONE)
    _check("abar_s", abar_s, 0, 1)
    abar_t, abar_s = abar_t[..., None], abar_s[..., None]
    epsilon = (x_t - abar_t.sqrt() * estimate) / (1 - abar_t).sqrt()
    return abar_s.sqrt() * estimate + (1 - abar_s).sqrt() * epsilon


def ancestral_step(
    x_t: Tensor,
    estimate: Tensor,
    abar_t: Tensor,
    abar_s: Tensor,
    epsilon: Tensor,
    variance: Variance = "posterior",
) -> Tensor:
    """Draw x_s, s < t, from the posterior q(x_s | x_t, x0 = estimate); `epsilon` is standard normal.

    With alpha = abar_t / abar_s: mean = (sqrt(abar_s) (1 - alpha) x0 + sqrt(alpha) (1 - abar_s) x_t) / (1 - abar_t),
    variance = (1 - abar_s) (1 - alpha) / (1 - abar_t), or beta = 1 - alpha ("fixed_large", as released). Raises
    `ValueError` for abar_t outside [0, 1) and abar_s outside (0, 1], which a step divides by.
    """
    _check("abar_t", abar_t, 0, _BELOW_ONE)
    _check("abar_s", abar_s, _ABOVE_ZERO, 1)
    abar_t, abar_s = abar_t[..., None], abar_s[..., None]
    alpha = (abar_t / abar_s).clamp(max=1)
    mean = (abar_s.sqrt() * (1 - alpha) * estimate + alpha.sqrt() * (1 - abar_s) * x_t) / (1 - abar_t)
    shrink = (1 - abar_s) / (1 - abar_t) if variance == "posterior" else 1.0
    return mean + (shrink * (1 - alpha)).sqrt() * epsilon


def _check(name: str, abar: Tensor, least: float, most: float) -> None:
    if not ((abar >= least) & (abar <= most)).all():
        raise ValueError(f"{name} holds a number outside [{least:.4g}, {most:.4g}]")
