"""What all autoregressive models share: nucleus sampling, the loop over places, and the likelihood of a target."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

P = 0.9  # our choice: the paper does not say how words are drawn
PATIENCE = 8  # places between two looks at whether all sentences have ended, where a look waits for the device


def nucleus(logits: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Draw one word id for each row of logits (n, vocabulary) from the smallest set of words of mass >= p; (n,).

    Temperature 1, float32, numbers from `generator`, which is of the logits' device. Words as probable as the least
    probable one of the set belong to it (our choice). Raises `ValueError` for p outside (0, 1] or logits that give no
    distribution.
    """
    if not 0 < p <= 1:
        raise ValueError(f"the mass of a nucleus lies in (0, 1], not at {p}")
    drawn, whole = _draw(logits, p, generator)
    _check(whole)
    return drawn


def _draw(logits: Tensor, p: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return what `nucleus` does, and whether all rows gave a distribution, at which only a CPU is asked to look."""
    probability = logits.float().softmax(-1)
    whole = probability[:, 0].isfinite().all()  # a row with one that is not a number is all so
    if logits.device.type != "cpu":
        return _by_sorting(probability, p, generator), whole
    _check(whole)
    return _by_trying(probability, p, generator), whole


def _check(whole: Tensor) -> None:
    if not whole:
        raise ValueError("logits that are not a number, or all minus infinity, give no distribution")


def _by_sorting(probability: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Draw words (n,) without waiting for the device: the first to come, each word's time exponential at its rate."""
    ordered = probability.sort(-1, descending=True).values
    outside = ordered.cumsum(-1) - ordered >= p
    least = ordered.masked_fill(outside, math.inf).amin(-1, keepdim=True)
    rates = probability * (probability >= least)
    times = torch.empty_like(rates).exponential_(generator=generator).clamp_(min=torch.finfo(rates.dtype).tiny)
    return (rates / times).argmax(-1)


def _by_trying(probability: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Draw words (n,) from all until each lies in its nucleus; on a CPU a sort takes ten times as long."""
    drawn = torch.zeros(len(probability), dtype=torch.long)
    waiting = torch.arange(len(probability))
    # A word lies in the nucleus when the words before it have less than p, and at least a share p of the draws does.
    while len(waiting):
        reached = probability.cumsum(-1)
        uniform = torch.rand(len(waiting), 1, generator=generator)
        word = torch.searchsorted(reached, uniform * reached[:, -1:], right=True)
        before = (probability * (probability > probability.gather(1, word))).sum(-1)
        inside = before < p
        drawn[waiting[inside]] = word[inside, 0]
        waiting, probability = waiting[~inside], probability[~inside]
    return drawn


def sentences(
    step: Callable[[Tensor], Tensor], start: Tensor, places: int, pad: int, end: int, generator: torch.Generator
) -> Tensor:
    """Draw word ids (n, places), one place after another with a nucleus of `P`, until all rows have ended.

    `step` takes the new words, first `start` (n, words) and then those just drawn (n, 1), and returns the logits
    (n, vocabulary) of the next ones. What follows END is PAD; PAD itself is never drawn, unless END is the same id.
    Raises `ValueError` as `nucleus`; on a GPU, which is not waited for at each word, after the last place.
    """
    drawn = torch.full((len(start), places), pad, device=start.device)
    running = torch.ones(len(start), dtype=torch.bool, device=start.device)
    whole, words, waits = running.all(), start, start.device.type != "cpu"
    for place in range(places):
        logits = step(words).float()
        if pad != end:
            logits[:, pad] = -torch.inf
        following, sound = _draw(logits, P, generator)
        whole = whole & sound
        drawn[:, place] = torch.where(running, following, pad)
        running &= following != end
        if (not waits or place % PATIENCE == PATIENCE - 1) and not running.any():
            break
        words = following[:, None]
    _check(whole)
    return drawn


def likelihood(hidden: Tensor, target: Tensor, pad: int, output: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean of -log p(word) in nats over each sentence's words and END, (n,).

    hidden (n, places, width) is what `output` turns into logits over the vocabulary; target (n, places) ids, PAD not
    counted. Raises `ValueError` for a target of PAD alone, which has no mean.
    """
    counted = target != pad  # the output layer is the dearest part of a small model
    if not counted.any(1).all():
        raise ValueError("target: a sentence holds nothing but PAD, not even END")
    cost = functional.cross_entropy(output(hidden[counted]).float(), target[counted], reduction="none")
    return torch.zeros(target.shape, device=cost.device).masked_scatter(counted, cost).sum(1) / counted.sum(1)


def shifted(target: Tensor, end: int) -> Tensor:
    """Return what a decoder reads to predict `target` (n, places): END, then all words but the last, (n, places)."""
    return torch.cat([torch.full_like(target[:, :1], end), target[:, :-1]], 1)
