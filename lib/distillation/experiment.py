"""One experiment of the series: adapt the teacher, or train a student by one objective, then let it answer.

Whatever this module reaches can change a record, so it is what the fingerprints start from. It scores nothing.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from lib import files
from lib.distillation import batches, decoding, hidden_states, layer_maps, students, training
from lib.distillation.divergences import forward_kl, token_mean
from lib.distillation.layer_maps import LayerMap
from lib.distillation.objectives import Cached, Distillation, Live, ObjectiveConfig, depth
from lib.distillation.own_tokenizer import OwnTokenizer
from lib.distillation.teacher import Adaptation, on, states_of
from lib.distillation.teacher_cache import TeacherCache
from lib.distillation.vocabularies import RestrictedVocabulary
from lib.distillation.world import READING, DataConfig, TeacherConfig, World
from lib.errors import UserError
from lib.text import instructions
from lib.text.instructions import Instruction

if TYPE_CHECKING:
    from transformers import PreTrainedModel


GREEDY = -1  # in the column of decoding seeds


class StudentConfig(BaseModel):
    """The student's build."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int
    layers: int
    heads: int
    style: students.Style = "gpt2"
    init: students.Initialisation = "projected"
    tokenizer: Literal["teacher", "own"] = "teacher"  # its restricted tokens, or some trained on the data


class RunConfig(BaseModel):
    """All that decides the outcome of one arm, besides the teacher, data, code and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


@dataclass(frozen=True)
class Results:
    """What one experiment leaves; `outputs` are raw responses: split, step, set, identity, seed, text, tokens."""

    outputs: pd.DataFrame
    curve: pd.DataFrame
    values: dict[str, Any]
    weights: dict[str, Tensor]  # of the student
    seconds: dict[str, float]


def adapt(world: World, seed: int, workspace: Path | None = None) -> tuple[dict[str, Tensor], pd.DataFrame]:
    """Train the upper layers of the world's backbone on the trained sets; returns their weights and the curve."""
    config, model = world.config, world.fresh_backbone()
    dtype = getattr(torch, config.dtype)  # what it will be read in
    adaptation = Adaptation(model, world.vocabulary.kept, config.layer, world.examples, world.vocabulary.pad, dtype)
    order = batches.order(
        [len(example) for example in world.examples], config.training.batch, config.training.steps, seed
    )
    trained = training.train(adaptation, order, config.training, seed, workspace)
    return adaptation.weights(), pd.DataFrame(trained.curve)


def run(config: RunConfig, world: World, seed: int, workspace: Path | None = None) -> Results:
    """Train a student and let it answer; equal arguments give equal results on an equal environment.

    With a `workspace` training resumes from the last checkpoint there.
    """
    if config.data != world.config.data:
        raise UserError("the arm and its teacher read data of different sizes: give both the same")
    arm, mapping = build(config, world, seed)
    values: dict[str, Any] = {
        "parameters": students.parameters(arm.student),
        "map": {str(layer): there for layer, there in mapping.items()},
    }
    if config.similarity:
        values["cka_before"] = rounded(similarity(arm.student, world))
    lengths = [len(example) for example in world.examples]
    order = batches.order(lengths, config.training.batch, config.training.steps, seed)
    watched: dict[int, pd.DataFrame] = {}

    def watch(step: int) -> None:
        watched[step] = answers(arm.student, world, config, world.splits.validation, "validation", (), step)
        if workspace is not None:  # a resumed training does not come by here again
            files.write_atomically(workspace / f"watched_{step}.parquet", watched[step].to_parquet)

    trained = training.train(arm, order, config.training, seed, workspace, watch=watch, watch_at=config.watch_at)
    for step in set(config.watch_at) - set(watched):
        watched[step] = pd.read_parquet(workspace / f"watched_{step}.parquet")
    found = answers(arm.student, world, config, world.splits.test, "test", config.decoding_seeds, config.training.steps)
    if config.similarity:
        values["cka_after"] = rounded(similarity(arm.student, world))
    return Results(
        pd.concat([*(watched[step] for step in config.watch_at), found], ignore_index=True),
        pd.DataFrame(trained.curve),
        values,
        {name: value.detach() for name, value in arm.student.named_parameters()},
        {"training": round(trained.seconds, 2), "a_step": round(trained.seconds / config.training.steps, 4)},
    )


def build(config: RunConfig, world: World, seed: int) -> tuple[Distillation | OwnTokenizer, LayerMap]:
    """Return the arm of a configuration, untrained, and its layer map (empty without a middle loss)."""
    objective, (vocabulary, examples) = config.objective, world.tokens(config.student.tokenizer)
    student = fresh_student(config.student, world, seed).to(world.device)
    mapping = layer_map(objective.rule, student, world) if objective.middle > 0 else {}
    layers = {*mapping.values(), *([world.pretrained.depth] if objective.pairing == "dual_space" else [])}
    source = live = None
    if config.signals == "live" or objective.on_policy:
        live = Live(world.teacher, world.classes(config.top_k, config.cache_gib))
    if objective.needs_teacher and config.signals == "live":
        source = live
    elif objective.needs_teacher:
        source = Cached(world.cache(sorted(layers), config.top_k, config.cache_gib))
    steps = config.training.steps
    if config.student.tokenizer == "own" and source is not None:
        rows, sides = (examples, world.examples), (vocabulary, world.vocabulary)
        return OwnTokenizer(student, *rows, objective, sides, steps, seed, source, world.teacher, mapping), mapping
    arm = Distillation(
        student,
        world.teacher_texts if config.text == "teacher" else examples,
        objective,
        vocabulary.pad,
        vocabulary.end,
        steps,
        seed,
        source,
        mapping,
        world.pretrained.embeddings.shape[1],
        live,
        config.data.longest[1],
    )
    return arm, mapping


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
    """Return the map of a rule; "cka_monotone" compares states on training rows before the student learns.

    Raises `UserError` for an unknown rule.
    """
    deep = world.pretrained.depth
    if rule == "cka_monotone":
        return layer_maps.cka_monotone(similarity(student, world).numpy())
    if rule not in layer_maps.RULES:
        raise UserError(f"no mapping rule {rule!r}: there are cka_monotone, {', '.join(layer_maps.RULES)}")
    return layer_maps.check(layer_maps.RULES[rule](depth(student), deep), deep, depth(student))


