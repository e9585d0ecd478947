"""All that decides the outcome of each kind of case, besides data, code and seed."""

from typing import Literal

from lib.beacons.adapters import AdapterConfig
from lib.beacons.facts import Pool
from lib.settings import Settings

Filter = Literal["all", "a", "b", "random", "lowest_loss", "half_known", "reversed"]
Weighing = Literal["plain", "distance", "flipped", "token", "permuted"]


class BackboneConfig(Settings):
    """The model that everything starts from."""

    backbone: str
    layers: int | None  # None: all
    dtype: str


class AdaptedConfig(BackboneConfig):
    """A training of adapters."""

    first_layer: int
    rank: int

    @property
    def adapter(self) -> AdapterConfig:
        """Where adapters stand, and how large they are."""
        return AdapterConfig(self.first_layer, self.rank)


class RunConfig(AdaptedConfig):
    """One training, and what is read afterwards."""

    method: str
    pool: Pool
    count: int  # N, facts learnt together
    runs: int  # adapters trained one after another, each on the next N facts
    steps: int
    batch: int
    rate: float
    filter: Filter
    kept: float
    variance_weight: float
    weighing: Weighing
    alpha: float
    least_weight: float
    read: int  # the first so many facts of a run are asked afterwards
    paraphrases: int  # of each, besides the trained prompt
    others: int  # facts that were not trained on, asked before and after (locality)
    text_tokens: int  # of general text, for perplexity; 0: none
    answer_tokens: int
    may_diverge: bool  # read the last good weights, and say so, instead of failing


class AloneConfig(AdaptedConfig):
    """The trajectories of a pool's first facts, each learnt alone."""

    pool: Pool
    count: int  # facts, each with an adapter of its own
    targets: Literal["own", "shuffled"]  # shuffled: each is taught the target of another, the control
    steps: int
    read_steps: tuple[int, ...]  # numbers of updates after which a fact is read, 0 being the base model
    rate: float
    paraphrases: int  # of each fact, asked after the last update
    answer_tokens: int


class GradientsConfig(Settings):
    """The directions in which facts pull: of a training together, and of each fact alone for so many steps."""

    training: RunConfig
    alone: int


class KnownConfig(BackboneConfig):
    """What the base model is asked about a pool of facts."""

    pool: Pool
    count: int | None  # the first so many; None: all
    samples: int  # answers drawn to each prompt
    answer_tokens: int


class TextConfig(BackboneConfig):
    """The perplexity of the base model on general text."""

    text_tokens: int
    first_layer: int  # below it the text is run once, as in the trainings that are held against this number
