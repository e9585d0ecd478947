"""Digests of data that are kept on disk, so that a case can be told current without loading its texts."""

import contextlib
import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from lib import files, paths
from lib.records.stamps import fetched
from lib.statements.reach import digest, entry_of, reach

Simple = str | int | float | bool | None

_UNREAD: ContextVar[bool] = ContextVar("unread", default=False)


@contextlib.contextmanager
def unread() -> Iterator[None]:
    """Within this block cases are listed for their names, sizes and inputs alone: no file of the user's is opened.

    What they say of the user's data is what `of_own` was given for that; such a case is never computed or read.
    """
    before = _UNREAD.set(True)
    try:
        yield
    finally:
        _UNREAD.reset(before)


def is_unread() -> bool:
    """Tell whether cases are listed without the user's files."""
    return _UNREAD.get()


def of_own(builder: Callable[..., str], *arguments: Simple, unread: str = "unread") -> str:
    """Return `builder(*arguments)`, the digest of files that are the user's: taken anew, as they may have changed.

    Within `unread()` it is the text `unread`.
    """
    return unread if _UNREAD.get() else builder(*arguments)


def kept(builder: Callable[..., str], *arguments: Simple) -> str:
    """Return `builder(*arguments)`, the digest of data that a top-level function builds.

    It is kept under the stamp of the code that builds the data and of what that fetches, and built anew when either
    changes, or the file that keeps it was edited.
    """
    entry = entry_of(builder)
    code, found = reach(entry, list(arguments))
    key = digest([entry.partition(":")[2], list(arguments), code, fetched(found), _lock()])
    path = paths.DATA / "cache" / "digests" / f"{entry.partition(':')[2]}-{key[:16]}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["check"] == digest([key, stored["value"]]):
            return str(stored["value"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    value = builder(*arguments)
    files.write_json(path, {"key": key, "value": value, "check": digest([key, value])})
    return value


def _lock() -> str | None:
    """Digest of the versions of all libraries: texts are cut by some of them."""
    lock = paths.ROOT / "requirements.lock"
    return files.sha256(lock) if lock.is_file() else None
