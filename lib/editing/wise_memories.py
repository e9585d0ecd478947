"""The side memories of WISE: shards that are filled, wait, and are merged, and which of them serve."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lib import seeds
from lib.editing.editor import State
from lib.editing.merging import ties
from lib.editing.wise_losses import WiseConfig


class Memory(NamedTuple):
    """A side memory: its change of the weight (outputs, inputs), float32, and its edits' smallest difference."""

    change: Tensor
    smallest: float


class SideMemories:
    """All side memories of one layer (WISE, sec. 2.3).

    `open` is the change that is being learnt, None until an edit opens a shard, and `free` tells which coordinates it
    may change; `waiting` are full shards before their merge, `retrieved` merged ones that are kept apart, `merged` the
    one that all are merged into. `smallest` is the smallest difference of the edits so far; where every memory has its
    own threshold, that of the open shard's.
    """

    def __init__(self, config: WiseConfig) -> None:
        """Hold nothing yet."""
        self.config = config
        self.merged: Memory | None = None
        self.waiting: list[Memory] = []
        self.retrieved: list[Memory] = []
        self.open: Tensor | None = None
        self.free: Tensor | None = None
        self.smallest = float("inf")
        self.filled = self._shards = 0
        self._serving: list[Memory] | None = None

    @property
    def apart(self) -> bool:
        """Tell whether every memory has a threshold of its own."""
        return self.config.memories == "retrieve" and self.config.measured == "group"

    def open_shard(self, weight: Tensor) -> None:
        """Open a shard for a weight (outputs, inputs), with its random mask."""
        drawn = torch.rand(weight.shape, generator=seeds.generator("wise mask", self.config.seed, self._shards))
        self.free = (drawn < self.config.density).to(weight.device)
        self.learnt(torch.zeros(weight.shape, device=weight.device))
        self.filled, self._shards = 0, self._shards + 1

    def learnt(self, change: Tensor) -> None:
        """Take the change that the open shard has now."""
        self.open, self._serving = change, None

    def close_shard(self) -> None:
        """Let the open shard wait, and merge those that wait when they are as many as a merge takes."""
        assert self.open is not None
        self.waiting.append(Memory(self.open, self.smallest))
        self.open = self.free = self._serving = None
        if self.apart:
            self.smallest = float("inf")
        if len(self.waiting) == self.config.shards:
            merged = self._joined(self.waiting)
            if self.config.memories == "retrieve":
                self.retrieved.append(merged)
            else:
                self.merged = merged
            self.waiting = []

    def serving(self) -> list[Memory]:
        """Return the side memories as they are read now."""
        if self._serving is None:
            config = self.config
            still = [] if self.open is None else [Memory(self.open, self.smallest)]
            if config.memories == "merge" and config.unmerged == "merge" and (self.waiting or self.merged):
                self._serving = [self._joined([*self.waiting, *still])]
            else:
                merged = [] if self.merged is None else [self.merged]
                self._serving = [*self.retrieved, *merged, *self.waiting, *still]
        # The smallest difference may have changed since: it counts for all, or else for the open shard alone.
        return self._serving

    def thresholds(self) -> list[float]:
        """Return epsilon of each memory that serves."""
        memories = self.serving()
        each = [memory.smallest if self.apart else self.smallest for memory in memories]
        if self.apart and self.open is not None:
            each[-1] = self.smallest
        return [self.epsilon(value) for value in each]

    def epsilon(self, smallest: float) -> float:
        """Return the threshold for a smallest difference."""
        return smallest * self.config.ratio if self.config.threshold is None else self.config.threshold

    def saved_state(self) -> State:
        """Return all memories with their smallest differences (float64), the open shard and its mask."""
        held = {"merged": [] if self.merged is None else [self.merged], "waiting": self.waiting}
        held["retrieved"] = self.retrieved
        tensors = {}
        for name, memories in held.items():
            for number, memory in enumerate(memories):
                tensors[f"{name}.{number}.change"] = memory.change
                tensors[f"{name}.{number}.smallest"] = torch.tensor(memory.smallest, dtype=torch.float64)
        if self.open is not None and self.free is not None:
            tensors |= {"open": self.open, "free": self.free}
        tensors["smallest"] = torch.tensor(
            self.smallest, dtype=torch.float64
        )  # may be infinite, which JSON cannot hold
        return tensors, {"filled": self.filled, "shards": self._shards}

    def take_state(self, shape: Sequence[int], tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned for a weight of this shape; `KeyError` or `ValueError` for what is none."""

        def memory(name: str, number: int) -> Memory:
            return Memory(tensors[f"{name}.{number}.change"], float(tensors[f"{name}.{number}.smallest"]))

        count = {name: sum(one.startswith(f"{name}.") for one in tensors) // 2 for name in ("waiting", "retrieved")}
        self.waiting = [memory("waiting", number) for number in range(count["waiting"])]
        self.retrieved = [memory("retrieved", number) for number in range(count["retrieved"])]
        self.merged = memory("merged", 0) if "merged.0.change" in tensors else None
        self.open, self.free = tensors.get("open"), tensors.get("free")
        changes = [one.change for one in (*self.waiting, *self.retrieved, *filter(None, [self.merged]))]
        changes += [one for one in (self.open, self.free) if one is not None]
        if (self.open is None) != (self.free is None) or any(one.shape != torch.Size(shape) for one in changes):
            raise ValueError("the side memories are of another shape")
        self.smallest, self.filled, self._shards = float(tensors["smallest"]), int(told["filled"]), int(told["shards"])
        self._serving = None

    def _joined(self, new: list[Memory]) -> Memory:
        """Return the merge of new memories and, where there is one, the merge before them."""
        if self.merged is None:
            parts, weights = new, None
        elif not new:
            return self.merged
        else:
            parts, earlier = [self.merged, *new], self.config.earlier
            weights = None if earlier is None else [earlier, *[(1 - earlier) / len(new)] * len(new)]
        change = ties([part.change for part in parts], self.config.kept, weights)
        return Memory(change, min(part.smallest for part in parts))
