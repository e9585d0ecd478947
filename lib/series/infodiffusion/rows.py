"""The rows of the comparison, in two registries: the models of Table 1, and the variants of the ablations."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
from pydantic import BaseModel
from torch import nn

from lib import registry
from lib.diffusion import sampling, tracing
from lib.diffusion.denoiser import DenoiserConfig, forward_flops
from lib.diffusion.model import DiffusionConfig, DiffusionModel, Information, information
from lib.diffusion.process import DIFFUSEQ, OURS, RELEASED, ProcessConfig
from lib.diffusion.schedule import SCHEDULES
from lib.registry import Registry
from lib.seq2seq import training
from lib.seq2seq.decoding import Sampler
from lib.seq2seq.gpt2 import FineTuned, Gpt2, Gpt2Config, PretrainedConfig
from lib.seq2seq.gpvae import GPVAE, GPVAEConfig
from lib.seq2seq.gru import Gru, GruConfig
from lib.seq2seq.levenshtein import Levenshtein, LevenshteinConfig
from lib.seq2seq.transformer import Transformer, TransformerConfig
from lib.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from lib.profiles import DiffusionSizes, TaskSizes
    from lib.seq2seq.batches import Window

SHOWN = 20  # test sentences whose decoding is kept step by step

OTHER_TIMES = "loss_aware"  # of the two rows that, with the pair, cross model and sampler of times


class Watched(Protocol):
    """What `Row.watch` reads of a run's configuration."""

    @property
    def window(self) -> "Window":
        """Return the lengths that sentences have."""

    @property
    def shown(self) -> int:
        """Return how many test sentences are kept step by step."""

    @property
    def traced_steps(self) -> int:
        """Return the sampling steps in which the settling of words is measured."""

    @property
    def traced_pairs(self) -> int:
        """Return on how many test sentences it is measured."""


@dataclass(frozen=True, kw_only=True)
class Row(registry.Row, ABC):
    """One row: how it is configured at a profile's size, built from that, and watched once it is trained.

    `only` limits it to some tasks, `rate` replaces the profile's rate where the row needs another. A row is trained
    with the first of the profile's seeds; with all of them if it is `replicated`.
    """

    only: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()  # where the row exists; none named: everywhere
    rate: float | None = None
    replicated: bool = False
    checkpoints: bool = False  # its layers can be computed again instead of kept

    @abstractmethod
    def configure(self, sizes: "DiffusionSizes", vocabulary: int, end: int) -> BaseModel:
        """Return the model's configuration for so many words in the vocabulary, and the id of END."""

    @abstractmethod
    def read(self, method: Mapping[str, Any]) -> BaseModel:
        """Return the model's configuration out of the JSON of a record; raises pydantic's `ValidationError`."""

    @abstractmethod
    def build(self, method: Any, vocabulary: Vocabulary) -> nn.Module:
        """Return the model with fresh weights, from torch's global generator."""

    def budget(self, task: "TaskSizes") -> int:
        """Return the training steps that a task has for this kind of row."""
        return task.baseline_steps

    def trained(self, sizes: "DiffusionSizes") -> Mapping[str, Any]:
        """Return the fields of the training that the row has of its own."""
        return {}

    def traced(self, sizes: "DiffusionSizes") -> dict[str, int]:
        """Return the fields of a run's configuration that say how much `watch` looks at."""
        return {}

    def in_one_step(self, model: nn.Module) -> Sampler | None:
        """Return how the model writes in one sampling step; None for one that has no such steps."""
        return None

    def operations(self, method: Any) -> float | None:
        """Return the floating-point operations of a training step per word; None where nobody has counted them."""
        return None

    def watch(
        self, model: nn.Module, vocabulary: Vocabulary, sources: Sequence[str], config: Watched, seed: int
    ) -> dict[str, pd.DataFrame]:
        """Return tables of how the trained model writes test sentences; none unless the row says otherwise."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Diffusion(Row):
    """A diffusion model; `process` overrides the settings of InfoDiffusion."""

    checkpoints: bool = True
    values: Information = "self-information"
    process: Mapping[str, Any] = field(default_factory=dict)

    def configure(self, sizes: "DiffusionSizes", vocabulary: int, end: int) -> DiffusionConfig:
        """Return the configuration; `end` plays no part."""
        shape = ("embedding", "width", "layers", "heads", "dropout", "embedding_scale", "sharpness")
        network, settings, walk = "ours", {**OURS, **self.process}, {"sampler": sizes.sampler, "clamp": sizes.clamp}
        if sizes.released_process:
            network, settings, walk = "bert", {**RELEASED, **_released_schedule(self.process)}, dict(sampling.RELEASED)
        return DiffusionConfig(
            shape=DenoiserConfig(vocabulary=vocabulary, network=network, **{key: getattr(sizes, key) for key in shape}),
            process=ProcessConfig(steps=sizes.diffusion_steps, **settings),
            sampling=sampling.SamplingConfig(steps=sizes.sampling_steps, **walk),
            information=self.values,
        )

    def read(self, method: Mapping[str, Any]) -> DiffusionConfig:
        """Return the configuration out of JSON."""
        return DiffusionConfig.model_validate(method)

    def build(self, method: DiffusionConfig, vocabulary: Vocabulary) -> DiffusionModel:
        """Return the model with fresh weights, and the information of the words of `vocabulary`."""
        return DiffusionModel(method, information(vocabulary, method.information))

    def budget(self, task: "TaskSizes") -> int:
        """Return the training steps of the diffusion models."""
        return task.training_steps

    def trained(self, sizes: "DiffusionSizes") -> Mapping[str, Any]:
        """Return the released schedule of the rate where the rest is as released."""
        return training.RELEASED if sizes.released_process else {}

    def traced(self, sizes: "DiffusionSizes") -> dict[str, int]:
        """Return how many sentences are decoded in view, and in how many steps."""
        return {"shown": SHOWN, "traced_steps": sizes.traced_steps, "traced_pairs": sizes.traced_pairs}

    def in_one_step(self, model: DiffusionModel) -> Sampler:
        """Return the sampler with one step, from the same noise x_T."""
        return partial(model.reverse, how=model.config.sampling.model_copy(update={"steps": 1}))

    def operations(self, method: DiffusionConfig) -> float:
        """Return the operations of a training step per word: matrix products only."""
        # A backward pass costs two forward passes; self-conditioning adds its share of one more.
        return forward_flops(method.shape) * (3 + method.process.self_conditioning)

    def watch(
        self, model: DiffusionModel, vocabulary: Vocabulary, sources: Sequence[str], config: Watched, seed: int
    ) -> dict[str, pd.DataFrame]:
        """Return every word of the first sentences while they are decoded, and when the words of more settle."""
        how = tracing.TracingConfig(shown=config.shown, steps=config.traced_steps, pairs=config.traced_pairs)
        return tracing.watch(model, how, vocabulary, sources, config.window, seed)


def _released_schedule(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the schedule that the authors' code builds, where it has one of that name."""
    released = f"{settings.get('schedule')}_released"
    return {**settings, **({"schedule": released} if released in SCHEDULES else {})}


