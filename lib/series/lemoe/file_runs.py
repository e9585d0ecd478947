"""Runs on the user's files: each is the file that its configuration names, and no text of it is kept in a record."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property, lru_cache

from lib.causal_lm.edits import Edit
from lib.editing.mend import Mend, MendConfig, Transformation
from lib.errors import UserError
from lib.records import Case, Outcome
from lib.series.lemoe import locality
from lib.series.lemoe.edit_sets import EDIT_SETS
from lib.series.lemoe.run import RunConfig, bench_of, run
from lib.series.lemoe.workbench import BenchConfig, Workbench
from lib.sources.own_files import EDIT_FILES


def edit_and_score(case: Case) -> Outcome:
    """Compute one case on a file of the user's: scores and routes, without what the model says, which quotes the file.

    Raises `UserError` where the file has changed since the case was named, and as `run` does.
    """
    config: RunConfig = case.config
    pool = edits_of(config.edits, config.digest)
    found = run(config, file_bench_of(config, case.device), pool, case.seed)
    scores = found.frames["scores"].drop(columns="generated", errors="ignore")
    return dataclasses.replace(found, frames={**found.frames, "scores": scores})


def study(case: Case) -> Outcome:
    """Compute one case of `locality` on a file of the user's; raises as `edit_and_score` does."""
    config: RunConfig = case.config.run
    pool = edits_of(config.edits, config.digest)
    return locality.studied(case.config, file_bench_of(config, case.device), pool, case.seed)


def edits_of(name: str, digest: str | None) -> Sequence[Edit]:
    """Return the edits of a file whose SHA-256 is `digest`; raises `UserError` where it has another."""
    EDIT_FILES[name].path(digest or "")
    return _read(name, digest)


@lru_cache(maxsize=8)
def _read(name: str, _: str | None) -> Sequence[Edit]:
    return tuple(EDIT_SETS[name]())


class FileBench(Workbench):
    """A workbench whose split for learning is a file of the user's."""

    @cached_property
    def tuning(self) -> Sequence[Edit]:
        """Return the edits that MEND learns on, and whose locality questions are the unrelated texts."""
        return edits_of(self.config.training_set or "", self.config.training_digest)

    @cached_property
    def unrelated_texts(self) -> list[str]:
        """Return the first locality questions of the split, each once."""
        asked = dict.fromkeys(edit.locality[0] for edit in self.tuning if edit.locality)
        return list(asked)[: self.config.unrelated]

    def transformation(self, config: MendConfig) -> Transformation:
        """Return MEND's transformation, trained once for each configuration on what has a locality question."""
        if config not in self._transformations:
            taught = [edit for edit in self.tuning if edit.locality]
            if not taught:
                raise UserError(f"{self.config.training_set}: no edit has a locality question: MEND cannot learn on it")
            self._transformations[config], _ = Mend.train(self.model, self.tokenizer, taught, config)
        return self._transformations[config]


@lru_cache(maxsize=4)
def _file_bench(backbone: str, layers: int | None, dtype: str, device: str, config: BenchConfig) -> Workbench:
    return FileBench(backbone, layers, dtype, device, config)


def file_bench_of(config: RunConfig, device: str) -> Workbench:
    """Return the workbench that a configuration asks for; that of our own facts where it names no file to learn on."""
    if config.bench.training_set is None:
        return bench_of(config, device)
    return _file_bench(config.backbone, config.layers, config.dtype, device, config.bench)
