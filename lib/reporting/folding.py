"""Long tables and texts behind one line that a reader opens, so that a chapter stays short."""

import html
from collections.abc import Iterator

from lib.reporting.tables import Table


def fold(summary: str, *parts: Table | str) -> None:
    """Show tables and plain texts in a notebook, folded under one line; equal parts give equal output."""
    from IPython.display import display

    display({"text/plain": "\n\n".join(_plain(summary, parts)), "text/html": page(summary, *parts)}, raw=True)


def page(summary: str, *parts: Table | str) -> str:
    """Return the folded parts as an HTML element: tables as they are shown, texts with their blanks and lines."""
    inside = "\n".join(one.html() if isinstance(one, Table) else f"<pre>{html.escape(one)}</pre>" for one in parts)
    return f"<details><summary>{html.escape(summary)}</summary>\n{inside}\n</details>"


def _plain(summary: str, parts: tuple[Table | str, ...]) -> Iterator[str]:
    yield summary
    yield from (one.plain() if isinstance(one, Table) else one for one in parts)
