"""The experiments of the series: adapt the teacher, keep what it says, train a student and let it answer, time a step.

What a case computes begins here (or in `slices`). It scores nothing.
"""

import io
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pandas as pd
import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from lib import files, paths, records
from lib.distillation import batches, decoding, layer_maps, students, training
from lib.distillation.divergences import forward_kl, token_mean
from lib.distillation.teacher import Adaptation
from lib.distillation.teacher_cache import TeacherCache
from lib.distillation.vocabularies import RestrictedVocabulary, Vocabulary
from lib.errors import UserError
from lib.records.files import parquet_bytes
from lib.series.distillation import arms
from lib.series.distillation.arms import RunConfig
from lib.series.distillation.world import READING, TeacherConfig, World, world_of
from lib.settings import Settings
from lib.text import instructions
from lib.text.instructions import Instruction

if TYPE_CHECKING:
    from transformers import PreTrainedModel


GREEDY = -1  # in the column of decoding seeds


class KeepConfig(Settings):
    """What is kept of a teacher: the states that some rules map a student of so many blocks to, and its output."""

    rules: tuple[str, ...]
    student: PositiveInt
    top_k: PositiveInt
    cache_gib: NonNegativeFloat


class CostConfig(Settings):
    """Which arms are timed, by name, and over how many steps."""

    rows: dict[str, RunConfig]
    steps: PositiveInt


def adapted_teacher(case: records.Case) -> records.Outcome:
    """Adapt the teacher of a `TeacherConfig` and let it answer the test rows."""
    config = cast(TeacherConfig, case.config)
    world = World(config, case.device, dict, paths.cache(), "")
    weights, curve = adapt(world, case.seed, records.workspace(case))
    adapted = World(config, case.device, lambda: weights, paths.cache(), "")
    outputs = answers(
        adapted.teacher.model,
        adapted.vocabulary,
        config,
        adapted.splits.test,
        "test",
        config.decoding_seeds,
        len(curve),
    )
    return records.Outcome(values={}, frames={"curve": curve, "outputs": outputs}, weights={"adapted": weights})


def kept_teacher(case: records.Case) -> records.Outcome:
    """Write the cache of the input "teacher" as a `KeepConfig` says, and measure what the vocabulary loses."""
    config, began = cast(KeepConfig, case.config), time.perf_counter()
    values = keep(world_of(case), config.rules, config.student, config.top_k, config.cache_gib)
    return records.Outcome(values=values, cost={"seconds": round(time.perf_counter() - began, 1)})


def trained_student(case: records.Case) -> records.Outcome:
    """Train the student of a `RunConfig` on the input "teacher" and let it answer."""
    found = run(cast(RunConfig, case.config), world_of(case), case.seed, records.workspace(case))
    return records.Outcome(
        values=found.values,
        frames={"outputs": found.outputs, "curve": found.curve},
        weights={"student": found.weights},
        cost=found.seconds,
    )


def timed_steps(case: records.Case) -> records.Outcome:
    """Time a training step of each row of a `CostConfig`, with the input "teacher"."""
    config = cast(CostConfig, case.config)
    found = {name: cost(row, world_of(case), config.steps) for name, row in config.rows.items()}
    return records.Outcome(values={"rows": list(config.rows), "steps": config.steps}, cost=found)


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
    dtype, frozen = getattr(torch, config.dtype), getattr(torch, config.frozen)  # the first is what it is read in
    vocabulary = world.vocabulary
    adaptation = Adaptation(model, vocabulary.kept, config.layer, world.examples, vocabulary.pad, dtype, frozen)
    order = batches.order(
        [len(example) for example in world.examples], config.training.batch, config.training.steps, seed
    )
    trained = training.train(adaptation, order, config.training, seed, workspace, device=world.device)
    return adaptation.weights(), pd.DataFrame(trained.curve)


