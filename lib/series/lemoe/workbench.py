"""A loaded backbone, and what some editing methods need besides edits: second moments, unrelated texts, MEND's network.

Each part is made when it is first asked for; a case that asks for none of them does not depend on how they are made.
"""

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from pydantic import NonNegativeInt
from torch import Tensor

from lib.causal_lm import backbones
from lib.editing import moments
from lib.editing.mend import Mend, MendConfig, Transformation
from lib.facts import factbook
from lib.series.lemoe.fact_edits import fact_edits
from lib.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class BenchConfig(Settings):
    """What a workbench prepares for the methods that need it; nothing by default."""

    moment_layers: tuple[NonNegativeInt, ...] = ()  # whose second moments are taken
    moment_tokens: NonNegativeInt = 0  # of text that they are the mean over
    unrelated: NonNegativeInt = 0  # texts that rejection, margins and gates are set from
    training_set: str | None = None  # set of edits to learn on that is no row's own; None: our facts for tuning
    training_digest: str | None = None  # SHA-256 of its file


@lru_cache(maxsize=1)
def loaded(
    backbone: str, layers: int | None, dtype: str, device: str
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Return a backbone and its tokenizer, loaded once in a process; `UserError` when it cannot be had."""
    model, tokenizer = backbones.load_causal_lm(backbone, dtype, layers)
    return model.to(device), tokenizer


class Workbench:
    """A loaded backbone, and each part that is needed besides when it is first asked for."""

    def __init__(self, backbone: str, layers: int | None, dtype: str, device: str, config: BenchConfig) -> None:
        """Load the backbone; `UserError` when it cannot be had."""
        self.model, self.tokenizer = loaded(backbone, layers, dtype, device)
        self.config = config
        self._transformations: dict[MendConfig, Transformation] = {}

    @cached_property
    def moments(self) -> dict[int, Tensor]:
        """Return C by layer, from passages on countries that no other text of the series is about."""
        texts, wanted = factbook.passages("moments"), self.config
        return moments.second_moments(self.model, self.tokenizer, texts, wanted.moment_layers, wanted.moment_tokens)

    @cached_property
    def unrelated_texts(self) -> list[str]:
        """Return texts that have nothing to do with the edits: tuning locality prompts and openings of passages."""
        passages = [factbook.halves(text)[0] for text in factbook.passages("unrelated")]
        prompts = list(dict.fromkeys(edit.locality[0] for edit in fact_edits("tuning") if edit.locality))
        # Half and half: prose alone lies so far from any edit that a threshold set on it would let every question in.
        half = self.config.unrelated // 2
        return prompts[:half] + passages[: self.config.unrelated - min(half, len(prompts))]

    def transformation(self, config: MendConfig) -> Transformation:
        """Return MEND's transformation, trained on the tuning split once for each configuration."""
        if config not in self._transformations:
            trained, _ = Mend.train(self.model, self.tokenizer, fact_edits("tuning"), config)
            self._transformations[config] = trained
        return self._transformations[config]

    def give(self, trained: Transformation) -> None:
        """Take a transformation that was trained elsewhere, for its configuration."""
        self._transformations[trained.config] = trained


@lru_cache(maxsize=4)
def workbench(backbone: str, layers: int | None, dtype: str, device: str, config: BenchConfig) -> Workbench:
    """Return the workbench of a backbone, made once in a process; those that differ in `config` share the model."""
    return Workbench(backbone, layers, dtype, device, config)
