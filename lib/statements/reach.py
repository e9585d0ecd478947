"""What a function of this package reaches by name, as statements and as one digest.

What stores and measures (`ASIDE`) can change no number and lies outside; what is fetched enters a stamp by its content.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lib.errors import UserError
from lib.statements.names import NAME, Class, External, Registered, Statement, Target
from lib.statements.parsing import Code

# The package this process runs, which may be a modified copy beside the real data.
PACKAGE = Path(__file__).resolve().parents[1]

# Rooms that store, fetch, measure and announce. Everything else that a computation reaches is in its stamp.
_ASIDE = ("records", "statements", "machine", "sources", "paths", "files", "settings", "errors", "progress", "registry")
ASIDE = tuple(f"{NAME}.{room}" for room in _ASIDE)

AT_START = Code.on_disk(PACKAGE)


@lru_cache(maxsize=1)
def _code(signature: tuple[tuple[str, int, int], ...]) -> Code:
    del signature
    return Code.on_disk(PACKAGE)


def code_now() -> Code:
    """Return the package as it is on disk now, read again only where a file changed."""
    found, folders = [], [str(PACKAGE)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    state = entry.stat()
                    found.append((entry.path, state.st_mtime_ns, state.st_size))
                elif entry.is_dir() and entry.name != "__pycache__":
                    folders.append(entry.path)
    return _code(tuple(sorted(found)))


class Reach:
    """All statements of `code` that entries reach by name, `entries` being functions and classes ("lib.seeds:seed_of").

    `configs` are classes whose fields count by their values, in the config; `texts` the words of the config, which name
    rows of registries. Raises `UserError` for an entry that is no top-level definition.
    """

    def __init__(
        self, code: Code, entries: Iterable[str], configs: Iterable[str] = (), texts: Iterable[str] = ()
    ) -> None:
        self.code, self.texts = code, frozenset(texts)
        self.configs = frozenset(configs)
        self.statements: dict[Statement, None] = {}
        self.strings: set[str] = set()
        self._row_strings: set[str] = set()
        self._attributes: set[str] = set()
        self._waiting: dict[str, list[Statement]] = {}
        self._seen: set[Target] = set()
        self._modules: set[str] = set()
        self._pending: list[Target] = []
        self._chosen: dict[Target, None] = {}
        for entry in [*entries, *sorted(self.configs)]:
            module, _, name = entry.partition(":")
            target = code.lookup(module, name) if module in code.texts else None
            if not isinstance(target, Target):
                raise UserError(f"{entry}: not at the top level of a module of lib/: name a function that is")
            self._pending.append(target)
        self._close()

    def lines(self) -> list[str]:
        """Return one line for each statement, sorted: its name, its digest, and those of what it names, in order."""
        return sorted(" ".join([one.name, one.digest, *map(self._short, one.targets)]) for one in self.statements)

    def _short(self, target: Target) -> str:
        """Digest of what a name stands for by itself, so that two things of one name are told apart."""
        known = self.code.shorts
        if target not in known:
            known[target] = self._shortened(target)
        return known[target]

    def _shortened(self, target: Target) -> str:
        if _aside(target.module) or target.name == "*":
            return target.name
        found = self.code.source(target.module).definition(target.name)
        if isinstance(found, Registered):
            return target.name
        parts = [found.skeleton] if isinstance(found, Class) else found
        return hashlib.sha256("".join(one.digest for one in parts).encode()).hexdigest()[:12]

    def _close(self) -> None:
        while True:
            while self._pending:
                self._take(self._pending.pop())
            if not any([self._choose(target) for target in list(self._chosen)]):
                return

    def _take(self, target: Target) -> None:
        if target in self._seen or _aside(target.module):
            return
        self._seen.add(target)
        source = self.code.source(target.module)
        if target.module not in self._modules:
            self._modules.add(target.module)
            for statement in source.side:
                self._add(statement)
        if target.name == "*":  # a module handed on as a value: anything of it may be used
            self._pending += [Target(target.module, name) for name in source.definitions]
            return
        found = source.definition(target.name)
        if isinstance(found, Class):
            self._take_class(target, found)
        elif isinstance(found, Registered):
            self._take_registry(target, found)
        else:
            for statement in found:
                self._add(statement)

    def _take_class(self, target: Target, found: Class) -> None:
        self._add(found.skeleton)
        fields = {} if f"{target.module}:{target.name}" in self.configs else found.fields
        for name, statements in [*found.methods.items(), *fields.items()]:
            if name in self._attributes or (name in found.methods and self._overrides(target, name)):
                for statement in statements:
                    self._add(statement)
            else:
                self._waiting.setdefault(name, []).extend(statements)

    def _overrides(self, target: Target, name: str) -> bool:
        """Tell whether a method stands in place of a library's, which may then call it."""
        definition = self.code.source(target.module).definition(target.name)
        for base in definition.bases if isinstance(definition, Class) else ():
            if isinstance(base, External) and name in _attributes_of(base.name):
                return True
            if isinstance(base, Target) and not _aside(base.module):
                found = self.code.source(base.module).definition(base.name)
                if isinstance(found, Class) and self._overrides(base, name):
                    return True
        return False

    def _take_registry(self, target: Target, found: Registered) -> None:
        for statement in found.rest:
            self._add(statement)
        if target.row is not None:
            rows = found.rows.get(target.row)
            for statement in rows or ():
                self._add(statement)
            if rows is None:
                self._pending += [target._replace(module=one.module, name=one.name) for one in found.joined]
        elif target.chosen:
            self._chosen.setdefault(target)
        else:
            for statements in found.rows.values():
                for statement in statements:
                    self._add(statement)
            self._pending += found.joined

    def _choose(self, target: Target) -> bool:
        """Take the rows that a look-up at run time may mean; tell whether that was anything new.

        Rows that the config names, or a row that it names; if none is, those that the code names; else all.
        """
        names = set(self._names(target))
        taken = names & (self.texts | self._row_strings) or names & self.strings or names
        before = len(self._pending)
        self._pending += [
            row for name in sorted(taken) if (row := target._replace(row=name, chosen=False)) not in self._seen
        ]
        return len(self._pending) > before

    def _names(self, target: Target) -> Iterator[str]:
        found = self.code.source(target.module).definition(target.name)
        if isinstance(found, Registered):
            yield from found.rows
            for joined in found.joined:
                yield from self._names(joined)

    def _add(self, statement: Statement) -> None:
        if statement in self.statements:
            return
        self.statements[statement] = None
        self.strings |= statement.strings
        if statement.name.endswith("]"):
            self._row_strings |= statement.strings
        self._pending += statement.targets
        for name in statement.attributes - self._attributes:
            self._attributes.add(name)
            for waiting in self._waiting.pop(name, ()):
                self._add(waiting)


