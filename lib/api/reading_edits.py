"""Edits from files: JSON or JSON lines of our fields, CSV, or the field's own files."""

import csv
import io
from pathlib import Path

from lib import paths, strict_json
from lib.causal_lm.edits import Edit, check
from lib.editing import readers
from lib.errors import UserError
from lib.text import json_records
from lib.text.json_records import Record

__all__ = ["read_edits"]

COLUMNS = ("prompt", "target", "subject", "rephrase", "locality_prompt", "locality_answer")
LAYOUT = '{"prompt": ..., "target": ...}'


def read_edits(path: Path | str) -> list[Edit]:
    """Read edits from a file; which layout it has is told by its ending (.csv) and by the fields of its first record.

    Our own layout, JSON (a list) or JSON lines or CSV, has the columns prompt and target, and perhaps subject, rephrase
    (in JSON also a list of them), locality_prompt and locality_answer. ZsRE's, CounterFact's, SelfCheckGPT's and
    QAEdit's files are read as `lib.editing.readers` does. Prompts lose the blanks around them, targets and answers
    begin with one. Raises `UserError` naming file, line or record, field and remedy.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return _edits(_csv(path))
    records = json_records.read(path, "edits", LAYOUT)
    first = records[0]
    if first.has("src") and first.has("alt"):
        return readers.read_zsre(path)
    if first.has("requested_rewrite") or (first.has("target_new") and first.has("ground_truth")):
        return readers.read_counterfact(path)
    if first.has("target_new"):
        return readers.read_selfcheckgpt(path)
    if first.has("target") and isinstance(first.content.get("locality"), dict):
        return readers.read_qaedit(path)
    return _edits(records)


def _csv(path: Path) -> list[Record]:
    """Return the rows of a CSV file; the first line names the columns, an empty field is none."""
    place = paths.relative(path)
    try:
        reader = csv.DictReader(io.StringIO(strict_json.read_text(path), newline=""), strict=True)
        rows, named = list(reader), [name.strip() for name in reader.fieldnames or ()]
    except csv.Error as error:
        raise UserError(f"{place}: broken CSV ({error}); save it again as CSV") from error
    if not rows:
        raise UserError(f"{place}: no edits; the first line names the columns ({', '.join(COLUMNS)})")
    if twice := [name for place, name in enumerate(named) if name in named[:place]]:
        raise UserError(f"{place}: the first line names {strict_json.clip(twice[0])!r} twice: keep one of the columns")
    found = []
    for number, row in enumerate(rows, 2):
        here = f"{place}, row {number}"
        if None in row or None in row.values():
            raise UserError(f"{here}: not as many fields as the first line names; quote fields that hold commas")
        found.append(Record(here, number, {name.strip(): text for name, text in row.items() if text.strip()}))
    return found


def _edits(records: list[Record]) -> list[Edit]:
    return [_edit(record) for record in records]


def _edit(record: Record) -> Edit:
    unknown = next((name for name in record.content if name not in COLUMNS), None)
    if unknown is not None:
        record.refuse(unknown, f"is not known; the fields are {', '.join(COLUMNS)}")
    asked = [record.has(name) for name in COLUMNS[4:]]
    if any(asked) and not all(asked):
        record.refuse(COLUMNS[4 + asked.index(False)], "is missing, but not its fellow; give both or none")
    edit = Edit(
        record.text("prompt"),
        f" {record.text('target')}",
        record.text("subject") if record.has("subject") else None,
        record.texts("rephrase") if record.has("rephrase") else (),
        (record.text("locality_prompt"), f" {record.text('locality_answer')}") if all(asked) else None,
    )
    try:
        check(edit)
    except UserError as error:
        raise UserError(f"{record.place}: {error}") from error
    return edit
