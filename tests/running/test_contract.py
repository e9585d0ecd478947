"""The contract in a notebook's metadata: read, refused with notebook and field, and unique over all notebooks."""

import json
from pathlib import Path

import pytest

from lib import paths
from lib.errors import UserError
from lib.running import contract

FIXTURES = Path(__file__).parents[1] / "fixtures/notebooks"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Write the well-behaved notebook, with changes to its contract, into a folder of notebooks of its own."""
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")

    def write(name="1_series/1.1_first", **changes):
        content = json.loads((FIXTURES / "well_behaved.ipynb").read_text())
        content["metadata"]["reproduction"] |= changes
        path = paths.NOTEBOOKS / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    return write


def test_names_the_notebook_and_every_file_it_promises(notebook):
    path = notebook(writes=["s/curve", "s/scores"], kinds={"s/scores": "table", "s/curve": "figure"})
    loaded = contract.load(path)
    assert loaded.name == "1_series/1.1_first"
    assert loaded.minutes.cpu == 0.1
    assert loaded.files == [
        *("s/curve.png", "s/curve.pdf", "s/curve.json"),
        *("s/scores.csv", "s/scores.md", "s/scores.tex", "s/scores.json"),
    ]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"claim": ""}, "claim"),
        ({"claim": "two\nlines"}, "claim"),
        ({"minutes": {"cpu": 1.0}}, "minutes.smoke"),
        ({"minutes": {"cpu": 1.0, "smoke": -1.0}}, "minutes.smoke"),
        ({"minutes": {"cpu": 1.0, "smoke": 1.0, "note": "two\nlines"}}, "minutes.note"),
        ({"load": "heavy"}, "load"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "600"}, "timeout"),
        ({"writes": ["a/b"], "kinds": {"a/b": "picture"}}, "kinds.a/b"),
        ({"writes": ["a/b", "a/b"], "kinds": {"a/b": "table"}}, "writes and kinds"),
        ({"writes": ["a/b"], "kinds": {"a/c": "table"}}, "writes and kinds"),
        ({"writes": ["../b"], "kinds": {"../b": "table"}}, "writes.0"),
        ({"writes": ["/b"], "kinds": {"/b": "table"}}, "writes.0"),
        ({"writes": [""], "kinds": {"": "table"}}, "writes.0"),
        ({"minuets": 3}, "minuets"),
    ],
)
def test_refuses_a_wrong_field_in_one_line_that_names_notebook_and_field(notebook, changes, place):
    path = notebook(**changes)
    with pytest.raises(UserError) as caught:
        contract.load(path)
    assert "1.1_first.ipynb" in str(caught.value)
    assert place in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "not a notebook"), ("[]", "not a notebook"), ('{"nbformat": 3}', "format 4")]
)
def test_refuses_what_is_no_notebook(tmp_path, text, reason):
    path = tmp_path / "broken.ipynb"
    path.write_text(text)
    with pytest.raises(UserError, match=reason):
        contract.load(path)
    with pytest.raises(UserError, match=r"absent\.ipynb: no such notebook"):
        contract.load(tmp_path / "absent.ipynb")


def test_refuses_a_notebook_without_contract():
    with pytest.raises(UserError, match=r"no_contract\.ipynb: no `reproduction`"):
        contract.load(FIXTURES / "no_contract.ipynb")


def test_lists_notebooks_in_reading_order_without_checkpoints(notebook):
    for name in ("2_b/2.1_x", "1_a/1.2_y", "1_a/1.1_z", "0_start", "1_a/.ipynb_checkpoints/1.1_z-checkpoint"):
        notebook(name, writes=[name[-1] + "/t"], kinds={name[-1] + "/t": "table"})
    assert [found.name for found in contract.all_notebooks()] == ["0_start", "1_a/1.1_z", "1_a/1.2_y", "2_b/2.1_x"]


def test_refuses_a_file_promised_by_two_notebooks(notebook):
    notebook("1_a/1.1_x")
    notebook("1_a/1.2_y")
    with pytest.raises(UserError, match=r"1\.2_y\.ipynb: promises fixtures/well_behaved\.csv, as 1_a/1\.1_x does"):
        contract.all_notebooks()


ABOUT = """## About this notebook

