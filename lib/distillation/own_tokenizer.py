"""A student with a tokenizer of its own: its losses against a teacher whose tokens are others.

Three ways of pairing what the two predict (sheet, "Our reading"): by the order of probabilities (universal logit
distillation), by the nearest texts of tokens (minimum edit distance), by attention between two spaces (dual space).
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.causal_lm.layers import blocks, down_projection, final_norm
from lib.distillation import batches, proportions
from lib.distillation import other_tokenizers as others
from lib.distillation.batches import Batch, Example
from lib.distillation.divergences import token_mean
from lib.distillation.layer_maps import LayerMap
from lib.distillation.losses import LOSSES, MiddleLoss, OutputLoss, Reading, Setting
from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.objectives import Source
from lib.distillation.other_tokenizers import Side
from lib.distillation.teacher import Teacher, on, states_of
from lib.distillation.teacher_cache import Signals
from lib.distillation.vocabularies import END, PAD, Vocabulary
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Part(NamedTuple):
    """A part of a step's batch in the student's tokens and in the teacher's, with the counts of the whole of it."""

    rows: Sequence[int]
    batch: Batch
    teachers: Batch
    lengths: Tensor  # (rows,), response tokens of the student's
    teacher_lengths: Tensor


class Student(NamedTuple):
    """What the student says on a part: the states that its head reads and the logits, (tokens, ...), states by layer.

    `places` is the mask of the tokens that predict response tokens.
    """

    batch: Batch
    hidden: Tensor
    logits: Tensor
    states: dict[int, Tensor]
    places: Tensor


def token_texts(vocabulary: Vocabulary) -> list[str]:
    """Return the text of every token, with its leading blank; the special ones have names that no other token has."""
    texts = [vocabulary.decode([number]) for number in range(len(vocabulary))]
    texts[vocabulary.end], texts[vocabulary.pad] = END, PAD
    return texts


