"""The error that a user is meant to read: one line, with the remedy, and no traceback from the command line."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend; the message is one line naming the file, the place and the remedy."""


class DivergedError(ValueError):
    """Training or editing left a value that is not finite; what was there before is kept."""


def command(main: Callable[[], int | None]) -> None:
    """Run `main` as a command: exit 2 with a line for a `UserError` or `DivergedError`, 130 when interrupted."""
    try:
        sys.exit(main() or 0)
    except (UserError, DivergedError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
