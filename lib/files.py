"""Writing and hashing files so that a crash leaves the old file or the new one, never half of one.

What is being written bears a name that begins with `PARTIAL`, and its writer holds a lock on it that ends with its
process: so `sweep` tells what a killed process left from what another one writes right now.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib import errors, paths
from lib.errors import UserError

PARTIAL = ".partial-"
MARGIN = 64 * 2**20  # bytes that are to stay free beside what is announced: logs, locks, other processes


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file of the same suffix, then rename it to `path` in one step.

    Raises `UserError` where the disk or the folder does not take it; then `path` is as it was.
    """
    with _told(path), _draft(path) as temporary:
        _fill(temporary, write)
        os.replace(temporary, path)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Replace several files together or not at all: all are on the disk before the first is renamed.

    Raises `UserError` where one cannot be written; then all are as they were. Only a crash between two renames, which
    follow each other at once, leaves some new and some old, each of them whole.
    """
    with contextlib.ExitStack() as stack:
        drafts = {}
        for path, content in contents.items():
            stack.enter_context(_told(path))
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            drafts[path] = stack.enter_context(_draft(path))
            _fill(drafts[path], lambda temporary, content=content: temporary.write_bytes(content))  # type: ignore[misc]
        old = {path: path.read_bytes() if path.is_file() else None for path in contents}
        renamed: list[Path] = []
        try:
            for path, draft in drafts.items():
                with _told(path):
                    os.replace(draft, path)
                renamed.append(path)
        except BaseException:
            for path in renamed:
                before = old[path]
                path.unlink() if before is None else path.write_bytes(before)
            raise


def refuse_others(folder: Path, names: Sequence[str], own: str, what: str) -> None:
    """Raise `UserError` where a folder holds one of `names` but not `own`, which only `what` has: it is another's."""
    taken = [name for name in names if (folder / name).exists()]
    if taken and not (folder / own).exists():
        raise UserError(f"{paths.relative(folder / taken[0])}: not of {what}: give another folder")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with Unix line ends."""
    write_atomically(path, lambda target: target.write_bytes(text.encode()))


def write_checked(path: Path, content: bytes) -> None:
    """Write what only `read_checked` reads: bytes, and behind them their SHA-256."""
    write_atomically(path, lambda target: target.write_bytes(content + hashlib.sha256(content).digest()))


def read_checked(path: Path) -> bytes:
    """Return what `write_checked` wrote; `UserError` where it is truncated, edited or missing."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        whole = b""
    content, digest = whole[:-32], whole[-32:]
    if hashlib.sha256(content).digest() != digest:
        place = paths.relative(path.parent)
        raise UserError(f"{paths.relative(path)}: truncated, edited or missing: delete {place} and run it again")
    return content


def json_text(content: Any) -> str:
    """Return JSON as files hold it: two-space indent, keys in the given order, NaN refused (`ValueError`)."""
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, in the form of `json_text`."""
    write_text(path, json_text(content))


@contextlib.contextmanager
def draft_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield a new temporary folder in `parent`, to be renamed when it is complete; what is left of it is removed."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f"{PARTIAL}{name}-"))
        handle = _hold(folder)
        if handle is not None:
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def sweep(folders: Iterable[Path]) -> int:
    """Remove what killed processes left half-written anywhere below folders; return how many files and folders."""
    swept = 0
    for folder in folders:
        for place, inner, names in os.walk(folder):
            for name in [name for name in (*inner, *names) if name.startswith(PARTIAL)]:
                swept += remove_left(Path(place, name))
            inner[:] = [name for name in inner if not name.startswith(PARTIAL)]
    return swept


def remove_left(path: Path) -> bool:
    """Remove a half-written file or folder unless the process that writes it still runs; return whether it is gone."""
    handle = None
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    if handle is not None:
        os.close(handle)
    return not path.exists()


def require_space(folder: Path, size: int = 0) -> None:
    """Raise `UserError` unless files of `size` bytes can be made in a folder, which is made if it is not there."""
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < size + MARGIN:
            raise UserError(
                f"{paths.relative(folder)}: {free / 2**20:.0f} MiB are free on its disk, "
                f"{(size + MARGIN) / 2**20:.0f} MiB are needed: free some"
            )
        with _draft(folder / "space") as probe:
            probe.write_bytes(b"\0" * 4096)


def reserve(path: Path, size: int) -> None:
    """Make a file of `size` zeros whose blocks are taken on the disk; `UserError` where there is no room.

    A memory-mapped file without them ends its process with SIGBUS, which nothing catches, when the disk runs full.
    """
    require_space(path.parent, size)
    with _told(path), open(path, "wb") as stream:
        stream.truncate(size)
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the system refuses (no space, no permission, a file for a folder) into one line that names `path`."""
    try:
        yield
    except OSError as error:
        told = errors.of_system(error, paths.relative(path))
        if told is None:
            raise
        raise told from error


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file beside `path`, held by this process; what is left of it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        number, name = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL, suffix=path.suffix)
        os.close(number)
        handle = _hold(Path(name))
        if handle is not None:  # else a sweep took it before we held it
            break
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(handle)


def _fill(temporary: Path, write: Callable[[Path], object]) -> None:
    write(temporary)
    temporary.chmod(0o644)
    with open(temporary, "rb") as stream:
        os.fsync(stream.fileno())


def _hold(path: Path) -> int | None:
    """Return a handle that holds a file or folder alone; None where another process holds it, or it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return handle
    except BlockingIOError:
        pass
    except OSError:  # a file system without locks: nothing there is ever swept
        return handle
    os.close(handle)
    return None
