"""The arms of the comparison: what configures one, and how it is built of what all arms share."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from lib.distillation import batches, decoding, hidden_states, layer_maps, students, training
from lib.distillation.layer_maps import LayerMap
from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.objectives import Cached, Distillation, Live, Source, depth
from lib.distillation.own_tokenizer import NearestTokens, OwnTokenizer, SortedProbabilities, TwoSpaces
from lib.distillation.teacher import on, states_of
from lib.errors import UserError
from lib.registry import Registry
from lib.series.distillation.world import DataConfig, World
from lib.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class StudentConfig(Settings):
    """The student's build."""

    width: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    style: str = "gpt2"
    init: students.Initialisation = "projected"
    tokenizer: str = "teacher"  # its restricted tokens, or "own": some trained on the data


class RunConfig(Settings):
    """All that decides the outcome of one arm, besides the teacher, data, code and seed.

    Raises `ValueError` for validation after more steps than are taken.
    """

    objective: ObjectiveConfig
    student: StudentConfig
    data: DataConfig
    training: training.TrainingConfig
    decoding: decoding.DecodingConfig
    decoding_seeds: tuple[NonNegativeInt, ...]
    watch_at: tuple[PositiveInt, ...]  # steps after which the validation rows are answered
    top_k: PositiveInt
    cache_gib: NonNegativeFloat
    text: Literal["data", "teacher"] = "data"  # sequence-level distillation learns the teacher's responses
    signals: Literal["cached", "live"] = "cached"
    similarity: bool = False  # of all layers, before and after training

    @model_validator(mode="after")
    def _is_watched_while_it_trains(self) -> "RunConfig":
        if beyond := [step for step in self.watch_at if step > self.training.steps]:
            raise ValueError(f"watch_at {beyond}: the training has {self.training.steps} steps")
        return self


class Mapped(NamedTuple):
    """A layer map, empty without a middle loss, and the CKA that its rule has read, if it reads any."""

    layers: LayerMap
    read: Tensor | None = None


def build(config: RunConfig, world: World, seed: int) -> tuple[Distillation | OwnTokenizer, Mapped]:
    """Return the arm of a configuration, untrained, and its layer map."""
    student = fresh_student(config.student, world, seed).to(world.device)
    mapped = layer_map(config, world, seed) if config.objective.middle > 0 else Mapped({})
    return ARMS[config.objective.pairing](config, world, seed, student, mapped.layers), mapped


def one_tokenizer(
    config: RunConfig, world: World, seed: int, student: "PreTrainedModel", mapping: LayerMap
) -> Distillation:
    """Return an arm whose losses compare the same tokens, or read no teacher.

    Raises `UserError` for a student with tokens of its own that is to learn from the teacher.
    """
    objective, (vocabulary, examples) = config.objective, world.tokens(config.student.tokenizer)
    if config.student.tokenizer == "own" and objective.needs_teacher:
        raise UserError("student and teacher have different tokenizers: choose how their tokens are paired")
    source, live = sources(config, world, {*mapping.values()})
    return Distillation(
        student,
        world.teacher_texts if config.text == "teacher" else examples,
        objective,
        vocabulary.pad,
        vocabulary.end,
        config.training.steps,
        seed,
        source,
        mapping,
        world.pretrained.embeddings.shape[1],
        live,
        config.data.longest[1],
    )


def two_tokenizers(
    pairing: type[OwnTokenizer],
    config: RunConfig,
    world: World,
    seed: int,
    student: "PreTrainedModel",
    mapping: LayerMap,
) -> OwnTokenizer:
    """Return an arm whose student has tokens of its own; raises `UserError` for one that has the teacher's."""
    if config.student.tokenizer != "own":
        raise UserError(
            f"{config.objective.pairing} pairs tokens of two tokenizers, and here there is one: leave it out"
        )
    vocabulary, examples = world.tokens(config.student.tokenizer)
    source, _ = sources(config, world, {*mapping.values(), *([world.pretrained.depth] if pairing.reads_last else [])})
    rows, sides = (examples, world.examples), (vocabulary, world.vocabulary)
    return pairing(student, *rows, config.objective, sides, config.training.steps, seed, source, world.teacher, mapping)


