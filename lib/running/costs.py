"""What a case costs, from its configuration alone: GPU memory by parts, and operations, which make seconds on a card.

Everything here is computed; `reckoning` has the cost of each kind of case.
"""

from dataclasses import dataclass, field, replace

from lib.errors import UserError
from lib.profiles import Profile

GIB = 2**30
ADAM, MUON = 2, 1  # numbers of four bytes that an optimiser keeps of each weight


@dataclass(frozen=True)
class Card:
    """A card: its memory, the bfloat16 matrix operations and the bytes that it moves in a second, as its maker says."""

    gib: float
    operations: float
    bytes: float
    share: float = 0.35  # of those operations that training reaches; on two CPU cores it is 0.36 (`make bench`)


CARDS = {
    "a100-40": Card(40, 312e12, 1.56e12),
    "a100-80": Card(80, 312e12, 2.04e12),
    "h100": Card(80, 989e12, 3.35e12),
    "h200": Card(141, 989e12, 4.8e12),
    "l40s": Card(48, 362e12, 0.86e12),
    "rtx4090": Card(24, 165e12, 1.0e12),
    "cpu": Card(8, 0.43e12, 20e9),  # two cores of the machine that `make bench` tells of
}


@dataclass(frozen=True)
class Memory:
    """Bytes on the card while a case runs; `checkpointed` is what `activations` would be with checkpointing."""

    weights: float = 0
    gradients: float = 0
    optimiser: float = 0
    activations: float = 0
    checkpointed: float = 0
    cache: float = 0

    @property
    def total(self) -> float:
        """Return the sum, activations as they are kept today."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.cache

    @property
    def least(self) -> float:
        """Return the sum with checkpointing."""
        return self.total - self.activations + min(self.activations, self.checkpointed)


@dataclass(frozen=True)
class Cost:
    """Memory on the card and beside it, and work: operations, and bytes of weights read token after token."""

    memory: Memory
    operations: float
    moved: float = 0
    host: float = field(default=4 * GIB)

    def seconds(self, card: Card) -> float:
        """Return seconds on a card: products at the share of its rate that training reaches, and what is moved."""
        return self.operations / (card.operations * card.share) + self.moved / card.bytes


def card(name: str, flops: float | None = None) -> Card:
    """Return a card by name, with another rate where `flops` says so; `UserError` for an unknown one."""
    if name not in CARDS:
        raise UserError(f"--card {name}: unknown: choose one of {', '.join(CARDS)}, or give --flops")
    return replace(CARDS[name], operations=flops, share=1.0) if flops else CARDS[name]


def card_of(profile: Profile) -> Card:
    """Return the card that a profile's minutes are reckoned on, where nobody says which: a slow one of the kind."""
    return CARDS["a100-80" if profile.device == "cuda" else "cpu"]


def adam(trained: float, weights: float, size: int = 4, average: bool = False) -> Memory:
    """Return weights, gradients and AdamW's moments of `trained` parameters beside `weights` bytes of frozen ones."""
    kept = size * trained
    return Memory(weights=weights + kept * (2 if average else 1), gradients=kept, optimiser=ADAM * kept)
