"""Why an unrelated answer changes: how hard its expert pushes, how sure the model was, what a weaker expert would do.

The paper reports a locality of 1.00 without rejection; all measures here are ours.
"""

from collections.abc import Sequence
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from lib import progress
from lib.causal_lm import layers
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import IGNORED, encode
from lib.editing import scoring
from lib.errors import UserError
from lib.lemoe.adaptor import Adaptor
from lib.lemoe.editor import LemoeEditor
from lib.records import Case, Outcome
from lib.series.lemoe.edit_sets import edit_set
from lib.series.lemoe.run import RunConfig, bench_of, rolled_back
from lib.series.lemoe.workbench import Workbench
from lib.settings import Settings

TOGETHER = 32  # texts of a forward pass


class LocalityConfig(Settings):
    """A run of LEMoE, and the scales of the experts' output after training that are compared."""

    run: RunConfig
    scales: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)]


def study(case: Case) -> Outcome:
    """Compute one case, on the edits that its run names."""
    run = case.config.run
    return studied(case.config, bench_of(run, case.device), edit_set(run.edits).edits, case.seed)


def studied(config: LocalityConfig, bench: Workbench, pool: Sequence[Edit], seed: int) -> Outcome:
    """Edit as the experiment does, then look at every edit, rephrase and unrelated question, and at weaker experts.

    Frames: `texts`, one row a text; `scales`, one row a scale and edit, with the columns of `score`. Raises `UserError`
    for a method without an adaptor and for fewer edits than are asked for.
    """
    with rolled_back(config.run, bench, pool, seed) as run:
        for _ in run.learn():
            pass
        editor = run.editor
        if not isinstance(editor, LemoeEditor) or editor.adaptor is None:
            raise UserError(f"{config.run.method} has no adaptor whose push could be measured: choose a row of LEMoE")
        found = texts(editor.adaptor, bench, run.edits)
        return Outcome(
            values={}, frames={"texts": found, "scales": _weakened(editor, run.edits, run.before, config.scales)}
        )


def texts(adaptor: Adaptor, bench: Workbench, edits: Sequence[Edit]) -> pd.DataFrame:
    """Return one row for every edit, rephrase and locality question (`kind`), with means over its answer's places.

    push: norm of what the expert adds over that of the feed-forward part's own output; margin: the smallest gap, in
    nats, of the unedited model's two best tokens; kl: of the edited from the unedited distribution, in nats; kept:
    share of places whose best token stays; right_before, right_after: share whose best token is the answer's own.
    """
    asked = [("edit", edit.identity, edit.prompt, edit.target) for edit in edits]
    asked += [("rephrase", edit.identity, text, edit.target) for edit in edits for text in edit.rephrases]
    asked += [("unrelated", edit.identity, *edit.locality) for edit in edits if edit.locality is not None]
    rows = []
    for start in progress.bar(range(0, len(asked), TOGETHER), "reading texts with and without experts"):
        part = asked[start : start + TOGETHER]
        found = _measured(adaptor, bench, [(prompt, answer) for *_, prompt, answer in part])
        rows += [{"kind": kind, "identity": name, **one} for (kind, name, *_), one in zip(part, found, strict=True)]
    return pd.DataFrame(rows)


@torch.inference_mode()
def _measured(adaptor: Adaptor, bench: Workbench, asked: Sequence[tuple[str, str]]) -> list[dict[str, float]]:
    read = encode(bench.model, bench.tokenizer, asked)
    outputs: list[Tensor] = []
    site = layers.block(bench.model, adaptor.config.layer).mlp
    hook = site.register_forward_hook(lambda _, given, output: outputs.append(output.float()))  # after the adaptor's
    try:
        with adaptor.off():
            before = bench.model(input_ids=read.ids, attention_mask=read.mask, use_cache=False).logits.float()
        with adaptor.prompt(read.prompt):
            after = bench.model(input_ids=read.ids, attention_mask=read.mask, use_cache=False).logits.float()
    finally:
        hook.remove()
    plain, moved = outputs  # the layers below are the same in both passes, so what differs is the expert's
    push = (moved - plain).norm(dim=-1) / plain.norm(dim=-1)
    rows = []
    for number, labels in enumerate(read.labels[:, 1:]):
        at = (labels != IGNORED).nonzero()[:, 0]
        old, new, answer = before[number, at], after[number, at], labels[at]
        best = old.topk(2).values
        divergence = functional.kl_div(new.log_softmax(-1), old.log_softmax(-1), reduction="none", log_target=True)
        rows.append(
            {
                "push": push[number, at].mean().item(),
                "margin": (best[:, 0] - best[:, 1]).min().item(),
                "kl": divergence.sum(-1).mean().item(),
                "kept": (old.argmax(-1) == new.argmax(-1)).float().mean().item(),
                "right_before": (old.argmax(-1) == answer).float().mean().item(),
                "right_after": (new.argmax(-1) == answer).float().mean().item(),
            }
        )
    return rows


def _weakened(
    editor: LemoeEditor, edits: Sequence[Edit], before: scoring.Before, scales: Sequence[float]
) -> pd.DataFrame:
    """Return `score` of the edits with the experts' output at each of `scales`; the adaptor stays as it is."""
    adaptor = editor.adaptor
    config, frames = adaptor.config, []
    try:
        for scale in progress.bar(scales, "scoring weaker experts"):
            adaptor.config = config.model_copy(update={"scale": config.scale * scale})
            frames.append(scoring.score(editor, edits, before).assign(scale=scale))
    finally:
        adaptor.config = config
    return pd.concat(frames, ignore_index=True)
