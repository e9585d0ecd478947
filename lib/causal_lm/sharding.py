"""Weights, gradients and moments divided among processes (FSDP2, `torch.distributed.fsdp.fully_shard`).

For a model whose training fits no single card. Each of its layers is gathered for its own pass and given up again; what
an optimiser holds is a process's own part. States are saved whole, so that another number of processes takes them up.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lib.causal_lm import processes


class Sharded(processes.Several):
    """One process of several that share out what is trained, beside every batch."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """Divide the parameters in place, those of each of transformers' layers as one group, the rest as another.

        An optimiser must be made afterwards: the parameters are others.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from transformers.modeling_layers import GradientCheckpointingLayer

        mesh = init_device_mesh(self.device.type, (self.count,))
        module.to(self.device)
        for layer in [one for one in module.modules() if isinstance(one, GradientCheckpointingLayer)]:
            fully_shard(layer, mesh=mesh)
        fully_shard(module, mesh=mesh)
        return module

    def without_mean(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Return a block that changes nothing: whole gradients would need as much memory as whole weights."""
        return nullcontext()


def team(device: torch.device | str) -> processes.Team:
    """Return this process alone, which holds everything, or with the others that a launcher started beside it."""
    return Sharded(device) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else processes.Team(device)


def whole(value: Tensor) -> Tensor:
    """Return a tensor with the parts of all processes, each of which must ask; any other as it is."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def divided(value: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a whole tensor, divided as `like` is; the tensor itself where that is whole."""
    if not hasattr(like, "full_tensor") or value.shape != like.shape:
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor  # slow to import

    assert isinstance(like, DTensor)
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


class Whole:
    """An optimiser as `training_states` writes and reads it: with whole tensors, gathered when this is made."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        """Take the optimiser, which goes on with its own parts; all processes must do so."""
        self._optimiser, found = optimiser, optimiser.state_dict()
        state = {
            place: {name: whole(value) for name, value in values.items()} for place, values in found["state"].items()
        }
        self._found = {**found, "state": state}

    def state_dict(self) -> dict[str, Any]:
        """Return the state as it was when this was made."""
        return self._found

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Let the optimiser take up its parts of a state."""
        trained = [value for group in self._optimiser.param_groups for value in group["params"]]
        state = {
            place: {name: divided(value, trained[place]) for name, value in values.items()}
            for place, values in saved["state"].items()
        }
        self._optimiser.load_state_dict({**saved, "state": state})
