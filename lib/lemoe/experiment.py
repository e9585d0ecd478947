"""One experiment of the series: edits arrive in batches at one method, and all so far are scored after each.

Whatever this module and the method's own reach can change a record, so they are what the fingerprints start from.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict

from lib import progress
from lib.editing import edits as editing
from lib.editing import orders, scoring
from lib.editing.editor import Editor, NoEdit
from lib.editing.edits import Edit
from lib.editing.encoding import encode_edits
from lib.errors import UserError
from lib.lemoe import routing
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.lemoe.conventional import TokenMixture
from lib.lemoe.editor import LemoeEditor, OracleEditor
from lib.lemoe.methods import Row, Workbench

ORDERS: dict[str, Callable[[np.ndarray, int, int], list[int]]] = {
    "random": orders.random_order,
    "kmeans": orders.kmeans_order,
    "hierarchical": orders.hierarchical_order,
    "adversarial": orders.adversarial_order,
}


class RunConfig(BaseModel):
    """All that decides the outcome of one case, besides data, code and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    settings: dict[str, Any]  # the method's own configuration
    edits: str  # which set
    count: int  # T
    runs: int  # rolled-back runs, each on the next T edits
    batches: int
    order: str
    backbone: str
    layers: int | None
    dtype: str
    every_batch: bool  # score after every batch, or after the last one only
    generate: bool  # let the model answer freely after the last batch
    perplexity: bool  # of all targets after the last batch (SelfCheckGPT's measure)


@dataclass
class Results:
    """What one experiment leaves.

    `scores`: one row per run, number of batches edited, and edit; `routes`: one row per run, batches edited and batch
    of the edit, where a method has experts; `values`: similarity of the batches, memory; `seconds`: of every run's
    edits.
    """

    scores: pd.DataFrame
    routes: pd.DataFrame
    values: dict[str, Any]
    seconds: list[float] = field(default_factory=list)


def run(config: RunConfig, row: Row, bench: Workbench, pool: Sequence[Edit], seed: int) -> Results:
    """Edit and score; equal arguments give equal results on an equal environment.

    Raises `UserError` for fewer edits in `pool` than the runs need.
    """
    needed = config.count * config.runs
    if needed > len(pool):
        raise UserError(f"{needed} edits are needed, {config.edits} has {len(pool)}: ask for fewer")
    settings = type(row.configure(bench.sizes)).model_validate(config.settings)
    scores, routes, seconds, memory, alike, surprise = [], [], [], 0, [], []
    for number in progress.bar(range(config.runs), f"editing, {config.method}, T = {config.count}"):
        taken = list(pool[number * config.count : (number + 1) * config.count])
        batches, similarity = dealt(taken, config.order, config.batches, seed + number)
        alike.append(similarity)
        told = scoring.before(NoEdit(bench.model, bench.tokenizer), taken)
        editor = row.build(bench, settings)
        try:
            spent = 0.0
            for done, batch in enumerate(batches, 1):
                began = time.perf_counter()
                editor.edit(batch)
                spent += time.perf_counter() - began
                last = done == len(batches)
                if config.every_batch or last:
                    sofar = batches[:done]
                    frame = scored(editor, sofar, told, generate=last and config.generate)
                    scores.append(frame.assign(run=number, batches=done))
                    routes += [{"run": number, "batches": done, **found} for found in _routes(editor, sofar)]
            memory = editor.memory()
            if config.perplexity:
                asked = [(edit.prompt, edit.target) for edit in taken]
                surprise.append(scoring.perplexity(editor, asked))
            seconds.append(spent)
        finally:
            editor.restore()
    values: dict[str, Any] = {"memory": memory}
    mean = np.mean(alike, axis=0)  # over runs
    if np.isfinite(mean).all():  # else there is one batch, or one edit in each
        values |= {"within": round(float(mean[0]), 6), "between": round(float(mean[1]), 6)}
    if surprise:
        values["perplexity"] = round(float(np.mean(surprise)), 4)
    return Results(pd.concat(scores, ignore_index=True), pd.DataFrame(routes), values, seconds)


def scored(
    editor: Editor, batches: Sequence[Sequence[Edit]], told: scoring.Before, generate: bool = False
) -> pd.DataFrame:
    """Score all edits of the batches so far; column `batch` is the number of the batch of an edit.

    With the oracle every batch is asked with its own expert; an unrelated question has none, so its locality is NaN.
    """
    if not isinstance(editor, OracleEditor):
        frame = scoring.score(editor, [edit for part in batches for edit in part], told, generate)
        return frame.assign(batch=[place for place, part in enumerate(batches) for _ in part])
    frames = []
    for place, part in enumerate(batches):
        editor.serving = place
        asked = [replace(edit, locality=None) for edit in part]
        frames.append(scoring.score(editor, asked, told, generate).assign(batch=place))
    editor.serving = None
    return pd.concat(frames, ignore_index=True)


def dealt(edits: Sequence[Edit], order: str, batches: int, seed: int) -> tuple[list[list[Edit]], orders.Similarity]:
    """Deal edits to batches in an order ("given": as they come); returns them with their similarity.

    Raises `UserError` for more batches than edits and an unknown order.
    """
    batches = min(batches, len(edits))
    if order not in ("given", *ORDERS):
        raise UserError(f"unknown order {order!r}: choose given, {', '.join(ORDERS)}")
    if batches == 1 or len(edits) < 2:
        return editing.in_batches(list(edits), batches), orders.Similarity(float("nan"), float("nan"))
    vectors = orders.edit_vectors([edit.prompt for edit in edits])
    places = list(range(len(edits))) if order == "given" else ORDERS[order](vectors, batches, seed)
    return editing.in_batches([edits[place] for place in places], batches), orders.similarity(vectors, places, batches)


def _routes(editor: Editor, batches: Sequence[Sequence[Edit]]) -> list[dict[str, Any]]:
    """Return, for every batch so far, how its edits, rephrases and locality prompts are routed now."""
    if isinstance(editor, LemoeEditor) and editor.adaptor is not None:
        found = routing.consistency(editor.adaptor, editor.tokenizer, batches)
        return [{"batch": -1, **found.__dict__}]
    if isinstance(editor, TokenMixture):
        return [{"batch": number, "agreement": editor.agreement(part)} for number, part in enumerate(batches)]
    return []


def seconds_by_experts(
    bench: Workbench, config: AdaptorConfig, held: Sequence[int], asked: Sequence[Edit], repeats: int = 7
) -> dict[str, float]:
    """Return the median seconds of a forward pass over prompts while an adaptor holds so many experts, 0: none.

    The experts are fresh: they add nothing, at the cost of trained ones.
    """
    read = encode_edits(bench.model, bench.tokenizer, asked)
    found = {}
    for count in held:
        adaptor = Adaptor.attach(bench.model, config) if count else None
        for _ in range(count):
            adaptor.add_expert()
        taken = []
        with torch.inference_mode():
            for _ in range(repeats + 2):  # the first two warm up
                began = time.perf_counter()
                logits = bench.model(input_ids=read.ids, attention_mask=read.mask, use_cache=False).logits
                logits[0, 0, 0].item()  # waits for the device
                taken.append(time.perf_counter() - began)
        found[str(count)] = round(float(np.median(taken[2:])), 5)
        if adaptor is not None:
            adaptor.detach()
    return found
