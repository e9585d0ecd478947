"""One experiment of the series: train a model on one task, then write the held-out sentences with it.

Whatever this module and the model's own reach can change a record, so they are what the fingerprints start from.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from lib.seq2seq import batches, decoding, training
from lib.text import metrics
from lib.text.vocabulary import Vocabulary

WATCHED = 100  # validation sentences behind each point of the curve
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
    method: dict[str, Any]  # the model's own configuration
    training: training.TrainingConfig
    decoding: decoding.DecodingConfig


@dataclass(frozen=True)
class Data:
    """Sources and targets of the splits train, validation, test and whole (longer test sentences); the vocabulary."""

    splits: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    vocabulary: Vocabulary


@dataclass(frozen=True)
class Experiment:
    """A configured model on its data: `build` makes it with fresh weights, from torch's global generator."""

    config: RunConfig
    data: Data
    build: Callable[[], nn.Module]
    device: str = "cpu"

    def run(self, seed: int, workspace: Path | None = None) -> "Results":
        """Train, watch the validation sentences on the way, and write the test sentences.

        With a `workspace`, training resumes from the last checkpoint there. Equal arguments give equal results.
        """
        config, encoded = self.config, self.encode()
        sources, targets = (list(side[:WATCHED]) for side in self.data.splits["validation"])

        def watch(model: nn.Module) -> dict[str, float]:
            written = [candidates[0] for candidates in self.write(model, sources, seed, candidates=1)]
            return {"validation_bleu": float(metrics.bleu(written, targets).mean())}

        trained = self.train(encoded, seed, config.training, workspace, watch)
        shown = {
            "test": self.data.splits["test"][0][: config.test_pairs],
            "whole": self.data.splits["whole"][0][: config.whole_verses],
        }
        written = {split: self.write(trained.model, texts, seed) for split, texts in shown.items()}
        return Results(trained, encoded, as_rows(written))

    def prefix(self, seed: int) -> str:
        """Return a digest of the weights after five steps and of four sentences written with them."""
        begun = self.config.training.model_copy(update={"steps": PREFIX_STEPS})
        trained = self.train(self.encode(), seed, begun)
        digest = hashlib.sha256()
        for _, value in sorted(trained.model.named_parameters()):
            digest.update(value.detach().cpu().numpy().tobytes())
        sources = self.data.splits["test"][0][:PREFIX_SENTENCES]
        digest.update(repr(self.write(trained.model, sources, seed)).encode())
        return digest.hexdigest()

    def encode(self) -> batches.Encoded:
        """Encode the training split."""
        return batches.encode_targets(self.data.vocabulary, *self.data.splits["train"], self.config.window)

    def train(
        self,
        encoded: batches.Encoded,
        seed: int,
        config: training.TrainingConfig,
        workspace: Path | None = None,
        watch: Callable[[nn.Module], dict[str, float]] | None = None,
    ) -> training.Trained:
        """Train a fresh model."""
        return training.train(
            self.build,
            config,
            encoded,
            seed,
            device=self.device,
            workspace=workspace,
            watch=watch,
            watch_at=self.config.watch_at,
        )

    def load(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """Return the model with the given weights, in evaluation mode."""
        model = self.build().to(self.device)
        training.put(model, {name: value.float() for name, value in weights.items()})
        return model.eval()

    def write(
        self, model: nn.Module, sources: Sequence[str], seed: int, candidates: int | None = None
    ) -> list[list[str]]:
        """Return the candidates for each source, as many as configured unless `candidates` says otherwise."""
        how = self.config.decoding
        if candidates is not None:
            how = how.model_copy(update={"candidates": candidates})
        return decoding.decode(
            model.sample, how, self.data.vocabulary, sources, self.config.window, seed, device=self.device
        )


@dataclass(frozen=True)
class Results:
    """What one experiment leaves; `outputs` are raw outputs, as rows."""

    trained: training.Trained
    encoded: batches.Encoded
    outputs: pd.DataFrame


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
