"""Random streams: equal names give equal draws, and no two names share one."""

import torch

from lib import seeds


def test_streams_are_repeatable_and_different() -> None:
    names = [(purpose, seed, step) for purpose in ("training", "decoding") for seed in range(20) for step in range(50)]
    found = {seeds.seed_of(*name) for name in names}
    assert len(found) == len(names)
    assert all(0 <= seed < 2**63 for seed in found)
    first, again = (torch.randn(3, generator=seeds.generator("training", 0, 1)) for _ in range(2))
    assert torch.equal(first, again)


def test_numbers_do_not_run_together() -> None:
    assert seeds.seed_of("a", 1, 23) != seeds.seed_of("a", 12, 3)
