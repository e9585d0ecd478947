"""One experiment of the series: edits arrive in batches at one method, and all so far are scored after each."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, PositiveInt, SerializeAsAny, ValidationInfo, field_validator

from lib import progress
from lib.causal_lm import edits as editing
from lib.causal_lm.edits import Edit
from lib.editing import orders, scoring
from lib.editing.editor import Editor, NoEdit
from lib.errors import UserError
from lib.records import Case, Outcome
from lib.registry import Registry
from lib.series.lemoe.edit_sets import edit_set
from lib.series.lemoe.variants import ROWS
from lib.series.lemoe.workbench import BenchConfig, Workbench, workbench
from lib.settings import Settings

ORDERS: Registry[Callable[[np.ndarray, int, int], list[int]]] = Registry(
    "order",
    {
        "given": orders.given_order,
        "random": orders.random_order,
        "kmeans": orders.kmeans_order,
        "hierarchical": orders.hierarchical_order,
        "adversarial": orders.adversarial_order,
    },
)


class RunConfig(Settings):
    """All that decides the outcome of one case, besides data, code and seed."""

    method: str  # the last part of `row`
    row: str  # among all rows, `variants.ROWS`
    settings: SerializeAsAny[BaseModel]  # the method's own configuration
    edits: str  # which set
    digest: str | None = None  # SHA-256 of its file, where it is one of the user's
    count: PositiveInt  # T
    runs: PositiveInt  # rolled-back runs, each on the next T edits
    batches: PositiveInt
    order: str
    backbone: str
    layers: PositiveInt | None
    dtype: str
    bench: BenchConfig  # what the method needs besides the backbone
    every_batch: bool  # score after every batch, or after the last one only
    generate: bool  # let the model answer freely after the last batch
    perplexity: bool  # of all targets after the last batch (SelfCheckGPT's measure)

    @field_validator("settings", mode="before")
    @classmethod
    def _of_the_row(cls, settings: Any, info: ValidationInfo) -> Any:
        """Read settings that come as a dictionary, from a record, as those of the row.

        A field that an older record lacks is as the row has it: it was not yet to be chosen otherwise.
        """
        if not isinstance(settings, dict):
            return settings
        row = ROWS[info.data["row"]]
        return (row.named or row.settings)(**settings)


@dataclass(frozen=True)
class Run:
    """One rolled-back run: an editor that is to learn batches in turn, and what the unedited model answered before."""

    edits: list[Edit]
    batches: list[list[Edit]]
    similarity: orders.Similarity  # of the batches
    before: scoring.Before
    editor: Editor

    def learn(self) -> Iterator[tuple[int, float]]:
        """Learn batch after batch; yield after each how many are learnt, and the seconds that this one took."""
        for done, batch in enumerate(self.batches, 1):
            began = time.perf_counter()
            self.editor.edit(batch)
            yield done, time.perf_counter() - began


@contextmanager
def rolled_back(config: RunConfig, bench: Workbench, pool: Sequence[Edit], seed: int, number: int = 0) -> Iterator[Run]:
    """Within this block the `number`-th run of an experiment is at hand; afterwards the model is as it was.

    Raises `UserError` for fewer edits in `pool` than all runs need.
    """
    needed = config.count * config.runs
    if needed > len(pool):
        raise UserError(f"{needed} edits are needed, {config.edits} has {len(pool)}: ask for fewer")
    edits = list(pool[number * config.count : (number + 1) * config.count])
    batches, similarity = dealt(edits, config.order, config.batches, seed + number)
    before = scoring.before(NoEdit(bench.model, bench.tokenizer), edits)
    editor = ROWS[config.row].build(bench, config.settings)
    try:
        yield Run(edits, batches, similarity, before, editor)
    finally:
        editor.restore()


def edit_and_score(case: Case) -> Outcome:
    """Compute one case; the scores of every edit are the raw outputs that every figure comes from."""
    bench, pool = bench_of(case.config, case.device), edit_set(case.config.edits).edits
    return run(case.config, bench, pool, case.seed)


def bench_of(config: RunConfig, device: str) -> Workbench:
    """Return the workbench that a configuration asks for."""
    return workbench(config.backbone, config.layers, config.dtype, device, config.bench)


def run(config: RunConfig, bench: Workbench, pool: Sequence[Edit], seed: int) -> Outcome:
    """Edit and score; equal arguments give equal results on an equal environment.

    Frames: `scores`, one row per run, number of batches edited, and edit; `routes`, one row per run, batches edited and
    batch of the edit, where a method has experts. Values: similarity of the batches, memory, perplexity where it is
    asked for. Raises `UserError` for fewer edits in `pool` than the runs need.
    """
    scores, routes, seconds, memory, alike, perplexities = [], [], [], 0, [], []
    for number in progress.bar(range(config.runs), f"editing, {config.method}, T = {config.count}"):
        with rolled_back(config, bench, pool, seed, number) as one:
            alike.append(one.similarity)
            for done, spent in one.learn():
                seconds.append(spent)
                last = done == len(one.batches)
                if config.every_batch or last:
                    sofar = one.batches[:done]
                    frame = scored(one.editor, sofar, one.before, generate=last and config.generate)
                    scores.append(frame.assign(run=number, batches=done))
                    found = one.editor.route_agreement(sofar)
                    routes += [{"run": number, "batches": done, **row} for row in found]
            memory = one.editor.memory()
            if config.perplexity:
                asked = [(edit.prompt, edit.target) for edit in one.edits]
                perplexities.append(scoring.perplexity(one.editor, asked))
    values: dict[str, Any] = {"memory": memory}
    mean = np.mean(alike, axis=0)  # over runs
    if np.isfinite(mean).all():  # else there is one batch, or one edit in each
        values |= {"within": round(float(mean[0]), 6), "between": round(float(mean[1]), 6)}
    if perplexities:
        values["perplexity"] = round(float(np.mean(perplexities)), 4)
    frames = {"scores": pd.concat(scores, ignore_index=True)} | ({"routes": pd.DataFrame(routes)} if routes else {})
    cost = {"seconds_an_edit": round(sum(seconds) / (config.count * config.runs), 3)}
    return Outcome(values=values, frames=frames, cost=cost)


def scored(
    editor: Editor, batches: Sequence[Sequence[Edit]], before: scoring.Before, generate: bool = False
) -> pd.DataFrame:
    """Score all edits of the batches so far; column `batch` is the number of the batch of an edit."""
    frames = [
        scoring.score(editor, group, before, generate).assign(batch=numbers)
        for group, numbers in editor.scoring_groups(batches)
    ]
    return pd.concat(frames, ignore_index=True)


def dealt(edits: Sequence[Edit], order: str, batches: int, seed: int) -> tuple[list[list[Edit]], orders.Similarity]:
    """Deal edits to batches in an order ("given": as they come), with fewer than `batches` where there are fewer edits.

    Returns the batches and their similarity. Raises `UserError` for an unknown order.
    """
    batches, permutation = min(batches, len(edits)), ORDERS[order]
    if batches == 1 or len(edits) < 2:
        return editing.in_batches(list(edits), batches), orders.Similarity(float("nan"), float("nan"))
    vectors = orders.edit_vectors([edit.prompt for edit in edits])
    places = permutation(vectors, batches, seed)
    return editing.in_batches([edits[place] for place in places], batches), orders.similarity(vectors, places, batches)
