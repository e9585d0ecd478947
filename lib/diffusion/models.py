"""The rows of the comparison, in one registry: the eight models of Table 1, and the variants of the ablations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel
from torch import nn

from lib.baselines.gpt2 import FineTuned, Gpt2, Gpt2Config, PretrainedConfig
from lib.baselines.gpvae import GPVAE, GPVAEConfig
from lib.baselines.gru import Gru, GruConfig
from lib.baselines.levenshtein import Levenshtein, LevenshteinConfig
from lib.baselines.transformer import Transformer, TransformerConfig
from lib.diffusion.denoiser import DenoiserConfig
from lib.diffusion.model import DiffusionConfig, DiffusionModel, Information, information
from lib.diffusion.process import ProcessConfig
from lib.diffusion.sampling import SamplingConfig
from lib.profiles import DiffusionSizes
from lib.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Row:
    """One row: its name, its title for readers, its configuration at a profile's size, and how it is built from it.

    `code` are the modules that its training and decoding start from, `only` limits it to some tasks; a row that is not
    `core` is computed on request only. `rate` replaces the profile's rate where the row needs another.
    """

    name: str
    title: str
    configure: Callable[[DiffusionSizes, int, int], BaseModel]  # sizes, words in the vocabulary, id of END
    build: Callable[[Mapping[str, Any], Vocabulary], nn.Module]
    code: tuple[str, ...]
    core: bool = True
    diffusion: bool = True
    only: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()  # where the row exists; none named: everywhere
    rate: float | None = None
    longer: int = 1  # times the training steps that the profile gives to the row's kind


def _diffusion(
    name: str,
    title: str,
    values: Information = "self-information",
    core: bool = True,
    only: tuple[str, ...] = (),
    longer: int = 1,
    profiles: tuple[str, ...] = (),
    **process: Any,
) -> Row:
    """Return a diffusion model; `process` overrides the settings of InfoDiffusion."""
    # Our choices, for all: the rounding loss reads the network's estimate, and times are skewed unless said otherwise.
    settings = {"rounding_of": "estimate", "timesteps": "skewed", **process}

    def configure(sizes: DiffusionSizes, vocabulary: int, end: int) -> DiffusionConfig:
        shape = ("embedding", "width", "layers", "heads", "dropout", "embedding_scale", "sharpness")
        return DiffusionConfig(
            shape=DenoiserConfig(vocabulary=vocabulary, **{key: getattr(sizes, key) for key in shape}),
            process=ProcessConfig(steps=sizes.diffusion_steps, **settings),
            sampling=SamplingConfig(steps=sizes.sampling_steps, sampler=sizes.sampler),
            information=values,
        )

    def build(method: Mapping[str, Any], vocabulary: Vocabulary) -> DiffusionModel:
        config = DiffusionConfig.model_validate(method)
        return DiffusionModel(config, information(vocabulary, config.information))

    code = ("lib.diffusion.model", "lib.diffusion.tracing")
    return Row(name, title, configure, build, code, core, only=only, profiles=profiles, longer=longer)


def _baseline(
    name: str,
    title: str,
    config: type[BaseModel],
    model: Callable[[Any], nn.Module],
    shape: Callable[[DiffusionSizes], dict[str, int]],
    core: bool = True,
) -> Row:
    """Return a row of Table 1 that is no diffusion, of the given shape, or of its published one."""

    def configure(sizes: DiffusionSizes, vocabulary: int, end: int) -> BaseModel:
        if sizes.published_shapes and name in _CHECKPOINTS:
            return PretrainedConfig(name=_CHECKPOINTS[name], trained_layers=None)
        own = shape(sizes) if not sizes.published_shapes or shape is _large else {}
        return config(vocabulary=vocabulary, end=end, dropout=sizes.dropout, **own)

    def build(method: Mapping[str, Any], vocabulary: Vocabulary) -> nn.Module:
        if "trained_layers" in method:
            return FineTuned(PretrainedConfig.model_validate(method), vocabulary)
        return model(config.model_validate(method))

    return Row(name, title, configure, build, (model.__module__,), core=core, diffusion=False)


# The rows that the paper fine-tunes, and from what: in the profile `paper` alone.
_CHECKPOINTS = {"gpt2_base": "gpt2", "gpt2_large": "gpt2-large"}


def _fine_tuned(name: str, title: str) -> Row:
    """Return the embedded causal language model, fine-tuned in its upper layers; a CPU is too slow for it."""

    def configure(sizes: DiffusionSizes, vocabulary: int, end: int) -> PretrainedConfig:
        return PretrainedConfig()

    def build(method: Mapping[str, Any], vocabulary: Vocabulary) -> nn.Module:
        return FineTuned(PretrainedConfig.model_validate(method), vocabulary)

    code = (FineTuned.__module__,)
    return Row(name, title, configure, build, code, False, False, profiles=("gpu",), rate=2e-4)


def _decoder_only(sizes: DiffusionSizes) -> dict[str, int]:
    return {"width": sizes.width, "layers": sizes.layers, "heads": sizes.heads}


def _large(sizes: DiffusionSizes) -> dict[str, int]:
    width, layers, heads = sizes.large
    return {"width": width, "layers": layers, "heads": heads}


def _encoder_decoder(sizes: DiffusionSizes) -> dict[str, int]:
    """Half of the layers on either side, so that all rows have about as many."""
    return {**_decoder_only(sizes), "layers": sizes.layers // 2}


def _transformer(sizes: DiffusionSizes) -> dict[str, int]:
    return {**_encoder_decoder(sizes), "inner": 4 * sizes.width}


def _levenshtein(sizes: DiffusionSizes) -> dict[str, int]:
    return {**_encoder_decoder(sizes), "most": max(task.window[2] for task in sizes.tasks.values())}


def _recurrent(sizes: DiffusionSizes) -> dict[str, int]:
    return {"width": sizes.width}


_SHORT = ("simplification", "dialogue", "question_generation")  # the tasks whose core budget is too small to read well
_longer = partial(_diffusion, core=False, only=_SHORT, longer=10, profiles=("smoke", "cpu"))
_SQRT = {"schedule": "sqrt", "self_conditioning": 0.0}
_ROWS = (
    _baseline("gru", "GRU-attention", GruConfig, Gru, _recurrent, core=False),
    _baseline("transformer", "Transformer-base", TransformerConfig, Transformer, _transformer, core=False),
    _baseline("gpt2_base", "GPT2-base", Gpt2Config, Gpt2, _decoder_only, core=False),
    _baseline("gpt2_large", "GPT2-large", Gpt2Config, Gpt2, _large, core=False),
    _fine_tuned("smollm2", "SmolLM2-135M, fine-tuned"),
    _baseline("gpvae", "GPVAE-T5", GPVAEConfig, GPVAE, _encoder_decoder, core=False),
    _baseline("levenshtein", "NAR-LevT", LevenshteinConfig, Levenshtein, _levenshtein, core=False),
    _diffusion("diffuseq", "DiffuSeq", timesteps="loss_aware", **_SQRT),
    _diffusion("diffuseq_skewed", "DiffuSeq, skewed times", only=("paraphrase",), core=False, **_SQRT),
    _diffusion("infodiffusion", "InfoDiffusion"),
    _longer("diffuseq_long", "DiffuSeq, ten times the steps", timesteps="loss_aware", **_SQRT),
    _longer("infodiffusion_long", "InfoDiffusion, ten times the steps"),
)
MODELS: dict[str, Row] = {row.name: row for row in _ROWS}

# Table 2 and what goes beyond it: InfoDiffusion with one thing changed. "without the schedule" takes DiffuSeq's.
_VARIANTS = (
    _diffusion("full", "InfoDiffusion"),
    _diffusion("no_self_conditioning", "without self-conditioning", self_conditioning=0.0),
    _diffusion("no_schedule", "without the schedule (sqrt)", schedule="sqrt"),
    _diffusion("shuffled", "shuffled information", values="shuffled", core=False),
    _diffusion("linear", "linear (lambda = 0)", schedule="linear", core=False),
    _diffusion("cosine", "cosine", schedule="cosine", core=False),
    _diffusion("lambda_025", "lambda = 0.25", lam=0.25, core=False),
    _diffusion("lambda_075", "lambda = 0.75", lam=0.75, core=False),
    _diffusion("lambda_100", "lambda = 1", lam=1.0, core=False),
)
VARIANTS: dict[str, Row] = {row.name: row for row in _VARIANTS}
