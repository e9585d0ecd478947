"""What a student learns from: L = w_ce CE + w_out D(teacher || student) + w_mid d(A h_student, h_teacher).

All three are means over the response tokens of a whole batch (sheet, "Our reading"). An arm of the comparison is one
configuration of this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from lib import seeds
from lib.distillation import batches, decoding, hidden_states, proportions
from lib.distillation.alignment import Alignment, Kind
from lib.distillation.batches import Batch, Example
from lib.distillation.divergences import DIVERGENCES, token_mean
from lib.distillation.layer_maps import LayerMap
from lib.distillation.teacher import Teacher, on, states_of
from lib.distillation.teacher_cache import Classes, Signals, TeacherCache, over_classes
from lib.editing.layers import blocks, down_projection
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ObjectiveConfig(BaseModel):
    """One arm: the weights of the three losses, zero for one that is left out, and the form of each.

    With `on_policy` that share of the batches carries responses drawn from the student, on which only the output loss
    is taken (GKD, Agarwal et al. 2024).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ce: float = 1.0
    output: float = 0.0
    middle: float = 0.0
    divergence: str = "forward_kl"
    settings: dict[str, float] = {}  # of the divergence: alpha, beta, mu
    rule: str = "uniform"  # of the layers
    distance: str = "mse"
    alignment: Kind = "per_pair"
    proportions: str = "fixed"
    on_policy: float = 0.0
    pairing: Literal["same", "universal_logit", "minimum_edit", "dual_space"] = "same"  # of tokens, see own_tokenizer

    @property
    def needs_teacher(self) -> bool:
        """Tell whether a loss reads the teacher."""
        return self.output > 0 or self.middle > 0


class Source(Protocol):
    """Where a teacher's signals come from: its cache, or itself."""

    def signals(self, rows: Sequence[int], batch: Batch, layers: Sequence[int]) -> Signals:
        """Return what the teacher says about the response tokens of a batch made of these rows."""


@dataclass(frozen=True)
class Cached:
    """The teacher as it was kept on disk."""

    cache: TeacherCache

    def signals(self, rows: Sequence[int], batch: Batch, layers: Sequence[int]) -> Signals:
        """Read the rows; raises `ValueError` where the batch has other response tokens than the cache."""
        found = self.cache.signals(rows, layers)
        if len(found.output) != batch.tokens:
            raise ValueError(f"{len(found.output)} tokens in the cache, {batch.tokens} in the batch")
        return found


@dataclass(frozen=True)
class Live:
    """The teacher itself, over the same classes as its cache would keep."""

    teacher: Teacher
    classes: Classes

    def signals(self, rows: Sequence[int], batch: Batch, layers: Sequence[int]) -> Signals:
        """Run the teacher on the batch; the rows do not matter."""
        return self.teacher.signals(batch, layers).reduced(self.classes)


class Part(NamedTuple):
    """A part of a step's batch, with the counts of the whole of it."""

    rows: Sequence[int]
    batch: Batch
    source: Source | None
    tokens: int
    compared: int  # tokens that the middle loss is a mean over
    own: bool  # the student's own responses


