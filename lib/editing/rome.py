"""ROME, one fact at a time: the smallest change, measured by C, of one matrix that maps a key to a new value.

Corrected: the key is the same mean over prefixes in each place where one occurs, also where the new value is measured
against the old.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.causal_lm.edits import Edit
from lib.causal_lm.layers import down_projection, matrix
from lib.editing.editor import Editor
from lib.editing.located import locate
from lib.editing.values import ValueConfig, draw_prefixes, optimise
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class RomeConfig(ValueConfig):
    """ROME; the published layers are 17 of 48 (GPT2-XL), 5 of 28 (GPT-J) and, in later work, 5 of 32 (LLaMA-2-7B)."""

    layer: int


class Rome(Editor):
    """W += delta (C^-1 k)^T / (k^T C^-1 k) for one edit after the other: delta is v* - W k (ROME, section 3.1)."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: RomeConfig,
        moments: Mapping[int, Tensor],
        prefixes: Sequence[str] | None = None,
    ) -> None:
        """Take the second moments by layer (`second_moments`); prefixes are drawn from the model where none are given.

        Raises `UserError` for a layer that does not exist, and second moments that are missing or singular.
        """
        super().__init__(model, tokenizer)
        self.config = config
        self._factor = factor(model, moments, config.layer)
        self.prefixes = draw_prefixes(model, tokenizer, config) if prefixes is None else tuple(prefixes)

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Write the edits one after the other; raises `UserError` for one without a subject, before any is written."""
        located = locate(self.model, self.tokenizer, batch, self.prefixes)
        projection = down_projection(self.model, self.config.layer)
        self.keep(projection)
        for edit in located:
            found = optimise(self.model, [edit], self.config.layer, self.config)
            add(matrix(projection), ridge(found.deltas.T, found.keys.T, self._factor, 0.0))


def factor(model: "PreTrainedModel", moments: Mapping[int, Tensor], layer: int) -> Tensor:
    """Return the lower Cholesky factor of a layer's C, float64, on the model's device.

    Raises `UserError` for a layer that does not exist, one without second moments, and a C of another size or singular.
    """
    width = matrix(down_projection(model, layer)).shape[1]
    if layer not in moments:
        raise UserError(f"no second moments of layer {layer}: make them with second_moments(layers=[{layer}, ...])")
    if moments[layer].shape != (width, width):
        raise UserError(f"second moments of layer {layer} are not {width} by {width}: make them for this model")
    lower, failed = torch.linalg.cholesky_ex(moments[layer].to(model.device, torch.float64))
    if failed.item():
        raise UserError(f"the second moments of layer {layer} are singular: make them from more tokens")
    return lower


def ridge(residuals: Tensor, keys: Tensor, lower: Tensor, weight: float) -> Tensor:
    """Return dW = R K^T (weight C + K K^T)^-1 for residuals (width, edits) and keys (inner width, edits), float64.

    Computed as R (weight I + K^T C^-1 K)^-1 K^T C^-1 (the push-through identity) with the factor of C, `lower`, so that
    the system has only as many unknowns as there are edits. Weight 0 with one edit is ROME.
    """
    solved = torch.cholesky_solve(keys, lower)
    system = keys.T @ solved + weight * torch.eye(keys.shape[1], dtype=keys.dtype, device=keys.device)
    return residuals @ torch.linalg.solve(system, solved.T)


@torch.no_grad()
def add(weight: Tensor, change: Tensor) -> None:
    """Add a float64 change to a weight in place, rounding once."""
    weight.copy_(weight.double() + change)
