"""One sentence on its way out of the noise: the state after every sampling step, read as its nearest words.

The network's estimate is a whole sentence from the first step on, since it reads the source; what is denoised is the
state x_t, and the schedule decides which of its words come out first.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lib.diffusion import sampling
from lib.diffusion.schedule import ScheduleName
from lib.reporting import sentences
from lib.seq2seq import draws
from lib.series.infodiffusion.cases import Writer

HIDDEN = "\N{MIDDLE DOT}"  # in the place of a word that is not yet the final one


@torch.inference_mode()
def states(writer: Writer, source: str, schedule: ScheduleName, steps: int, seed: int = 0) -> list[list[str]]:
    """Return the words of the state before every sampling step and of the final sentence, (steps + 1, words).

    A state is read at the word vectors of largest cosine. The network is the one trained under its own schedule; only
    the walk takes another. Places after the end of the final sentence are left out.
    """
    model, vocabulary = writer.model, writer.run.data.vocabulary
    ids = torch.tensor([vocabulary.encode(source)], device=model.values.device)
    how = model.config.sampling.model_copy(update={"steps": steps})
    walked = model.config.process.model_copy(update={"schedule": schedule})
    seen: list[Tensor] = []
    hook = model.denoiser.register_forward_pre_hook(functools.partial(_note, seen))
    try:
        stream = draws.stream(ids.device, "denoising", seed)
        places = writer.run.config.window.places(ids.shape[1])
        final = sampling.reverse(model.denoiser, walked, how, ids, places, model.values, stream)[0].tolist()
    finally:
        hook.remove()
    vectors = nn.functional.normalize(model.denoiser.vectors().float(), dim=-1)
    read = [(state[0].float() @ vectors.T).argmax(-1).tolist() for state in seen]
    length = max(1, final.index(vocabulary.end)) if vocabulary.end in final else len(final)
    return [[vocabulary.words[word] for word in words[:length]] for words in [*read, final]]


def came_out(rows: Sequence[Sequence[str]]) -> dict[int, int]:
    """Return, for each place, after how many steps its state reads as the final word and stays so."""
    final = rows[-1]
    return {
        place: next(step for step in range(len(rows)) if all(row[place] == word for row in rows[step:]))
        for place, word in enumerate(final)
    }


def told(rows: Sequence[Sequence[str]], schedule: str) -> str:
    """Return in a sentence which words came out first and last under a schedule, by steps done."""
    since, final = came_out(rows), rows[-1]
    early, late = min(since.values()), max(since.values())
    first, last = ([final[place] for place, step in since.items() if step == end] for end in (early, late))
    return (
        f"First out under the {schedule} schedule: {_quoted(first)}, after {early} of {len(rows) - 1} steps; "
        f"last: {_quoted(last)}, after {late}."
    )


def _quoted(words: Sequence[str]) -> str:
    return sentences.listed([f'"{word}"' for word in dict.fromkeys(words)])


def page(rows: Sequence[Sequence[str]], shown: Sequence[int]) -> str:
    """Return some of the states as text, a line each: a word from the step on from which it stays the final one."""
    since = came_out(rows)
    lines = {
        step: [word if step >= since[place] else HIDDEN * len(word) for place, word in enumerate(rows[-1])]
        for step in shown
    }
    return "\n".join(f"{step:4}  {' '.join(words)}" for step, words in lines.items())


def _note(seen: list[Tensor], _: nn.Module, inputs: tuple[Any, ...]) -> None:
    seen.append(inputs[1])
