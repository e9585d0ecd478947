"""The arms of the comparison: what configures one, and how it is built of what all arms share."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lib.distillation import decoding, hidden_states, layer_maps, students, training
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

    width: int
    layers: int
    heads: int
    style: str = "gpt2"
    init: students.Initialisation = "projected"
    tokenizer: str = "teacher"  # its restricted tokens, or "own": some trained on the data


class RunConfig(Settings):
    """All that decides the outcome of one arm, besides the teacher, data, code and seed."""

    objective: ObjectiveConfig
    student: StudentConfig
    data: DataConfig
    training: training.TrainingConfig
    decoding: decoding.DecodingConfig
    decoding_seeds: tuple[int, ...]
    watch_at: tuple[int, ...]  # steps after which the validation rows are answered
    top_k: int
    cache_gib: float
    text: Literal["data", "teacher"] = "data"  # sequence-level distillation learns the teacher's responses
    signals: Literal["cached", "live"] = "cached"
    similarity: bool = False  # of all layers, before and after training


def build(config: RunConfig, world: World, seed: int) -> tuple[Distillation | OwnTokenizer, LayerMap]:
    """Return the arm of a configuration, untrained, and its layer map (empty without a middle loss)."""
    student = fresh_student(config.student, world, seed).to(world.device)
    mapping = layer_map(config.objective.rule, student, world) if config.objective.middle > 0 else {}
    return ARMS[config.objective.pairing](config, world, seed, student, mapping), mapping


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


def layer_map(rule: str, student: "PreTrainedModel", world: World) -> LayerMap:
    """Return the map of a rule, which may compare states on training rows before the student learns.

    Raises `UserError` for an unknown rule.
    """
    here, there = depth(student), world.pretrained.depth
    found = layer_maps.RULES[rule](here, there, lambda: similarity(student, world).numpy())
    return layer_maps.check(found, there, here)


def similarity(student: "PreTrainedModel", world: World) -> Tensor:
    """Return the CKA of all states but the embeddings, (student layers, teacher layers), on calibration rows."""
    batch, there = world.calibration
    own = list(range(1, depth(student) + 1))
    batch = on(batch, student.device)
    with states_of(student, own) as seen, torch.no_grad():
        student.base_model(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
    return hidden_states.cka_matrix({layer: state[batch.predicting] for layer, state in seen.items()}, there)
