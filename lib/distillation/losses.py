"""The losses that read a teacher, each of them what it needs and how it is taken of a part of a step's batch."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from lib.distillation import hidden_states
from lib.distillation.alignment import Alignment
from lib.distillation.divergences import DIVERGENCES, token_mean
from lib.distillation.hidden_states import DISTANCES
from lib.distillation.layer_maps import LayerMap
from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.teacher_cache import Signals, over_classes
from lib.errors import UserError
from lib.registry import Registry


class Setting(NamedTuple):
    """What a loss is set up for: the layers that are compared, the widths of their states, and the arm's seed."""

    mapping: LayerMap
    student_width: int
    teacher_width: int
    seed: int


class Reading(NamedTuple):
    """What both models say on a part of a step, with the counts of the whole step.

    `logits` (tokens, vocabulary) are the student's at the places that predict response tokens, `states` its states by
    layer, (sequences, places, width), `places` the mask of those places; `said` is the teacher's side of the same
    tokens. `tokens` and `lengths` (rows,) count the response tokens of the whole step; `own`: drawn from the student.
    """

    logits: Tensor
    states: Mapping[int, Tensor]
    places: Tensor
    said: Signals
    tokens: int
    lengths: Tensor
    own: bool = False


class OutputLoss:
    """D(teacher || student) over the classes that are kept of the teacher, a mean over response tokens, in nats."""

    name = "output"
    pooled = False

    def __init__(self, config: ObjectiveConfig, setting: Setting) -> None:
        """Take the divergence of the configuration."""
        del setting  # it compares what both predict, whatever their states
        self.modules: dict[str, nn.Module] = {}
        self.mapping: LayerMap = {}
        self._divergence = partial(DIVERGENCES[config.divergence], **config.settings)

    def __call__(self, read: Reading) -> Tensor:
        """Return the share of the whole step's mean."""
        logs = over_classes(read.logits, read.said.chosen)
        return token_mean(self._divergence(logs, read.said.output), read.tokens)


class MiddleLoss:
    """d(A h_student, h_teacher), a mean over tokens, dimensions and layers; it has no unit. Of own responses: zero.

    Zero too where the step has fewer tokens than the distance tells anything about. `pooled`: it compares all tokens of
    a step with one another, so the step's batch is read as one part.
    """

    name = "middle"

    def __init__(self, config: ObjectiveConfig, setting: Setting) -> None:
        """Draw the alignment modules; raises `UserError` without a layer map."""
        if not setting.mapping:
            raise UserError("a middle loss without a layer map: give one")
        self.mapping, self._distance = setting.mapping, config.distance
        self.pooled = DISTANCES[config.distance].pooled
        widths = (setting.student_width, setting.teacher_width)
        self._alignment = Alignment(config.alignment, list(setting.mapping), *widths, setting.seed)
        self.modules: dict[str, nn.Module] = {"alignment": self._alignment}

    def __call__(self, read: Reading) -> Tensor:
        """Return the share of the whole step's mean."""
        here = {layer: read.states[layer][read.places] for layer in self.mapping}
        compared = hidden_states.middle_loss(
            here, read.said.states, self.mapping, self._alignment, self._distance, read.places
        )
        count = max(DISTANCES[self._distance].counted(read.lengths), 1)
        return compared.total / count * (not read.own)


# By the names that `ObjectiveConfig.losses` carries.
LOSSES: Registry[type[OutputLoss] | type[MiddleLoss]] = Registry(
    "loss",
    {
        "output_loss": OutputLoss,
        "middle_loss": MiddleLoss,
    },
)
