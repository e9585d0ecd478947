"""Divergences between the next-token distributions of teacher p and student q: pure functions, one value per token.

All take logits or log-probabilities (tokens, vocabulary), student first, and return nats (tokens,). A class that the
teacher gives no mass (logit -inf) adds nothing to the forward divergences and makes reverse ones infinite; one that
neither gives any is as if it were not there, and where a value is finite no gradient reaches a student's class at -inf.
A NaN on either side gives NaN. Half precision is raised to float32 before the softmax. None is ever negative: what
rounding leaves below zero is zero.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lib.distillation.precision import raised
from lib.errors import UserError
from lib.registry import Registry

__all__ = [
    "DIVERGENCES",
    "Divergence",
    "adaptive_kl",
    "alpha_beta",
    "forward_kl",
    "jensen_shannon",
    "reverse_kl",
    "skewed_kl",
    "skewed_reverse_kl",
    "token_mean",
]

Divergence = Callable[[Tensor, Tensor], Tensor]


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(p || q), what Hinton's distillation minimises: (tokens,) nats.

    Raises `UserError`, as all of this module do, where the two are not over the same classes.
    """
    log_q, log_p = _logs(student, teacher)
    return _not_negative(_relative_entropy(log_p, log_q))


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(q || p), MiniLLM's objective read token by token: (tokens,) nats."""
    log_q, log_p = _logs(student, teacher)
    return _not_negative(_relative_entropy(log_q, log_p))


def jensen_shannon(student: Tensor, teacher: Tensor, beta: float = 0.5) -> Tensor:
    """Return beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q: (tokens,) nats.

    GKD (Agarwal et al. 2024), equation 1. As in the public code its ends, where this is zero, stand for what it tends
    to after division by beta or 1 - beta: beta 0 is the forward and beta 1 the reverse KL. DistiLLM's lambda is 1 -
    beta. Raises `ValueError` for a beta outside [0, 1].
    """
    _between("beta", beta, 0, 1)
    if beta in (0, 1):
        return reverse_kl(student, teacher) if beta else forward_kl(student, teacher)
    log_q, log_p = _logs(student, teacher)
    log_m = _mixture(log_p, log_q, beta)
    return _not_negative(beta * _relative_entropy(log_p, log_m) + (1 - beta) * _relative_entropy(log_q, log_m))


def skewed_kl(student: Tensor, teacher: Tensor, alpha: float = 0.1) -> Tensor:
    """Return KL(p || alpha p + (1 - alpha) q), DistiLLM (Ko et al. 2024), equation 2: (tokens,) nats.

    Raises `ValueError` for an alpha outside [0, 1].
    """
    log_q, log_p = _logs(student, teacher)
    return _not_negative(_relative_entropy(log_p, _mixture(log_p, log_q, _between("alpha", alpha, 0, 1))))


def skewed_reverse_kl(student: Tensor, teacher: Tensor, alpha: float = 0.1) -> Tensor:
    """Return KL(q || alpha q + (1 - alpha) p), DistiLLM's skewed reverse KL: (tokens,) nats.

    Raises `ValueError` for an alpha outside [0, 1].
    """
    log_q, log_p = _logs(student, teacher)
    return _not_negative(_relative_entropy(log_q, _mixture(log_q, log_p, _between("alpha", alpha, 0, 1))))


def adaptive_kl(student: Tensor, teacher: Tensor, mu: float = 0.5) -> Tensor:
    """Return the forward and reverse KL weighted by where they disagree (Wu et al. 2024, AKL): (tokens,) nats.

    The teacher's best token and those after it up to a mass of `mu` are the head, the others the tail; the weight of
    the forward KL is the head's share of sum |p - q|, that of the reverse KL the tail's, and no gradient goes through
    them. One half each where p = q. Raises `ValueError` for a mu outside [0, 1].
    """
    _between("mu", mu, 0, 1)
    log_q, log_p = _logs(student, teacher)
    with torch.no_grad():
        p, order = log_p.exp().sort(dim=-1, descending=True)
        gap = (p - log_q.exp().gather(-1, order)).abs()
        head = p.cumsum(-1) <= mu
        head[..., 0] = True
        first, whole = (gap * head).sum(-1), gap.sum(-1)
        share = torch.where(whole > 0, first / whole.clamp_min(torch.finfo(whole.dtype).tiny), 0.5)
    forward, reverse = _relative_entropy(log_p, log_q), _relative_entropy(log_q, log_p)
    return _not_negative(_weighted(share, forward) + _weighted(1 - share, reverse))


