"""From a number to its records: which ones were read for a figure, a table or a verdict that is written right now.

In a notebook records flow with its names: a statement's deps are the records read while it runs and those of the names
that it reads, and what it binds or changes depends on them (`lib.reporting.names` says which names these are). So a
table of the last cell names the records of its own rows and not those of the table before. Elsewhere all records read
so far count.
"""

import ast
import inspect
import linecache
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lib import paths, records
from lib.files import json_text
from lib.records.store import Read
from lib.reporting import names
from lib.reporting.names import Names

HISTORIC = (
    "Rows of profile {} are historic: computed on another machine, not computed again since "
    "(their commit is in the record)."
)
ANYWHERE = -1  # the line of what may belong to any statement of a cell
# What holds no part of a record that a call could put into it.
FIXED = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type, str, int, float, bool, type(None))


class Source(NamedTuple):
    """A record behind a number: its case, its file relative to the project, and the digest of what it holds."""

    case: str
    record: str
    digest: str
    historic: bool = False

    @property
    def profile(self) -> str:
        """Profile of the record: its folder under data/results/."""
        return Path(self.record).parts[2]

    def entry(self) -> dict[str, Any]:
        """Return the source as JSON holds it; `historic` stands there only where it is so."""
        plain = {"case": self.case, "record": self.record, "digest": self.digest}
        return plain | ({"historic": True} if self.historic else {})


Sources = frozenset[Source]
NONE: Sources = frozenset()


def sources() -> list[Source]:
    """Return the records read for what is written right now, sorted by case, each once."""
    tracker = _installed()
    return sorted(_ALL if tracker is None else tracker.of_now())


def json_of(content: Mapping[str, Any]) -> bytes:
    """Return the JSON of a figure, table or verdict with the list `records` of what was read for it."""
    return json_text({**content, "records": [source.entry() for source in sources()]}).encode()


def captioned(caption: str) -> str:
    """Return a caption with a sentence more where it tells of historic records."""
    profiles = sorted({source.profile for source in sources() if source.historic})
    return f"{caption.rstrip()} {HISTORIC.format(' and '.join(profiles))}" if profiles else caption


def read_through(content: Mapping[str, Any]) -> None:
    """Count the records that a JSON of `write` names as read here: who reads a verdict rests on its records."""
    for entry in content.get("records", []):
        _hear(Source(**entry))


