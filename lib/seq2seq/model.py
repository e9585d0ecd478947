"""What a model has to offer so that it can be trained and decoded like the other rows of the table."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Seq2Seq(Protocol):
    """A `torch.nn.Module` that learns from batches of word ids and draws target ids.

    All sources of a batch have the same number of words; targets are words, END, then PAD up to `places`. Whatever is
    random comes from the CPU `generator`, dropout aside.
    """

    def losses(self, source: Tensor, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the terms of the loss, each (sentences,); the mean over sentences of their sum is minimised."""
        ...

    def sample(self, source: Tensor, places: int, generator: torch.Generator) -> Tensor:
        """Draw target ids (sentences, places) for source ids (sentences, source words)."""
        ...
