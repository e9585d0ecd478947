"""Which times t training looks at: uniform, skewed to high noise, or where the loss is large (DiffuSeq)."""

import torch
from torch import Tensor, nn

from lib.diffusion.process import ProcessConfig

HISTORY = 10  # losses kept for each t, as released


class Timesteps(nn.Module):
    """Draws t in 1..T with the weight that keeps the loss's expectation where that is promised."""

    history: Tensor
    count: Tensor

    def __init__(self, config: ProcessConfig) -> None:
        """Start with an empty history, kept in buffers so that it is saved with the model."""
        super().__init__()
        self.kind, self.steps = config.timesteps, config.steps
        self.register_buffer("history", torch.zeros(config.steps, HISTORY))
        self.register_buffer("count", torch.zeros(config.steps, dtype=torch.long))

    def draw(self, sentences: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return t (sentences,) in 1..T and weights (sentences,), both on the CPU.

        "skewed" is t = T (1 - u^2), unweighted (our choice). "loss_aware" draws t in proportion to the root mean
        square of its last ten losses, mixed with 0.1 % uniform, weighted by 1 / (T p); uniform until all t have ten,
        and where all of them are 0.
        """
        ones = torch.ones(sentences)
        if self.kind == "skewed":
            fraction = 1 - torch.rand(sentences, generator=generator) ** 2
            return (fraction * self.steps).ceil().clamp(1, self.steps), ones
        if self.kind == "uniform" or (self.count < HISTORY).any() or not self.history.any():
            return torch.randint(1, self.steps + 1, (sentences,), generator=generator).float(), ones
        p = (self.history.cpu() ** 2).mean(1).sqrt()
        p = 0.999 * p / p.sum() + 0.001 / self.steps
        place = torch.multinomial(p, sentences, replacement=True, generator=generator)
        return (place + 1).float(), 1 / (self.steps * p[place])

    def record(self, t: Tensor, losses: Tensor) -> None:
        """Remember the losses (sentences,) seen at times t; the oldest of ten gives way; NaN is left out."""
        if self.kind != "loss_aware" or not losses.isfinite().all():
            return
        for place, loss in zip((t.long() - 1).tolist(), losses.tolist(), strict=True):
            self.history[place, self.count[place] % HISTORY] = loss
            self.count[place] += 1
