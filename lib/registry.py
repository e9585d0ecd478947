"""The one shape of a registry: named rows of a comparison, each of them one statement of its own.

    DIVERGENCES = Registry("divergence", {"forward_kl": forward_kl, "reverse_kl": reverse_kl})
    DIVERGENCES["forward_kl"]

A new row is one line. The stamp of a record takes, of a registry that its code looks up, only the rows that its
configuration or that code names; so a new row makes no record stale (`lib.records.stamps`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lib.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the rows of every comparison have: a title for readers, and whether each run from scratch computes it.

    Series add how the row is configured and built, and what it needs; everything that an entry names is in its stamp.
    """

    title: str
    core: bool = False


class UnknownNameError(UserError, KeyError):
    """A registry has no row of that name; the message lists those that there are."""

    __str__ = UserError.__str__  # KeyError would quote it


class Registry(Mapping[str, T], Generic[T]):
    """Rows by name, in their order; `|` joins two whose names differ."""

    def __init__(self, kind: str, rows: Mapping[str, T]) -> None:
        """Take what a row is called in messages ("divergence"), and the rows."""
        self.kind, self._rows = kind, dict(rows)

    def __getitem__(self, name: str) -> T:
        """Return a row; raises `UnknownNameError`, a `UserError` that lists the names."""
        if name not in self._rows:
            raise UnknownNameError(f"unknown {self.kind} {name!r}: choose one of {', '.join(self._rows)}")
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __or__(self, other: "Registry[Any]") -> "Registry[Any]":
        """Return both registries as one; raises `ValueError` where they share a name."""
        if shared := self._rows.keys() & other._rows.keys():
            raise ValueError(f"two rows named {sorted(shared)[0]!r}")
        return Registry(self.kind, {**self._rows, **other._rows})
