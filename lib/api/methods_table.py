"""The table of editing methods, for `help(edit)` and docs/library.md: what each needs and stores, its cost and scores.

Costs and scores stand in measured.json, which `python -m lib.benchmarks.library_methods` writes.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lib.api.editing_methods import METHODS

__all__ = ["MEASURED", "markdown", "measured", "table"]

MEASURED = Path(__file__).with_name("measured.json")
HEAD = ("method", "settings", "needs besides edits", "stores", "MB", "s an edit", "Rel", "Gen", "Loc")
Cells = tuple[str, ...]


@cache
def measured() -> dict[str, Any]:
    """Return what was measured: the model and edits, and by method and settings ("release", "tuned", "ours") a row."""
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return found


def rows() -> list[Cells]:
    """Return the table's rows as text; a method whose settings were also tuned has two."""
    found = []
    for name, method in METHODS.items():
        needs = ", ".join([*method.needs, *(["subjects"] if method.subject else [])]) or "-"
        told = measured()["methods"].get(name, {})
        for settings in (method.defaults, *(["tuned"] if method.tuned else [])):
            found.append((name, settings, needs, method.stores, *_figures(told.get(settings, {}))))
    return found


def about() -> str:
    """Say in two sentences what the figures are of."""
    told = measured()
    return (
        f"Measured with {told['edits']} edits of the tuning split in {told['batches']} batches on {told['model']}, as "
        "each method comes with `edit` (release, ours) and with `tuned=True`: the size of edits.safetensors, seconds "
        "an edit of the last batch on one core, and Rel, Gen and Loc on all of them (-: not measured yet). One small "
        "set: it tells what works out of the box on a small model, not which method is best."
    )


def table() -> str:
    """Return the methods as a table of plain text, for `help`."""
    lines = [HEAD, *rows()]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(_aligned(line, widths) for line in lines)


def markdown() -> str:
    """Return the table in Markdown, for the docs, below what its figures are of."""
    lines = [HEAD, tuple("---" for _ in HEAD), *((f"`{name}`", *rest) for name, *rest in rows())]
    return "\n".join([about(), "", *(f"| {' | '.join(line)} |" for line in lines)])


def _aligned(line: Cells, widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()


def _figures(told: dict[str, Any]) -> Cells:
    """Return megabytes, seconds an edit, Rel, Gen and Loc; dashes where nothing was measured, or the method failed."""
    if "failed" in told:
        return ("-", "-", "failed", "-", "-")
    if not told:
        return ("-",) * 5
    scores = (f"{told[name]:.2f}" for name in ("rel", "gen", "loc"))
    return (f"{told['bytes'] / 1e6:.2g}", f"{told['seconds_an_edit']:.2g}", *scores)