def similarity(student: "PreTrainedModel", world: World) -> Tensor:
    """Return the CKA of all states but the embeddings, (student layers, teacher layers), on calibration rows."""
    batch, there = world.calibration
    own = list(range(1, depth(student) + 1))
    batch = on(batch, student.device)
    with states_of(student, own) as seen, torch.no_grad():
        student.base_model(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
    return hidden_states.cka_matrix({layer: state[batch.predicting] for layer, state in seen.items()}, there)


def keep(world: World, rules: Sequence[str], deep: int, top_k: int, gib: float) -> dict[str, Any]:
    """Write the teacher's cache with the states that some rules map a student of `deep` blocks to.

    Returns its size; what the restricted vocabulary loses: by set, the mean mass that the teacher puts on other tokens,
    and the share of the test rows' tokens that occur in the training rows; and how far it is from the live teacher on
    calibration rows: KL(live || kept) in nats per token, and the relative error of each layer's states.
    """
    maps = [layer_maps.RULES[rule](deep, world.pretrained.depth) for rule in rules]
    layers = sorted({layer for mapping in maps for layer in mapping.values()})
    cache = world.cache(layers, top_k, gib)
    rows = [
        item.name for item, example in zip(world.splits.train, world.examples, strict=True) for _ in example.response
    ]
    lost = pd.Series(cache.lost_mass(), dtype=float).groupby(rows).mean()
    trained = RestrictedVocabulary.of(world.pretrained.tokenizer, instructions.texts(world.splits.train))
    return {
        "layers": layers,
        "rows": len(world.examples),
        "tokens": cache.tokens,
        "vocabulary": len(world.vocabulary),
        "classes": cache.classes.count,
        "mib": round(cache.total_bytes(layers, world.teacher.width) / 2**20, 1),
        "lost": {name: float(f"{value:.4g}") for name, value in lost.items()},
        "off": distance_to_live(world, cache, layers),
        "coverage": round(trained.coverage(instructions.texts(world.splits.test)), 4),
    }


def distance_to_live(world: World, cache: TeacherCache, layers: Sequence[int]) -> dict[str, float]:
    """Return how far the cache is from the teacher itself on the first calibration rows, to four digits."""
    rows = world.calibration_rows[:READING]
    live, read = world.teacher.signals(world.batch(rows), layers).reduced(cache.classes), cache.signals(rows, layers)
    found = {"kl": token_mean(forward_kl(read.output, live.output), len(live.output)).item()}
    for layer in layers:
        found[f"state {layer}"] = ((read.states[layer] - live.states[layer]).norm() / live.states[layer].norm()).item()
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def cost(config: RunConfig, world: World, steps: int, seed: int = 0, warm_up: int = 2) -> dict[str, float]:
    """Return the mean seconds of a training step of an arm, after some that warm up, and the MiB it holds.

    Counted are weights, gradients and the optimisers' moments of what is trained, and a live teacher's weights.
    """
    arm, _ = build(config, world, seed)
    order = batches.order([len(one) for one in world.examples], config.training.batch, warm_up + steps, seed)
    parameters = [value for value in arm.module.parameters() if value.requires_grad]
    optimisers = training.optimisers(arm, config.training)
    arm.module.train()
    taken = []
    for step, rows in enumerate(order):
        began = time.perf_counter()
        training.advance(arm, optimisers, parameters, rows, step, config.training)
        taken.append(time.perf_counter() - began)
    moments = [value for one in optimisers for state in one.state.values() for value in state.values()]
    held = 2 * sum(value.nbytes for value in parameters) + sum(value.nbytes for value in moments)
    if config.signals == "live" or config.objective.on_policy:
        held += sum(value.nbytes for value in world.teacher.model.parameters())
    return {"seconds": round(statistics.fmean(taken[warm_up:]), 4), "mib": round(held / 2**20, 1)}


def rounded(matrix: Tensor) -> list[list[float]]:
    """Return a matrix as lists of numbers with four digits, for a record."""
    return [[round(value, 4) for value in row] for row in matrix.tolist()]


def answers(
    model: "PreTrainedModel",
    world: World,
    config: RunConfig | TeacherConfig,
    items: Sequence[Instruction],
    split: str,
    drawn: Sequence[int],
    step: int,
) -> pd.DataFrame:
    """Return greedy responses to instructions and one more for each seed in `drawn`, as rows of raw outputs."""
    longest = config.data.longest
    vocabulary, _ = world.tokens(config.student.tokenizer if isinstance(config, RunConfig) else "teacher")
    prompts = [example.prompt for example in batches.encode(items, vocabulary, longest)]
    frames = []
    seeds = (None, *drawn)
    responses = decoding.draws(model, prompts, config.decoding, vocabulary.end, vocabulary.pad, seeds)
    for seed, written in zip(seeds, responses, strict=True):
        rows = {
            "split": split,
            "step": step,
            "set": [item.name for item in items],
            "identity": [item.identity for item in items],
            "seed": GREEDY if seed is None else seed,
            "text": [vocabulary.decode(ids).strip() for ids in written],
            "tokens": [len(ids) for ids in written],
        }
        frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)
