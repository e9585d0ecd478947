"""Digests of data that are kept on disk, so that a case can be told current without loading its texts."""

import json
from collections.abc import Callable

from lib import files, paths
from lib.records.stamps import fetched
from lib.statements.reach import digest, entry_of, reach

Simple = str | int | float | bool | None


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
