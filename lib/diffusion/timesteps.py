"""Which times t training looks at: uniform, skewed to high noise, or where the loss is large (DiffuSeq)."""

import torch
from torch import Tensor

from lib.causal_lm.processes import Portion, Remembering, Team
from lib.diffusion.process import ProcessConfig
from lib.seq2seq import draws

HISTORY = 10  # losses kept for each t, as released


class Timesteps(Remembering):
    """Draws t in 1..T with the weight that keeps the loss's expectation where that is promised."""

    history: Tensor
    count: Tensor

    def __init__(self, config: ProcessConfig) -> None:
        """Start with an empty history, kept in buffers so that it is saved with the model."""
        super().__init__()
        self.kind, self.steps = config.timesteps, config.steps
        self.register_buffer("history", torch.zeros(config.steps, HISTORY))
        self.register_buffer("count", torch.zeros(config.steps, dtype=torch.long))
        self.noted: list[tuple[Tensor, Tensor]] = []  # of the step at hand

    def draw(self, sentences: int, stream: draws.Stream) -> tuple[Tensor, Tensor]:
        """Return t (sentences,) in 1..T and weights (sentences,), both on the stream's device.

        "skewed" is t = T (1 - u^2), unweighted (our choice). "loss_aware" draws t in proportion to the root mean
        square of its last ten losses, mixed with 0.1 % uniform, weighted by 1 / (T p); uniform until all t have ten,
        and where all of them are 0.
        """
        generator, sentences, rows = draws.whole(stream, sentences)
        t, weights = self._draw(sentences, generator)
        return t[rows], weights[rows]

    def _draw(self, sentences: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        ones = torch.ones(sentences, device=device)
        if self.kind == "skewed":
            fraction = 1 - torch.rand(sentences, generator=generator, device=device) ** 2
            return (fraction * self.steps).ceil().clamp(1, self.steps), ones
        if self.kind == "uniform" or (self.count < HISTORY).any() or not self.history.any():
            return torch.randint(1, self.steps + 1, (sentences,), generator=generator, device=device).float(), ones
        p = (self.history.to(device) ** 2).mean(1).sqrt()
        p = 0.999 * p / p.sum() + 0.001 / self.steps
        place = torch.multinomial(p, sentences, replacement=True, generator=generator)
        return (place + 1).float(), 1 / (self.steps * p[place])

    def note(self, t: Tensor, losses: Tensor) -> None:
        """Keep the losses (sentences,) seen at times t until the step ends: all its parts draw from one history."""
        if self.kind == "loss_aware":
            self.noted.append((t, losses))

    def end_step(self, team: Team, portion: Portion) -> None:
        """Record what all processes noted, in the order of the batch."""
        noted, self.noted = self.noted if portion.seen else [], []
        if self.kind != "loss_aware":
            return
        if team.count > 1:
            noted = team.together([(t.cpu(), losses.cpu()) for t, losses in noted])
        if noted:
            self.record(*(torch.cat(part) for part in zip(*noted, strict=True)))

    def record(self, t: Tensor, losses: Tensor) -> None:
        """Remember the losses (sentences,) seen at times t; the oldest of ten gives way; NaN is left out."""
        if self.kind != "loss_aware" or not losses.isfinite().all():
            return
        place, losses = t.to(self.count.device).long() - 1, losses.to(self.history)
        sorted_place, order = place.sort(stable=True)  # the losses of one time follow each other, in their order
        seen = torch.bincount(place, minlength=self.steps)
        first = seen.cumsum(0) - seen
        number = torch.arange(len(place), device=place.device) - first[sorted_place]
        last = number >= seen[sorted_place] - HISTORY  # of more than ten at once only the last ten stay
        sorted_place, number = sorted_place[last], number[last]
        self.history[sorted_place, (self.count[sorted_place] + number) % HISTORY] = losses[order][last]
        self.count += seen
