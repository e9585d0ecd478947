"""From a number to its record in two steps: the notebook links to its numbers, and these name records that exist."""

import json
import re
from pathlib import Path

import pytest

from lib import paths
from lib.records.files import outputs_digest
from lib.running import contract

NOTEBOOKS = contract.all_notebooks()
LINK = re.compile(r"\]\(([^()]+\.json)\)")


def linked(promise: contract.Contract) -> list[Path]:
    """Files that the last cell of a notebook links to, as a reader's click resolves them."""
    text = "".join(contract.read(promise.notebook)["cells"][-1]["source"])
    return [(promise.notebook.parent / target).resolve() for target in LINK.findall(text)]


@pytest.mark.parametrize("promise", NOTEBOOKS, ids=lambda promise: promise.name)
def test_the_last_cell_is_what_the_contract_writes_and_links_to_every_file(promise):
    assert contract.is_framed(promise), "run `python -m lib.running.contract --write`"
    assert linked(promise) == [paths.FIGURES / f"{stem}.json" for stem in promise.writes]
    assert [path for path in linked(promise) if not path.is_file()] == []


@pytest.mark.parametrize("promise", NOTEBOOKS, ids=lambda promise: promise.name)
def test_every_link_leads_to_records_with_the_digest_that_was_read(promise):
    for path in linked(promise):
        told = json.loads(path.read_text())
        assert "records" in told, f"{paths.relative(path)} names no records: run `make notebooks ONLY={promise.name}`"
        assert told["records"] == sorted(told["records"], key=lambda entry: (entry["case"], entry["record"]))
        for entry in told["records"]:
            file = paths.ROOT / entry["record"]
            record = json.loads(file.read_text())
            assert (record["case"], outputs_digest(file)) == (entry["case"], entry["digest"]), path
            assert bool(record.get("historic")) == entry.get("historic", False)
            assert not entry.get("historic") or "are historic" in told["caption"]
        judged = "verdict" in told and any(row["over"] != "not recorded" for row in told["rows"])
        assert told["records"] or not judged, path