class Distillation:
    """An arm of the comparison: a student, its objective and its teacher (the protocol `training.Arm`)."""

    def __init__(
        self,
        student: "PreTrainedModel",
        examples: Sequence[Example],
        config: ObjectiveConfig,
        pad: int,
        end: int,
        steps: int,
        seed: int,
        source: Source | None = None,
        mapping: LayerMap | None = None,
        teacher_width: int = 0,
        live: Source | None = None,
        longest: int = 0,
    ) -> None:
        """Set up an arm; `seed` draws the alignment and what is on-policy, `longest` bounds responses drawn there.

        `source` and `mapping` (student to teacher states) are for losses that read the teacher, `live` for on-policy
        batches, which no cache can hold. Raises `UserError` for an objective whose teacher or map is not given.
        """
        if config.needs_teacher and source is None:
            raise UserError("this objective reads a teacher: give its cache, or the teacher itself")
        if config.pairing != "same":
            raise UserError(f"{config.pairing} pairs tokens of two tokenizers, and here there is one: leave it out")
        if config.middle > 0 and not mapping:
            raise UserError("a middle loss without a layer map: give one")
        if config.on_policy > 0 and (live is None or longest < 1):
            raise UserError("on-policy batches need the teacher itself and a longest response: no cache holds them")
        if config.divergence not in DIVERGENCES:
            raise UserError(f"no divergence {config.divergence!r}: there are {', '.join(DIVERGENCES)}")
        self.student, self.config, self.mapping = student, config, mapping or {}
        self._examples, self._pad, self._end, self._seed = examples, pad, end, seed
        self._source, self._live, self._longest = source, live, longest
        self._divergence = partial(DIVERGENCES[config.divergence], **config.settings)
        start = {"ce": config.ce, "output": config.output, "middle": config.middle}
        self.rule = proportions.rule(config.proportions, start, steps)
        width = student.get_input_embeddings().weight.shape[1]
        self._alignment = (
            Alignment(config.alignment, list(self.mapping), width, teacher_width, seed) if config.middle > 0 else None
        )
        trained: dict[str, nn.Module] = {"student": student, "proportions": self.rule}
        self.module = nn.ModuleDict(trained | ({"alignment": self._alignment} if self._alignment else {}))
        self.module.to(student.device)
        # The lowest block is the only one that every middle loss reaches.
        self.shared = [down_projection(student, 0).weight]
        self.matrices = [value for value in blocks(student).parameters() if value.ndim == 2]

    def prepare(self, step: int, rows: Sequence[int], parts: int) -> list[Part]:
        """Return the batch of a step in `parts`, drawn from the student where the step is on-policy."""
        own = self._is_own(step)
        examples = self._drawn(step, rows) if own else [self._examples[row] for row in rows]
        tokens = sum(len(example.response) for example in examples)
        compared = tokens
        if self.config.middle > 0:
            lengths = torch.tensor([len(example.response) for example in examples])
            compared = int(lengths[lengths >= hidden_states.LEAST[self.config.distance]].sum())
        size = -(-len(examples) // parts)
        found = []
        for start in range(0, len(examples), size):
            batch = batches.collate(examples[start : start + size], self._pad)
            chosen = self._live if own else self._source
            found.append(Part(rows[start : start + size], batch, chosen, tokens, max(compared, 1), own))
        return found

    def losses(self, part: Part) -> dict[str, Tensor]:
        """Return each loss of the objective on a part, as its share of the whole batch's mean in nats per token.

        The middle loss has no unit: it is per token, dimension and layer.
        """
        batch, names = on(part.batch, self.student.device), self.rule.names
        states = list(self.mapping) if "middle" in names else []
        with states_of(self.student, states) as seen:
            read = self.student.base_model(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
        places = batch.predicting
        logits = self.student.get_output_embeddings()(read.last_hidden_state[places]).float()
        found: dict[str, Tensor] = {}
        if "ce" in names:
            nats = functional.cross_entropy(logits, batch.ids[batch.response], reduction="none")
            found["ce"] = token_mean(nats * (not part.own), part.tokens)
        if part.source is None or not self.config.needs_teacher:
            return found
        layers = sorted(set(self.mapping.values())) if states else []
        said = part.source.signals(part.rows, part.batch, layers).to(logits.device)
        if "output" in names:
            logs = over_classes(logits, said.chosen)
            found["output"] = token_mean(self._divergence(logs, said.output), part.tokens)
        if "middle" in names:
            here = {layer: seen[layer][places] for layer in states}
            compared = hidden_states.middle_loss(
                here, said.states, self.mapping, self._alignment, self.config.distance, places
            )
            found["middle"] = compared.total / part.compared * (not part.own)
        return found

    def _is_own(self, step: int) -> bool:
        if not self.config.on_policy:
            return False
        drawn = torch.rand((), generator=seeds.generator("distillation/on_policy", self._seed, step))
        return bool(drawn < self.config.on_policy)

    def _drawn(self, step: int, rows: Sequence[int]) -> list[Example]:
        """Return the rows with responses that the student draws now, at T = 1."""
        prompts = [self._examples[row].prompt for row in rows]
        config = decoding.DecodingConfig(tokens=self._longest, batch=len(rows))
        stream = seeds.seed_of("distillation/own", self._seed, step)
        written = decoding.generate(self.student, prompts, config, self._end, self._pad, stream)
        return [
            Example(prompt, (*ids, self._end)[: self._longest]) for prompt, ids in zip(prompts, written, strict=True)
        ]


def depth(model: "PreTrainedModel") -> int:
    """Return the number of blocks of a model."""
    return len(blocks(model))
