"""What all arms of the series share: the instructions, the vocabulary, the adapted teacher and what is kept of it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from lib import paths, records, seeds
from lib.causal_lm import backbones
from lib.distillation import batches
from lib.distillation.decoding import DecodingConfig
from lib.distillation.objectives import depth
from lib.distillation.teacher import Adaptation, Teacher
from lib.distillation.teacher_cache import Classes, TeacherCache
from lib.distillation.training import TrainingConfig
from lib.distillation.vocabularies import RestrictedVocabulary, TrainedVocabulary, Vocabulary
from lib.registry import Registry
from lib.settings import Settings
from lib.text import instructions, suites
from lib.text.instructions import Instruction

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

READING = 64  # rows of a batch that is only read
CALIBRATION = 256  # training rows that layers are compared on: more response tokens than the states have dimensions


class DataConfig(Settings):
    """Which sets are read, how much of each, and how long prompts and responses may be in tokens."""

    suite: suites.Name
    examples: PositiveInt
    validation: PositiveInt
    test: PositiveInt
    longest: tuple[PositiveInt, PositiveInt]


class TeacherConfig(Settings):
    """The teacher: a backbone adapted from `layer` up, and what it is read in."""

    backbone: str
    layers: PositiveInt | None
    layer: NonNegativeInt
    data: DataConfig
    training: TrainingConfig
    decoding: DecodingConfig
    decoding_seeds: tuple[NonNegativeInt, ...]
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # twice as fast to read; the backbone's own precision
    # Of the matrices below `layer` and the head while it is adapted: in that of `dtype` they take half the memory, and
    # the losses are the same to the bit.
    frozen: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True)
class Splits:
    """The instructions of a size: training rows of the trained sets in turn, held-out rows by set."""

    train: tuple[Instruction, ...]
    validation: tuple[Instruction, ...]
    test: tuple[Instruction, ...]

    @classmethod
    def load(cls, config: DataConfig) -> "Splits":
        """Read the sets; validation is of the trained sets, test of all five."""
        suite = suites.SUITES[config.suite]

        def taken(names: Sequence[str], split: str, count: int) -> tuple[Instruction, ...]:
            return tuple(item for name in names for item in suite.load(name)[split][:count])

        return cls(
            taken(suite.trained, "train", config.examples),
            taken(suite.trained, "validation", config.validation),
            taken(suite.tested, "test", config.test),
        )

    def digest(self) -> str:
        """Return the SHA-256 of all rows."""
        return instructions.content_hash([*self.train, *self.validation, *self.test])


class Pretrained(NamedTuple):
    """A backbone's tokenizer, embeddings (vocabulary, width) and number of blocks."""

    tokenizer: "PreTrainedTokenizerBase"
    embeddings: Tensor
    depth: int