class OwnTokenizer:
    """An arm of the comparison whose student reads other tokens than its teacher (the protocol `training.Arm`).

    What pairs the tokens of both is a subclass.
    """

    reads_last = False  # the teacher's last state, beside those of the layer map
    pairs_states = False  # so that a middle loss can be taken between them
    pooled = False  # a loss compares all tokens of a step with one another: it is read as one part

    def __init__(
        self,
        student: "PreTrainedModel",
        examples: Sequence[Example],
        teacher_examples: Sequence[Example],
        config: ObjectiveConfig,
        vocabularies: tuple[Vocabulary, Vocabulary],
        steps: int,
        seed: int,
        source: Source | None,
        teacher: Teacher,
        mapping: LayerMap | None = None,
    ) -> None:
        """Set up an arm; examples and vocabularies are the student's and the teacher's, of the same rows.

        Raises `UserError` for unequal numbers of rows, and a middle loss without a map or without tokens paired by
        their texts.
        """
        if len(examples) != len(teacher_examples):
            raise UserError(
                f"{len(examples)} rows of the student, {len(teacher_examples)} of the teacher: give the same"
            )
        if config.middle > 0 and not (mapping and self.pairs_states):
            raise UserError("a middle loss between tokenizers needs a layer map and tokens paired by minimum_edit")
        self.student, self.config = student, config
        self._examples, self._teacher_examples = examples, teacher_examples
        self._own, self._other = vocabularies
        self._source, self._teacher = source, teacher
        self.rule = proportions.rule(
            config.proportions, {"ce": config.ce, "output": config.output, "middle": config.middle}, steps
        )
        width = student.get_input_embeddings().weight.shape[1]
        setting = Setting(mapping or {}, width, teacher.width, seed)
        trained: dict[str, nn.Module] = {"student": student, "proportions": self.rule, **self._modules(setting)}
        self.module = nn.ModuleDict(trained).to(student.device)
        self.shared = [down_projection(student, 0).weight]
        self.matrices = [value for value in blocks(student).parameters() if value.ndim == 2]
        last = {teacher.layers} if self.reads_last else set()
        self._compared, self._layers = setting.mapping, sorted({*setting.mapping.values(), *last})

    def prepare(self, step: int, rows: Sequence[int], parts: int) -> list[Part]:
        """Return the batch of a step in `parts`, or in one where a loss is `pooled`."""
        parts = 1 if self.pooled else parts
        sides = ((self._examples, self._own), (self._teacher_examples, self._other))
        lengths = [torch.tensor([len(examples[row].response) for row in rows]) for examples, _ in sides]
        found, size = [], -(-len(rows) // parts)
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            collated = (batches.collate([examples[row] for row in chosen], one.pad) for examples, one in sides)
            found.append(Part(chosen, *collated, *lengths))  # type: ignore[arg-type]  # two and two
        return found

    def losses(self, part: Part) -> dict[str, Tensor]:
        """Return each loss of a part as its share of the whole batch's mean; see `objectives.Distillation.losses`."""
        batch, device = on(part.batch, self.student.device), self.student.device
        with states_of(self.student, list(self._compared)) as seen:
            read = self.student.base_model(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
        places = batch.predicting
        states = read.last_hidden_state[places]
        logits = self.student.get_output_embeddings()(states).float()
        nats = functional.cross_entropy(logits, batch.ids[batch.response], reduction="none")
        found = {"ce": token_mean(nats, int(part.lengths.sum()))}
        if self._source is None or not self.config.needs_teacher:
            return found
        said = self._source.signals(part.rows, part.teachers, self._layers).to(device)
        if said.chosen is not None:
            raise UserError("tokenizers are paired over all tokens, and the cache keeps the top k: raise its size")
        return found | self._paired(part, Student(batch, states, logits, seen, places), said)

    def _modules(self, setting: Setting) -> dict[str, nn.Module]:
        """Return what is trained beside the student."""
        del setting
        return {}

    def _paired(self, part: Part, student: Student, said: Signals) -> dict[str, Tensor]:
        """Return the losses between the tokens that are paired, as shares of the whole batch's means."""
        raise NotImplementedError


class SortedProbabilities(OwnTokenizer):
    """Universal logit distillation: tokens are paired in order, what both predict by the order of probabilities."""

    def _paired(self, part: Part, student: Student, said: Signals) -> dict[str, Tensor]:
        sides = (student.batch, part.teachers)
        first, second = others.in_order(*(one.response.sum(1).to(student.logits.device) for one in sides))
        distance = others.universal_logit(student.logits[first], said.output[second])
        return {"output": token_mean(distance, int(torch.minimum(part.lengths, part.teacher_lengths).sum()))}


class NearestTokens(OwnTokenizer):
    """Minimum edit distance: the teacher is carried over to the student's tokens, and all losses are taken there.

    A token of the student's that no token of the teacher's is nearest to gets no mass, so divergences that are infinite
    there cannot be taken.
    """

    pairs_states = True

    def _modules(self, setting: Setting) -> dict[str, nn.Module]:
        self._pairs: dict[int, list[int]] = {}
        self._losses: list[OutputLoss | MiddleLoss] = [
            LOSSES[name](self.config, setting) for name in self.config.losses
        ]
        self.pooled = any(loss.pooled for loss in self._losses)
        return {name: module for loss in self._losses for name, module in loss.modules.items()}

    def _paired(self, part: Part, student: Student, said: Signals) -> dict[str, Tensor]:
        partners = self._partners(part.rows).to(student.logits.device)
        carried = others.carried_over(said.output[partners], self._nearest, len(self._own))
        there = {layer: state[partners] for layer, state in said.states.items()}
        told = Signals(carried, None, said.lost[partners], there)
        tokens = int(part.lengths.sum())
        read = Reading(student.logits, student.states, student.places, told, tokens, part.lengths)
        return {loss.name: loss(read) for loss in self._losses}

    @cached_property
    def _texts(self) -> tuple[list[str], list[str]]:
        return token_texts(self._own), token_texts(self._other)

    @cached_property
    def _nearest(self) -> Tensor:
        own, other = self._texts
        return others.nearest_tokens(other, own)

    def _partners(self, rows: Sequence[int]) -> Tensor:
        """Return, for every response token of the student's, the place of the teacher's that it goes with."""
        places, start = [], 0
        own, other = self._texts
        for row in rows:
            ours, theirs = self._examples[row].response, self._teacher_examples[row].response
            if row not in self._pairs:
                self._pairs[row] = others.aligned([own[one] for one in ours], [other[one] for one in theirs])
            places += [start + place for place in self._pairs[row]]
            start += len(theirs)
        return torch.tensor(places)


class TwoSpaces(OwnTokenizer):
    """Dual-space distillation: tokens are paired by attention between the two models' spaces."""

    reads_last = True

    def _modules(self, setting: Setting) -> dict[str, nn.Module]:
        return {"dual": others.DualSpace(setting.student_width, setting.teacher_width, setting.seed)}

    def _paired(self, part: Part, student: Student, said: Signals) -> dict[str, Tensor]:
        own = self._side(student.batch, student.hidden, self.student.get_input_embeddings().weight, self.student)
        teachers = on(part.teachers, student.logits.device)
        one, other = self.module["dual"](own, self._teachers_side(teachers, said))
        counts = int(part.lengths.sum()), int(part.teacher_lengths.sum())
        return {"output": token_mean(one, counts[0]) + token_mean(other, counts[1])}

    def _side(self, batch: Batch, states: Tensor, embeddings: Tensor, model: "PreTrainedModel") -> Side:
        labels = batch.ids[batch.response]
        read = embeddings[batch.ids[batch.predicting]]
        head = model.get_output_embeddings().weight
        return Side(states, read, embeddings[labels], labels, batch.response.sum(1), head)

    def _teachers_side(self, batch: Batch, said: Signals) -> Side:
        """Return the teacher's side: the state before its final norm, which is applied here, and its embeddings."""
        model = self._teacher.model
        with torch.no_grad():
            words = model.get_input_embeddings().weight
            norm = final_norm(model) or nn.Identity()  # OPT of 350M parameters has none
            states = norm(said.states[self._teacher.layers].to(words.dtype)).float()
            side = self._side(batch, states, words.float(), model)
        return Side(side.states, side.read, side.predicted, side.labels, side.lengths, side.head.float())
