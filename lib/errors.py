"""The error that a user is meant to read: one line, with the remedy, and no traceback from the command line."""

import errno
import signal
import sys
from collections.abc import Callable
from types import FrameType

# What the system refuses and a user can mend.
REMEDIES = {
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some space of your quota",
    errno.EROFS: "its disk is read-only: work on another one",
    errno.EACCES: "change its permissions, or work in a folder of your own",
    errno.EPERM: "change its permissions, or work in a folder of your own",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a part of this path is a file: name a folder",
    errno.EEXIST: "a file stands where a folder is needed: move it away",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class UserError(Exception):
    """Something the user can mend; the message is one line naming the file, the place and the remedy."""

    def __str__(self) -> str:
        """Return the message on one printable line, whatever it quotes (a path, a key, another error)."""
        message = Exception.__str__(self)  # not super: a KeyError among the bases quotes it
        if message.isprintable():
            return message
        return "".join(one if one.isprintable() else " " if one.isspace() else ascii(one)[1:-1] for one in message)


def of_system(error: OSError, place: str | None = None) -> UserError | None:
    """Return what the system refused as a line that names the place and the remedy; None for what no user can mend."""
    remedy = REMEDIES.get(error.errno or 0)
    named = place or error.filename
    if remedy is None:
        return None
    return UserError(f"{f'{named}: ' if named else ''}{(error.strerror or str(error)).lower()}: {remedy}")


class DivergedError(ValueError):
    """Training or editing left a value that is not finite; what was there before is kept."""


def command(main: Callable[[], int | None]) -> None:
    """Run `main` as a command: exit 2 with one line for a `UserError` or `DivergedError`, 130 when interrupted.

    A full disk, a folder that cannot be written and their like are such a line, too. SIGTERM and SIGHUP leave `main` as
    an interruption does, through every `finally`, and exit with 128 plus their number.
    """
    # What whoever started us ignores, as nohup does SIGHUP, stays ignored.
    heeded = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _leave) for number in heeded}
    try:
        sys.exit(main() or 0)
    except (UserError, DivergedError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        told = of_system(error)
        if told is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, signal.SIG_IGN)  # a second one would cut short what the first one ends
    sys.exit(128 + number)
