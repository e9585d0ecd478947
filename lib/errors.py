"""The error that a user is meant to read: one line, with the remedy, and no traceback from the command line."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend; the message is one line naming the file, the place and the remedy."""

    def __str__(self) -> str:
        """Return the message on one printable line, whatever it quotes (a path, a key, another error)."""
        message = Exception.__str__(self)  # not super: a KeyError among the bases quotes it
        if message.isprintable():
            return message
        return "".join(one if one.isprintable() else " " if one.isspace() else ascii(one)[1:-1] for one in message)


def command(main: Callable[[], int | None]) -> None:
    """Run `main` as a command: exit 2 with one line on standard error for a `UserError`, 130 when interrupted."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
