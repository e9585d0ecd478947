"""Slices of the field's own test sets, from the user's files: how a teacher and its students answer the real thing.

They are read as everything in this series is: by a small vocabulary, prompts and responses cut to the profile's length.
What that takes away is counted. Records hold scores and no text of the files.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, cast

import pandas as pd
import torch
from torch import Tensor

from lib import records
from lib.registry import Registry
from lib.series.distillation import arms, evaluation, run
from lib.series.distillation.arms import RunConfig
from lib.series.distillation.world import World, world_of
from lib.sources.own_files import Slice
from lib.text import instruction_files
from lib.text.instructions import Instruction, render

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SLICES: Registry[Slice] = Registry(
    "slice",
    {
        "dolly": Slice(
            "dolly_sample.jsonl", "Dolly", "52c01141171bf90953dd04748eff9e0c1f75c1f42a4090cd2011e57faebe0762"
        ),
        "selfinst": Slice(
            "selfinst_sample.jsonl", "SelfInst", "0e800d446e5cfc81fff315ef5c1d86ecd317701378ae17b7b66f15f69657bdef"
        ),
        "vicuna": Slice(
            "vicuna_sample.jsonl", "Vicuna", "40166044fe5f2259168bbb1c51408c048590f3ac8dd62bdb4aff30be95a29a45"
        ),
        "sni": Slice("sni_sample.jsonl", "S-NI", "8ded90f4b0a350ecaaccabc4291c3eddfcdc1b920289f5baa1b187f3876242d6"),
    },
)


class SliceConfig(RunConfig):
    """Which slice is answered, by the teacher or by a student of the arm."""

    slice: str
    who: Literal["teacher", "student"]


def answered(case: records.Case) -> records.Outcome:
    """Score the answers to a slice, of the input "teacher" or of the student that the input "learnt" left."""
    config, world = cast(SliceConfig, case.config), world_of(case)
    items = read(config.slice)
    if config.who == "teacher":
        model = world.teacher.model
    else:
        weights = records.trained_weights(case.inputs["learnt"], "student")
        model = trained(arms.fresh_student(config.student, world, case.seed), weights)
    values = {**asked(items, world), "copy": copied(items), "rows": len(items)}
    return records.Outcome(values=values, frames={"scores": scores(model, world, config, items)})


def read(name: str) -> list[Instruction]:
    """Return the instructions of a slice, in the order of its file; raises `UserError` where that is not there."""
    return instruction_files.read(name, SLICES[name].path())


def trained(student: "PreTrainedModel", weights: Mapping[str, Tensor]) -> "PreTrainedModel":
    """Return a student with the weights that an arm left; raises `KeyError` for one that it did not."""
    with torch.no_grad():
        for name, value in student.named_parameters():  # tied weights once
            value.copy_(weights[name])
    return student


def asked(items: list[Instruction], world: World) -> dict[str, float]:
    """Return what reading loses: the share of prompts that are cut, and of all prompts' tokens that are not kept."""
    ids = [world.vocabulary.encode(render(item)) for item in items]
    tokens = [number for row in ids for number in row]
    return {
        "cut": sum(len(row) > world.config.data.longest[0] for row in ids) / len(ids),
        "unknown": sum(number == world.vocabulary.unknown for number in tokens) / len(tokens),
    }


def scores(model: "PreTrainedModel", world: World, config: RunConfig, items: list[Instruction]) -> pd.DataFrame:
    """Let a model over the restricted vocabulary answer; returns set, identity, seed, tokens, rouge and exact."""
    vocabulary, _ = world.tokens(config.student.tokenizer)
    found = run.answers(model, vocabulary, config, items, "test", config.decoding_seeds, config.training.steps)
    told = evaluation.scored(found, {item.identity: item for item in items})
    return told[["set", "identity", "seed", "tokens", "rouge", "exact"]]


def copied(items: list[Instruction]) -> float:
    """Return the mean ROUGE-L of copying the input, or the instruction where there is none, uncut."""
    return sum(evaluation.rouge_l(item.input or item.instruction, item.references) for item in items) / len(items)
