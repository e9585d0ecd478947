"""What a name in the package may stand for, and statements as a stamp sees them."""

from dataclasses import dataclass, field
from typing import NamedTuple

# "lib" in a checkout; the wheel has another name.
NAME = __name__.split(".")[0]


class Target(NamedTuple):
    """A name that a statement reaches: plainly, or a registry through one row or one chosen at run time."""

    module: str
    name: str
    row: str | None = None
    chosen: bool = False


class Module(NamedTuple):
    """A module as a value: attributes of it are looked up in it."""

    name: str


class External(NamedTuple):
    """Something of a library, by its whole name."""

    name: str


Binding = Target | Module | External


@dataclass(frozen=True)
class Statement:
    """One statement: where it stands, its digest, and what it names.

    `attributes` are the names after dots, by which methods are reached; `strings` the texts that it may look rows up
    with.
    """

    module: str
    name: str
    digest: str
    targets: tuple[Target, ...]
    attributes: frozenset[str]
    strings: frozenset[str]


@dataclass
class Class:
    """A class in parts: the skeleton (bases, decorators, fields, dunder methods, validators), and what is reached."""

    skeleton: Statement
    bases: list[Binding]
    methods: dict[str, list[Statement]] = field(default_factory=dict)
    fields: dict[str, list[Statement]] = field(default_factory=dict)  # of pydantic classes


@dataclass
class Registered:
    """A registry: its rows, the registries that it joins, and what of it is no plain row."""

    rows: dict[str, list[Statement]] = field(default_factory=dict)
    joined: list[Target] = field(default_factory=list)
    rest: list[Statement] = field(default_factory=list)
