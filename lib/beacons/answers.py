"""Answers in free generation, greedy or sampled, and whether they are right.

The policy, in this one place: raw text as `lib.causal_lm.encoding` encodes a prompt, and an answer ends before the
first full stop or line break, at the end token, or after `longest` tokens, whichever comes first.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib import seeds
from lib.beacons.facts import BeaconFact
from lib.causal_lm import continuations
from lib.causal_lm.continuations import Prompts, likeliest
from lib.causal_lm.encoding import prompt_tokens
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEMPERATURE, TOP_K = 0.5, 40  # of the sampled answers, as SliCK takes them (Gekhman et al., 2024)
_END = re.compile(r"[.\n\r]")
_PAD = 0  # masked wherever it stands
_NOT_WORD = re.compile(r"[^\w]+")


def greedy(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    longest: int,
    batch_size: int | None = 64,
) -> list[str]:
    """Return the most likely answer to each prompt, word by word, without blanks around it; it may be empty.

    Batches are padded on the left and hold prompts of like length; with `batch_size` None there is one batch in the
    order given, of which no row is left out, as adapters per example need it. Raises `UserError` for no prompts or an
    empty one, and a length or batch size below 1.
    """
    ends = _ends(tokenizer, model.config.vocab_size)
    found = [""] * len(prompts)
    for chosen, ids, mask in _batches(model, tokenizer, prompts, longest, batch_size):
        told = Prompts(model, ids, mask).continued(longest, ends, likeliest, whole=batch_size is None)
        for place, row in zip(chosen, told, strict=True):
            found[place] = _text(tokenizer, row)
    return found


def sampled(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    longest: int,
    samples: int,
    seed: int,
    batch_size: int = 64,
) -> list[list[str]]:
    """Return the greedy answer to each prompt, then `samples` drawn from the `TOP_K` likeliest words at `TEMPERATURE`.

    The prompts are read once for all their answers. The draws follow from `seed` and the batches. Raises `UserError` as
    `greedy` does, and for no samples.
    """
    if samples < 1:
        raise UserError(f"samples={samples}: draw at least 1")
    ends = _ends(tokenizer, model.config.vocab_size)
    stream = seeds.generator("beacons/answers", seed)
    found: list[list[str]] = [[] for _ in prompts]

    def choose(_: Tensor, logits: Tensor, uniform: Tensor) -> Tensor:
        best, words = (logits.float() / TEMPERATURE).topk(min(TOP_K, logits.shape[-1]))
        return words.gather(1, continuations.sampled(best.softmax(-1), uniform)[:, None])[:, 0]

    for chosen, ids, mask in _batches(model, tokenizer, prompts, longest, batch_size):
        read = Prompts(model, ids, mask)
        best = read.continued(longest, ends, likeliest)
        drawn = read.continued(longest, ends, choose, samples, stream)
        for number, place in enumerate(chosen):
            rows = [best[number], *drawn[number * samples : (number + 1) * samples]]
            found[place] = [_text(tokenizer, row) for row in rows]
    return found


def is_exact(answer: str, fact: BeaconFact) -> bool:
    """Tell whether an answer is the target or an alias and nothing else, in whatever case, accents and punctuation."""
    return _plain(answer) in _wanted(fact)


def is_right(answer: str, fact: BeaconFact) -> bool:
    """Tell whether the target or an alias stands in an answer as whole words, in whatever case and accents.

    An article before the target does not count. What `is_exact` takes is right as well.
    """
    return any(f" {wanted} " in f" {_plain(answer)} " for wanted in _wanted(fact))


@functools.lru_cache(maxsize=100_000)
def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return _NOT_WORD.sub(" ", bare).strip().removeprefix("the ")


def _wanted(fact: BeaconFact) -> set[str]:
    return {_plain(text) for text in (fact.target, *fact.aliases)} - {""}


@functools.lru_cache(maxsize=8)
def _ends(tokenizer: "PreTrainedTokenizerBase", vocabulary: int) -> Tensor:
    """Return the tokens with which an answer is over: all that hold a full stop or a line break, and the end token."""
    found = {number for number in range(vocabulary) if _END.search(tokenizer.decode(torch.tensor([number])))}
    last = getattr(tokenizer, "eos_token_id", None)
    return torch.tensor(sorted(found if last is None else found | {last}))


def _batches(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    longest: int,
    batch_size: int | None,
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield places, ids and masks (sequences, tokens), padded on the left."""
    if longest < 1 or (batch_size is not None and batch_size < 1):
        raise UserError(f"longest={longest}, batch_size={batch_size}: give at least 1")
    rows = [prompt_tokens(tokenizer, prompt) for prompt in prompts]
    if not rows or not all(rows):
        raise UserError("no prompts, or an empty one: give at least one word each")
    order = list(range(len(rows)))
    if batch_size is not None:
        order.sort(key=lambda place: len(rows[place]))
    size = batch_size or len(rows)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        width = max(len(rows[place]) for place in chosen)
        ids = [[_PAD] * (width - len(rows[place])) + rows[place] for place in chosen]
        mask = [[0] * (width - len(rows[place])) + [1] * len(rows[place]) for place in chosen]
        yield chosen, torch.tensor(ids, device=model.device), torch.tensor(mask, device=model.device)


def _text(tokenizer: "PreTrainedTokenizerBase", row: Sequence[int]) -> str:
    """Return the words of the tokens of an answer, with what stands before the mark in the last one."""
    whole = tokenizer.decode(torch.tensor(row), skip_special_tokens=True)
    return _END.split(whole, maxsplit=1)[0].strip()
