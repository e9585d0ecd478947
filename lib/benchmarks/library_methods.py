"""Every editing method as a user calls it: what it stores, what an edit costs, Rel, Gen and Loc; released and tuned.

`python -m lib.benchmarks.library_methods [--only METHOD ...]` edits SmolLM2 by each method with its defaults, and tuned
where it has such settings (`wise/tuned`: those alone), writes `lib/api/measured.json`, and with it the table of
`docs/library.md`; `--table` only writes the table anew. Released settings that fail on a small model are told as they
are. Seconds are the processor's.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib import errors, files, paths, progress
from lib.api import methods_table
from lib.api.editing import METHODS, edit
from lib.api.saved_edits import TENSORS
from lib.causal_lm.backbones import SMOLLM2, load_causal_lm
from lib.errors import DivergedError, UserError
from lib.reporting import pages
from lib.series.lemoe.fact_edits import fact_edits

DOCS = paths.ROOT / "docs/library.md"
FIRST, EDITS, BATCHES = 100, 8, 2  # edits beyond those that any setting was chosen on


def measure(method: str, tuned: bool, model: Any, tokenizer: Any) -> dict[str, Any]:
    """Edit in batches, save, score and undo; returns the method's row, or the line that it fails with."""
    every = fact_edits("tuning")[FIRST : FIRST + EDITS]
    size = EDITS // BATCHES
    try:
        began = time.process_time()
        with edit(model, tokenizer, every[:size], method, tuned=tuned) as edited, tempfile.TemporaryDirectory() as name:
            first = time.process_time() - began
            for start in range(size, EDITS, size):
                began = time.process_time()
                edited.add(every[start : start + size])
                last = time.process_time() - began
            scores = edited.scores()
            edited.save(name)
            stored = (Path(name) / TENSORS).stat().st_size
    except (UserError, DivergedError) as error:
        return {"failed": str(error)}
    found = {key: round(value, 4) for key, value in scores.items() if value is not None}
    return {"first_seconds": round(first, 2), "seconds_an_edit": round(last / size, 3), "bytes": stored, **found}


def variants(asked: str) -> list[tuple[str, bool]]:
    """Return what "wise" (both of its settings) or "wise/tuned" asks for: (method, whether tuned) each."""
    name, _, settings = asked.partition("/")
    method = METHODS[name]
    every = {method.defaults: (name, False), **({"tuned": (name, True)} if method.tuned else {})}
    if settings and settings not in every:
        raise UserError(f"{name} has no settings {settings!r}: choose of {', '.join(every)}")
    return [every[settings]] if settings else list(every.values())


def renewed(text: str) -> str:
    """Return the docs' text with the table written anew; `UserError` where its markers are missing."""
    return pages.renewed(text, DOCS, {"methods": methods_table.markdown()})


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the methods, or those given, write the record and the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.benchmarks.library_methods", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="METHOD", default=list(METHODS), help="measure these anew")
    parser.add_argument("--table", action="store_true", help="measure nothing, only write the table of the docs anew")
    given = parser.parse_args(arguments)
    asked = [] if given.table else given.only
    runs = [run for name in asked for run in variants(name)]
    if runs:
        model, tokenizer = load_causal_lm(SMOLLM2, "float32")
        kept = methods_table.measured()["methods"] if methods_table.MEASURED.exists() else {}
        found: dict[str, Any] = {name: dict(rows) for name, rows in kept.items() if name in METHODS}
        told = {"model": "SmolLM2-135M-Instruct", "edits": EDITS, "batches": BATCHES}
        for name, tuned in progress.bar(runs, "methods"):
            row, settings = measure(name, tuned, model, tokenizer), "tuned" if tuned else METHODS[name].defaults
            print(f"{name:16}{settings:10}{row}", flush=True)
            found[name] = dict(sorted({**found.get(name, {}), settings: row}.items()))
            # After each: a run that is stopped leaves what it has.
            whole = {one: found[one] for one in METHODS if one in found}
            files.write_json(methods_table.MEASURED, told | {"methods": whole})
        methods_table.measured.cache_clear()
    files.write_text(DOCS, renewed(DOCS.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    errors.command(main)