@dataclass(frozen=True, kw_only=True)
class Baseline(Row):
    """A model that is no diffusion, of the given shape, or of its published one."""

    config: type[BaseModel]
    model: Callable[[Any], nn.Module]
    shape: Callable[["DiffusionSizes"], dict[str, int]]

    def configure(self, sizes: "DiffusionSizes", vocabulary: int, end: int) -> BaseModel:
        """Return the configuration in the profile's shape, or with its own defaults where those are wanted."""
        own = {} if sizes.published_shapes else self.shape(sizes)
        return self.config(vocabulary=vocabulary, end=end, dropout=sizes.dropout, **own)

    def read(self, method: Mapping[str, Any]) -> BaseModel:
        """Return the configuration out of JSON."""
        return self.config.model_validate(method)

    def build(self, method: BaseModel, vocabulary: Vocabulary) -> nn.Module:
        """Return the model with fresh weights."""
        return self.model(method)


@dataclass(frozen=True, kw_only=True)
class FromCheckpoint(Baseline):
    """A row that the paper fine-tunes from a published checkpoint, and which starts afresh at other sizes."""

    checkpoint: str

    def configure(self, sizes: "DiffusionSizes", vocabulary: int, end: int) -> BaseModel:
        """Return which checkpoint is fine-tuned where published shapes are wanted, else a shape."""
        if sizes.published_shapes:
            return PretrainedConfig(name=self.checkpoint, trained_layers=None)
        return super().configure(sizes, vocabulary, end)

    def read(self, method: Mapping[str, Any]) -> BaseModel:
        """Return the configuration of either kind out of JSON."""
        return PretrainedConfig.model_validate(method) if "trained_layers" in method else super().read(method)

    def build(self, method: BaseModel, vocabulary: Vocabulary) -> nn.Module:
        """Return the fine-tuned model, or a fresh one."""
        return (
            FineTuned(method, vocabulary) if isinstance(method, PretrainedConfig) else super().build(method, vocabulary)
        )


@dataclass(frozen=True, kw_only=True)
class FromT5(Baseline):
    """GPVAE, which the paper fine-tunes from T5, and which starts afresh at other sizes."""

    checkpoint: str

    def configure(self, sizes: "DiffusionSizes", vocabulary: int, end: int) -> GPVAEConfig:
        """Return a shape, and which checkpoint is fine-tuned where published shapes are wanted."""
        found: GPVAEConfig = super().configure(sizes, vocabulary, end)  # type: ignore[assignment]  # its own
        return found.model_copy(update={"checkpoint": self.checkpoint}) if sizes.published_shapes else found

    def build(self, method: GPVAEConfig, vocabulary: Vocabulary) -> GPVAE:
        """Return the model; a fresh one needs no vocabulary."""
        return GPVAE(method, () if method.checkpoint is None else vocabulary.words)


