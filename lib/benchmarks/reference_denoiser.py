"""The plain reference of the benchmark: every batch padded to the full length, float32, and attention by a mask.

Written to be read, not to be fast. The parameters are those of `DiffusionModel`, name by name, and so are the draws,
so equal weights must give equal losses. Padding is what lies beyond the window of a sentence, not the PAD within it.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.diffusion import process, schedule
from lib.diffusion.denoiser import Denoiser, time_features
from lib.diffusion.model import DiffusionConfig
from lib.diffusion.sampling import SamplingConfig
from lib.diffusion.timesteps import Timesteps
from lib.seq2seq.blocks import Block, rotary_angles, rotate

PROCESS = {
    "rounding_of": "estimate",
    "timesteps": "skewed",
    "x0_noise": "none",
    "averaged_over": "target",
}
READ = {"network": "output", "expected": "estimate"}  # what the squared error reads, by what the estimate is
SAMPLING = {"sampler": "ddim", "information": "latest", "clamp": "none"}


class ReferenceDenoiser(Denoiser):
    """The denoiser over padded sentences: the parameters of `Denoiser`, without dropout."""

    def forward(self, source: Tensor, noised: Tensor, previous: Tensor, t: Tensor, steps: int, kept: Tensor) -> Tensor:
        """Estimate x0 (sentences, target places, embedding); shapes as in `Denoiser.forward`.

        `kept` (sentences, source and target places) is false at padding, which no place attends to; what is returned
        at padding means nothing.
        """
        scale = 1 / self.config.embedding_scale
        nothing = torch.zeros_like(source)
        source_part = self.enter(torch.cat([source * scale, nothing], -1)) + self.part[0]
        target_part = self.enter(torch.cat([noised, previous * scale], -1)) + self.part[1]
        hidden = torch.cat([source_part, target_part], 1) + self.time(time_features(t / steps))[:, None]
        head = self.config.width // self.config.heads
        angles = rotary_angles(source.shape[1], noised.shape[1], head, hidden.device)
        for block in self.blocks:
            hidden = masked_block(block, hidden, angles, kept)
        return self.leave(self.norm(hidden))[:, source.shape[1] :]


def masked_block(block: Block, hidden: Tensor, angles: tuple[Tensor, Tensor], kept: Tensor) -> Tensor:
    """Return hidden states (sentences, places, width) after attention to the `kept` places, and feed-forward.

    The weights are softmax(q k^T / sqrt(head)) over the places, with -inf at padding.
    """
    query, key, value = (
        part.unflatten(-1, (block.heads, -1)).transpose(1, 2)
        for part in block.attend(block.norm_attention(hidden)).chunk(3, -1)
    )
    scores = rotate(query, angles) @ rotate(key, angles).transpose(-1, -2) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~kept[:, None, None], -torch.inf).softmax(-1)
    hidden = hidden + block.merge((weights @ value).transpose(1, 2).flatten(2))
    return hidden + block.contract(functional.gelu(block.expand(block.norm_feed_forward(hidden))))


def padded(parts: Sequence[Tensor], places: tuple[int, int]) -> tuple[list[Tensor], Tensor]:
    """Return source vectors and any number of target vectors (sentences, words, embedding) with zeros up to `places`.

    Beside them which places are no padding, (sentences, source and target places), as `ReferenceDenoiser` takes it.
    """
    sizes = (places[0], *(places[1] for _ in parts[1:]))
    whole = [functional.pad(part, (0, 0, 0, most - part.shape[1])) for part, most in zip(parts, sizes, strict=True)]
    return whole, _used((parts[0].shape[1], parts[1].shape[1]), places, len(parts[0]))


def _used(used: tuple[int, int], places: tuple[int, int], sentences: int) -> Tensor:
    row = torch.cat([torch.arange(full) < words for words, full in zip(used, places, strict=True)])
    return row.expand(sentences, -1)


def known(config: DiffusionConfig) -> DiffusionConfig:
    """Return a configuration with the settings that the reference knows in the place of its own.

    The estimate may be the network's, whose output the squared error then reads, or the mean word vector, which it then
    reads itself.
    """
    process = {**PROCESS, "squared_error_of": READ[config.process.estimate]}
    return config.model_copy(
        update={
            "shape": config.shape.model_copy(update={"dropout": 0.0}),
            "process": config.process.model_copy(update=process),
            "sampling": config.sampling.model_copy(update=SAMPLING),
        }
    )


class ReferenceModel(nn.Module):
    """`DiffusionModel` over padded batches, for the settings that the benchmark measures."""

    hidden = ("denoiser.blocks.",)

    def __init__(self, config: DiffusionConfig, values: Tensor, places: tuple[int, int], pad: int) -> None:
        """Build it with fresh weights; all batches are padded to `places` of source and target with the id `pad`.

        `values` is H of every word, (vocabulary,), 0 for `pad`. Raises `ValueError` for settings that it does not know.
        """
        super().__init__()
        if config != known(config):
            raise ValueError(f"the reference knows {PROCESS}, {READ} and {SAMPLING} only, without dropout")
        self.config, self.pad = config, pad
        self.source_places, self.target_places = places
        self.denoiser = ReferenceDenoiser(config.shape)
        self.timesteps = Timesteps(config.process)
        self.register_buffer("values", values, persistent=False)

    def losses(self, source: Tensor, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the weighted terms `squared_error`, `rounding` and `prior`, each (sentences,), padding left out."""
        config, denoiser, vectors = self.config.process, self.denoiser, self.denoiser.vectors()
        t, _ = self.timesteps.draw(len(target), generator)
        conditioned = bool(torch.rand((), generator=generator) < config.self_conditioning)
        epsilon = self._noise(len(target), target.shape[1], generator)
        kept = self._kept(source, target.shape[1])
        source, target = self._padded(source, self.source_places), self._padded(target, self.target_places)
        clean, x0 = vectors[source], vectors[target]
        e = schedule.relative_information(self.values[target])
        noised = process.noise(x0, schedule.abar(config.schedule, t, config.steps, e, config.lam), epsilon)
        previous = torch.zeros_like(x0)
        if conditioned:
            with torch.no_grad():
                output = denoiser(clean, noised, previous, t, config.steps, kept)
                previous = self._estimate(output, denoiser.logits(output, vectors), vectors)
        output = denoiser(clean, noised, previous, t, config.steps, kept)
        scores = denoiser.logits(output, vectors)
        estimate = self._estimate(output, scores, vectors)
        wrong = functional.cross_entropy(scores.transpose(1, 2), target, reduction="none")
        last = schedule.abar(config.schedule, torch.full_like(t, config.steps), config.steps, e, config.lam)
        squared = ((estimate - x0) ** 2).mean(-1) / self.config.shape.embedding_scale**2
        terms = {
            "squared_error": config.squared_error * squared,
            "rounding": config.rounding * wrong,
            "prior": last * (x0**2).mean(-1),
        }
        counted = kept[:, self.source_places :]
        return {name: (term * counted).sum(1) / counted.sum(1) for name, term in terms.items()}

    @torch.inference_mode()
    def reverse(self, source: Tensor, places: int, generator: torch.Generator, how: SamplingConfig) -> Tensor:
        """Draw target ids (sentences, places) in `how.steps` steps of DDIM."""
        config, vectors = self.config.process, self.denoiser.vectors()
        x_t = self._noise(len(source), places, generator)
        kept = self._kept(source, places)
        clean = vectors[self._padded(source, self.source_places)]
        estimate = torch.zeros_like(x_t)
        times = torch.linspace(config.steps, 0, how.steps + 1).round()
        for far, near in itertools.pairwise(times):
            t, s = far.expand(len(source)), near.expand(len(source))
            previous = estimate if config.self_conditioning else torch.zeros_like(estimate)
            output = self.denoiser(clean, x_t, previous, t, config.steps, kept)
            scores = self.denoiser.logits(output, vectors)
            guess, estimate = scores.argmax(-1), self._estimate(output, scores, vectors)
            guess = guess.where(kept[:, self.source_places :], self.pad)
            e = schedule.relative_information(self.values[guess])
            abar_t, abar_s = (schedule.abar(config.schedule, u, config.steps, e, config.lam) for u in (t, s))
            x_t = process.ddim_step(x_t, estimate, abar_t, abar_s)
        return guess[:, :places]

    def _estimate(self, output: Tensor, scores: Tensor, vectors: Tensor) -> Tensor:
        """Return the network's output, or the mean word vector under its scores."""
        return scores.softmax(-1) @ vectors if self.config.process.estimate == "expected" else output

    def _padded(self, ids: Tensor, places: int) -> Tensor:
        return functional.pad(ids, (0, places - ids.shape[1]), value=self.pad)

    def _noise(self, sentences: int, places: int, generator: torch.Generator) -> Tensor:
        """Draw for the places of the window alone, as `DiffusionModel` does; padding stays zero."""
        drawn = torch.randn(sentences, places, self.config.shape.embedding, generator=generator)
        return functional.pad(drawn, (0, 0, 0, self.target_places - places))

    def _kept(self, source: Tensor, places: int) -> Tensor:
        return _used((source.shape[1], places), (self.source_places, self.target_places), len(source))
