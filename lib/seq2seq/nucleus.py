"""What all autoregressive models share: nucleus sampling, the loop over places, and the likelihood of a target."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

P = 0.9  # our choice: the paper does not say how words are drawn


def nucleus(logits: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Draw one word id for each row of logits (n, vocabulary) from the smallest set of words of mass >= p; (n,).

    Temperature 1, float32, uniform numbers from the CPU `generator`. Words as probable as the least probable one of the
    set belong to it (our choice). Raises `ValueError` for p outside (0, 1] or logits that give no distribution.
    """
    if not 0 < p <= 1:
        raise ValueError(f"the mass of a nucleus lies in (0, 1], not at {p}")
    probability = logits.float().softmax(-1)
    drawn = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    waiting = torch.arange(len(logits), device=logits.device)
    # Drawing from all words until one lies in the nucleus needs no sort, which takes ten times as long: a word lies in
    # it when the words before it have less than p, and at least a share p of the draws does.
    while len(waiting):
        reached = probability.cumsum(-1)
        total = reached[:, -1:]
        if not total.isfinite().all():
            raise ValueError("logits that are not a number, or all minus infinity, give no distribution")
        uniform = torch.rand(len(waiting), 1, generator=generator).to(total)
        word = torch.searchsorted(reached, uniform * total, right=True)
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
    """
    drawn = torch.full((len(start), places), pad, device=start.device)
    running = torch.ones(len(start), dtype=torch.bool, device=start.device)
    words = start
    for place in range(places):
        logits = step(words).float()
        if pad != end:
            logits[:, pad] = -torch.inf
        following = nucleus(logits, P, generator)
        drawn[running, place] = following[running]
        running &= following != end
        if not running.any():
            break
        words = following[:, None]
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
