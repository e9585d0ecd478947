"""The experts beside a frozen layer, and how their outputs are added to that of the layer."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.lemoe.router import NONE, Route


class Expert(nn.Module):
    """A feed-forward network f(x) = W_2 SiLU(W_1 x); W_2 starts at zero, so that inserting it changes nothing."""

    def __init__(self, width: int, inner: int) -> None:
        """Build one expert for hidden states of `width`."""
        super().__init__()
        self.enter, self.leave = nn.Linear(width, inner), nn.Linear(inner, width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return f(x) for hidden states (..., width)."""
        return self.leave(functional.silu(self.enter(hidden)))


class LoraExpert(nn.Module):
    """A low-rank change of the down projection, f(x) = B A x (LEMoE's appendix); B starts at zero, alpha = rank."""

    def __init__(self, inputs: int, rank: int, width: int) -> None:
        """Build one expert of a given rank for the down projection's inputs (..., inputs)."""
        super().__init__()
        self.enter, self.leave = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, width, bias=False)
        nn.init.kaiming_uniform_(self.enter.weight, a=math.sqrt(5))
        nn.init.zeros_(self.leave.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return f(x), (..., width), for the down projection's inputs (..., inputs)."""
        return self.leave(self.enter(hidden))


class Share(NamedTuple):
    """What one expert serves: the rows of the batch (None: all of them) and the factor for each of these rows."""

    number: int
    rows: Tensor | None
    gate: Tensor


def shares(route: Route) -> list[Share]:
    """Return the part of the batch that each chosen expert serves; nothing is done for experts that none chose.

    The device is asked once here, when the route is decided, and never again while tokens are generated.
    """
    found = []
    chosen = route.experts.unique().tolist()
    for number in chosen:
        if number == NONE:
            continue
        if len(chosen) == 1 and route.experts.shape[1] == 1:
            return [Share(number, None, route.gates[:, 0])]
        at = route.experts == number
        rows = at.any(1).nonzero()[:, 0]
        found.append(Share(number, rows, (route.gates * at).sum(1)[rows]))
    return found


def with_experts(
    experts: nn.ModuleList,
    served: Sequence[Share],
    hidden: Tensor,
    output: Tensor,
    scale: float,
    limit: float | None = None,
) -> Tensor:
    """Return W0(x) + lambda sum_i g_i f_i(x): `output` (sequences, tokens, width), `hidden` (sequences, tokens, any).

    The experts compute in their own precision; a row that none serves stays as it is, to the bit. What each adds at a
    token is no longer than `limit` times W0(x).
    """
    if not served:
        return output
    first = served[0]
    if first.rows is None:
        found = experts[first.number](hidden.float()) * first.gate.to(hidden.device)[:, None, None]
        return output + held(scale * found, output, limit).to(output.dtype)
    added = torch.zeros_like(output)
    for number, rows, gate in served:
        at = rows.to(hidden.device)  # type: ignore[union-attr]  # only one that serves alone has no rows
        found = experts[number](hidden[at].float()) * gate.to(hidden.device)[:, None, None]
        added.index_add_(0, at, held(scale * found, output[at], limit).to(output.dtype))
    return output + added


def held(added: Tensor, own: Tensor, limit: float | None) -> Tensor:
    """Return what is added (..., width) to a layer's own output, shortened to `limit` times its norm where longer."""
    if limit is None:
        return added
    most = limit * own.float().norm(dim=-1, keepdim=True)
    # A square root of zero has no gradient: an expert that adds nothing yet is short enough anyway.
    length = added.square().sum(-1, keepdim=True).clamp(min=1e-24).sqrt()
    return added * (most / length).clamp(max=1)
