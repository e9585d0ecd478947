"""ROME, one fact at a time: the smallest change, measured by C, of one matrix that maps a key to a new value."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from lib.causal_lm.edits import Edit
from lib.causal_lm.layers import down_projection, matrix
from lib.editing.contexts import draw_prefixes
from lib.editing.editor import Editor, State
from lib.editing.located import Prefixes, locate
from lib.editing.values import ValueConfig, optimise
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class RomeConfig(ValueConfig):
    """ROME; defaults are those released for GPT2-XL. Layers: 17 of 48 (GPT2-XL), 5 of 28 (GPT-J), 5 of 32 (LLaMA-2-7B).

    The released code divides by the bare prompt's key where the direction comes from the mean key.
    """

    layer: NonNegativeInt
    steps: PositiveInt = 20

    @classmethod
    def rebuilt(cls, **settings: Any) -> Self:
        """Return settings with one key throughout, the mean one (R-ROME): the mix makes single edits break a model."""
        return cls(**{"averaged": "all", **settings})


class Rome(Editor):
    """W += delta (C^-1 k)^T / (k'^T C^-1 k) for one edit after the other: delta is v* - W k' (ROME, section 3.1).

    k is the mean key; k' the bare prompt's (`averaged` "keys") or the mean one ("all"), which then maps to v*.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: RomeConfig,
        moments: Mapping[int, Tensor],
        prefixes: Prefixes | None = None,
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
        config = self.config
        located = locate(self.model, self.tokenizer, batch, self.prefixes, config.mean_over, config.kl_at)
        projection = down_projection(self.model, self.config.layer)
        self.keep(projection)
        for edit in located:
            found = optimise(self.model, [edit], config.layer, config)
            direction = torch.cholesky_solve(found.keys.T, self._factor)  # (inner width, 1)
            add(matrix(projection), found.deltas.T @ (direction.T / (found.measured @ direction)))

    def saved_state(self) -> State:
        """Return the weights, and the prefixes that values are optimised behind."""
        tensors, told = super().saved_state()
        return tensors, {**told, "prefixes": [one if isinstance(one, str) else list(one) for one in self.prefixes]}


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
    the system has only as many unknowns as there are edits.
    """
    solved = torch.cholesky_solve(keys, lower)
    system = keys.T @ solved + weight * torch.eye(keys.shape[1], dtype=keys.dtype, device=keys.device)
    return residuals @ torch.linalg.solve(system, solved.T)


@torch.no_grad()
def add(weight: Tensor, change: Tensor) -> None:
    """Add a float64 change to a weight in place, rounding once."""
    weight.copy_(weight.double() + change)
