"""One experiment of the series: train a model on one task, then write the held-out sentences with it.

Whatever this module reaches can change a record, so it is what the fingerprints of records start from.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from lib.diffusion import batches, decoding, training
from lib.diffusion.denoiser import Denoiser, DenoiserConfig
from lib.diffusion.process import ProcessConfig
from lib.text import metrics
from lib.text.vocabulary import Vocabulary

WATCHED = 100  # validation sentences behind each point of the curve
TRACED = 20  # test sentences whose decoding is kept step by step
PREFIX_STEPS = 5
PREFIX_SENTENCES = 4


class RunConfig(BaseModel):
    """All that decides the outcome of one case, besides data, code and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    model: str
    vocabulary: int
    test_pairs: int
    whole_verses: int
    watch_at: tuple[int, ...]
    window: batches.Window
    shape: DenoiserConfig
    process: ProcessConfig
    training: training.TrainingConfig
    decoding: decoding.DecodingConfig


@dataclass(frozen=True)
class Data:
    """Sources and targets of the splits train, validation, test and whole (longer test sentences); H of every word."""

    splits: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    vocabulary: Vocabulary
    information: Tensor


@dataclass(frozen=True)
class Results:
    """What one experiment leaves; `outputs` and `trace` are raw outputs, as rows."""

    trained: training.Trained
    encoded: batches.Encoded
    outputs: pd.DataFrame
    trace: pd.DataFrame


def run(config: RunConfig, data: Data, seed: int, device: str, workspace: Path | None = None) -> Results:
    """Train, watch the validation sentences on the way, and write the test sentences.

    With a `workspace`, training resumes from the last checkpoint there. Equal arguments give equal results.
    """
    encoded = encode(config, data)
    sources, targets = (list(side[:WATCHED]) for side in data.splits["validation"])
    one = config.decoding.model_copy(update={"candidates": 1})

    def watch(model: Denoiser) -> dict[str, float]:
        written = [candidates[0] for candidates in write(model, config, one, data, sources, seed=0)]
        return {"validation_bleu": float(metrics.bleu(written, targets).mean())}

    trained = train(config, data, encoded, seed, device, workspace, watch)
    shown = {
        "test": data.splits["test"][0][: config.test_pairs],
        "whole": data.splits["whole"][0][: config.whole_verses],
    }
    written = {split: write(trained.model, config, config.decoding, data, s, seed) for split, s in shown.items()}
    return Results(trained, encoded, as_rows(written), trace(trained.model, config, data, shown["test"][:TRACED], seed))


def encode(config: RunConfig, data: Data) -> batches.Encoded:
    """Encode the training split."""
    return batches.encode_targets(data.vocabulary, *data.splits["train"], config.window)


def train(
    config: RunConfig,
    data: Data,
    encoded: batches.Encoded,
    seed: int,
    device: str,
    workspace: Path | None = None,
    watch: Callable[[Denoiser], dict[str, float]] | None = None,
) -> training.Trained:
    """Train one model as configured."""
    return training.train(
        config.shape,
        config.process,
        config.training,
        encoded,
        data.information,
        seed,
        device=device,
        workspace=workspace,
        watch=watch,
        watch_at=config.watch_at,
    )


def prefix(config: RunConfig, data: Data, seed: int, device: str) -> str:
    """Return a digest of the weights after five steps and of four sentences written with them."""
    begun = config.model_copy(update={"training": config.training.model_copy(update={"steps": PREFIX_STEPS})})
    trained = train(begun, data, encode(config, data), seed, device)
    digest = hashlib.sha256()
    for _, value in sorted(trained.model.named_parameters()):
        digest.update(value.detach().cpu().numpy().tobytes())
    sources = data.splits["test"][0][:PREFIX_SENTENCES]
    digest.update(repr(write(trained.model, config, config.decoding, data, sources, seed)).encode())
    return digest.hexdigest()


def write(
    model: Denoiser, config: RunConfig, how: decoding.DecodingConfig, data: Data, sources: Sequence[str], seed: int
) -> list[list[str]]:
    """Return the candidates for each source."""
    return decoding.decode(model, config.process, how, data.vocabulary, sources, data.information, config.window, seed)


def as_rows(written: Mapping[str, list[list[str]]]) -> pd.DataFrame:
    """Return sentences as rows: split, item, candidate, text."""
    return pd.DataFrame(
        [
            {"split": split, "item": item, "candidate": candidate, "text": text}
            for split, sentences in written.items()
            for item, candidates in enumerate(sentences)
            for candidate, text in enumerate(candidates)
        ]
    )


def trace(model: Denoiser, config: RunConfig, data: Data, sources: Sequence[str], seed: int) -> pd.DataFrame:
    """Return the words of the estimate after every sampling step: item, step (1 is the first), place, word."""
    rows = []
    for item, source in enumerate(sources):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + item)
        steps = estimates(model, config, data, data.vocabulary.encode(source), generator)
        rows += [
            {"item": item, "step": step + 1, "place": place, "word": data.vocabulary.words[word]}
            for step, sentence in enumerate(steps.tolist())
            for place, word in enumerate(sentence)
        ]
    return pd.DataFrame(rows)


def estimates(model: Denoiser, config: RunConfig, data: Data, ids: list[int], generator: torch.Generator) -> Tensor:
    """Return the word ids (steps, places) of the estimate after every sampling step, for one source of word ids."""
    places = config.window.places(len(ids))
    source = torch.tensor([ids])
    drawn = decoding.reverse(
        model, config.process, config.decoding, source, places, data.information, generator, trace=True
    )
    return drawn[:, 0]
