"""Semantic distance d = 1 - cos(emb(answer), emb(target)), under rulers that are fixed to the base model.

The definitions are ours (the paper's equations are not known): a text is read as it follows a prompt, with one blank
before it, and its vector is a mean over its tokens. A text without tokens, or with a zero vector, points nowhere: its
distance to everything is 1, as of a right angle.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.causal_lm import backbones
from lib.causal_lm.encoding import continued, prompt_tokens
from lib.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What the last hidden states are read after: without it the first token of a text would stand first of all, where
# models without a token for the beginning put a state that is nearly the same for every text.
LEAD = "Answer:"


@dataclass(frozen=True)
class Ruler:
    """One way to turn texts into vectors: `vectors` maps n texts to a tensor (n, width)."""

    vectors: Callable[[Sequence[str]], Tensor]


def raw(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> Ruler:
    """Return the series' ruler, the mean of the input embeddings E, which are copied now."""
    table = embeddings(model)
    return Ruler(lambda texts: _embedded(table, tokenizer, texts, None))


def centred(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> Ruler:
    """Return `raw` after taking the mean of E over the vocabulary away, since raw embeddings share a direction."""
    table = embeddings(model)
    centre = table.mean(0)
    return Ruler(lambda texts: _embedded(table, tokenizer, texts, centre))


def encoder(_: "PreTrainedModel", __: "PreTrainedTokenizerBase") -> Ruler:
    """Return the ruler of MiniLM's mean token vectors, of no model trained here."""
    return Ruler(_encoded)


def hidden(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> Ruler:
    """Return the ruler of means of the last hidden states (after the final norm) of the text after `LEAD`.

    It runs `model` as it is when asked, so nothing may be attached to it then.
    """
    return Ruler(lambda texts: _last_hidden(model, tokenizer, texts))


RULERS: Registry[Callable[["PreTrainedModel", "PreTrainedTokenizerBase"], Ruler]] = Registry(
    "ruler",
    {
        "raw": raw,
        "centred": centred,
        "encoder": encoder,
        "hidden": hidden,
    },
)


def ruler(name: str, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> Ruler:
    """Return a ruler of the base model by its name in `RULERS`; raises `UserError` for an unknown one."""
    return RULERS[name](model, tokenizer)


def embeddings(model: "PreTrainedModel") -> Tensor:
    """Return a float32 copy of the input embeddings E, (vocabulary, width), which no training touches."""
    return model.get_input_embeddings().weight.detach().to(torch.float32, copy=True)


def distance(ruler: Ruler, answers: Sequence[str], targets: Sequence[str]) -> Tensor:
    """Return d of each answer to its target, (n,), float32 in [0, 2].

    Blanks around the texts do not count. Raises `ValueError` unless both have the same number of texts.
    """
    if len(answers) != len(targets):
        raise ValueError(f"{len(answers)} answers for {len(targets)} targets")
    if not answers:
        return torch.empty(0)
    texts = list(dict.fromkeys(text.strip() for text in (*answers, *targets)))
    place = {text: number for number, text in enumerate(texts)}
    vectors = ruler.vectors(texts)
    sides = (vectors[[place[text.strip()] for text in side]] for side in (answers, targets))
    return between(*sides)


def between(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return 1 - cosine of rows (n, width), (n,); 1 where a side is zero, and differentiable elsewhere.

    Raises `ValueError` for rows of unlike shapes, and for those that are not finite.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"rows of shapes {tuple(ours.shape)} and {tuple(theirs.shape)}: give equal ones")
    ours, theirs = _scaled(ours, "ours"), _scaled(theirs, "theirs")
    length = ours.norm(dim=-1) * theirs.norm(dim=-1)
    product = (ours * theirs).sum(-1)
    defined = length > 0
    return torch.where(defined, 1 - product / torch.where(defined, length, 1.0), 1.0).clamp(0, 2)


def expected(table: Tensor, logits: Tensor, labels: Tensor, sequence: Tensor, count: int) -> Tensor:
    """Return the smooth distance of `count` facts: of the expected embeddings to those of the targets, (count,).

    At each target place, under teacher forcing, the answer's vector is sum_v p(v) E[v]; a fact's is their mean. `table`
    is E (vocabulary, width), perhaps centred; logits (places, vocabulary), labels and the numbers of their facts
    (places,), in the layout of `UpperLayers.losses`. Differentiable in the logits; a fact without places gets 1.
    """
    answers = logits.float().softmax(-1) @ table
    means = [_mean_by(vectors, sequence, count) for vectors in (answers, table[labels])]
    return between(*means)


def anisotropy(vectors: Tensor) -> float:
    """Return the mean cosine of all pairs of different rows (n, width), in closed form; zero rows count as cosine 0.

    0 for directions without a preference, near 1 for a narrow cone. Raises `ValueError` for fewer than two rows, and
    for those that are not finite.
    """
    count = len(vectors)
    if count < 2:
        raise ValueError(f"{count} vectors have no pairs: give at least two")
    vectors = _scaled(vectors.double(), "vectors")
    length = vectors.norm(dim=1, keepdim=True)
    unit = vectors / length.masked_fill(length == 0, 1)
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (count * (count - 1)))


def _scaled(rows: Tensor, name: str) -> Tensor:
    """Return rows times powers of two, which change no digit, so that the squares of no finite row leave its range."""
    largest = rows.detach().abs().amax(-1, keepdim=True) if rows.numel() else rows.detach()
    if not largest.isfinite().all():
        raise ValueError(f"{name} holds a number that is not finite")
    most = math.frexp(torch.finfo(rows.dtype).max)[1] - 2  # beyond it 2^-exponent of a tiny row would overflow
    return rows * torch.ldexp(torch.ones_like(largest), -torch.frexp(largest).exponent.clamp(-most, most))


def _embedded(
    table: Tensor, tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], centre: Tensor | None
) -> Tensor:
    rows = [_ids(tokenizer, text) for text in texts]
    ids = torch.tensor([number for row in rows for number in row], dtype=torch.long, device=table.device)
    sequence = _sequence(rows).to(table.device)
    found = table[ids] if centre is None else table[ids] - centre
    return _mean_by(found, sequence, len(rows))


def _encoded(texts: Sequence[str]) -> Tensor:
    found = backbones.encode_tokens([text.strip() for text in texts])
    return _mean_by(torch.cat(found), _sequence(found), len(found))


@torch.inference_mode()
def _last_hidden(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], batch_size: int = 64
) -> Tensor:
    lead, rows = prompt_tokens(tokenizer, LEAD), [_ids(tokenizer, text) for text in texts]
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    found = torch.zeros(len(rows), model.config.hidden_size, device=model.device)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        longest = len(rows[chosen[-1]])
        if not longest:
            continue
        padded = [[*lead, *rows[number]] + [0] * (longest - len(rows[number])) for number in chosen]
        ids = torch.tensor(padded, device=model.device)
        read = torch.tensor([[place < len(rows[number]) for place in range(longest)] for number in chosen])
        read = read.to(model.device)
        seen = torch.cat([read.new_ones(len(chosen), len(lead)), read], 1).long()
        hidden = model.base_model(input_ids=ids, attention_mask=seen, use_cache=False).last_hidden_state
        means = _mean_by(hidden[:, len(lead) :][read].float(), read.nonzero()[:, 0], len(chosen))
        found[torch.tensor(chosen, device=found.device)] = means
    return found


def _ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Return the tokens of a text as they follow a prompt: after one blank, and none for an empty text."""
    return continued(tokenizer, f" {text.strip()}") if text.strip() else []


def _sequence(rows: Sequence[Sequence[int] | Tensor]) -> Tensor:
    return torch.tensor([number for number, row in enumerate(rows) for _ in range(len(row))], dtype=torch.long)


def _mean_by(vectors: Tensor, sequence: Tensor, count: int) -> Tensor:
    """Return the mean of the rows (places, width) of each sequence, (count, width); zero for one without places."""
    totals = vectors.new_zeros(count, vectors.shape[1]).index_add(0, sequence, vectors)
    return totals / torch.bincount(sequence, minlength=count).clamp(min=1)[:, None]
