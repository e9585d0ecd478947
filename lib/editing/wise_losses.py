"""WISE's settings, as released and as tuned for our scale, and its losses (arXiv 2405.14768)."""

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from lib.settings import Settings

Portion = Annotated[float, Field(gt=0, le=1)]


class WiseConfig(Settings):
    """WISE; defaults are the released code's and its configuration's for LLaMA-2-7B on ZsRE, unless marked ours."""

    layer: NonNegativeInt = 27  # of 32
    memories: Literal["merge", "retrieve"] = "merge"
    density: Portion = 0.2  # rho: the share of coordinates that a shard may change
    shard: PositiveInt = 500  # edits of a shard
    shards: PositiveInt = 2  # k, merged into one side memory when they are full
    kept: Portion = 0.53  # share of entries that TIES leaves; every entry of a shard at density .2
    earlier: Portion | None = 0.6  # weight of an earlier merge, the new shards share the rest; None: all weigh the same
    unmerged: Literal["merge", "serve"] = "merge"  # shards before the next merge: merged as well while they are read
    contexts: tuple[tuple[PositiveInt, PositiveInt], ...] = ((5, 5), (10, 5))  # (new tokens, how many) before prompts
    openings: tuple[str, ...] = ("I", "You", "Because", "Yes", "Q: ")  # that contexts begin with
    over: Literal["sequence", "prompt"] = "sequence"  # tokens of an input whose differences are averaged
    activated: bool = True  # differences are between the layer's outputs after the activation (paper: without one)
    peak_above: PositiveInt | None = 100  # inputs with more tokens are routed by their largest difference
    alpha: NonNegativeFloat = 5.0  # the activation difference of irrelevant texts is to stay below
    beta: NonNegativeFloat = 20.0  # that of edits is to be above
    gamma: NonNegativeFloat = 10.0  # and the two are to be this far apart
    terms: Literal["violated", "all"] = "violated"  # of each margin that its mean is taken over
    average: Literal["text", "token"] = "text"  # what the target's loss is a mean over
    threshold: NonNegativeFloat | None = None  # epsilon; None: the smallest difference of the edits, times `ratio`
    ratio: PositiveFloat = 0.88
    measured: Literal["group", "batch"] = "group"  # edits' smallest difference: when each is learnt, or all are
    optimiser: Literal["sgd", "adam"] = "sgd"
    rate: PositiveFloat = 1.0
    decay: NonNegativeFloat = 1e-5  # of the whole side memory W', by SGD
    steps: PositiveInt = 70
    enough: NonNegativeFloat = 0.02  # training of a group stops at this loss
    still: NonNegativeFloat | None = 1e-4  # if it has moved no further than this; None: at once when it is below
    limit: PositiveFloat | None = 1.0  # no coordinate moves further than this
    together: PositiveInt = 1  # edits trained at a time
    fixed: bool = True  # every edit has one irrelevant text of its own, in their order; else they are drawn
    irrelevant: PositiveInt = 1  # irrelevant texts drawn for each edit and step
    cut: PositiveInt = 64  # irrelevant texts are cut to so many tokens (ours)
    chunk: PositiveInt = 32  # sequences that run at once in a step; leaves the gradient as it is (ours)
    packed: bool = False  # no padding above the layer, where that is less work; equal but for rounding (ours)
    seed: NonNegativeInt = 0

    @classmethod
    def tuned(cls, **settings: Any) -> Self:
        """Return settings for small models on few cores, with some of them changed; each one's reason stands here."""
        ours: dict[str, Any] = {
            "contexts": (),  # eleven texts an edit cost eleven times as much
            "together": 10,  # and ten edits at a time a tenth
            "optimiser": "adam",  # whose steps do not hang on the scale of gradients: SGD's rate 1 is for a 7B model
            "rate": 1e-2,
            "decay": 0.0,  # shrinks W' in every step, wherever no edit is
            "enough": 0.01,
            "still": None,
            "activated": False,  # the paper's equation 4
            "over": "prompt",  # so that a route does not look at the answer that is scored
            "peak_above": None,
            "terms": "all",  # the paper's equation 5
            "average": "token",
            "fixed": False,  # there are fewer irrelevant texts than edits
            "measured": "batch",  # later edits of a shard move the difference of earlier ones
            "unmerged": "serve",  # we score after every batch, not once at the end
            "earlier": None,
        }
        if settings.get("memories") == "retrieve":
            ours["shards"] = 1  # our runs fill too few shards for more than one memory otherwise
        return cls(**{**ours, **settings})


def difference(shift: Tensor, mask: Tensor, peak_above: int | None = None) -> Tensor:
    """Return Delta_act, (sequences,): the mean over the tokens of `mask` of the norm of `shift`.

    `shift` is (sequences, tokens, width): A(x) (W_v' - W_v), or what `after_activation` makes of it. In the paper a
    norm stands for the whole input; the mean over tokens, also that of the released code, makes long and short inputs
    comparable. Where more than `peak_above` tokens are in the mask the largest norm stands for the mean.
    """
    weights = mask.to(shift)
    norms = torch.linalg.vector_norm(shift, dim=-1) * weights
    mean = norms.sum(1) / weights.sum(1).clamp(min=1)
    return mean if peak_above is None else torch.where(weights.sum(1) > peak_above, norms.amax(1), mean)


def after_activation(output: Tensor, shift: Tensor, activation: Any) -> Tensor:
    """Return act(output + shift) - act(output), for the layer's own output and a side memory's shift of it."""
    return activation(output + shift) - activation(output)


def margin_loss(
    edits: Tensor,
    irrelevant: Tensor,
    alpha: float,
    beta: float,
    gamma: float,
    terms: Literal["violated", "all"] = "all",
) -> Tensor:
    """Return L_a for differences of edits (edits,) and of texts drawn for them (edits, drawn).

    Each of its three parts is the mean over all its terms, or over those that are violated (0 without any).
    """

    def mean(values: Tensor) -> Tensor:
        above = functional.relu(values)
        return above.mean() if terms == "all" else above.sum() / (values > 0).sum().clamp(min=1)

    return mean(irrelevant - alpha) + mean(beta - edits) + mean(gamma - (edits[:, None] - irrelevant))


def target_loss(losses: Tensor, sequence: Tensor, texts: int, average: Literal["text", "token"]) -> Tensor:
    """Return the sum over texts of their loss: of all tokens, or each text's tokens over their number and one.

    `losses` (target tokens,), in nats, belong to the texts that `sequence` (target tokens,) names. The one more is the
    released code's: its mask takes in a place before the target, whose loss is zero.
    """
    if average == "token":
        return losses.sum()
    lengths = torch.bincount(sequence, minlength=texts)
    return (losses / (lengths[sequence] + 1)).sum()