class World:
    """What all arms share: data, vocabulary, and the adapted teacher with what is kept of it on disk."""

    def __init__(
        self, config: TeacherConfig, device: str, upper: Callable[[], Mapping[str, Tensor]], folder: Path, identity: str
    ) -> None:
        """Name the parts; each is made when it is first asked for.

        `upper` gives the adapted weights, `folder` is where caches lie, `identity` is a digest of the teacher.
        """
        self.config, self.device = config, device
        self._upper, self._folder, self._identity = upper, folder, identity

    @cached_property
    def splits(self) -> Splits:
        """Return the instructions."""
        return Splits.load(self.config.data)

    def fresh_backbone(self) -> "PreTrainedModel":
        """Return the backbone as it was pretrained, in float32; each call loads another."""
        return backbones.load_causal_lm(self.config.backbone, "float32", self.config.layers)[0].to(self.device)

    @cached_property
    def pretrained(self) -> Pretrained:
        """Return what is needed of the backbone without keeping its weights."""
        model, tokenizer = backbones.load_causal_lm(self.config.backbone, "float32", self.config.layers)
        embeddings = model.get_input_embeddings().weight.detach().clone()
        return Pretrained(tokenizer, embeddings, depth(model))

    @cached_property
    def vocabulary(self) -> RestrictedVocabulary:
        """Return the tokens that occur in any row of the five sets."""
        every = suites.SUITES[self.config.data.suite].every()
        return RestrictedVocabulary.of(self.pretrained.tokenizer, instructions.texts(every))

    @cached_property
    def examples(self) -> list[batches.Example]:
        """Return the training rows in ids."""
        return batches.encode(self.splits.train, self.vocabulary, self.config.data.longest)

    @cached_property
    def own_vocabulary(self) -> TrainedVocabulary:
        """Return tokens trained on the training rows, as many as the teacher's restricted ones: another tokenizer."""
        return TrainedVocabulary(instructions.texts(self.splits.train), len(self.vocabulary))

    @cached_property
    def own_examples(self) -> list[batches.Example]:
        """Return the training rows in ids of the other tokenizer."""
        return batches.encode(self.splits.train, self.own_vocabulary, self.config.data.longest)

    def tokens(self, whose: str) -> tuple[Vocabulary, list[batches.Example]]:
        """Return a student's vocabulary by its name in `TOKENIZERS`, and the training rows in its ids."""
        return TOKENIZERS[whose](self)

    def classes(self, top_k: int, gib: float) -> Classes:
        """Return what of the teacher's output is kept: everything where it fits into `gib`, else the top k."""
        tokens = sum(len(example.response) for example in self.examples)
        return Classes.fitting(len(self.vocabulary), tokens, top_k, gib)

    @cached_property
    def teacher(self) -> Teacher:
        """Return the adapted teacher over the restricted vocabulary."""
        model = self.fresh_backbone()
        Adaptation(model, self.vocabulary.kept, self.config.layer, (), self.vocabulary.pad).take(self._upper())
        return Teacher(model, self.vocabulary.kept, getattr(torch, self.config.dtype), copied=False)

    @property
    def calibration_rows(self) -> list[int]:
        """Return training rows from all over."""
        stride = max(1, len(self.examples) // CALIBRATION)
        return list(range(0, len(self.examples), stride))[:CALIBRATION]

    @cached_property
    def calibration(self) -> tuple[batches.Batch, dict[int, Tensor]]:
        """Return the calibration rows and the teacher's states 1 to M on them, (response tokens, width)."""
        batch = self.batch(self.calibration_rows)
        return batch, dict(self.teacher.signals(batch, range(1, self.pretrained.depth + 1)).states)

    @cached_property
    def teacher_texts(self) -> list[batches.Example]:
        """Return the training rows with the teacher's own responses, drawn at T = 1; an empty one is the end token."""
        prompts = [example.prompt for example in self.examples]
        longest, vocabulary = self.config.data.longest[1], self.vocabulary
        config = self.config.decoding
        stream = seeds.seed_of("distillation/teacher text")
        written = self.teacher.write(prompts, config, vocabulary.end, vocabulary.pad, stream)
        return [
            batches.Example(prompt, (*ids, vocabulary.end)[:longest])
            for prompt, ids in zip(prompts, written, strict=True)
        ]

    def cache(self, layers: Sequence[int], top_k: int, gib: float) -> TeacherCache:
        """Return the teacher's cache with the states of `layers`, writing what is missing of it."""
        lengths = [len(example.response) for example in self.examples]
        classes = self.classes(top_k, gib)
        identity = {
            "teacher": self._identity,
            "data": self.splits.digest(),
            "tokenizer": self.vocabulary.content_hash(),
            "longest": str(
                tuple(self.config.data.longest)
            ),  # prompts are cut to it, which changes the teacher's states
        }
        digest = hashlib.sha256(repr((sorted(identity.items()), classes)).encode()).hexdigest()
        cache = TeacherCache(self._folder / digest[:16], identity, lengths, classes)
        if cache.missing(layers):
            rows = batches.by_length([len(example) for example in self.examples], READING)
            read = ((part, self.batch(part)) for part in rows)
            cache.fill(layers, self.teacher.width, self.teacher.passes(read, layers))
        return cache

    def batch(self, rows: Sequence[int]) -> batches.Batch:
        """Return training rows as one batch."""
        return batches.collate([self.examples[row] for row in rows], self.vocabulary.pad)


def restricted_tokens(world: World) -> tuple[Vocabulary, list[batches.Example]]:
    """Return those of the teacher's tokens that occur, and the training rows in them."""
    return world.vocabulary, world.examples


def own_tokens(world: World) -> tuple[Vocabulary, list[batches.Example]]:
    """Return tokens of the student's own, and the training rows in them."""
    return world.own_vocabulary, world.own_examples


# By the names that a case carries.
TOKENIZERS: Registry[Callable[[World], tuple[Vocabulary, list[batches.Example]]]] = Registry(
    "tokenizer of a student",
    {
        "teacher": restricted_tokens,
        "own": own_tokens,
    },
)

_worlds: dict[tuple[TeacherConfig, str, Path, str], World] = {}


def world_of(case: records.Case) -> World:
    """Return what all cases with the same adapted teacher share, made once in a process.

    The teacher is the case's input "teacher"; it is adapted where that is not done.
    """
    teacher = case.inputs["teacher"]
    folder = paths.cache() / "distillation" / case.profile
    identity = records.get(teacher).weight_digests["adapted"]
    config = cast(TeacherConfig, teacher.config)
    key = (config, case.device, folder, identity)
    if key not in _worlds:
        _worlds.clear()  # a teacher is large, and cases of one come one after another
        _worlds[key] = World(config, case.device, lambda: records.trained_weights(teacher, "adapted"), folder, identity)
    return _worlds[key]