@dataclass(frozen=True, kw_only=True)
class FineTunedBackbone(Row):
    """The embedded causal language model, fine-tuned in its upper layers; a CPU is too slow for it."""

    def configure(self, sizes: "DiffusionSizes", vocabulary: int, end: int) -> PretrainedConfig:
        """Return the configuration, the same at every size."""
        return PretrainedConfig()

    def read(self, method: Mapping[str, Any]) -> PretrainedConfig:
        """Return the configuration out of JSON."""
        return PretrainedConfig.model_validate(method)

    def build(self, method: PretrainedConfig, vocabulary: Vocabulary) -> FineTuned:
        """Return the pretrained model."""
        return FineTuned(method, vocabulary)


def _recurrent(sizes: "DiffusionSizes") -> dict[str, int]:
    return {"width": sizes.width}


def _decoder_only(sizes: "DiffusionSizes") -> dict[str, int]:
    return {"width": sizes.width, "layers": sizes.layers, "heads": sizes.heads}


def _large(sizes: "DiffusionSizes") -> dict[str, int]:
    width, layers, heads = sizes.large
    return {"width": width, "layers": layers, "heads": heads}


def _encoder_decoder(sizes: "DiffusionSizes") -> dict[str, int]:
    """Half of the layers on either side, so that all rows have about as many."""
    return {**_decoder_only(sizes), "layers": sizes.layers // 2}


def _transformer(sizes: "DiffusionSizes") -> dict[str, int]:
    return {**_encoder_decoder(sizes), "inner": 4 * sizes.width}


def _levenshtein(sizes: "DiffusionSizes") -> dict[str, int]:
    return {**_encoder_decoder(sizes), "most": max(task.window[2] for task in sizes.tasks.values())}


# The cheapest task on which more sampling steps help; ablations, rivals and times are compared there.
CHEAPEST = "question_generation"

MODELS: Registry[Row] = Registry(
    "model",
    {
        "gru": Baseline(title="GRU-attention", config=GruConfig, model=Gru, shape=_recurrent),
        "transformer": Baseline(
            title="Transformer-base", config=TransformerConfig, model=Transformer, shape=_transformer
        ),
        "gpt2_base": FromCheckpoint(
            title="GPT2-base", config=Gpt2Config, model=Gpt2, shape=_decoder_only, checkpoint="gpt2"
        ),
        "gpt2_large": FromCheckpoint(
            title="GPT2-large", config=Gpt2Config, model=Gpt2, shape=_large, checkpoint="gpt2-large"
        ),
        "smollm2": FineTunedBackbone(title="SmolLM2-135M, fine-tuned", profiles=("gpu",), rate=2e-4),
        "gpvae": FromT5(
            title="GPVAE-T5", config=GPVAEConfig, model=GPVAE, shape=_encoder_decoder, checkpoint="t5-base"
        ),
        "levenshtein": Baseline(title="NAR-LevT", config=LevenshteinConfig, model=Levenshtein, shape=_levenshtein),
        "diffuseq": Diffusion(title="DiffuSeq", core=True, replicated=True, process=DIFFUSEQ),
        "infodiffusion": Diffusion(title="InfoDiffusion", core=True, replicated=True),
        "diffuseq_times": Diffusion(
            title="DiffuSeq, loss-aware times",
            only=(CHEAPEST,),
            replicated=True,
            process={**DIFFUSEQ, "timesteps": OTHER_TIMES},
        ),
        "infodiffusion_times": Diffusion(
            title="InfoDiffusion, loss-aware times",
            only=(CHEAPEST,),
            replicated=True,
            process={"timesteps": OTHER_TIMES},
        ),
    },
)

# Table 2 and what goes beyond it: InfoDiffusion with one thing changed. "without the schedule" takes DiffuSeq's.
VARIANTS: Registry[Row] = Registry(
    "variant",
    {
        "full": Diffusion(title="InfoDiffusion", core=True, replicated=True),
        "no_self_conditioning": Diffusion(
            title="without self-conditioning", core=True, replicated=True, process={"self_conditioning": 0.0}
        ),
        "no_schedule": Diffusion(
            title="without the schedule (sqrt)", core=True, replicated=True, process={"schedule": "sqrt"}
        ),
        "shuffled": Diffusion(title="shuffled information", replicated=True, values="shuffled"),
        "linear": Diffusion(title="linear (lambda = 0)", process={"schedule": "linear"}),
        "cosine": Diffusion(title="cosine", process={"schedule": "cosine"}),
        "lambda_025": Diffusion(title="lambda = 0.25", process={"lam": 0.25}),
        "lambda_075": Diffusion(title="lambda = 0.75", process={"lam": 0.75}),
        "lambda_100": Diffusion(title="lambda = 1", process={"lam": 1.0}),
    },
)

ROWS: Registry[Row] = MODELS | VARIANTS  # no name stands in both, so that one name says which row it is
