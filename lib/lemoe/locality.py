"""Why an unrelated answer changes: how hard its expert pushes, how sure the model was, what a weaker expert would do.

The paper reports a locality of 1.00 without a way out; all measures here are ours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from lib import progress
from lib.editing import layers, scoring
from lib.editing.editor import NoEdit
from lib.editing.edits import Edit
from lib.editing.encoding import IGNORED, encode
from lib.errors import UserError
from lib.lemoe import experiment
from lib.lemoe.adaptor import Adaptor
from lib.lemoe.editor import LemoeEditor
from lib.lemoe.experiment import RunConfig
from lib.lemoe.methods import Row, Workbench

SCALES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # of the experts' output after training
TOGETHER = 32  # texts of a forward pass


class Studied(NamedTuple):
    """What a study leaves: one row a text (`texts`), and one row a scale and edit (`scales`, columns of `score`)."""

    texts: pd.DataFrame
    scales: pd.DataFrame


def study(config: RunConfig, row: Row, bench: Workbench, pool: Sequence[Edit], seed: int) -> Studied:
    """Edit as `experiment.run` does, then look at every edit, rephrase and unrelated question, and at weaker experts.

    Raises `UserError` for a method without an adaptor and for fewer edits than are asked for.
    """
    taken = list(pool[: config.count])
    if len(taken) < config.count:
        raise UserError(f"{config.count} edits are needed, {config.edits} has {len(pool)}: ask for fewer")
    told = scoring.before(NoEdit(bench.model, bench.tokenizer), taken)
    editor = row.build(bench, type(row.configure(bench.sizes)).model_validate(config.settings))
    try:
        for batch in experiment.dealt(taken, config.order, config.batches, seed)[0]:
            editor.edit(batch)
        if not isinstance(editor, LemoeEditor) or editor.adaptor is None:
            raise UserError(f"{row.title} has no adaptor whose push could be measured: choose a row of LEMoE")
        return Studied(texts(editor.adaptor, bench, taken), _weakened(editor, editor.adaptor, taken, told))
    finally:
        editor.restore()


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


def _weakened(editor: LemoeEditor, adaptor: Adaptor, edits: Sequence[Edit], told: scoring.Before) -> pd.DataFrame:
    """Return `score` of the edits with the experts' output at each of `SCALES`; the adaptor stays as it is."""
    config = adaptor.config
    frames = []
    try:
        for scale in progress.bar(SCALES, "scoring weaker experts"):
            adaptor.config = config.model_copy(update={"scale": config.scale * scale})
            frames.append(scoring.score(editor, edits, told).assign(scale=scale))
    finally:
        adaptor.config = config
    return pd.concat(frames, ignore_index=True)
