"""MEMIT: many facts in closed form, spread over the down projections of a range of layers.

The residual of a batch is what the last layer's output lacks of its optimised value; each layer writes its share.
All edits in one call of `edit` are MEMIT-MASS, one a call is "MEMIT" of the lifelong tables.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from lib.causal_lm.edits import Edit
from lib.causal_lm.layers import down_projection, matrix
from lib.editing.contexts import draw_prefixes
from lib.editing.editor import Editor, State
from lib.editing.located import MeanOver, Prefixes, locate
from lib.editing.rome import add, factor, ridge
from lib.editing.values import ValueConfig, at_subjects, optimise
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class SpreadConfig(ValueConfig):
    """What MEMIT and AlphaEdit share: published layers are 3 to 8 of 28 (GPT-J) and 4 to 8 of 32 (LLaMA-2-7B)."""

    layers: tuple[NonNegativeInt, ...] = Field(min_length=1)
    clamp: PositiveFloat = 0.75
    start: Literal["mlp", "block"] = "block"
    mean_over: MeanOver = "groups"
    prefixes: tuple[tuple[PositiveInt, PositiveInt], ...] = ((10, 5),)


class MemitConfig(SpreadConfig):
    """MEMIT; the defaults are those published for GPT-J."""

    weight: PositiveFloat = 15_000.0  # lambda, of C as a mean over tokens; 20,000 for GPT2-XL


class Spread(Editor):
    """Values optimised at the last layer and written by all layers from the first up (MEMIT, section 4.3)."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: SpreadConfig,
        prefixes: Prefixes | None = None,
    ) -> None:
        """Take the layers of `config`; raises `UserError` where they do not ascend or do not exist."""
        super().__init__(model, tokenizer)
        if list(config.layers) != sorted(set(config.layers)):
            raise UserError(f"layers {config.layers} do not ascend: give each once, the lowest first")
        for layer in config.layers:
            down_projection(model, layer)
        self.spread = config
        self.prefixes = draw_prefixes(model, tokenizer, config) if prefixes is None else tuple(prefixes)

    def change(self, layer: int, residuals: Tensor, keys: Tensor) -> Tensor:
        """Return dW of a layer for residuals (width, edits) and keys (inner width, edits), float64; once a batch."""
        raise NotImplementedError

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Write a batch at once; raises `UserError` for an edit without a subject, before any is written."""
        config, layers, at_once = self.spread, self.spread.layers, self.spread.at_once
        located = locate(self.model, self.tokenizer, batch, self.prefixes, config.mean_over, config.kl_at)
        for layer in layers:
            self.keep(down_projection(self.model, layer))
        found = optimise(self.model, located, layers[-1], config)
        goal = found.outputs + found.deltas
        for written, layer in enumerate(layers):
            keys, _ = at_subjects(self.model, located, [layer], [], at_once)
            _, outputs = at_subjects(self.model, located, [], [layers[-1]], at_once, config.averaged == "keys")
            residuals = (goal - outputs[layers[-1]]) / (len(layers) - written)
            add(matrix(down_projection(self.model, layer)), self.change(layer, residuals.T, keys[layer].T))

    def saved_state(self) -> State:
        """Return the weights, and the prefixes that values are optimised behind."""
        tensors, told = super().saved_state()
        return tensors, {**told, "prefixes": [one if isinstance(one, str) else list(one) for one in self.prefixes]}


class Memit(Spread):
    """dW = R K^T (lambda C + K K^T)^-1 at each layer (MEMIT, equation 14); what was edited before has no part in it."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: MemitConfig,
        moments: Mapping[int, Tensor],
        prefixes: Prefixes | None = None,
    ) -> None:
        """Take the second moments by layer (`second_moments`); prefixes are drawn from the model where none are given.

        Raises `UserError` for layers that do not exist, and second moments that are missing or singular.
        """
        super().__init__(model, tokenizer, config, prefixes)
        self.config = config
        self._factors = {layer: factor(model, moments, layer) for layer in config.layers}

    def change(self, layer: int, residuals: Tensor, keys: Tensor) -> Tensor:
        """Return R K^T (lambda C + K K^T)^-1."""
        return ridge(residuals, keys, self._factors[layer], self.config.weight)
