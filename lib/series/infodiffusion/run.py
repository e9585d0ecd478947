"""One experiment of the series: train a model on one task, then write the held-out sentences with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import BaseModel, NonNegativeInt, PositiveInt, SerializeAsAny, ValidationInfo, field_validator
from torch import Tensor, nn

from lib import records
from lib.machine import speed
from lib.seq2seq import batches, decoding, training
from lib.series.infodiffusion import tasks
from lib.series.infodiffusion.rows import ROWS
from lib.series.infodiffusion.tasks import Data, DataConfig
from lib.text import metrics

WATCHED = 200  # validation sentences behind each point of the curve
MOST_PUBLISHED = 10_000_000  # parameters: larger weights stay in the cache, the repository is to remain small


class RunConfig(DataConfig):
    """All that decides the outcome of one case, besides the content of the data, code and seed."""

    model: str  # the row of the comparison, in `ROWS`
    test_pairs: PositiveInt
    whole_verses: NonNegativeInt
    watch_at: tuple[PositiveInt, ...]
    method: SerializeAsAny[BaseModel]  # the row's own configuration
    training: training.TrainingConfig
    decoding: decoding.DecodingConfig
    shown: NonNegativeInt = 0  # test sentences whose decoding is kept step by step, by the rows that are watched
    traced_steps: NonNegativeInt = 0  # sampling steps in which the settling of words is measured
    traced_pairs: NonNegativeInt = 0  # on so many test sentences
    keep: bool = False  # the weights, in the cache: other cases need them again
    publish: bool = False  # the weights, beside the record

    @field_validator("method", mode="before")
    @classmethod
    def _of_its_row(cls, value: Any, info: ValidationInfo) -> Any:
        """Read what JSON gives back into the configuration of the row that `model` names."""
        return ROWS[info.data["model"]].read(value) if isinstance(value, Mapping) else value


def train(case: records.Case) -> records.Outcome:
    """Run the experiment of a case; the sentences are the raw outputs that every score comes from."""
    config: RunConfig = case.config
    row, run = ROWS[config.model], Experiment.of(config, case.device)
    results = run.run(case.seed, records.workspace(case))
    trained = results.trained
    weights = {name: value.detach().cpu() for name, value in trained.model.named_parameters()}
    watched = row.watch(trained.model, run.data.vocabulary, run.data.splits["test"][0], config, case.seed)
    rate = trained.words / trained.seconds
    cost: dict[str, Any] = {"training_seconds": round(trained.seconds, 1), "words_per_second": round(rate)}
    operations = row.operations(config.method)
    if operations is not None:
        cost["share_of_matrix_rate"] = round(rate * operations / speed.matrix_rate(torch.bfloat16, run.device), 3)
    parameters = sum(value.numel() for value in weights.values())
    return records.Outcome(
        values={
            "curve": trained.curve,
            "parameters": parameters,
            "pairs": results.encoded.pairs,
            "left_out": results.encoded.left_out,
        },
        frames={"outputs": results.outputs, **watched},
        weights={"model": weights} if config.keep else {},
        published={"model": weights} if config.publish and parameters <= MOST_PUBLISHED else {},
        cost=cost,
    )


@dataclass(frozen=True)
class Experiment:
    """A configured model on its data."""

    config: RunConfig
    data: Data
    device: str = "cpu"

    @classmethod
    def of(cls, config: RunConfig, device: str) -> "Experiment":
        """Return the experiment with its data loaded; raises as `tasks.load`."""
        return cls(config, tasks.load(config).data, device)

    def build(self) -> nn.Module:
        """Return the model with fresh weights, from torch's global generator."""
        return ROWS[self.config.model].build(self.config.method, self.data.vocabulary)

    def run(self, seed: int, workspace: Path | None = None) -> "Results":
        """Train, watch the validation sentences on the way, and write the test sentences.

        With a `workspace`, training resumes from the last checkpoint there. Equal arguments give equal results.
        """
        config, encoded = self.config, self.encode()
        sources, targets = (list(side[:WATCHED]) for side in self.data.splits["validation"])

        def scored(model: nn.Module, sample: decoding.Sampler | None = None) -> float:
            written = [texts[0] for texts in self.write(model, sources, seed, candidates=1, sample=sample)]
            return float(metrics.bleu(written, targets).mean())

        def watch(model: nn.Module) -> dict[str, float]:
            quick = ROWS[config.model].in_one_step(model)
            one_step = {} if quick is None else {"one_step_bleu": scored(model, quick)}
            return {"validation_bleu": scored(model), **one_step}

        trained = self.train(encoded, seed, config.training, workspace, watch)
        shown = {
            "test": self.data.splits["test"][0][: config.test_pairs],
            "whole": self.data.splits["whole"][0][: config.whole_verses],
        }
        written = {split: self.write(trained.model, texts, seed) for split, texts in shown.items()}
        return Results(trained, encoded, as_rows(written))

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
        self,
        model: nn.Module,
        sources: Sequence[str],
        seed: int,
        candidates: int | None = None,
        sample: decoding.Sampler | None = None,
    ) -> list[list[str]]:
        """Return the candidates for each source, as many as configured and drawn by the model unless said otherwise."""
        how = self.config.decoding
        if candidates is not None:
            how = how.model_copy(update={"candidates": candidates})
        return decoding.decode(
            sample or model.sample, how, self.data.vocabulary, sources, self.config.window, seed, device=self.device
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
