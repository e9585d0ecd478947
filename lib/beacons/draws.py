"""Facts of a training seed's own: a draw from all true facts of the results pool's subjects.

Where every seed learns the same facts, an interval over seeds says nothing of other facts. So the rows that claims rest
on draw facts with adapters and orders.
"""

from itertools import chain, zip_longest
from typing import get_args

import torch

from lib import seeds
from lib.beacons.facts import BeaconFact, content_hash, facts, uncut
from lib.facts.triples import Kind

# The first facts of the results pool: margins and numbers of seeds were chosen on their records, so no draw has them.
LOOKED_AT = 100


def drawable() -> list[BeaconFact]:
    """Return the facts that draws are made from: true, of no subject of the tuning pool, not among `LOOKED_AT`."""
    seen = {fact.identity for fact in facts("results")[:LOOKED_AT]}
    return [fact for fact in uncut("results") if fact.identity not in seen]


def draw(seed: int) -> list[BeaconFact]:
    """Return all drawable facts in an order that follows from `seed`; as in pools, its beginnings mix kinds evenly.

    The first n are a draw without replacement of n facts; draws of two seeds share some.
    """
    every, by_kind = drawable(), []
    for number, kind in enumerate(get_args(Kind)):
        of = [fact for fact in every if fact.kind == kind]
        order = torch.randperm(len(of), generator=seeds.generator("beacons/draw", seed, number))
        by_kind.append([of[place] for place in order.tolist()])
    return [fact for fact in chain.from_iterable(zip_longest(*by_kind)) if fact is not None]


def digest() -> str:
    """Return the `content_hash` of the facts that draws are made from."""
    return content_hash(drawable())
