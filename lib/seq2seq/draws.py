"""The random numbers of a training step: those of the whole batch, whatever part of it passes the network at once.

A stream belongs to a kind of device. The CPU's gives the same numbers on every CPU; on another device the same seed
starts that device's own generator, whose numbers differ from the CPU's, so that nothing is copied.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib import seeds


@dataclass(frozen=True)
class Part:
    """The stream of a batch of `sentences`, of which only the sentences of `rows` are at hand."""

    generator: torch.Generator
    rows: slice
    sentences: int


Stream = torch.Generator | Part


def stream(device: torch.device | str, purpose: str, *numbers: int) -> torch.Generator:
    """Return the device's generator at the start of the stream for a purpose and its numbers."""
    return torch.Generator(device).manual_seed(seeds.seed_of(purpose, *numbers))


def whole(of: Stream, sentences: int) -> tuple[torch.Generator, int, slice]:
    """Return the generator, the sentences of the whole batch, and which of them are at hand (all but for a `Part`)."""
    if isinstance(of, Part):
        return of.generator, of.sentences, of.rows
    return of, sentences, slice(None)


def normal(shape: Sequence[int], of: Stream) -> Tensor:
    """Draw standard normal numbers of `shape`, the sentences at hand first, on the stream's device."""
    generator, sentences, rows = whole(of, shape[0])
    return torch.randn(sentences, *shape[1:], generator=generator, device=generator.device)[rows]


def uniform(shape: Sequence[int], of: Stream) -> Tensor:
    """Draw numbers in [0, 1) as `normal` does; for the shape () one number, the same for every part."""
    generator, sentences, rows = whole(of, shape[0] if shape else 1)
    if not shape:
        return torch.rand((), generator=generator, device=generator.device)
    return torch.rand(sentences, *shape[1:], generator=generator, device=generator.device)[rows]