def run(config: RunConfig, world: World, seed: int, workspace: Path | None = None) -> Results:
    """Train a student and let it answer; equal arguments give equal results on an equal environment.

    With a `workspace` training resumes from the last checkpoint there.
    """
    if config.data != world.config.data:
        raise UserError("the arm and its teacher read data of different sizes: give both the same")
    arm, mapped = arms.build(config, world, seed)
    vocabulary, _ = world.tokens(config.student.tokenizer)
    values: dict[str, Any] = {
        "parameters": students.parameters(arm.student),
        "map": {str(layer): there for layer, there in mapped.layers.items()},
    }
    if mapped.read is not None:
        values["cka_read"] = rounded(mapped.read)
    if config.similarity:
        values["cka_before"] = rounded(arms.similarity(config, arm.student, world))
    lengths = [len(example) for example in world.examples]
    order = batches.order(lengths, config.training.batch, config.training.steps, seed)
    watched: dict[int, pd.DataFrame] = {}

    def watch(step: int) -> None:
        watched[step] = answers(arm.student, vocabulary, config, world.splits.validation, "validation", (), step)
        if workspace is not None:  # a resumed training does not come by here again
            files.write_checked(workspace / f"watched_{step}", parquet_bytes(watched[step]))

    trained = training.train(
        arm, order, config.training, seed, workspace, watch=watch, watch_at=config.watch_at, device=world.device
    )
    for step in set(config.watch_at) - set(watched):
        assert workspace is not None  # without one every step was taken here
        watched[step] = pd.read_parquet(io.BytesIO(files.read_checked(workspace / f"watched_{step}")))
    found = answers(
        arm.student, vocabulary, config, world.splits.test, "test", config.decoding_seeds, config.training.steps
    )
    if config.similarity:
        values["cka_after"] = rounded(arms.similarity(config, arm.student, world))
    return Results(
        pd.concat([*(watched[step] for step in config.watch_at), found], ignore_index=True),
        pd.DataFrame(trained.curve),
        values,
        {name: value.detach() for name, value in arm.student.named_parameters()},
        {"training": round(trained.seconds, 2), "a_step": round(trained.seconds / config.training.steps, 4)},
    )


def keep(world: World, rules: Sequence[str], deep: int, top_k: int, gib: float) -> dict[str, Any]:
    """Write the teacher's cache with the states that some rules map a student of `deep` blocks to.

    Returns its size; what the restricted vocabulary loses: by set, the mean mass that the teacher puts on other tokens,
    and the share of the test rows' tokens that occur in the training rows; and how far it is from the live teacher on
    calibration rows: KL(live || kept) in nats per token, and the relative error of each layer's states. Raises
    `UserError` for a rule that reads a student's states.
    """
    maps = [layer_maps.RULES[rule](deep, world.pretrained.depth, _no_student) for rule in rules]
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


def _no_student() -> NoReturn:
    raise UserError("this rule compares a student's states, and there is no student yet: leave it out")


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
    arm, _ = arms.build(config, world, seed)
    order = batches.order([len(one) for one in world.examples], config.training.batch, warm_up + steps, seed)
    state = training.State(arm, config.training)
    arm.module.train()
    taken = []
    for step, rows in enumerate(order):
        began = time.perf_counter()
        training.advance(state, rows, step)
        taken.append(time.perf_counter() - began)
    moments = [value for one in state.optimisers for kept in one.state.values() for value in kept.values()]
    held = 2 * sum(value.nbytes for value in state.parameters) + sum(value.nbytes for value in moments)
    if config.signals == "live" or config.objective.on_policy:
        held += sum(value.nbytes for value in world.teacher.model.parameters())
    return {"seconds": round(statistics.fmean(taken[warm_up:]), 4), "mib": round(held / 2**20, 1)}


def rounded(matrix: Tensor) -> list[list[float]]:
    """Return a matrix as lists of numbers with four digits, for a record."""
    return [[round(value, 4) for value in row] for row in matrix.tolist()]


def answers(
    model: "PreTrainedModel",
    vocabulary: Vocabulary,
    config: RunConfig | TeacherConfig,
    items: Sequence[Instruction],
    split: str,
    drawn: Sequence[int],
    step: int,
) -> pd.DataFrame:
    """Return greedy responses to instructions and one more for each seed in `drawn`, as rows of raw outputs."""
    longest = config.data.longest
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
