"""Edits drawn by seed: the experiment of `run` on a draw of its own, with distant questions after the last batch.

A seed draws the edits, their order and the initial weights. Draws share no edit, so that what their means spread by is
what another set of edits would give; in every draw the columns with fewer edits are the beginning of those with more.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import NonNegativeInt, PositiveInt

from lib import progress
from lib.causal_lm.edits import Edit
from lib.editing import scoring
from lib.editing.editor import Editor, NoEdit
from lib.errors import UserError
from lib.lemoe.conventional import TokenMixture
from lib.lemoe.editor import LemoeEditor
from lib.records import Case, Outcome
from lib.series.lemoe import distant
from lib.series.lemoe.edit_sets import edit_set
from lib.series.lemoe.run import Run, RunConfig, bench_of, rolled_back, scored
from lib.series.lemoe.workbench import Workbench
from lib.settings import Settings


class DrawConfig(Settings):
    """A run, which edits it is on, and the seed of their order."""

    run: RunConfig
    draw: NonNegativeInt = 0
    spacing: PositiveInt  # places of the set between the beginnings of two draws
    order_seed: NonNegativeInt = 0


def edit_and_score(case: Case) -> Outcome:
    """Compute one case; the scores of every edit are the raw outputs that every table comes from."""
    config: DrawConfig = case.config
    return drawn(config, bench_of(config.run, case.device), edit_set(config.run.edits).edits)


def drawn(config: DrawConfig, bench: Workbench, pool: Sequence[Edit]) -> Outcome:
    """Edit and score a draw; equal arguments give equal results on an equal environment.

    Frames and values are those of `run.run`, and `distant`, a row for each run and edit; `steps` of every run and batch
    are the looks at its loss (None without), `losses` the last of them, in nats a target token. Locality questions that
    the method was shown are not asked. Raises `UserError` for fewer edits in `pool` than the draws up to this one need.
    """
    one, frames, values = config.run, [], []
    edits = edits_of_draw(pool, config)
    asked = distant.questions("tuning" if one.edits == "tuning" else "edits", len(edits), config.draw * len(edits))
    edits = unseen(edits, bench.unrelated_texts if one.bench.unrelated else ())
    for number in progress.bar(range(one.runs), f"editing, {one.method}, T = {one.count}, draw {config.draw}"):
        places = slice(number * one.count, (number + 1) * one.count)
        far = [
            dataclasses.replace(edit, locality=(question.prompt, question.answer))
            for edit, question in zip(edits[places], asked[places], strict=True)
        ]
        with rolled_back(one, bench, edits, config.order_seed, number) as run:
            found, told = _one_run(config, run, far, [question.kind for question in asked[places]])
        frames.append({name: frame.assign(run=number) for name, frame in found.items()})
        values.append(told)
    names = dict.fromkeys(name for found in frames for name in found)
    return Outcome(
        values=_values(values),
        frames={name: pd.concat([found[name] for found in frames], ignore_index=True) for name in names},
        cost={"seconds_an_edit": round(sum(told["seconds"] for told in values) / (one.count * one.runs), 3)},
    )


def edits_of_draw(pool: Sequence[Edit], config: DrawConfig) -> list[Edit]:
    """Return the edits of a draw, for all its runs; `UserError` where the set ends before, or draws would meet."""
    needed, start = config.run.count * config.run.runs, config.draw * config.spacing
    if needed > config.spacing:
        raise UserError(f"a draw of {needed} edits reaches into the next, {config.spacing} places on: ask for fewer")
    if start + needed > len(pool):
        raise UserError(f"draw {config.draw} ends at edit {start + needed}, the set has {len(pool)}: draw fewer")
    return list(pool[start : start + needed])


def unseen(edits: Sequence[Edit], shown: Sequence[str]) -> list[Edit]:
    """Return edits without the locality questions that a method was shown."""
    texts = frozenset(shown)
    return [
        dataclasses.replace(edit, locality=None) if edit.locality and edit.locality[0] in texts else edit
        for edit in edits
    ]


def kept_answers(editor: Editor, edits: Sequence[Edit], before: scoring.Before) -> pd.DataFrame:
    """Return how much of each edit's locality answer an edited model keeps: identity, kept (share), kept_exact."""
    now = scoring.before(editor, edits)
    rows = []
    for edit in edits:
        assert edit.locality is not None
        same = np.equal(now[edit.locality], before[edit.locality])
        rows.append({"identity": edit.identity, "kept": float(same.mean()), "kept_exact": float(same.all())})
    return pd.DataFrame(rows)


def _one_run(
    config: DrawConfig, run: Run, far: Sequence[Edit], kinds: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Learn, score and ask the distant questions; returns frames without their run, and what else there is to tell."""
    before_far = scoring.before(NoEdit(run.editor.model, run.editor.tokenizer), far)  # nothing is edited yet
    scores, routes, seconds, steps, losses = [], [], 0.0, [], []
    for done, spent in run.learn():
        seconds += spent
        taken = losses_of_batch(run.editor)
        steps.append(None if taken is None else len(taken))
        losses.append(None if taken is None else round(taken[-1], 4))
        if config.run.every_batch or done == len(run.batches):
            last, sofar = done == len(run.batches), run.batches[:done]
            frame = scored(run.editor, sofar, run.before, generate=last and config.run.generate)
            scores.append(frame.assign(batches=done))
            routes += [{"batches": done, **row} for row in run.editor.route_agreement(sofar)]
    told = {"seconds": seconds, "steps": steps, "losses": losses}
    told |= {"memory": run.editor.memory(), "similarity": run.similarity}
    frames = {"scores": pd.concat(scores, ignore_index=True)}
    frames["distant"] = kept_answers(run.editor, far, before_far).assign(kind=list(kinds))
    return frames | ({"routes": pd.DataFrame(routes)} if routes else {}), told


def losses_of_batch(editor: Editor) -> list[float] | None:
    """Return the losses of the batch that an adaptor learnt last; None for another method."""
    if isinstance(editor, TokenMixture):
        return editor.losses
    return editor.losses[-1] if isinstance(editor, LemoeEditor) else None


def _values(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {"memory": runs[-1]["memory"]}
    mean = np.mean([told["similarity"] for told in runs], axis=0)
    if np.isfinite(mean).all():  # else there is one batch, or one edit in each
        values |= {"within": round(float(mean[0]), 6), "between": round(float(mean[1]), 6)}
    if runs[0]["steps"][0] is not None:
        values |= {name: [told[name] for told in runs] for name in ("steps", "losses")}
    return values
