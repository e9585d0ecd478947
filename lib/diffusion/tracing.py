"""The decoding of held-out sentences watched step by step: the words of every estimate, and when each was settled."""

from collections.abc import Sequence

import pandas as pd
import torch
from pydantic import NonNegativeInt

from lib.diffusion import settling
from lib.diffusion.model import DiffusionModel
from lib.diffusion.sampling import SamplingConfig
from lib.seq2seq import decoding, draws
from lib.seq2seq.batches import Window
from lib.seq2seq.counts import Count
from lib.settings import Settings
from lib.text.vocabulary import Vocabulary

SENTENCES = 128  # watched at once


class TracingConfig(Settings):
    """How many sentences are shown word by word, and in how many steps the settling of how many more is measured."""

    shown: NonNegativeInt
    steps: Count
    pairs: NonNegativeInt


def watch(
    model: DiffusionModel,
    how: TracingConfig,
    vocabulary: Vocabulary,
    sources: Sequence[str],
    window: Window,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Return `trace`, every word of the first sources as they are decoded, and `settled`, when words of more settle."""
    finer = model.config.sampling.model_copy(update={"steps": how.steps})
    shown = estimates(model, model.config.sampling, vocabulary, sources[: how.shown], window, seed)
    many = estimates(model, finer, vocabulary, sources[: how.pairs], window, seed)
    return {"trace": words(shown, vocabulary), "settled": settled(many, vocabulary)}


@torch.inference_mode()
def estimates(
    model: DiffusionModel,
    how: SamplingConfig,
    vocabulary: Vocabulary,
    sources: Sequence[str],
    window: Window,
    seed: int,
) -> list[torch.Tensor]:
    """Return for every source the word ids (steps, places) of the estimate after every sampling step."""
    encoded = [vocabulary.encode(source) for source in sources]
    found: list[torch.Tensor] = [torch.empty(0)] * len(sources)
    device = model.values.device
    for number, (length, members) in enumerate(decoding.chunks(encoded, SENTENCES)):
        source = torch.tensor([encoded[m] for m in members], device=device)
        generator = draws.stream(device, "tracing", seed, number)
        with torch.autocast(device.type, torch.bfloat16):
            words = model.reverse(source, window.places(length), generator, how, trace=True).cpu()
        for row, member in enumerate(members):
            found[member] = words[:, row]
    return found


def words(steps: Sequence[torch.Tensor], vocabulary: Vocabulary) -> pd.DataFrame:
    """Return every word of the estimates as rows: item, step (1 is the first), place, word."""
    return pd.DataFrame(
        [
            {"item": item, "step": step + 1, "place": place, "word": vocabulary.words[word]}
            for item, drawn in enumerate(steps)
            for step, sentence in enumerate(drawn.tolist())
            for place, word in enumerate(sentence)
        ]
    )


def settled(steps: Sequence[torch.Tensor], vocabulary: Vocabulary) -> pd.DataFrame:
    """Return the words of every finished sentence as rows: item, place, word, and the step that settled it."""
    rows = []
    for item, drawn in enumerate(steps):
        final, when = [vocabulary.words[word] for word in drawn[-1].tolist()], settling.settling_steps(drawn.numpy())
        places = settling.sentence_places(final, vocabulary.words[vocabulary.end], vocabulary.words[vocabulary.pad])
        rows += [{"item": item, "place": int(k), "word": final[k], "step": int(when[k])} for k in places]
    return pd.DataFrame(rows, columns=["item", "place", "word", "step"])
