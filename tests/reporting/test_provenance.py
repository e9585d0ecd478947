"""From a number to its records: what flows through the names of a notebook, and what the JSON then says."""

import builtins
import json
import textwrap

import pytest
from IPython.core.interactiveshell import InteractiveShell

from lib import records
from lib.reporting import provenance, tables
from lib.reporting.figures import show_caption
from lib.reporting.provenance import Source

HISTORIC = Source("s/old", "data/results/gpu/s/old.json", "d", historic=True)


class Notebook:
    """Cells run by IPython; in them `read(name)` reads a record and `told()` says what a figure would name."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        shell.user_ns |= {"read": self.read, "told": lambda: [source.case for source in provenance.sources()]}

    def read(self, name: str) -> dict:
        provenance._hear(Source(name, f"data/results/cpu/{name}.json", "d"))
        return {"name": name}

    def __call__(self, cell: str) -> None:
        result = self.shell.run_cell(textwrap.dedent(cell), store_history=False)  # as nbval does
        result.raise_error()

    def __getitem__(self, name: str) -> list[str]:
        return self.shell.user_ns[name]


@pytest.fixture
def notebook(monkeypatch):
    shell = InteractiveShell()
    shell.history_manager.enabled = False
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    monkeypatch.setattr(provenance, "_ALL", {})
    monkeypatch.setattr(provenance, "_TRACKERS", {})
    notebook = Notebook(shell)
    notebook("first = 1")
    provenance.sources()  # as the import of `lib.reporting.tables` does
    return notebook


def test_a_table_names_the_records_of_its_rows_and_not_those_of_the_table_before(notebook):
    notebook("a = read('a')\nb = read('b')")
    notebook("rows = [a]\nfirst_told = told()\nfirst = (rows, told())[1]")
    notebook("rows = [b]")
    notebook("frame = list(rows)\nfound = (frame, told())[1]")
    assert notebook["first"] == ["a"]
    assert notebook["found"] == ["b"]
    assert notebook["first_told"] == []  # nothing is read there


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (["rows = []", "rows.append(read('a'))"], "a"),
        (["rows = [{}]", "rows[-1]['x'] = read('a')"], "a"),
        (["rows = [{}]", "rows[-1] |= read('a')"], "a"),
        (["rows = [{}]", "row = rows[-1]", "row.update(read('a'))"], "a"),
        (["pairs = {'x': {}}", "for _, one in pairs.items():\n    one.update(read('a'))", "rows = list(pairs)"], "a"),
        (["rows, other = [], []", "def add(one):\n    rows.append(read(one))", "add('a')"], "a"),
        (["def found(name):\n    return read(name)", "rows = {n: found(n) for n in ('a', 'b')}"], "ab"),
        (["def kept():\n    return known", "known = read('a')", "rows = kept()"], "a"),
        (
            ["def kept():\n    return known\n\n\ndef more():\n    return kept()", "known = read('a')", "rows = more()"],
            "a",
        ),
        (["known = read('a')", "rows = sorted(x for known in [[1]] for x in known)"], ""),
        (["known = read('a')", "rows = list(map(lambda known: known, [1]))"], ""),
        (["known = read('a')", "rows = list(map(lambda x: (x, known), [1]))"], "a"),
        (["rows = read('a')", "if 1 > 2:\n    rows = read('b')"], "a"),
        (["rows = read('a')", "for one in ('b', 'c'):\n    rows = read(one)"], "bc"),
        (["x = read('a')", "import json as x", "rows = x"], ""),
        (["rows: dict = read('a')"], "a"),
        (["rows = [1]", "rows += [read('a')]"], "a"),
        (["text = 'x'", "print(text, read('a'))", "rows = text"], ""),
        (["y = read('b')\nx = read('a')\nrows = x"], "a"),
        (["with open('/dev/null') as f:\n    rows = read('a'), f"], "a"),
        (["try:\n    rows = read('a')\nfinally:\n    pass"], "a"),
        (["one = read('a')", "class Kept:\n    def of(self):\n        return one", "rows = Kept().of()"], "a"),
        (["(one := read('a'))", "rows = one"], "a"),
    ],
)
def test_records_flow_through_the_statements_of_cells(notebook, cells, found):
    for cell in cells:
        notebook(cell)
    notebook("names = (rows, told())[1]")
    assert "".join(notebook["names"]) == found


def test_what_a_loop_writes_names_what_it_has_read_so_far(notebook):
    notebook("found = {}\nfor name in 'ab':\n    one = read(name)\n    found[name] = told()")
    assert notebook["found"] == {"a": ["a"], "b": ["a", "b"]}


def test_a_cell_that_failed_or_does_not_parse_leaves_the_rest_right(notebook):
    with pytest.raises(ZeroDivisionError):
        notebook("rows = read('a')\n1 / 0")
    with pytest.raises(SyntaxError):
        notebook("rows = = 2")
    notebook("names = (rows, told())[1]")
    assert notebook["names"] == ["a"]


def test_records_read_before_the_first_table_is_imported_count(monkeypatch):
    shell = InteractiveShell()
    shell.history_manager.enabled = False
    monkeypatch.setattr(provenance, "_TRACKERS", {})
    monkeypatch.setattr(provenance, "_ALL", {Source("early", "data/results/cpu/early.json", "d"): None})
    notebook = Notebook(shell)
    for name in ("read", "told"):  # not names of the notebook
        monkeypatch.setattr(builtins, name, shell.user_ns.pop(name), raising=False)
    notebook("rows = 1\nother = 2")
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    notebook("one = 1\ntold()\nlater = read('a')\nlast = (later, told())[1]\nalone = (1, told())[1]")
    assert notebook["last"] == ["a"]
    assert notebook["alone"] == []
    notebook("names = (rows, told())[1]\nnone = (first_cell := 1, told())[1]")
    assert notebook["names"] == ["early"]
    assert notebook["none"] == []


def test_outside_a_notebook_all_records_count_each_once_and_sorted(monkeypatch):
    monkeypatch.setattr(provenance, "_ALL", {})
    listed = [Source(case, f"data/results/cpu/{case}.json", "d") for case in ("s/b", "s/a", "s/b")]
    provenance.read_through({"records": [source.entry() for source in listed]})
    content = json.loads(provenance.json_of({"caption": "c"}))
    assert content["caption"] == "c"
    assert content["records"] == [listed[1].entry(), listed[0].entry()]
    assert content["records"][0] == {"case": "s/a", "record": "data/results/cpu/s/a.json", "digest": "d"}


def test_a_record_of_a_run_from_scratch_is_named_as_it_lies_in_the_project(monkeypatch, tmp_path):
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path))
    read = records.store.Read("s/a", tmp_path / "results/cpu/s/a.json", "d")
    assert provenance._source(read) == Source("s/a", "data/results/cpu/s/a.json", "d")


def test_a_caption_says_what_is_historic(monkeypatch):
    monkeypatch.setattr(provenance, "_ALL", {})
    assert provenance.captioned("Rows.") == "Rows."
    provenance.read_through({"records": [HISTORIC.entry()]})
    assert HISTORIC.entry()["historic"] is True
    sentence = "Rows of profile gpu are historic: computed on another machine, not computed again since"
    table = tables.Table(tables.pd.DataFrame({"a": ["x"]}), "Rows.", "s/rows")
    assert all(sentence in text for text in (table.plain(), table.html(), table.markdown(), table.latex()))
    show_caption(provenance.captioned("Rows."))
