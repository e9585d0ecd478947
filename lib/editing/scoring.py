"""Scores of an edited model, the same for every method: reliability, generality, locality, perplexity.

unedited = before(NoEdit(model, tokenizer), edits)      # once, on the unedited model
editor.edit(batch)
frame = score(editor, edits, unedited); summary(frame)  # {"Rel": ..., "Gen": ..., "Loc": ..., "Avg": ...}
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import IGNORED, encode, pair_tokens
from lib.editing.editor import Editor
from lib.errors import UserError

Asked = tuple[str, str]  # a prompt and its answer
Before = dict[Asked, tuple[int, ...]]  # the unedited model's token at each place of a locality answer


def before(editor: Editor, edits: Sequence[Edit], batch_size: int = 32) -> Before:
    """Return the most likely token at every place of the locality answers; call it before the first edit.

    Any editor that has not edited yet will do (`NoEdit`); the result serves every method on the same model. Edits
    without a locality question are passed over. Raises `UserError` as `encode` does.
    """
    asked = list(dict.fromkeys(edit.locality for edit in edits if edit.locality is not None))
    return dict(zip(asked, _most_likely(editor, asked, batch_size), strict=True))


def score(
    editor: Editor, edits: Sequence[Edit], before: Before, generate: bool = False, batch_size: int = 32
) -> pd.DataFrame:
    """Score each edit (section "Task" of the paper sheet); one row an edit, every score in [0, 1].

    Columns: identity; rel, the share of the target's tokens that are the most likely ones after prompt and true
    earlier target tokens (teacher forcing); gen, the same with rephrases as prompts, their mean; loc, the share of
    places of the locality answer whose most likely token is that of the unedited model. `_exact` is 1 where all tokens
    agree. A score is NaN where the edit has no rephrase or no locality question. With `generate` also generated (the
    greedy continuation, as many tokens as the target) and rel_free (1 where it equals the target). The result does not
    depend on `batch_size`, beyond ties. Raises `UserError` for no edits and a locality question that `before` lacks.
    """
    if not edits:
        raise UserError("no edits to score: give at least one")
    for edit in edits:
        if edit.locality is not None and edit.locality not in before:
            raise UserError(f"{edit.locality[0]!r} was not asked before editing: call `before` with all edits")
    wanted = [(prompt, edit.target) for edit in edits for prompt in (edit.prompt, *edit.rephrases)]
    wanted += [edit.locality for edit in edits if edit.locality is not None]
    asked = list(dict.fromkeys(wanted))
    found = dict(zip(asked, _most_likely(editor, asked, batch_size), strict=True))
    rows = []
    for edit in edits:
        right = [
            _agreement(found[prompt, edit.target], tuple(pair_tokens(editor.tokenizer, prompt, edit.target)[1]))
            for prompt in (edit.prompt, *edit.rephrases)
        ]
        kept = [] if edit.locality is None else [_agreement(found[edit.locality], before[edit.locality])]
        row: dict[str, str | float] = {"identity": edit.identity}
        for name, shares in (("rel", right[:1]), ("gen", right[1:]), ("loc", kept)):
            row[name] = float(np.mean(shares)) if shares else float("nan")
            row[f"{name}_exact"] = float(np.mean([share == 1 for share in shares])) if shares else float("nan")
        rows.append(row)
    frame = pd.DataFrame(rows)
    if generate:
        drawn = _generated(editor, edits, batch_size)
        frame["generated"] = [text for text, _ in drawn]
        frame["rel_free"] = [float(equal) for _, equal in drawn]
    return frame


def summary(frame: pd.DataFrame) -> dict[str, float]:
    """Return the means of `score`'s columns rel, gen and loc as Rel, Gen, Loc, and Avg, the mean of these three.

    Rows without a score (NaN) do not count; a mean over no rows is NaN, and so then is Avg.
    """
    means = {name: float(frame[name.lower()].mean()) for name in ("Rel", "Gen", "Loc")}
    return means | {"Avg": float(np.mean(list(means.values())))}


def perplexity(
    editor: Editor, asked: Sequence[Asked], over: Literal["tokens", "edits"] = "tokens", batch_size: int = 32
) -> float:
    """Return the perplexity, in [1, inf), of targets after their prompts, (prompt, target) pairs (SelfCheckGPT).

    exp of the mean over all target tokens of -ln p(token), or ("edits") the mean of each pair's own perplexity; which
    of them the paper takes is not known. Raises `UserError` as `encode` does.
    """
    nats = [np.empty(0)] * len(asked)
    for chosen, logits, labels in _read(editor, asked, batch_size):
        lost = functional.cross_entropy(logits.float().mT, labels, ignore_index=IGNORED, reduction="none")
        for index, row, wanted in zip(chosen, lost, labels != IGNORED, strict=True):
            nats[index] = row[wanted].double().cpu().numpy()
    if over == "tokens":
        return float(np.exp(np.concatenate(nats).mean()))
    return float(np.mean([np.exp(values.mean()) for values in nats]))


def _agreement(found: tuple[int, ...], wanted: tuple[int, ...]) -> float:
    """Return the share of equal tokens at the same place."""
    return sum(one == other for one, other in zip(found, wanted, strict=True)) / len(wanted)


def _read(editor: Editor, asked: Sequence[Asked], batch_size: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield indices into `asked`, logits (sequences, places, vocabulary) and what they predict (sequences, places).

    Sequences of like length share a batch; logits are made only at places where one of them has a target token, and a
    label is `IGNORED` where a sequence has none.
    """
    if not asked:
        raise UserError("no edits: give at least one")
    lengths = [tuple(map(len, pair_tokens(editor.tokenizer, *pair))) for pair in asked]
    order = sorted(range(len(asked)), key=lambda index: (sum(lengths[index]), lengths[index]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        read = encode(editor.model, editor.tokenizer, [asked[index] for index in chosen])
        labels = read.labels[:, 1:]
        places = (labels != IGNORED).any(0).nonzero()[:, 0]
        with torch.inference_mode(), editor.reading(read.prompt):
            logits = editor.model(
                input_ids=read.ids, attention_mask=read.mask, use_cache=False, logits_to_keep=places
            ).logits
        yield chosen, logits, labels[:, places]


def _most_likely(editor: Editor, asked: Sequence[Asked], batch_size: int) -> list[tuple[int, ...]]:
    """Return the most likely token at every place of each answer, given its prompt and true earlier tokens."""
    found: list[tuple[int, ...]] = [()] * len(asked)
    if not asked:
        return found
    for chosen, logits, labels in _read(editor, asked, batch_size):
        best = logits.argmax(-1).tolist()
        for index, row, wanted in zip(chosen, best, (labels != IGNORED).tolist(), strict=True):
            found[index] = tuple(token for token, is_target in zip(row, wanted, strict=True) if is_target)
    return found


def _generated(editor: Editor, edits: Sequence[Edit], batch_size: int) -> list[tuple[str, bool]]:
    """Return each edit's greedy continuation, as long as its target, and whether it equals it.

    Only prompts of equal length share a batch, so that none is padded.
    """
    rows = [pair_tokens(editor.tokenizer, edit.prompt, edit.target) for edit in edits]
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index][0]), len(rows[index][1])))
    found = [("", False)] * len(rows)
    while order:
        length = len(rows[order[0]][0])
        chosen = [index for index in order[:batch_size] if len(rows[index][0]) == length]
        order = order[len(chosen) :]
        ids = torch.tensor([rows[index][0] for index in chosen], device=editor.model.device)
        with torch.inference_mode(), editor.reading(torch.ones_like(ids)):
            drawn = editor.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max(len(rows[index][1]) for index in chosen),
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                pad_token_id=0,
            )
        for index, row in zip(chosen, drawn[:, length:].tolist(), strict=True):
            target = rows[index][1]
            found[index] = editor.tokenizer.decode(row[: len(target)]), row[: len(target)] == target
    return found
