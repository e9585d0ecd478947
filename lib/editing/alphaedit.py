"""AlphaEdit: MEMIT whose change is projected on the null space of C, so that what keys of plain text map to stays.

With P = N N^T, N the eigenvectors of C below a threshold, and K_p the keys of earlier batches,
dW = R K^T P (K_p K_p^T P + K K^T P + ridge I)^-1. In the coordinates B = N^T K, and with H the inverse of
ridge I + B_p B_p^T, this is R (I + B^T H B)^-1 B^T H N^T: the system has as many unknowns as the batch has edits.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pydantic import PositiveFloat
from torch import Tensor

from lib.causal_lm.layers import down_projection, matrix
from lib.editing.editor import State
from lib.editing.located import Prefixes
from lib.editing.memit import Spread, SpreadConfig
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class AlphaEditConfig(SpreadConfig):
    """AlphaEdit; defaults are those released for GPT-J; the threshold depends on the scale of a model's keys."""

    threshold: PositiveFloat = 2e-2  # eigenvalues of C below belong to its null space
    ridge: PositiveFloat = 10.0  # the weight of I: 10 in all released settings, 1 in the paper's equation


class AlphaEdit(Spread):
    """The projected update of a batch, which also leaves what the keys of earlier batches map to in place."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: AlphaEditConfig,
        moments: Mapping[int, Tensor],
        prefixes: Prefixes | None = None,
    ) -> None:
        """Take the second moments by layer (`second_moments`); prefixes are drawn from the model where none are given.

        Raises `UserError` for layers that do not exist, second moments that are missing, and an empty null space.
        """
        super().__init__(model, tokenizer, config, prefixes)
        self.config = config
        self._null = {layer: null_space(model, moments, layer, config.threshold) for layer in config.layers}
        self._inverse: dict[int, Tensor] = {}

    def change(self, layer: int, residuals: Tensor, keys: Tensor) -> Tensor:
        """Return the projected update, and remember the keys: the next batch is to leave their values alone."""
        null = self._null[layer]
        coordinates = null.T @ keys
        if layer not in self._inverse:
            self._inverse[layer] = torch.eye(len(coordinates)).to(null) / self.config.ridge
        weighed = coordinates.T @ self._inverse[layer]
        system = torch.eye(keys.shape[1]).to(null) + weighed @ coordinates
        solved = torch.linalg.solve(system, weighed)
        self._inverse[layer] -= weighed.T @ solved
        return residuals @ solved @ null.T

    def in_place(self) -> list[Tensor]:
        """Return the inverses, to which every batch adds its keys."""
        return list(self._inverse.values())

    def restore(self) -> None:
        """Give the model back, to the bit, and forget the keys of earlier batches."""
        super().restore()
        self._inverse = {}


class ResumableAlphaEdit(AlphaEdit):
    """AlphaEdit that keeps the keys of its batches themselves, so that it can be saved and go on elsewhere.

    The inverses alone would not do: they are in coordinates of N, whose basis another machine may choose otherwise.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: AlphaEditConfig,
        moments: Mapping[int, Tensor],
        prefixes: Prefixes | None = None,
    ) -> None:
        """Take what `AlphaEdit` takes; raises as it does."""
        super().__init__(model, tokenizer, config, moments, prefixes)
        self._keys: dict[int, list[Tensor]] = {layer: [] for layer in config.layers}

    def change(self, layer: int, residuals: Tensor, keys: Tensor) -> Tensor:
        """Return the projected update, and remember the keys."""
        self._keys[layer] = [*self._keys[layer], keys.T]
        return super().change(layer, residuals, keys)

    def saved_state(self) -> State:
        """Return the weights, and the keys of every batch and layer, (edits, inner width)."""
        tensors, told = super().saved_state()
        for layer, batches in self._keys.items():
            tensors |= {f"keys.{layer}.{number}": keys for number, keys in enumerate(batches)}
        return tensors, {**told, "batches": max(map(len, self._keys.values()))}

    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned; raises as `Editor.take_state`."""
        super().take_state(tensors, told)
        for layer in self.config.layers:
            for number in range(int(told["batches"])):
                keys = tensors[f"keys.{layer}.{number}"]
                self.change(layer, keys.new_zeros(1, len(keys)), keys.T)

    def restore(self) -> None:
        """Give the model back, to the bit, and forget the keys of earlier batches."""
        super().restore()
        self._keys = {layer: [] for layer in self.config.layers}


def null_space(model: "PreTrainedModel", moments: Mapping[int, Tensor], layer: int, threshold: float) -> Tensor:
    """Return N, (inner width, rank), float64: the eigenvectors of a layer's C with eigenvalues below `threshold`.

    Raises `UserError` for a layer without second moments, a C of another size, and where no eigenvalue is below.
    """
    width = matrix(down_projection(model, layer)).shape[1]
    if layer not in moments:
        raise UserError(f"no second moments of layer {layer}: make them with second_moments(layers=[{layer}, ...])")
    if moments[layer].shape != (width, width):
        raise UserError(f"second moments of layer {layer} are not {width} by {width}: make them for this model")
    values, vectors = torch.linalg.eigh(moments[layer].to(model.device, torch.float64))
    if not (values < threshold).any():
        raise UserError(f"layer {layer} has no eigenvalue below {threshold} (least: {values[0]:.2g}): raise threshold")
    return vectors[:, values < threshold]