class Tracker:
    """Follows the records through the names of a notebook, whose values `namespace` holds.

    What was read `before` it was installed counts for every name that there is by then.
    """

    def __init__(self, namespace: dict[str, Any], before: Iterable[Source] = ()) -> None:
        self.namespace = namespace
        names_of_values = [name for name, value in namespace.items() if not isinstance(value, types.ModuleType)]
        self.known: dict[str, Sources] = dict.fromkeys(names_of_values, frozenset(before))
        self.parts: dict[str, set[str]] = {}
        self.functions: dict[str, Names] = {}
        self.statements: list[ast.stmt] = []
        self.heard: list[tuple[int, Source]] = []  # while this cell runs, with the line

    def begin(self, code: str) -> None:
        """Take up a cell that is about to run; code that does not parse has no statements, and will not run."""
        try:
            self.statements = ast.parse(code).body
        except SyntaxError:
            self.statements = []
        self.heard = []

    def hear(self, source: Source) -> None:
        """Note a record that the running statement reads."""
        self.heard.append((self._line() or ANYWHERE, source))  # 0: another thread than the cell's

    def join(self) -> None:
        """Take up the cell that runs right now, from its running statement on; nothing outside a cell."""
        frame = self._frame()
        if frame is not None:
            self.begin("".join(linecache.getlines(frame.f_code.co_filename)))
            self.statements = [one for one in self.statements if (one.end_lineno or 0) >= frame.f_lineno]

    def of_now(self) -> Sources:
        """Return the records behind what the running statement reads; all that were read so far outside a cell."""
        line = self._line()
        self._finish(line)
        if not line or not self.statements:
            return frozenset(_ALL)
        here = [one for one in self.statements if one.lineno <= line]
        return NONE.union(*(self._sources(names.of(one), one) for one in here))

    def end(self) -> None:
        """Follow the rest of the cell that ran."""
        self._finish(None)

    def _finish(self, line: int | None) -> None:
        """Follow the statements that end before a line (None: all)."""
        while self.statements and (line is None or (self.statements[0].end_lineno or 0) < line):
            statement = self.statements.pop(0)
            self._follow(names.of(statement), statement)

    def _follow(self, used: Names, statement: ast.stmt) -> None:
        found = self._sources(used, statement)
        self.parts |= {name: used.parts.get(name, set()) for name in used.binds}
        called = self._called(used.loads)
        for name in self._changed(used.changes | {name for one in called for name in one.changes}):
            self.known[name] = self.known.get(name, NONE) | found
        for name in used.binds:
            perhaps = isinstance(statement, ast.If | ast.While | ast.Try)  # or its old value stays
            self.known[name] = found | (self.known.get(name, NONE) if perhaps else NONE)
            self.functions.pop(name, None)
        self.functions |= used.functions
        for name in used.imports:
            self.known.pop(name, None)

    def _sources(self, used: Names, statement: ast.stmt) -> Sources:
        first, last = statement.lineno, statement.end_lineno or statement.lineno
        loads = set(used.loads).union(*(one.loads for one in self._called(used.loads)))
        heard = frozenset(source for line, source in self.heard if first <= line <= last or line == ANYWHERE)
        return heard.union(*(self.known.get(name, NONE) for name in loads))

    def _called(self, loads: Iterable[str]) -> list[Names]:
        """Names of the notebook's own functions that `loads` may call, and of those that these call."""
        seen: dict[str, Names] = {}
        pending = list(loads)
        while pending:
            name = pending.pop()
            if name in self.functions and name not in seen:
                seen[name] = self.functions[name]
                pending += self.functions[name].loads
        return list(seen.values())

    def _changed(self, changes: Iterable[str]) -> set[str]:
        """Names that change with these: what they may be parts of too; a text, a number or a module never changes."""
        found: set[str] = set()
        pending = list(changes)
        while pending:
            name = pending.pop()
            if name not in found and not isinstance(self.namespace.get(name), FIXED):
                found.add(name)
                pending += self.parts.get(name, set())
        return found

    def _line(self) -> int:
        """Line of the cell that runs right now; 0 outside a cell."""
        frame = self._frame()
        return frame.f_lineno if frame else 0

    def _frame(self) -> types.FrameType | None:
        """Frame of the cell that runs right now: the outermost one, further in are functions of the notebook."""
        found, frame = None, inspect.currentframe()
        while frame is not None:
            if frame.f_globals is self.namespace:
                found = frame
            frame = frame.f_back
        return found


_ALL: dict[Source, None] = {}
_TRACKERS: dict[int, Tracker] = {}


def _installed() -> Tracker | None:
    """Return the tracker of this process, installed in IPython at the first call; None outside IPython."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return None
    if id(shell) not in _TRACKERS:
        tracker = _TRACKERS[id(shell)] = Tracker(shell.user_ns, _ALL)
        tracker.join()
        shell.events.register("pre_run_cell", lambda info: tracker.begin(shell.transform_cell(info.raw_cell)))
        shell.events.register("post_run_cell", lambda result: tracker.end())
    return _TRACKERS[id(shell)]


def _hear(source: Source) -> None:
    _ALL[source] = None
    tracker = _installed()
    if tracker is not None:
        tracker.hear(source)


def _source(read: Read) -> Source:
    results = (paths.work_root() or paths.DATA) / "results"
    place = read.path
    inside = place.relative_to(results).as_posix() if place.is_relative_to(results) else None
    record = f"data/results/{inside}" if inside else paths.relative(place)
    return Source(read.case, record, read.digest, read.historic)


_ALL |= dict.fromkeys(map(_source, records.reads()))
records.on_read(lambda read: _hear(_source(read)))
_installed()
