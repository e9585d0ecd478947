"""The processes that train one model together: each takes a share of every batch (data parallel, by accelerate).

Started by `torchrun` or `accelerate launch`, which tell each process its number by WORLD_SIZE and RANK. Without them
there is one process, and accelerate is never imported.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Portion:
    """The sentences of a batch that a process takes.

    `weight` is what the mean over the processes must count each of them with; `seen` is false where another process
    takes the same sentences and tells of them.
    """

    rows: slice
    weight: float = 1.0
    seen: bool = True


class Remembering(nn.Module):
    """A part of a model that learns from what a whole step saw, all its parts and processes together."""

    def end_step(self, team: "Team", portion: Portion) -> None:
        """Take in what was seen since the last call, once for every optimiser step."""
        raise NotImplementedError


class Team:
    """One process alone."""

    count = 1
    rank = 0

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Work on `device`."""
        self.device = torch.device(device)

    def portion(self, sentences: int) -> Portion:
        """Return the sentences of a batch that this process takes; they lie in the order of the processes.

        A batch with fewer sentences than processes is taken by every process as a whole.
        """
        if sentences < self.count:
            return Portion(slice(0, sentences), 1.0, self.rank == 0)
        first, last = (sentences * rank // self.count for rank in (self.rank, self.rank + 1))
        return Portion(slice(first, last), float(self.count))

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module whose backward pass leaves the mean of all processes' gradients."""
        return module

    def without_mean(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Return the block in which the backward pass of a wrapped module leaves the process's own sums."""
        return nullcontext()

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of all processes' values."""
        return values

    def together(self, rows: Sequence[Any]) -> list[Any]:
        """Return the rows of all processes, in their order."""
        return list(rows)

    def wait(self) -> None:
        """Go on when all processes are here."""

    @contextmanager
    def first(self) -> Iterator[None]:
        """Let the first process through a block before the others."""
        yield


class Several(Team):
    """One process of several."""

    def __init__(self, device: torch.device | str) -> None:
        """Join the others; a GPU's number is this process's own."""
        import accelerate  # slow, and of no use to one process

        # Buffers are no parameters here: what is in them follows from what all processes saw.
        how = accelerate.DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
        self._accelerator = accelerate.Accelerator(cpu=torch.device(device).type == "cpu", kwargs_handlers=[how])
        self.device = self._accelerator.device
        self.count, self.rank = self._accelerator.num_processes, self._accelerator.process_index

    def wrap(self, module: nn.Module) -> nn.Module:
        return self._accelerator.prepare_model(module)

    def without_mean(self, module: nn.Module) -> AbstractContextManager[Any]:
        return self._accelerator.no_sync(module)

    def mean(self, values: Tensor) -> Tensor:
        return self._accelerator.reduce(values, "mean")

    def together(self, rows: Sequence[Any]) -> list[Any]:
        from accelerate.utils import gather_object

        return gather_object(list(rows))

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    @contextmanager
    def first(self) -> Iterator[None]:
        with self._accelerator.main_process_first():
            yield


def team(device: torch.device | str) -> Team:
    """Return this process alone, or with the others that a launcher started beside it."""
    return Several(device) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Team(device)
