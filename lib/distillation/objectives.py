"""What a student learns from: L = w_ce CE + w_out D(teacher || student) + w_mid d(A h_student, h_teacher).

All three are means over the response tokens of a whole batch (sheet, "Our reading"). An arm of the comparison is one
configuration of this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib import seeds
from lib.causal_lm.layers import blocks, down_projection
from lib.distillation import batches, decoding, proportions
from lib.distillation.batches import Batch, Example
from lib.distillation.divergences import token_mean
from lib.distillation.layer_maps import LayerMap
from lib.distillation.losses import LOSSES, Reading, Setting
from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.teacher import Teacher, on, states_of
from lib.distillation.teacher_cache import Classes, Signals, TeacherCache
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
    lengths: Tensor  # (rows,), response tokens of each
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
        if config.on_policy > 0 and (live is None or longest < 1):
            raise UserError("on-policy batches need the teacher itself and a longest response: no cache holds them")
        self.student, self.config = student, config
        self._examples, self._pad, self._end, self._seed = examples, pad, end, seed
        self._source, self._live, self._longest = source, live, longest
        start = {"ce": config.ce, "output": config.output, "middle": config.middle}
        self.rule = proportions.rule(config.proportions, start, steps)
        width = student.get_input_embeddings().weight.shape[1]
        setting = Setting(mapping or {}, width, teacher_width, seed)
        self._losses = [LOSSES[name](config, setting) for name in config.losses]
        self._compared = {ours: theirs for loss in self._losses for ours, theirs in loss.mapping.items()}
        trained: dict[str, nn.Module] = {"student": student, "proportions": self.rule}
        trained |= {name: module for loss in self._losses for name, module in loss.modules.items()}
        self.module = nn.ModuleDict(trained).to(student.device)
        # The lowest block is the only one that every middle loss reaches.
        self.shared = [down_projection(student, 0).weight]
        self.matrices = [value for value in blocks(student).parameters() if value.ndim == 2]

    def prepare(self, step: int, rows: Sequence[int], parts: int) -> list[Part]:
        """Return the batch of a step in `parts`, drawn from the student where the step is on-policy.

        In one part where a loss compares all its tokens with one another.
        """
        parts = 1 if any(loss.pooled for loss in self._losses) else parts
        own = self._is_own(step)
        examples = self._drawn(step, rows) if own else [self._examples[row] for row in rows]
        lengths = torch.tensor([len(example.response) for example in examples])
        size = -(-len(examples) // parts)
        found = []
        for start in range(0, len(examples), size):
            batch = batches.collate(examples[start : start + size], self._pad)
            chosen = self._live if own else self._source
            found.append(Part(rows[start : start + size], batch, chosen, int(lengths.sum()), lengths, own))
        return found

    def losses(self, part: Part) -> dict[str, Tensor]:
        """Return each loss of the objective on a part, as its share of the whole batch's mean, see `losses`."""
        batch = on(part.batch, self.student.device)
        with states_of(self.student, list(self._compared)) as seen:
            read = self.student.base_model(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
        places = batch.predicting
        logits = self.student.get_output_embeddings()(read.last_hidden_state[places]).float()
        found: dict[str, Tensor] = {}
        if "ce" in self.rule.names:
            nats = functional.cross_entropy(logits, batch.ids[batch.response], reduction="none")
            found["ce"] = token_mean(nats * (not part.own), part.tokens)
        if part.source is None or not self._losses:
            return found
        said = part.source.signals(part.rows, part.batch, sorted(set(self._compared.values()))).to(logits.device)
        reading = Reading(logits, seen, places, said, part.tokens, part.lengths, part.own)
        return found | {loss.name: loss(reading) for loss in self._losses}

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
