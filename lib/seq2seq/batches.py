"""Word ids in batches of one length each, so that no place is padding that nobody asked for."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Window:
    """Places for the target, from the source's length alone: ratio * words + extra, at most `most` (our choice).

    The reference never sets the length. The target is followed by END and filled up with PAD. Raises `ValueError` for a
    ratio that is negative or not finite, and for `extra` or `most` below 1: END takes a place.
    """

    ratio: float = 1.0
    extra: int = 3
    most: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < math.inf:
            raise ValueError(f"ratio={self.ratio}: give a finite number of 0 or more")
        if self.extra < 1 or self.most < 1:
            raise ValueError(f"extra={self.extra}, most={self.most}: each must be 1 or more")

    def places(self, source_words: int) -> int:
        """Return the number of target places for a source of `source_words` words."""
        return min(self.most, int(self.ratio * source_words) + self.extra)


@dataclass(frozen=True)
class Encoded:
    """Pairs as word ids, grouped by the number of source words: length -> (source, target) of equal shapes."""

    groups: dict[int, tuple[Tensor, Tensor]]
    left_out: int  # pairs whose target and END do not fit their window

    @property
    def pairs(self) -> int:
        """Return the number of pairs kept."""
        return sum(len(source) for source, _ in self.groups.values())


def encode_targets(vocabulary: Vocabulary, sources: Sequence[str], targets: Sequence[str], window: Window) -> Encoded:
    """Encode training pairs; a target that does not fit its window is left out and counted.

    Raises `ValueError` for another number of targets than sources, and for a source without words.
    """
    if len(sources) != len(targets):
        raise ValueError(f"{len(sources)} sources for {len(targets)} targets: give one for each")
    groups: dict[int, list[tuple[list[int], list[int]]]] = defaultdict(list)
    left_out = 0
    for source, target in zip(sources, targets, strict=True):
        source_ids, target_ids = vocabulary.encode(source), [*vocabulary.encode(target), vocabulary.end]
        if not source_ids:
            raise ValueError(f"the source of the target {target!r} has no words: give one at least")
        places = window.places(len(source_ids))
        if len(target_ids) > places:
            left_out += 1
            continue
        groups[len(source_ids)].append((source_ids, target_ids + [vocabulary.pad] * (places - len(target_ids))))
    tensors = {
        length: (torch.tensor([s for s, _ in rows]), torch.tensor([t for _, t in rows]))
        for length, rows in sorted(groups.items())
    }
    return Encoded(tensors, left_out)


def order(encoded: Encoded, tokens: int, seed: int, epoch: int) -> list[tuple[int, np.ndarray]]:
    """Return the batches of one epoch, shuffled: (source words, rows), each of about `tokens` source and target words.

    A pure function of its arguments, so that training can resume anywhere. What does not fill a batch of its length
    waits for another epoch, whose shuffle differs; a length with fewer rows than a batch is one batch.
    """
    generator = np.random.default_rng([seed, epoch])
    batches = []
    for length, (source, target) in encoded.groups.items():
        rows = max(1, tokens // (source.shape[1] + target.shape[1]))
        shuffled = generator.permutation(len(source))
        whole = len(source) // rows * rows or len(source)
        batches += [(length, shuffled[start : start + rows]) for start in range(0, whole, rows)]
    return [batches[place] for place in generator.permutation(len(batches))]