@lru_cache(maxsize=4096)
def _reach(code: Code, entries: tuple[str, ...], configs: tuple[str, ...], texts: frozenset[str]) -> tuple[str, Reach]:
    found = Reach(code, entries, configs, texts)
    return hashlib.sha256("\n".join(found.lines()).encode()).hexdigest(), found


def reach(entry: str, config: Any = None, code: Code | None = None) -> tuple[str, Reach]:
    """Return the digest of all code that a computation with a config reaches, and the statements themselves."""
    configs = tuple(sorted(set(_classes(config))))
    return _reach(code or code_now(), (entry,), configs, frozenset(words(plain(config))))


def edited_since_start(entry: str, config: Any) -> list[str]:
    """Return the names of reached statements whose code on disk is no longer the code this process started with."""
    before, now = reach(entry, config, AT_START)[1], reach(entry, config)[1]
    return sorted({line.split()[0] for line in set(before.lines()) ^ set(now.lines())})


def entry_of(function: Any) -> str:
    """Return how a top-level function or class is named as an entry."""
    return f"{function.__module__}:{function.__qualname__}"


def plain(config: Any) -> Any:
    """Return a config, or a value in one, as JSON values."""
    if isinstance(config, BaseModel):
        return config.model_dump(mode="json")
    return dict(config) if isinstance(config, Mapping) else config


def digest(content: Any) -> str:
    """SHA-256 of JSON values in canonical form: sorted keys, floats by `repr`; `ValueError` for NaN or infinity."""
    text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def words(content: Any) -> Iterator[str]:
    """Return every text in JSON values, keys too."""
    match content:
        case str():
            yield content
        case Mapping():
            for key, value in content.items():
                yield from words(key)
                yield from words(value)
        case list() | tuple():
            for value in content:
                yield from words(value)


def _classes(config: Any) -> Iterator[str]:
    """Classes of the package that a config is made of."""
    if type(config).__module__.split(".")[0] == NAME:
        yield entry_of(type(config))
    match config:
        case BaseModel():
            for name in type(config).model_fields:
                yield from _classes(getattr(config, name))
        case Mapping():
            for value in config.values():
                yield from _classes(value)
        case list() | tuple():
            for value in config:
                yield from _classes(value)


def _aside(module: str) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in ASIDE)


@lru_cache(maxsize=256)
def _attributes_of(name: str) -> frozenset[str]:
    """Names of all attributes of a library's class; of one that cannot be had, none."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
            for part in parts[length:]:
                found = getattr(found, part)
        except (ImportError, AttributeError):
            continue
        return frozenset(dir(found)) - frozenset(dir(object))
    return frozenset()
