"""What all arms on the language sets share: rows with their own answers, and further prompts that the teacher answers.

The teacher learns the first alone. Its answers to the further prompts are in its record, so all arms learn the same.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import cast

import pandas as pd
import torch
from pydantic import PositiveInt
from torch import Tensor

from lib import paths, records, seeds
from lib.series.distillation.world import DataConfig, Splits, TeacherConfig, World
from lib.text import suites
from lib.text.instructions import Instruction


class LanguageData(DataConfig):
    """How much of each set is read: `examples` with their own answers, and `further` prompts after them."""

    further: PositiveInt


class LanguageTeacherConfig(TeacherConfig):
    """The teacher: it is looked at after the steps in `watch_at`, and stays as it is best on the validation rows."""

    data: LanguageData
    watch_at: tuple[PositiveInt, ...]


class LanguageWorld(World):
    """A `World` whose training rows are those with their own answers, then the further prompts with the teacher's."""

    def __init__(
        self,
        config: LanguageTeacherConfig,
        device: str,
        upper: Callable[[], Mapping[str, Tensor]],
        folder: Path,
        identity: str,
        answers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Name the parts as `World` does; `answers` gives the teacher's texts by identity, none while it is made."""
        super().__init__(config, device, upper, folder, identity)
        self._answers = answers

    @property
    def further(self) -> tuple[Instruction, ...]:
        """Return the prompts that the teacher answers, set after set, with the answers that nobody is shown."""
        data, suite = cast(LanguageData, self.config.data), suites.SUITES[self.config.data.suite]
        last = data.examples + data.further
        return tuple(item for name in suite.trained for item in suite.load(name)["train"][data.examples : last])

    @cached_property
    def splits(self) -> Splits:
        """Return the instructions; a prompt whose answer by the teacher is empty teaches nothing, and is left out."""
        own, texts = Splits.load(self.config.data), self._answers()
        answered = [
            dataclasses.replace(item, output=text, references=(text,))
            for item in self.further
            if (text := texts.get(item.identity, "")).strip()
        ]
        return dataclasses.replace(own, train=(*own.train, *answered))

    def drawn(self, seed: int, own: int, further: int) -> list[int]:
        """Return the training rows that a seed gives to every student: of each set so many of either kind, or all."""
        asked = {item.identity for item in self.further}
        places: dict[tuple[bool, str], list[int]] = {}
        for row, item in enumerate(self.splits.train):
            places.setdefault((item.identity in asked, item.name), []).append(row)
        found = []
        for (is_further, name), rows in places.items():
            stream = seeds.generator(f"distillation/rows/{name}/{is_further}", seed)
            order = torch.randperm(len(rows), generator=stream).tolist()
            found += [rows[place] for place in order[: further if is_further else own]]
        return sorted(found)


def answers_of(record: records.Record) -> dict[str, str]:
    """Return the texts with which a teacher answered the further prompts, by identity."""
    frame: pd.DataFrame = record.frames["further"]
    return dict(zip(frame["identity"], frame["text"], strict=True))


_worlds: dict[tuple[LanguageTeacherConfig, str, Path, str], LanguageWorld] = {}


def world_of(case: records.Case) -> LanguageWorld:
    """Return what all cases with the same teacher share, made once in a process.

    The teacher is the case's input "teacher"; it is adapted where that is not done.
    """
    teacher = case.inputs["teacher"]
    record = records.get(teacher)
    folder = paths.cache() / "distillation" / case.profile
    identity = record.weight_digests["adapted"]
    config = cast(LanguageTeacherConfig, teacher.config)
    key = (config, case.device, folder, identity)
    if key not in _worlds:
        _worlds.clear()  # a teacher is large, and cases of one come one after another
        _worlds[key] = LanguageWorld(
            config,
            case.device,
            lambda: records.trained_weights(teacher, "adapted"),
            folder,
            identity,
            lambda: answers_of(record),
        )
    return _worlds[key]
