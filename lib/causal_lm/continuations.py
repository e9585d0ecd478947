"""What a causal language model writes after prompts: they are read once, and a row that has ended costs no more.

prompts = Prompts(model, ids, mask)                       # (rows, tokens), padded on the left
tokens = prompts.continued(24, ends, likeliest)           # greedy: a list of ids for each row
tokens = prompts.continued(24, ends, choose, 16, stream)  # 16 samples for each row, in turn

transformers' `generate` reads a prompt again for every sample of it, and takes a batch on until its longest row ends;
where most responses are short, that is most of the time. On an accelerator what was written is read back every `EVERY`
tokens alone, so that it need not be waited for at each; the numbers that are drawn are those of reading at each.
"""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.causal_lm import caches

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What is written next, (rows,), after ids (rows, tokens so far) with logits (rows, vocabulary), given numbers drawn
# uniformly from [0, 1), (rows,).
Choice = Callable[[Tensor, Tensor, Tensor], Tensor]
EVERY = 16  # tokens between two looks at which rows have ended, where a look means waiting for the device
WORTH = 0.8  # rows are taken out of the cache when so few of them go on: a copy has its price


def likeliest(_: Tensor, logits: Tensor, __: Tensor) -> Tensor:
    """Return the likeliest token of each row: greedy decoding."""
    return logits.argmax(-1)


def sampled(chances: Tensor, uniform: Tensor) -> Tensor:
    """Return a token for each row, (rows,): where the sum of its chances passes the share `uniform` of the whole.

    Chances are (rows, vocabulary) and need not sum to 1; `uniform` (rows,) lies in [0, 1).
    """
    sums = chances.double().cumsum(-1)
    return torch.searchsorted(sums, uniform.to(sums)[:, None] * sums[:, -1:], right=True)[:, 0]


class Prompts:
    """Prompts as a model has read them; they can be continued many times."""

    @torch.inference_mode()
    def __init__(self, model: "PreTrainedModel", ids: Tensor, mask: Tensor) -> None:
        """Read `ids` (rows, tokens), padded on the left where `mask` is 0, on the model's device.

        Raises `ValueError` for ids and mask of unequal shapes, and for a row without a token at its end.
        """
        if ids.ndim != 2 or mask.shape != ids.shape or not ids.numel() or not bool(mask[:, -1].all()):
            raise ValueError(
                f"ids {tuple(ids.shape)} and mask {tuple(mask.shape)}: give both (rows, tokens), padded on the left"
            )
        self._model, self._ids, self._mask = model, ids, mask.long()
        places = (self._mask.cumsum(1) - 1).clamp(min=0)
        last = torch.tensor([ids.shape[1] - 1], device=ids.device)  # not a slice: those are slow to multiply on a CPU
        read = model(input_ids=ids, attention_mask=self._mask, position_ids=places, use_cache=True, logits_to_keep=last)
        self._cache, self._logits, self._place = caches.of(read), read.logits[:, -1], places[:, -1:]

    @torch.inference_mode()
    def continued(
        self,
        longest: int,
        ends: Tensor,
        choose: Choice,
        copies: int = 1,
        stream: torch.Generator | None = None,
        whole: bool = False,
        every: int | None = None,
    ) -> list[list[int]]:
        """Return the tokens that follow each prompt, `copies` of them in turn for each.

        They end with the first that is one of `ends`, or after `longest`. `choose` is asked for the rows that go on,
        and perhaps for a few that do not; its numbers come from `stream` (torch's global one by default), and a row's
        do not depend on when others end. With `whole` every pass has all rows, as adapters per row need it. Which rows
        have ended is looked at after `every` tokens (1 on a CPU, else `EVERY`), which changes no token and leaves the
        stream where it would be. Raises `ValueError` for lengths, copies or `every` below 1.
        """
        every = every if every is not None else (1 if self._ids.device.type == "cpu" else EVERY)
        if min(longest, copies, every) < 1:
            raise ValueError(f"longest={longest}, copies={copies}, every={every}: give at least 1")
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(copies)
        held = caches.argument(self._model, cache)
        own = (self._ids, self._mask, self._place, self._logits)
        ids, mask, place, logits = (value.repeat_interleave(copies, 0) for value in own)
        ends = ends.cpu()
        found: list[list[int]] = [[] for _ in ids]
        rows, running = torch.arange(len(ids)), torch.ones(len(ids), dtype=torch.bool)
        written: list[Tensor] = []  # since the last look
        before = _state(stream)  # what is drawn from here on may be too much
        for taken in range(1, longest + 1):
            words = choose(ids, logits, torch.rand(len(found), generator=stream)[rows].to(ids.device))
            written.append(words)
            if len(written) == every or taken == longest:
                used = _take(found, rows, running, torch.stack(written).cpu(), ends)
                if used < len(written):  # every row had ended before: what was drawn since is put back
                    _go_back(stream, before, used, len(found))
                if taken == longest or not running.any():
                    break
                written, before = [], _state(stream)
            ids, mask = torch.cat([ids, words[:, None]], 1), torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            place = place + 1
            if not written and not whole and running.sum() <= WORTH * len(rows):
                kept = running.nonzero()[:, 0]
                rows, running, kept = rows[kept], running[kept], kept.to(ids.device)
                cache.batch_select_indices(kept)
                ids, mask, place = ids[kept], mask[kept], place[kept]
            read = self._model(input_ids=ids[:, -1:], attention_mask=mask, position_ids=place, use_cache=True, **held)
            logits = read.logits[:, -1]
        return found


def _take(found: list[list[int]], rows: Tensor, running: Tensor, told: Tensor, ends: Tensor) -> int:
    """Add the tokens `told` (tokens, rows) to what was found, up to each row's end, and note in `running` who ended.

    Returns how many of them were needed: those before the last row ended.
    """
    for number, (words, over) in enumerate(zip(told.tolist(), torch.isin(told, ends), strict=True)):
        for row, goes, word in zip(rows.tolist(), running.tolist(), words, strict=True):
            if goes:
                found[row].append(word)
        running &= ~over
        if not running.any():
            return number + 1
    return len(told)


def _state(stream: torch.Generator | None) -> Tensor:
    """Return where a stream of numbers, or torch's global one, stands."""
    return torch.get_rng_state() if stream is None else stream.get_state()


def _go_back(stream: torch.Generator | None, state: Tensor, draws: int, count: int) -> None:
    """Bring a stream to where it was, and on by so many draws of `count` numbers."""
    if stream is None:
        torch.set_rng_state(state)
    else:
        stream.set_state(state)
    for _ in range(draws):
        torch.rand(count, generator=stream)
