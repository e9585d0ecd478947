"""Every committed notebook, run by nbval against its stored outputs; and the gate itself, which must be alive."""

import copy
import datetime
import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import nbval.plugin
import pytest

from lib import paths
from lib.running import contract, tolerances
from tests.notebooks import gate

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests/fixtures/notebooks/recorded.ipynb"
NOTEBOOKS = sorted(path for path in paths.NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
SKIPS = gate.read_skips()
WORK_FIGURES = paths.work_figures("cpu")
TODAY = datetime.datetime.now(datetime.UTC).date()

# The notebook whose live cells a flipped sign must change, the module, its line, and the line with the sign flipped.
MUTATIONS = [
    ("1_infodiffusion/1.1_noise_schedule", "diffusion/schedule.py", "1 - fraction + lam *", "1 - fraction - lam *"),
    ("1_infodiffusion/1.2_keyinfo_first", "diffusion/process.py", "((output - aim) ** 2)", "((output + aim) ** 2)"),
    ("3_lemoe/3.2_method", "lemoe/router.py", "return self.values(anchors) @", "return -self.values(anchors) @"),
]

every_notebook = pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=contract.name(path), marks=pytest.mark.xdist_group(f"notebook {contract.name(path)}"))
        for path in NOTEBOOKS
    ],
)


def test_the_notebooks_of_the_project_are_found():
    chapters = ("1.1_noise_schedule", "1.2_keyinfo_first", "1.4_ablation", "1.5_decoding_order")
    editing = {"3_lemoe/3.2_method", "3_lemoe/3.3_main_table"}
    assert {"0_start_here", *editing, *(f"1_infodiffusion/{chapter}" for chapter in chapters)} <= {
        contract.name(path) for path in NOTEBOOKS
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=contract.name)
def test_notebook_is_kept_as_the_gate_needs_it(path):
    assert gate.faults(path, SKIPS) == []


@every_notebook
def test_notebook_gives_its_stored_values_again(path, tmp_path):
    reasons = [skip.reason for skip in SKIPS if skip.notebook == contract.name(path) and skip.cell is None]
    if reasons:
        pytest.skip(reasons[0])
    outcome = gate.run_nbval(path, tmp_path / "report.xml", {"REPRODUCTION_RECORDS": "read"})
    assert outcome.cells > 0
    assert outcome.failed == [], outcome.output
    # The run has just drawn and written everything again: its numbers must be the published ones, of the same records.
    near = tolerances.SAME_RECORDS
    for stem in contract.load(path).writes:
        published, drawn = (json.loads((at / f"{stem}.json").read_text()) for at in (paths.FIGURES, WORK_FIGURES))
        assert tolerances.differences(published, drawn, near.rtol, near.atol) == []
        assert drawn["records"] == published["records"], stem


@pytest.mark.parametrize("path", NOTEBOOKS, ids=contract.name)
def test_every_promised_file_is_published(path):
    assert [file for file in contract.load(path).files if not (paths.FIGURES / file).is_file()] == []


def test_every_published_file_is_promised():
    promised = {file for path in NOTEBOOKS for file in contract.load(path).files}
    published = {path.relative_to(paths.FIGURES).as_posix() for path in paths.FIGURES.rglob("*") if path.is_file()}
    assert published <= promised


def test_every_skip_is_used_and_has_a_reason_and_an_end():
    assert gate.skip_faults(SKIPS, NOTEBOOKS, TODAY) == []


@pytest.mark.parametrize(("name", "module", "line", "flipped"), MUTATIONS)
@pytest.mark.xdist_group("alive")
def test_a_flipped_sign_makes_a_notebook_fail(tmp_path, name, module, line, flipped):
    project = tmp_path / "project"
    notebook = project / "notebooks" / f"{name}.ipynb"
    notebook.parent.mkdir(parents=True)
    content = nbformat.read(paths.NOTEBOOKS / f"{name}.ipynb", as_version=4)
    # Up to the live cell, without the answer in short: what follows, and that, reads records and takes longer.
    live = max(number for number, cell in enumerate(content.cells) if "live" in cell.metadata.get("tags", []))
    content.cells = [cell for cell in content.cells[: live + 1] if "**In short.**" not in cell.source]
    nbformat.write(content, notebook)
    os.symlink(paths.DATA, project / "data")
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    variables = {"REPRODUCTION_ROOT": str(project), "PYTHONPATH": str(tmp_path), "REPRODUCTION_STALE": "allow"}
    assert gate.run_nbval(notebook, tmp_path / "sound.xml", variables).failed == []

    source = (tmp_path / "lib" / module).read_text()
    assert source.count(line) == 1
    (tmp_path / "lib" / module).write_text(source.replace(line, flipped))
    mutated = gate.run_nbval(notebook, tmp_path / "mutated.xml", variables)
    assert mutated.failed
    assert "Cell outputs differ" in mutated.output


