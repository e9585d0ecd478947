"""All that decides the outcome of each kind of case, besides data, code and seed."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lib.beacons.adapters import AdapterConfig
from lib.beacons.facts import Pool
from lib.settings import Settings

Filter = Literal["all", "a", "b", "random", "lowest_loss", "half_known", "reversed"]
Weighing = Literal["plain", "distance", "flipped", "token", "permuted"]
Paraphrases = Annotated[int, Field(ge=0, le=3)]  # a fact has three


class BackboneConfig(Settings):
    """The model that everything starts from."""

    backbone: str
    layers: PositiveInt | None  # None: all
    dtype: Literal["float32", "bfloat16"]


class AdaptedConfig(BackboneConfig):
    """A training of adapters."""

    first_layer: NonNegativeInt
    rank: PositiveInt

    @property
    def adapter(self) -> AdapterConfig:
        """Where adapters stand, and how large they are."""
        return AdapterConfig(self.first_layer, self.rank)


class RunConfig(AdaptedConfig):
    """One training, and what is read afterwards."""

    method: str
    pool: Pool
    count: PositiveInt  # N, facts learnt together
    runs: PositiveInt  # adapters trained one after another, each on the next N facts
    steps: PositiveInt
    batch: PositiveInt
    rate: PositiveFloat
    filter: Filter
    kept: Annotated[float, Field(gt=0, le=1)]
    variance_weight: NonNegativeFloat
    weighing: Weighing
    alpha: NonNegativeFloat
    least_weight: PositiveFloat
    read: PositiveInt  # the first so many facts of a run are asked afterwards
    paraphrases: Paraphrases  # of each, besides the trained prompt
    others: NonNegativeInt  # facts that were not trained on, asked before and after (locality)
    text_tokens: NonNegativeInt  # of general text, for perplexity; 0: none
    answer_tokens: PositiveInt
    may_diverge: bool  # read the last good weights, and say so, instead of failing


class AloneConfig(AdaptedConfig):
    """The trajectories of a pool's first facts, each learnt alone."""

    pool: Pool
    count: PositiveInt  # facts, each with an adapter of its own
    targets: Literal["own", "shuffled"]  # shuffled: each is taught the target of another, the control
    steps: PositiveInt
    read_steps: Annotated[
        tuple[NonNegativeInt, ...], Field(min_length=1)
    ]  # numbers of updates after which a fact is read, 0 being the base model
    rate: PositiveFloat
    paraphrases: Paraphrases  # of each fact, asked after the last update
    answer_tokens: PositiveInt


class GradientsConfig(Settings):
    """The directions in which facts pull: of a training together, and of each fact alone for so many steps."""

    training: RunConfig
    alone: PositiveInt


class KnownConfig(BackboneConfig):
    """What the base model is asked about a pool of facts."""

    pool: Pool
    count: PositiveInt | None  # the first so many; None: all
    samples: PositiveInt  # answers drawn to each prompt
    answer_tokens: PositiveInt


class TextConfig(BackboneConfig):
    """The perplexity of the base model on general text."""

    text_tokens: PositiveInt
    first_layer: NonNegativeInt  # below it the text is run once, as in the trainings that are held against this number
