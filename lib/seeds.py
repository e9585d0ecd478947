"""Random streams: each purpose draws from a stream of its own, so no two draws of a run can coincide."""

import hashlib

import torch


def seed_of(purpose: str, *numbers: int) -> int:
    """Return the seed, in [0, 2^63), of the stream for a purpose and its numbers: the run's seed, a step, a batch."""
    name = "/".join([purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def generator(purpose: str, *numbers: int) -> torch.Generator:
    """Return a CPU generator at the start of the stream for a purpose and its numbers."""
    return torch.Generator().manual_seed(seed_of(purpose, *numbers))