def rules():
    """Sanitizer rules as written in the file: name, example, regex, replacement."""
    blocks = re.split(r"^\[(.*)\]$", gate.SANITIZE.read_text(), flags=re.MULTILINE)[1:]
    for name, block in zip(blocks[::2], blocks[1::2], strict=True):
        lines = dict(line.split(":", 1) for line in block.strip().splitlines())
        yield name, lines["example"].strip(), lines["regex"], lines["replace"]


def test_nbval_loads_every_sanitizer_rule():
    loaded = nbval.plugin.get_sanitize_patterns(gate.SANITIZE.read_text())
    assert loaded == [(regex.removeprefix(" "), replace.removeprefix(" ")) for _, _, regex, replace in rules()]
    for (regex, replace), (name, example, _, _) in zip(loaded, rules(), strict=True):
        assert re.sub(regex, replace, example) != example, name
    # The trap: without a blank after the colon the rule is not loaded, and nothing says so.
    assert nbval.plugin.get_sanitize_patterns("regex: a\nreplace:\n") == []


def test_every_sanitizer_rule_fires_in_nbval_and_nothing_passes_without_it(tmp_path):
    notebook = nbformat.read(FIXTURE, as_version=4)
    examples = [example for _, example, _, _ in rules()]
    digits = str.maketrans("0123456789", "0234567891")
    cells = [copy.deepcopy(notebook.cells[2]) for _ in examples]
    for number, (cell, example) in enumerate(zip(cells, examples, strict=True), 1):
        cell.update(id=f"rule-{number}", execution_count=number, source=f"print({example!r})")
        cell.outputs[0].text = example.translate(digits) + "\n"
    notebook.cells = cells
    nbformat.write(notebook, tmp_path / "rules.ipynb")
    (tmp_path / "no_rules.cfg").write_text("")
    with_rules = gate.run_nbval(tmp_path / "rules.ipynb", tmp_path / "with.xml", {})
    without = gate.run_nbval(tmp_path / "rules.ipynb", tmp_path / "without.xml", {}, tmp_path / "no_rules.cfg")
    assert (with_rules.failed, with_rules.cells) == ([], len(examples))
    assert without.failed == list(range(len(examples)))


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """The recorded fixture, as a notebook of a project, with a function to change its JSON."""
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    path = tmp_path / "recorded.ipynb"
    shutil.copy(FIXTURE, path)

    def change(edit):
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))
        return path

    return change


