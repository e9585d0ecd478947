"""What learning facts together costs each of them, and how much their gradients and feature shifts point one way.

Pure functions of frames and arrays, besides `fact_gradients`, which differentiates a model.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from lib.intervals import Vector


def lost(alone: pd.DataFrame, among: pd.DataFrame, score: str) -> pd.Series:
    """Return the interference of each fact: its `score` when learnt alone minus its score learnt among N.

    Both frames have a row per fact, indexed by its identity; every fact of `among` must be in `alone`. Positive:
    learning together cost the fact something (our definition; claim 2). Raises `ValueError` for a missing or repeated
    fact.
    """
    for name, frame in (("alone", alone), ("among", among)):
        if not frame.index.is_unique:
            raise ValueError(f"{name}: a fact has two rows")
    if len(missing := among.index.difference(alone.index)):
        raise ValueError(f"not learnt alone: {', '.join(map(str, missing[:3]))}")
    return (alone.loc[among.index, score].astype(float) - among[score].astype(float)).rename("lost")


def fact_gradients(losses: Callable[[int], Tensor], facts: int, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the gradient of each fact's own loss by the shared parameters, (facts, parameters in all), fp32, CPU.

    `losses(i)` is the scalar loss of fact i. A parameter that a loss does not reach has gradient 0. What stood in
    `.grad` is left alone.
    """
    rows = []
    for place in range(facts):
        found = torch.autograd.grad(losses(place), parameters, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        rows.append(torch.cat([part.reshape(-1) for part in parts]).float().cpu())
    return torch.stack(rows)


def cosines(vectors: ArrayLike) -> Vector:
    """Return the cosines of all pairs of vectors (n, size), as (n, n); 0 with a vector of zeros."""
    rows = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return np.clip(unit @ unit.T, -1, 1)


def pairs(matrix: ArrayLike) -> Vector:
    """Return the values of a symmetric matrix (n, n) above its diagonal, each pair once, (n (n - 1) / 2,)."""
    square = np.asarray(matrix, dtype=np.float64)
    return square[np.triu_indices(len(square), 1)]


class Principal(NamedTuple):
    """Principal components of points: places (n, components), shares of the variance (components,), axes and mean."""

    places: Vector
    explained: Vector
    axes: Vector
    mean: Vector


def principal(points: ArrayLike, components: int = 2) -> Principal:
    """Return the first principal components of points (n, width), centred, by the singular value decomposition.

    The sign of an axis makes its largest entry positive. Points that are all equal explain nothing: shares of 0. Raises
    `ValueError` for more components than points or dimensions.
    """
    rows = np.asarray(points, dtype=np.float64)
    if components > min(rows.shape):
        raise ValueError(f"{components} components of points {rows.shape}")
    mean = rows.mean(axis=0)
    _, values, axes = np.linalg.svd(rows - mean, full_matrices=False)
    axes = axes[:components]
    axes = axes * np.sign(axes[np.arange(components), np.abs(axes).argmax(axis=1)])[:, None]
    total = float((values**2).sum())
    explained = values[:components] ** 2 / total if total > 0 else np.zeros(components)
    return Principal((rows - mean) @ axes.T, explained, axes, mean)
