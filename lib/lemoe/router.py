"""KV anchor routing: which expert serves a sequence, from the embeddings of its prompt (LEMoE)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

Projection = Literal["shared", "frozen_after_first", "per_expert", "frozen"]
Gate = Literal["one", "softmax", "straight_through"]


class Route(NamedTuple):
    """The expert of each sequence, (sequences,) ids, and the factor of its output, (sequences,)."""

    expert: Tensor
    gate: Tensor


class Router(nn.Module):
    """Keys k_i and the projection v = W_up SiLU(W_down e); the expert of a sequence is argmax_i k_i . v.

    Where its gradient comes from: with gate "softmax" the expert's output is multiplied by its softmax value, whose
    gradient is exactly zero while there is one expert; "straight_through" has factor one in the forward pass and the
    gradient of the softmax value; with gate "one" nothing but `auxiliary` trains the router. With projection "frozen"
    the projection is a frozen random one.
    """

    def __init__(self, embedding: int, width: int, projection: Projection, gate: Gate) -> None:
        """Build a router without experts; `embedding` is the size of e, `width` that of v and the keys."""
        super().__init__()
        self.embedding, self.width, self.projection, self.gate = embedding, width, projection, gate
        self.keys = nn.ParameterList()
        self.projections = nn.ModuleList()

    def __len__(self) -> int:
        """Return the number of experts."""
        return len(self.keys)

    def add(self) -> None:
        """Insert the key of a new expert and freeze those before; a projection of its own where each expert has one."""
        self.requires_grad_(False)
        self.keys.append(nn.Parameter(torch.randn(self.width) * self.width**-0.5))
        if self.projection == "per_expert" or not len(self.projections):
            down, up = nn.Linear(self.embedding, self.width, bias=False), nn.Linear(self.width, self.width, bias=False)
            self.projections.append(nn.Sequential(down, nn.SiLU(), up))
        first = len(self.keys) == 1
        trained = {"shared": True, "frozen_after_first": first, "per_expert": True, "frozen": False}
        self.projections[-1].requires_grad_(trained[self.projection])

    def scores(self, anchors: Tensor) -> Tensor:
        """Return k_i . v, (sequences, experts), for anchors e (sequences, embedding); `ValueError` without experts."""
        if not len(self.keys):
            raise ValueError("the router has no expert yet: add one")
        if self.projection == "per_expert":
            values = [project(anchors) for project in self.projections]
            return torch.stack([value @ key for value, key in zip(values, self.keys, strict=True)], -1)
        return self.projections[0](anchors) @ torch.stack(list(self.keys)).T

    def route(self, anchors: Tensor, forced: int | None = None) -> Route:
        """Choose the best expert for each anchor (sequences, embedding), or the `forced` one for all."""
        scores = self.scores(anchors)
        probability = scores.softmax(-1)
        expert = scores.argmax(-1) if forced is None else torch.full_like(scores[:, 0], forced, dtype=torch.long)
        value = probability.gather(1, expert[:, None])[:, 0]
        one = torch.ones_like(value)
        gates = {"one": one, "softmax": value, "straight_through": one + value - value.detach()}
        return Route(expert, gates[self.gate])

    def auxiliary(self, anchors: Tensor) -> Tensor:
        """Return -log softmax of the newest expert's score, averaged over anchors: its key is to win (our choice)."""
        scores = self.scores(anchors)
        newest = torch.full((len(anchors),), len(self.keys) - 1, device=anchors.device)
        return functional.cross_entropy(scores, newest)
