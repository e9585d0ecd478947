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
    fact, and for a score that is infinite; one that a fact has not (NaN) leaves it without an interference.
    """
    for name, frame in (("alone", alone), ("among", among)):
        if not frame.index.is_unique:
            raise ValueError(f"{name}: a fact has two rows")
    if len(missing := among.index.difference(alone.index)):
        raise ValueError(f"not learnt alone: {', '.join(map(str, missing[:3]))}")
    for name, frame in (("alone", alone), ("among", among)):
        if np.isinf(frame[score].astype(float)).any():
            raise ValueError(f"{name}: {score} holds infinity")
    return (alone.loc[among.index, score].astype(float) - among[score].astype(float)).rename("lost")


def fact_gradients(losses: Callable[[int], Tensor], facts: int, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the gradient of each fact's own loss by the shared parameters, (facts, parameters in all), fp32, CPU.

    `losses(i)` is the scalar loss of fact i. A parameter that a loss does not reach has gradient 0. What stood in
    `.grad` is left alone. Raises `ValueError` for fewer than one fact or no parameters.
    """
    if facts < 1 or not parameters:
        raise ValueError(f"facts={facts} of {len(parameters)} parameters: give at least one of each")
    rows = []
    for place in range(facts):
        found = torch.autograd.grad(losses(place), parameters, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        rows.append(torch.cat([part.reshape(-1) for part in parts]).float().cpu())
    return torch.stack(rows)


def cosines(vectors: ArrayLike) -> Vector:
    """Return the cosines of all pairs of vectors (n, size), as (n, n); 0 with a vector of zeros.

    Raises `ValueError` for another shape, and for a number that is not finite.
    """
    rows = _finite(vectors, "vectors")
    # By powers of two, which change no digit, so that the squares of no finite row leave its range.
    rows = np.ldexp(rows, -np.frexp(np.abs(rows).max(axis=1, keepdims=True, initial=0))[1])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return np.clip(unit @ unit.T, -1, 1)


def pairs(matrix: ArrayLike) -> Vector:
    """Return the values of a symmetric matrix (n, n) above its diagonal, each pair once, (n (n - 1) / 2,).

    Raises `ValueError` for a matrix that is not square, or not finite.
    """
    square = _finite(matrix, "matrix")
    if square.shape[0] != square.shape[1]:
        raise ValueError(f"matrix {square.shape} is not square")
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
    `ValueError` for more components than points or dimensions, or fewer than one, and for points that are not finite.
    """
    rows = _finite(points, "points")
    if not 1 <= components <= min(rows.shape):
        raise ValueError(f"{components} components of points {rows.shape}")
    mean = rows.mean(axis=0)
    _, values, axes = np.linalg.svd(rows - mean, full_matrices=False)
    axes = axes[:components]
    axes = axes * np.sign(axes[np.arange(components), np.abs(axes).argmax(axis=1)])[:, None]
    total = float((values**2).sum())
    explained = values[:components] ** 2 / total if total > 0 else np.zeros(components)
    return Principal((rows - mean) @ axes.T, explained, axes, mean)


def _finite(values: ArrayLike, name: str) -> Vector:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ValueError(f"{name}: finite numbers in rows are needed, got shape {array.shape}")
    return array