| | |
|---|---|
| Paper item | Table 0 |
| Claim | Half \\| 0.5. |
| Minutes | 2 (`smoke`), 0.1 (`cpu`) on 2 cores with records; an hour without |
| Files | [x](../../figures/s/x.json), [y](../../figures/s/y.json): numbers, and the records they come from |"""
CHANGES = {
    "title": "A | fixture",
    "claim": "Half | 0.5.",
    "minutes": {"smoke": 2.0, "cpu": 0.1, "note": "an hour without"},
    "cases": ["s"],
    "writes": ["s/x", "s/y"],
    "kinds": {"s/x": "table", "s/y": "figure"},
}


@pytest.mark.parametrize(
    ("before", "prose"),
    [
        ("# 1.1 Old\n\nProse.\n\n| a | b |", "Prose.\n\n| a | b |"),
        ("A question?\nOf two lines.", "A question?\nOf two lines."),
        ("# 1.1 Old\n", ""),
        ("", ""),
    ],
)
def test_writes_the_heading_and_the_last_cell_and_keeps_the_prose(notebook, before, prose):
    path = notebook(**CHANGES)
    content = json.loads(path.read_text())
    content["cells"][0]["source"] = before
    path.write_text(json.dumps(content))
    assert not contract.is_framed(contract.load(path))
    assert contract.renew(path)
    written = json.loads(path.read_text())
    assert "".join(written["cells"][0]["source"]) == "# 1.1 A | fixture" + (f"\n\n{prose}" if prose else "")
    assert written["cells"][1:-1] == content["cells"][1:]
    assert "".join(written["cells"][-1]["source"]) == ABOUT
    assert written["metadata"] == content["metadata"]
    first = path.read_bytes()
    assert contract.is_framed(contract.load(path))
    assert not contract.renew(path)
    assert path.read_bytes() == first


def test_a_changed_promise_is_written_into_the_one_last_cell(notebook):
    path = notebook(**CHANGES)
    contract.renew(path)
    content = json.loads(path.read_text())
    content["metadata"]["reproduction"]["claim"] = "A third."
    path.write_text(json.dumps(content))
    assert contract.renew(path)
    abouts = [cell for cell in json.loads(path.read_text())["cells"] if cell["id"] == "about"]
    assert ["".join(cell["source"]) for cell in abouts] == [ABOUT.replace("Half \\| 0.5.", "A third.")]


def test_the_last_cell_leads_to_the_notebooks_before_and_after(notebook):
    for place, name in enumerate(("0_start", "1_a/1.1_x", "2_b/2.1_y")):
        notebook(name, title=f"Title {place}", writes=[f"s/{place}"], kinds={f"s/{place}": "table"})
    lines = []
    for promise in contract.all_notebooks():
        contract.renew(promise.notebook)
        lines.append("".join(contract.read(promise.notebook)["cells"][-1]["source"]).splitlines()[-1])
    assert lines == [
        "Next: [1.1 Title 1](1_a/1.1_x.ipynb)",
        "Previous: [0 Title 0](../0_start.ipynb) · Next: [2.1 Title 2](../2_b/2.1_y.ipynb)",
        "Previous: [1.1 Title 1](../1_a/1.1_x.ipynb)",
    ]


def test_a_notebook_without_a_first_text_is_refused(notebook):
    path = notebook()
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"cells": content["cells"][1:]}))
    with pytest.raises(UserError, match=r"1\.1_first\.ipynb: the first cell is not text"):
        contract.renew(path)


def test_the_command_names_what_differs_and_writes_it(notebook, monkeypatch, capsys):
    notebook()
    monkeypatch.setattr("sys.argv", ["contract", "1_series"])
    assert contract.main() == 1
    monkeypatch.setattr("sys.argv", ["contract", "--write"])
    assert contract.main() == 0
    assert "1.1_first.ipynb: written" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["contract"])
    assert contract.main() == 0
