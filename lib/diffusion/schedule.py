"""Noise schedules: abar, the share of signal variance left in each word at each time (InfoDiffusion, Figure 3)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lib.registry import Registry

ScheduleName = Literal["information", "sqrt", "linear", "cosine", "sqrt_released", "cosine_released"]

# Our choice: at the ends abar would be 0 or 1 (sqrt even falls below 0), where a step divides by zero.
FLOOR = 1e-4
# As released: a step keeps a thousandth of the signal at least (beta is at most 0.999).
LEAST_KEPT = 1e-3


def relative_information(information: Tensor) -> Tensor:
    """Centre and scale the information of the words of each sentence: e(w) = (H(w) - mean H) / (max H - min H).

    `information` (..., words) holds H in nats: positive for words, 0 for END, PAD and UNK, which take no part in mean,
    maximum and minimum. Returns e of the same shape: 0 for those and where all H are equal or only one word counts
    (our choice), else between -1 and 1 with mean 0 over the words. Raises `ValueError` for H that is negative or not
    finite.
    """
    if not ((information >= 0) & (information < math.inf)).all():
        raise ValueError("information holds a number that is negative or not finite: H is in nats, from 0 on")
    counted = information > 0
    count = counted.sum(-1, keepdim=True).clamp(min=1)
    mean = (information * counted).sum(-1, keepdim=True) / count
    highest = information.masked_fill(~counted, -math.inf).amax(-1, keepdim=True)
    lowest = information.masked_fill(~counted, math.inf).amin(-1, keepdim=True)
    spread = highest - lowest
    varied = counted & (spread > 0) & spread.isfinite()
    return torch.where(varied, (information - mean) / spread.where(varied, torch.ones_like(spread)), 0.0)


def information_abar(t: Tensor, steps: int, e: Tensor, lam: float) -> Tensor:
    """Return abar = 1 - t/T + lambda sin(pi t/T) e, unclipped (InfoDiffusion, Section 3.2); t and e broadcast."""
    fraction = t / steps
    return 1 - fraction + lam * torch.sin(math.pi * fraction) * e


def sqrt_abar(t: Tensor, steps: int) -> Tensor:
    """Return abar = 1 - sqrt(t/T + 1e-4), unclipped: DiffuSeq's schedule, the same for every word."""
    return 1 - torch.sqrt(t / steps + 1e-4)


def cosine_abar(t: Tensor, steps: int) -> Tensor:
    """Return abar = cos^2(pi/2 (t/T + 0.008)/1.008), unclipped: the schedule of improved DDPM."""
    return torch.cos(math.pi / 2 * (t / steps + 0.008) / 1.008) ** 2


def released(curve: Callable[[Tensor, int], Tensor], t: Tensor, steps: int) -> Tensor:
    """Return abar of a curve f as the released code builds it, by steps beta_t = min(1 - f(t)/f(t-1), 0.999).

    For whole t that product is max(f(t), f(t-1)/1000) / f(0): abar is 1 at t = 0, so sqrt stands a hundredth higher
    than f, and at t = T, where f is 0 or less, a thousandth of the abar before is left.
    """
    before = curve((t - 1).clamp(min=0), steps)
    return torch.maximum(curve(t, steps), LEAST_KEPT * before) / curve(torch.zeros_like(t), steps)


@dataclass(frozen=True)
class Schedule:
    """A curve of t, T, e and lambda, and the range that its abar is clipped to."""

    curve: Callable[[Tensor, int, Tensor, float], Tensor]
    least: float = FLOOR
    most: float = 1 - FLOOR


SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    {
        "information": Schedule(information_abar),
        "linear": Schedule(lambda t, steps, e, lam: information_abar(t, steps, e, 0.0)),
        "sqrt": Schedule(lambda t, steps, e, lam: sqrt_abar(t, steps)),
        "cosine": Schedule(lambda t, steps, e, lam: cosine_abar(t, steps)),
        "sqrt_released": Schedule(lambda t, steps, e, lam: released(sqrt_abar, t, steps), 0, 1),
        "cosine_released": Schedule(lambda t, steps, e, lam: released(cosine_abar, t, steps), 0, 1),
    },
)


def abar(name: ScheduleName, t: Tensor, steps: int, e: Tensor, lam: float) -> Tensor:
    """Return abar (sentences, words) of the schedule called `name`, clipped to [1e-4, 1 - 1e-4] unless as released.

    `t` is (sentences,) in [0, T = steps]; `e` is (sentences, words) and matters for "information" only, whose
    lambda is `lam`; "linear" is its lambda = 0. "sqrt_released" and "cosine_released" are those of DiffuSeq's code, see
    `released`; no code of the information-aware schedule was released. Never rises with t. Raises `UserError` for an
    unknown name, and `ValueError` for fewer than one step, t outside [0, T], lambda outside [0, 1], and e outside
    [-1, 1].
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: T is at least 1")
    if not ((t >= 0) & (t <= steps)).all():
        raise ValueError(f"t lies outside [0, T = {steps}], at {t[~((t >= 0) & (t <= steps))][0].item()}")
    if not 0 <= lam <= 1:
        raise ValueError(f"lam={lam}: lambda lies in [0, 1]")
    if not (e.abs() <= 1 + 1e-4).all():  # rounding apart
        raise ValueError("e holds a number outside [-1, 1]")
    schedule = SCHEDULES[name]
    return schedule.curve(t[:, None], steps, e, lam).expand_as(e).clamp(schedule.least, schedule.most)
