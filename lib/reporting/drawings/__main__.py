"""`python -m lib.reporting.drawings`."""

from lib import paths
from lib.errors import command
from lib.reporting import drawings


def main() -> int:
    """Write all drawings and name their files."""
    for path in drawings.write():
        print(paths.relative(path))
    return 0


if __name__ == "__main__":
    command(main)