def output(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def caption(text):
    return {"output_type": "display_data", "data": {"text/markdown": text}, "metadata": {}}


def test_lines_of_an_environment_end_with_two_backslashes(recorded):
    text = "$$\\begin{aligned} x &= 1 \\\\ y &= 2 \\\\\n z &= 3 \\end{aligned}$$ and $\\bar x$"
    found = gate.faults(recorded(lambda notebook: notebook["cells"][0]["source"].append(text)))
    assert [fault for fault in found if "backslash" in fault] == []


def test_a_recorded_notebook_has_no_fault(recorded):
    assert gate.faults(recorded(lambda notebook: None)) == []
    assert gate.compared_cells(contract.read(FIXTURE)) == ["recorded-2"]


# Cell 2 of the fixture is its compared cell.
@pytest.mark.parametrize(
    ("fault", "edit"),
    [
        ("execution counts are [1, None]", lambda n: n["cells"][2].update(execution_count=None)),
        ("execution counts are [1, 3]", lambda n: n["cells"][2].update(execution_count=3)),
        ("no cell with the tag", lambda n: n["cells"][2]["outputs"].clear()),
        ("no cell with the tag", lambda n: n["cells"][2]["metadata"].clear()),
        ("no cell with the tag", lambda n: n["cells"][2].update(outputs=[output("<Figure size 640x480 with 1 Axes>")])),
        ("not in skips.json", lambda n: n["cells"][2]["metadata"]["tags"].append("nbval-skip")),
        ("by a comment", lambda n: n["cells"][2].update(source="# NBVAL_IGNORE_OUTPUT\nprint(0.5)")),
        ("more than 14 lines", lambda n: n["cells"][2].update(source="half = 0.5\n" * 15)),
        ("belongs to lib/", lambda n: n["cells"][2].update(source="class Half:\n    value = 0.5")),
        ("parameters were injected", lambda n: n["cells"][2]["metadata"]["tags"].append("injected-parameters")),
        ("doubled backslash: \\\\b", lambda n: n["cells"][0]["source"].append("$\\\\bar x$")),
        ("doubled backslash: $x \\\\ y$", lambda n: n["cells"][0]["source"].append("$x \\\\ y$")),
        ("backslash was meant: '\\x08ar x$'", lambda n: n["cells"][0]["source"].append("$\bar x$")),
        ("backslash was meant: '\\text{x'", lambda n: n["cells"][0]["source"].append("$\text{x}$")),
        ("doubled backslash: \\\\b", lambda n: n["cells"][2]["outputs"].append(caption("$\\\\bar x$"))),
        ("does not save", lambda n: n["cells"][2].update(source="figure, axes = plt.subplots()")),
        ("shows unfinished", lambda n: n["cells"][2].update(source="figures.save(figure)")),
        ("is an error", lambda n: n["cells"][2]["outputs"].append({"output_type": "error", "traceback": ["x"]})),
        ("standard error", lambda n: n["cells"][2]["outputs"].append(output("Warning: x", "stderr"))),
        ("absolute path: /home/m", lambda n: n["cells"][2]["outputs"].append(output("saved as /home/me/x.png"))),
        ("absolute path: C:\\U", lambda n: n["cells"][2]["outputs"].append(output("in C:\\Users\\me"))),
        ("memory address", lambda n: n["cells"][2]["outputs"].append(output("<object object at 0x7f3a2c10b5d0>"))),
        ("larger than 2 MB", lambda n: n["cells"][2]["outputs"].append(output("x" * 2_000_000))),
        ("no id", lambda n: n["cells"][2].pop("id")),
        ("papermill's times", lambda n: n["metadata"].update(papermill={"duration": 1.0})),
        ("no `reproduction`", lambda n: n["metadata"].pop("reproduction")),
        ("kernelspec.name", lambda n: n["metadata"]["kernelspec"].update(name="mine")),
        ("| Paper item | Table 9 |", lambda n: n["metadata"]["reproduction"].update(item="Table 9")),
        ("| Claim | Half is 1. |", lambda n: n["metadata"]["reproduction"].update(claim="Half is 1.")),
        ("0.1 (`smoke`), 7 (`cpu`)", lambda n: n["metadata"]["reproduction"]["minutes"].update(cpu=7)),
        (
            "[x](../figures/s/x.json)",
            lambda n: n["metadata"]["reproduction"].update(writes=["s/x"], kinds={"s/x": "table"}),
        ),
        ("first cell is not text", lambda n: n["cells"].pop(0)),
    ],
)
def test_the_gate_sees_each_fault(recorded, fault, edit):
    assert [found for found in gate.faults(recorded(edit)) if fault in found]


def test_links_and_relative_paths_are_no_absolute_paths(recorded):
    text = "figures/tmp/x.png, https://example.org/home/me, 3/4, and/or"
    assert gate.faults(recorded(lambda notebook: notebook["cells"][2]["outputs"].append(output(text)))) == []


def test_a_skip_must_be_used_reasoned_and_not_over(recorded):
    path = recorded(lambda notebook: notebook["cells"][2]["metadata"]["tags"].append("nbval-skip"))
    good = gate.Skip("recorded", "recorded-2", "waits for a release", "2999-12-31")
    assert gate.skip_faults([good], [path], TODAY) == []
    assert [fault for fault in gate.faults(path, [good]) if "skips.json" in fault] == []
    bad = [
        gate.Skip("gone", None, "waits", "2999-12-31"),
        gate.Skip("recorded", "recorded-1", "waits", "2999-12-31"),
        gate.Skip("recorded", None, " ", "2999-12-31"),
        gate.Skip("recorded", None, "waits", "2001-01-01"),
    ]
    found = gate.skip_faults(bad, [path], TODAY)
    assert found == [
        "gone: skips nothing",
        "recorded recorded-1: skips nothing",
        "recorded: no reason",
        "recorded: over since 2001-01-01",
    ]