# By the names that a case carries.
ARMS: Registry[Callable[..., Distillation | OwnTokenizer]] = Registry(
    "pairing of tokens",
    {
        "same": one_tokenizer,
        "universal_logit": partial(two_tokenizers, SortedProbabilities),
        "minimum_edit": partial(two_tokenizers, NearestTokens),
        "dual_space": partial(two_tokenizers, TwoSpaces),
    },
)


def sources(config: RunConfig, world: World, layers: set[int]) -> tuple[Source | None, Live | None]:
    """Return where the teacher's signals come from, with the states of `layers`, and the live teacher; None: unread."""
    kept = (config.top_k, config.cache_gib)
    is_live, objective = config.signals == "live", config.objective
    live = Live(world.teacher, world.classes(*kept)) if is_live or objective.on_policy else None
    if is_live or not objective.needs_teacher:
        return (live if objective.needs_teacher else None), live
    return Cached(world.cache(sorted(layers), *kept)), live


def fresh_student(config: StudentConfig, world: World, seed: int) -> "PreTrainedModel":
    """Return an untrained student over the teacher's restricted tokens, or over its own.

    Raises `UserError` for projected embeddings of tokens that the teacher does not have.
    """
    if config.tokenizer == "own" and config.init == "projected":
        raise UserError("tokens of the student's own have no teacher's embeddings to project: take init scratch")
    shape = (config.style, config.width, config.layers, config.heads, world.tokens(config.tokenizer)[0])
    embeddings = world.pretrained.embeddings[world.vocabulary.kept] if config.init == "projected" else None
    return students.student(*shape, config.init, embeddings, seed, positions=sum(world.config.data.longest))


def layer_map(config: RunConfig, world: World, seed: int) -> Mapped:
    """Return the map of the objective's rule, which may compare states on training rows.

    Raises `UserError` for an unknown rule, and as `similarity` does.
    """
    here, there, seen = config.student.layers, world.pretrained.depth, []

    def read() -> np.ndarray:
        seen.append(similarity(config, warmed_up(config, world, seed), world))
        return seen[0].numpy()

    found = layer_maps.RULES[config.objective.rule](here, there, read)
    return Mapped(layer_maps.check(found, there, here), *seen)


def warmed_up(config: RunConfig, world: World, seed: int) -> "PreTrainedModel":
    """Return the student as it is after the first steps of training by cross-entropy alone, `compared_after` of all.

    It is a copy that is thrown away; the arm begins with a fresh one and has all its steps.
    """
    student, steps = fresh_student(config.student, world, seed).to(world.device), config.training.steps
    vocabulary, examples = world.tokens(config.student.tokenizer)
    arm = Distillation(student, examples, ObjectiveConfig(), vocabulary.pad, vocabulary.end, steps, seed)
    order = batches.order([len(example) for example in world.examples], config.training.batch, steps, seed)
    until = round(config.objective.compared_after * steps)
    training.train(arm, order, config.training, seed, until=until, device=world.device)
    return student


def similarity(config: RunConfig, student: "PreTrainedModel", world: World) -> Tensor:
    """Return the CKA of all states but the embeddings, (student layers, teacher layers), on calibration rows.

    Debiased, see `hidden_states.cka_matrix`. Raises `UserError` for a student of other tokens than its teacher's: they
    have no states of the same tokens.
    """
    if config.student.tokenizer != "teacher":
        raise UserError("a student with tokens of its own has no states at its teacher's tokens: compare no layers")
    batch, there = world.calibration
    own = list(range(1, depth(student) + 1))
    batch = on(batch, student.device)
    with states_of(student, own) as seen, torch.no_grad():
        student.base_model(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
    return hidden_states.cka_matrix({layer: state[batch.predicting] for layer, state in seen.items()}, there)
