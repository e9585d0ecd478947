"""The parts of a page that a script writes, each between the lines `<!-- begin name -->` and `<!-- end name -->`."""

from collections.abc import Mapping
from pathlib import Path

from lib import paths
from lib.errors import UserError


def renewed(text: str, page: Path, parts: Mapping[str, str]) -> str:
    """Return the text of a page with its parts, by their names, written anew.

    Raises `UserError`, which names `page`, where the markers of a part are missing.
    """
    for name, content in parts.items():
        first, last = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, begin, rest = text.partition(first)
        _, end, after = rest.partition(last)
        if not begin or not end:
            raise UserError(
                f"{paths.relative(page)}: the markers 'begin {name}' and 'end {name}' are missing: put these lines back"
            )
        text = f"{before}{first}{content}\n{last}{after}"
    return text
