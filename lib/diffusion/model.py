"""InfoDiffusion and DiffuSeq as models: a denoiser, its process, and how it is sampled."""

from typing import Literal

import torch
from torch import Tensor, nn

from lib import seeds
from lib.diffusion import bert, process, sampling, schedule
from lib.diffusion.denoiser import DenoiserConfig
from lib.diffusion.timesteps import Timesteps
from lib.seq2seq import draws
from lib.settings import Settings
from lib.text.vocabulary import Vocabulary

Information = Literal["self-information", "entropy", "shuffled"]


class DiffusionConfig(Settings):
    """A diffusion model: shape, process, sampling, and which values stand for the information of words."""

    shape: DenoiserConfig
    process: process.ProcessConfig
    sampling: sampling.SamplingConfig
    information: Information = "self-information"


def information(vocabulary: Vocabulary, reading: Information) -> Tensor:
    """Return H of every word, (vocabulary,); "shuffled" deals the values of -log p out among the words anew.

    Shuffled values are as unequal as the real ones and say nothing about the words: our control.
    """
    if reading != "shuffled":
        return vocabulary.information(reading)
    values = vocabulary.information()
    words = values.nonzero()[:, 0]
    values[words] = values[words[torch.randperm(len(words), generator=seeds.generator("shuffled information"))]]
    return values


class DiffusionModel(nn.Module):
    """A diffusion over word embeddings that is trained and sampled as any sequence-to-sequence model."""

    hidden = ("denoiser.blocks.",)  # whose matrices Muon trains
    values: Tensor

    def __init__(self, config: DiffusionConfig, values: Tensor) -> None:
        """Build the denoiser; `values` is H of every word, (vocabulary,), as `information` returns it."""
        super().__init__()
        self.config = config
        self.denoiser = bert.denoiser(config.shape)
        self.timesteps = Timesteps(config.process)
        self.register_buffer("values", values, persistent=False)

    def losses(self, source: Tensor, target: Tensor, generator: draws.Stream) -> dict[str, Tensor]:
        """Return the weighted terms `squared_error`, `rounding` and `prior`, each (sentences,), at times drawn here."""
        config = self.config.process
        t, weights = (drawn.to(target.device) for drawn in self.timesteps.draw(len(target), generator))
        conditioned = bool(draws.uniform((), generator) < config.self_conditioning)
        e = schedule.relative_information(self.values[target])
        terms = process.losses(self.denoiser, config, source, target, e, t, generator, conditioned)
        factors = {"squared_error": config.squared_error, "rounding": config.rounding, "prior": 1.0}
        terms = {name: factors[name] * term for name, term in terms.items()}
        self.timesteps.note(t, sum(terms.values()).detach().float())  # type: ignore[union-attr]  # no int
        return {name: weights * term for name, term in terms.items()}

    def sample(self, source: Tensor, places: int, generator: torch.Generator) -> Tensor:
        """Draw target ids (sentences, places)."""
        return self.reverse(source, places, generator, self.config.sampling)

    def reverse(
        self,
        source: Tensor,
        places: int,
        generator: torch.Generator,
        how: sampling.SamplingConfig,
        trace: bool = False,
    ) -> Tensor:
        """Walk the reverse process as `how` says; see `sampling.reverse`."""
        return sampling.reverse(
            self.denoiser, self.config.process, how, source, places, self.values, generator, trace=trace
        )