def alpha_beta(student: Tensor, teacher: Tensor, alpha: float = 0.2, beta: float = 0.7) -> Tensor:
    """Return the alpha-beta divergence of p and q (Cichocki et al. 2011; ABKD, Wang et al. 2025): (tokens,).

    -1 / (alpha beta) sum(p^alpha q^beta - alpha p^(alpha + beta) / (alpha + beta) - beta q^(alpha + beta) / (...)),
    with its limits: (1, 0) is the forward and (0, 1) the reverse KL. The defaults are ABKD's for instructions. Raises
    `ValueError` for a negative or not finite number, or two zeros, where the rarest tokens would outweigh all others.
    """
    if not (alpha >= 0 and beta >= 0 and 0 < alpha + beta < math.inf):
        raise ValueError(f"alpha {alpha}, beta {beta}: neither may be negative or without end, and not both zero")
    log_q, log_p = _logs(student, teacher)
    if beta == 0:
        return _not_negative(_power_entropy(log_p, log_q, alpha))
    if alpha == 0:
        return _not_negative(_power_entropy(log_q, log_p, beta))
    both = alpha + beta
    total = alpha / both * (both * log_p).exp() + beta / both * (both * log_q).exp()
    return _not_negative((total - (alpha * log_p + beta * log_q).exp()).sum(-1) / (alpha * beta))


# By the names that a case carries.
DIVERGENCES: Registry[Divergence] = Registry(
    "divergence",
    {
        "forward_kl": forward_kl,
        "reverse_kl": reverse_kl,
        "jensen_shannon": jensen_shannon,
        "skewed_kl": skewed_kl,
        "skewed_reverse_kl": skewed_reverse_kl,
        "adaptive_kl": adaptive_kl,
        "alpha_beta": alpha_beta,
    },
)


def token_mean(values: Tensor, count: int) -> Tensor:
    """Return the sum of (tokens,) over a count of tokens, which is that of the whole step and not of this part of it.

    So a step of 8 sequences and one accumulated from two of 4 have the same loss and gradient, as they have on any
    number of devices. Raises `ValueError` for a count below 1.
    """
    if count < 1:
        raise ValueError(f"a mean over {count} tokens")
    return values.sum() / count


def _logs(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as log-probabilities, in float32 at least; raises `UserError` where classes or places differ."""
    if student.shape[-1] != teacher.shape[-1]:
        raise UserError(
            f"the student predicts {student.shape[-1]} classes and the teacher {teacher.shape[-1]}: this loss needs "
            "one vocabulary; restrict both to the same tokens, or take a loss of lib.distillation.other_tokenizers"
        )
    if student.shape != teacher.shape:
        raise UserError(
            f"{tuple(student.shape[:-1])} places of the student, {tuple(teacher.shape[:-1])} of the teacher: "
            "give logits of the same response tokens"
        )
    return raised(student).log_softmax(-1), raised(teacher).log_softmax(-1)


def _relative_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return sum p (log p - log q) over the last axis; a class with p = 0 adds nothing, also where log p is -inf.

    Such a class, and one where only q is 0, which adds infinity, is put out before the difference and not after it: the
    gradient of what is not chosen is taken all the same, and zero times infinity is no number.
    """
    p = log_p.exp()
    absent = p == 0
    beyond = (log_q == -math.inf) & ~absent
    ours, theirs = (logs.masked_fill(absent | beyond, 0) for logs in (log_p, log_q))
    return (p * (ours - theirs)).masked_fill(beyond, math.inf).sum(-1)


def _weighted(share: Tensor, values: Tensor) -> Tensor:
    """Return share * values; a share of zero takes nothing of a value, be it infinite."""
    return share * values.masked_fill(share == 0, 0)


def _not_negative(values: Tensor) -> Tensor:
    """Return a divergence that rounding has left just below zero as zero; gradients are as they were."""
    return torch.where(values < 0, values - values.detach(), values)


def _mixture(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return log(share exp(first) + (1 - share) exp(second))."""
    if share in (0, 1):
        return first if share else second
    part = torch.tensor(share, dtype=torch.float64)
    absent = (first == -math.inf) & (second == -math.inf)  # in both: the gradient of logaddexp is no number there
    one, other = (side.masked_fill(absent, 0) for side in (first, second))
    mixed = torch.logaddexp(one + part.log().item(), other + (1 - part).log().item())
    return mixed.masked_fill(absent, -math.inf)


def _power_entropy(log_p: Tensor, log_q: Tensor, power: float) -> Tensor:
    """Return (KL of p^power from q^power, neither normalised) / power^2."""
    one, other = power * log_p, power * log_q
    return (_relative_entropy(one, other) - one.exp().sum(-1) + other.exp().sum(-1)) / power**2


def _between(name: str, value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        raise ValueError(f"{name} {value}: it must lie in [{least}, {most}]")
    return value
