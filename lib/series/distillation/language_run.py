"""The experiments on the language sets: adapt the teacher, keep what it says, train a student, measure what it lost.

What a case computes begins here. The first measure is the held-out loss: how likely a model finds the answers that are
given, in nats a token, on all test rows. It needs no text to be drawn, and says more of a row than a score does.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

import numpy as np
import pandas as pd
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn import functional

from lib import paths, records
from lib.distillation import batches, layer_maps, students, training
from lib.distillation.batches import Batch
from lib.distillation.teacher import Adaptation, Teacher, on
from lib.errors import UserError
from lib.series.distillation import arms, language_scores, run
from lib.series.distillation.arms import RunConfig
from lib.series.distillation.language_world import LanguageData, LanguageTeacherConfig, LanguageWorld, world_of
from lib.series.distillation.run import GREEDY
from lib.series.distillation.world import READING
from lib.settings import Settings
from lib.text.instructions import Instruction

LogProbabilities = Callable[[Batch], Tensor]  # at the places that predict response tokens, (tokens, vocabulary)


class LanguageConfig(RunConfig):
    """An arm: as in `RunConfig`, and of which rows a training seed draws how many of each set for its student."""

    data: LanguageData
    own: PositiveInt  # with their own answers
    further: NonNegativeInt  # with the teacher's; 0: the student learns from the same kind of rows as its teacher
    texts: NonNegativeInt = 0  # answers whose text is kept, beside the scores of all; 0: the text of all


class LanguageKeepConfig(Settings):
    """What is kept of a teacher: its output, and the states that some rules map students of some depths to."""

    maps: tuple[tuple[str, PositiveInt], ...]  # rule, and blocks of the student
    top_k: PositiveInt
    cache_gib: NonNegativeFloat


def adapted_teacher(case: records.Case) -> records.Outcome:
    """Adapt the teacher of a `LanguageTeacherConfig`; let it answer the further prompts greedily, and the test rows."""
    config = cast(LanguageTeacherConfig, case.config)
    world = LanguageWorld(config, case.device, dict, paths.cache(), "")
    found = adapt(world, case.seed)
    adapted = LanguageWorld(config, case.device, lambda: found.weights, paths.cache(), "")
    teacher, vocabulary, step = adapted.teacher, adapted.vocabulary, found.step
    drawn = config.decoding_seeds
    tested = run.answers(teacher.model, vocabulary, config, adapted.splits.test, "test", drawn, step)
    asked = run.answers(teacher.model, vocabulary, config, adapted.further, "further", (), step)
    losses = held_out(of_teacher(teacher), adapted, adapted.splits.test, step)
    return records.Outcome(
        values={"validation": found.validation, "step": step},
        frames={
            "curve": found.curve,
            "outputs": tested,
            "further": asked[["set", "identity", "text", "tokens"]],
            "losses": losses,
        },
        weights={"adapted": found.weights},
    )


def kept_teacher(case: records.Case) -> records.Outcome:
    """Write the cache of the input "teacher" for all arms in one pass, and measure what the vocabulary loses."""
    config, began = cast(LanguageKeepConfig, case.config), time.perf_counter()
    world = world_of(case)
    deep = world.pretrained.depth
    maps = [layer_maps.RULES[rule](blocks, deep, _no_states) for rule, blocks in config.maps]
    world.cache(sorted({layer for one in maps for layer in one.values()}), config.top_k, config.cache_gib)
    rule, blocks = config.maps[0]
    values = run.keep(world, [rule], blocks, config.top_k, config.cache_gib)
    return records.Outcome(values=values, cost={"seconds": round(time.perf_counter() - began, 1)})


def _no_states() -> NoReturn:
    raise UserError("this rule compares a student's states, and there is no student yet: leave it out")


def trained_student(case: records.Case) -> records.Outcome:
    """Train the student of a `LanguageConfig` on the input "teacher", measure its held-out loss, and let it answer."""
    return learn(cast(LanguageConfig, case.config), world_of(case), case.seed)


def learn(config: LanguageConfig, world: LanguageWorld, seed: int) -> records.Outcome:
    """Train a student on the rows that its seed draws; equal arguments give equal results on an equal environment.

    Its loss on the test rows is kept after the last step, and after that of least validation loss.
    """
    arm, mapped = arms.build(config, world, seed)
    vocabulary, examples = world.tokens(config.student.tokenizer)
    rows = world.drawn(seed, config.own, config.further)
    order = batches.order([len(examples[row]) for row in rows], config.training.batch, config.training.steps, seed)
    read, test, validation = of_student(arm.student), world.splits.test, world.splits.validation
    looks: dict[int, float] = {}
    losses: dict[int, pd.DataFrame] = {}

    def watch(step: int) -> None:
        told = held_out(read, world, validation, step, config.student.tokenizer)
        looks[step] = language_scores.mean_loss(told)
        if looks[step] == min(looks.values()) or step == config.watch_at[-1]:
            losses[step] = held_out(read, world, test, step, config.student.tokenizer)

    trained = training.train(
        arm,
        [[rows[place] for place in step] for step in order],
        config.training,
        seed,
        watch=watch,
        watch_at=config.watch_at,
        device=world.device,
    )
    best, last = min(looks, key=lambda step: (looks[step], -step)), max(looks)
    outputs = run.answers(arm.student, vocabulary, config, test, "test", config.decoding_seeds, last)
    frames = {
        "outputs": outputs,
        "curve": pd.DataFrame(trained.curve),
        "losses": pd.concat([losses[step] for step in sorted({best, last})], ignore_index=True),
    }
    if config.texts:
        frames |= shortened(outputs, test, config.texts)
    values: dict[str, Any] = {
        "parameters": students.parameters(arm.student),
        "map": {str(layer): there for layer, there in mapped.layers.items()},
        "rows": len(rows),
        "validation": {str(step): round(loss, 4) for step, loss in looks.items()},
        "best": best,
    }
    seconds = {"training": round(trained.seconds, 2), "a_step": round(trained.seconds / config.training.steps, 4)}
    return records.Outcome(values=values, frames=frames, cost=seconds)


def shortened(outputs: pd.DataFrame, items: Sequence[Instruction], texts: int) -> dict[str, pd.DataFrame]:
    """Return the scores of all greedy answers, and the rows of so many of them, spread evenly over the test rows."""
    greedy = outputs[outputs["seed"] == GREEDY].reset_index(drop=True)
    scores = language_scores.scored(greedy, {item.identity: item for item in items})
    places = np.unique(np.linspace(0, len(greedy) - 1, texts).round().astype(int))
    return {
        "outputs": greedy.iloc[places].reset_index(drop=True),
        "scores": scores[["set", "identity", "rouge", "exact", "edits", "tokens"]].round(4),
    }


@dataclasses.dataclass(frozen=True)
class Adapted:
    """The upper weights of a teacher as they were best, after `step` steps; the validation losses; the curve."""

    weights: dict[str, Tensor]
    step: int
    validation: dict[str, float]
    curve: pd.DataFrame


def adapt(world: LanguageWorld, seed: int) -> Adapted:
    """Train the upper layers on the rows with their own answers; of the looks the one of least validation loss stays.

    The loss is over the backbone's whole vocabulary, in nats a token. Of equal ones the last stays.
    """
    config = cast(LanguageTeacherConfig, world.config)
    model, vocabulary = world.fresh_backbone(), world.vocabulary
    precisions = getattr(torch, config.dtype), getattr(torch, config.frozen)
    adaptation = Adaptation(model, vocabulary.kept, config.layer, world.examples, vocabulary.pad, *precisions)
    order = batches.order([len(one) for one in world.examples], config.training.batch, config.training.steps, seed)
    validation = batches.encode(world.splits.validation, vocabulary, config.data.longest)
    tokens = sum(len(example.response) for example in validation)
    parts = batches.by_length([len(example) for example in validation], READING)
    looks: dict[int, float] = {}
    best: list[dict[str, Tensor]] = []

    def watch(step: int) -> None:
        with torch.no_grad():
            read = [batches.collate([validation[row] for row in part], vocabulary.pad) for part in parts]
            looks[step] = sum(adaptation.losses((batch, tokens))["ce"].item() for batch in read)
        if looks[step] == min(looks.values()):
            best[:] = [adaptation.weights()]

    trained = training.train(
        adaptation, order, config.training, seed, watch=watch, watch_at=config.watch_at, device=world.device
    )
    told = {str(step): round(loss, 4) for step, loss in looks.items()}
    step = min(looks, key=lambda step: (looks[step], -step))
    return Adapted(best[0], step, told, pd.DataFrame(trained.curve))


def of_student(model: Any) -> LogProbabilities:
    """Return how a student's log-probabilities of the next token are read, in float32."""

    @torch.no_grad()
    def read(batch: Batch) -> Tensor:
        batch = on(batch, model.device)
        seen = model.base_model(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
        logits: Tensor = model.get_output_embeddings()(seen.last_hidden_state[batch.predicting])
        return logits.float().log_softmax(-1)

    return read


def of_teacher(teacher: Teacher) -> LogProbabilities:
    """Return how the teacher's are read: over the restricted vocabulary, as students see them."""
    return lambda batch: teacher.signals(batch).output


def held_out(
    read: LogProbabilities, world: LanguageWorld, items: Sequence[Instruction], step: int, tokenizer: str = "teacher"
) -> pd.DataFrame:
    """Return a row for each instruction: the nats that a model loses on its given answer, and that answer's tokens.

    Tokens are the teacher's, whatever the student's are, so that a loss a token means the same for all of them. An
    answer is cut as in training, and its end token counts.
    """
    vocabulary, longest = world.tokens(tokenizer)[0], world.config.data.longest
    examples = batches.encode(items, vocabulary, longest)
    nats = [0.0] * len(items)
    for part in batches.by_length([len(example) for example in examples], READING):
        batch = batches.collate([examples[row] for row in part], vocabulary.pad)
        told = read(batch)
        lost = functional.nll_loss(told, batch.ids[batch.response].to(told.device), reduction="none").double()
        for row, one in zip(part, lost.split([len(examples[row].response) for row in part]), strict=True):
            nats[row] = one.sum().item()
    return pd.DataFrame(
        {
            "step": step,
            "set": [item.name for item in items],
            "identity": [item.identity for item in items],
            "nats": np.round(nats, 4),
            "tokens": [len(one.response) for one in batches.encode(items, world.vocabulary, longest)],
        }
    )
