"""Order and choice by hash: fixed splits and phrasings without a random generator."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def hash_order(ids: Iterable[Item]) -> list[Item]:
    """Return ids in the order of the SHA-256 of their text: fixed, and independent of what they name."""
    return sorted(ids, key=lambda identity: _digest(str(identity)))


def pick(key: str, options: Sequence[Item]) -> Item:
    """Return the option that the SHA-256 of `key` points at: fixed; `ValueError` without options."""
    if not options:
        raise ValueError(f"nothing to pick from for {key!r}")
    return options[int.from_bytes(_digest(key)[:8], "big") % len(options)]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
