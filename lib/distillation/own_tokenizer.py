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

from lib.distillation import batches, hidden_states, proportions
from lib.distillation import other_tokenizers as others
from lib.distillation.alignment import Alignment
from lib.distillation.batches import Batch, Example
from lib.distillation.divergences import forward_kl, token_mean
from lib.distillation.layer_maps import LayerMap
from lib.distillation.objectives import ObjectiveConfig, Source
from lib.distillation.other_tokenizers import Side
from lib.distillation.teacher import Teacher, final_norm, on, states_of
from lib.distillation.teacher_cache import Signals
from lib.distillation.vocabularies import END, PAD, Vocabulary
from lib.editing.layers import blocks, down_projection
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Part(NamedTuple):
    """A part of a step's batch in the student's tokens and in the teacher's, with the counts of the whole of it."""

    rows: Sequence[int]
    batch: Batch
    teachers: Batch
    tokens: int  # of the student's responses
    teacher_tokens: int
    paired: int  # tokens that have a partner in order
    compared: int  # tokens that the middle loss is a mean over


def token_texts(vocabulary: Vocabulary) -> list[str]:
    """Return the text of every token, with its leading blank; the special ones have names that no other token has."""
    texts = [vocabulary.decode([number]) for number in range(len(vocabulary))]
    texts[vocabulary.end], texts[vocabulary.pad] = END, PAD
    return texts


class OwnTokenizer:
    """An arm of the comparison whose student reads other tokens than its teacher (the protocol `training.Arm`)."""

    def __init__(
        self,
        student: "PreTrainedModel",
        examples: Sequence[Example],
        teacher_examples: Sequence[Example],
        config: ObjectiveConfig,
        vocabularies: tuple[Vocabulary, Vocabulary],
        steps: int,
        seed: int,
        source: Source,
        teacher: Teacher,
        mapping: LayerMap | None = None,
    ) -> None:
        """Set up an arm; examples and vocabularies are the student's and the teacher's, of the same rows.

        Raises `UserError` for an objective that compares tokens of one tokenizer, unequal numbers of rows, and a middle
        loss without a map or without tokens paired by their texts.
        """
        if config.pairing == "same":
            raise UserError("student and teacher have different tokenizers: choose how their tokens are paired")
        if len(examples) != len(teacher_examples):
            raise UserError(
                f"{len(examples)} rows of the student, {len(teacher_examples)} of the teacher: give the same"
            )
        if config.middle > 0 and (not mapping or config.pairing != "minimum_edit"):
            raise UserError("a middle loss between tokenizers needs a layer map and tokens paired by minimum_edit")
        self.student, self.config, self.mapping = student, config, mapping or {}
        self._examples, self._teacher_examples = examples, teacher_examples
        self._own, self._other = vocabularies
        self._source, self._teacher = source, teacher
        self.rule = proportions.rule(
            config.proportions, {"ce": config.ce, "output": config.output, "middle": config.middle}, steps
        )
        width = student.get_input_embeddings().weight.shape[1]
        trained: dict[str, nn.Module] = {"student": student, "proportions": self.rule}
        if config.pairing == "dual_space":
            trained["dual"] = others.DualSpace(width, teacher.width, seed)
        if config.middle > 0:
            trained["alignment"] = Alignment(config.alignment, list(self.mapping), width, teacher.width, seed)
        self.module = nn.ModuleDict(trained).to(student.device)
        self.shared = [down_projection(student, 0).weight]
        self.matrices = [value for value in blocks(student).parameters() if value.ndim == 2]
        self._pairs: dict[int, list[int]] = {}

    @cached_property
    def _texts(self) -> tuple[list[str], list[str]]:
        return token_texts(self._own), token_texts(self._other)

    @cached_property
    def _nearest(self) -> Tensor:
        own, other = self._texts
        return others.nearest_tokens(other, own)

    def prepare(self, step: int, rows: Sequence[int], parts: int) -> list[Part]:
        """Return the batch of a step in `parts`."""
        pairs = [(len(self._examples[row].response), len(self._teacher_examples[row].response)) for row in rows]
        tokens, teacher_tokens = map(sum, zip(*pairs, strict=True))
        least = hidden_states.LEAST[self.config.distance]
        compared = sum(own for own, _ in pairs if own >= least)
        found, size = [], -(-len(rows) // parts)
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            sides = (
                batches.collate([examples[row] for row in chosen], vocabulary.pad)
                for examples, vocabulary in (
                    (self._examples, self._own),
                    (self._teacher_examples, self._other),
                )
            )
            counts = (tokens, teacher_tokens, sum(map(min, pairs)), max(compared, 1))
            found.append(Part(chosen, *sides, *counts))
        return found

    def losses(self, part: Part) -> dict[str, Tensor]:
        """Return each loss of a part as its share of the whole batch's mean; see `objectives.Distillation.losses`."""
        batch, device = on(part.batch, self.student.device), self.student.device
        layers = list(self.mapping)
        with states_of(self.student, layers) as seen:
            read = self.student.base_model(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
        places = batch.predicting
        states = read.last_hidden_state[places]
        logits = self.student.get_output_embeddings()(states).float()
        nats = functional.cross_entropy(logits, batch.ids[batch.response], reduction="none")
        found = {"ce": token_mean(nats, part.tokens)}
        if not self.config.output and not self.config.middle:
            return found
        wanted = set(self.mapping.values()) | ({self._teacher.layers} if self.config.pairing == "dual_space" else set())
        said = self._source.signals(part.rows, part.teachers, sorted(wanted)).to(device)
        if said.chosen is not None:
            raise UserError("tokenizers are paired over all tokens, and the cache keeps the top k: raise its size")
        if self.config.pairing == "universal_logit":
            first, second = others.in_order(*(one.response.sum(1).to(device) for one in (batch, part.teachers)))
            distance = others.universal_logit(logits[first], said.output[second])
            found["output"] = token_mean(distance, part.paired)
        elif self.config.pairing == "minimum_edit":
            partners = self._partners(part.rows).to(device)
            carried = others.carried_over(said.output[partners], self._nearest, len(self._own))
            found["output"] = token_mean(forward_kl(logits, carried), part.tokens)
            if self.config.middle:
                here = {layer: seen[layer][places] for layer in layers}
                there = {layer: state[partners] for layer, state in said.states.items()}
                compared = hidden_states.middle_loss(
                    here, there, self.mapping, self.module["alignment"], self.config.distance, places
                )
                found["middle"] = compared.total / part.compared
        else:
            own = self._side(batch, states, self.student.get_input_embeddings().weight, self.student)
            one, other = self.module["dual"](own, self._teachers_side(on(part.teachers, device), said))
            found["output"] = token_mean(one, part.tokens) + token_mean(other, part.teacher_tokens)
        return found

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

    def _side(self, batch: Batch, states: Tensor, embeddings: Tensor, model: "PreTrainedModel") -> Side:
        labels = batch.ids[batch.response]
        read = embeddings[batch.ids[batch.predicting]]
        head = model.get_output_embeddings().weight
        return Side(states, read, embeddings[labels], labels, batch.response.sum(1), head)

    def _teachers_side(self, batch: Batch, said: Signals) -> Side:
        """Return the teacher's side: the state before its final norm, which is applied here, and its embeddings."""
        model = self._teacher.model
        with torch.no_grad():
            norm = final_norm(model)
            states = norm(said.states[self._teacher.layers].to(norm.weight.dtype)).float()
            side = self._side(batch, states, model.get_input_embeddings().weight.float(), model)
        return Side(side.states, side.read, side.predicted, side.labels, side.lengths, side.head.float())
