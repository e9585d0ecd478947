"""Strict papermill: each fixture notebook is one way to fail, refused before a kernel or kept apart after it."""

import errno
import inspect
import json
import os
import shutil
import sys
from pathlib import Path

import jupyter_client.client
import nbformat
import papermill
import pytest

from lib import errors, paths
from lib.errors import UserError
from lib.running import contract, execution, kernels, last_runs, parameters

FIXTURES = Path(__file__).parents[1] / "fixtures/notebooks"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project, for this process and for the kernels it starts."""
    for name in ("ROOT", "NOTEBOOKS", "FIGURES", "BUILD"):
        monkeypatch.setattr(paths, name, tmp_path / ("" if name == "ROOT" else name.lower()))
    return tmp_path


@pytest.fixture
def no_kernel(project, monkeypatch):
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_parameters_tag", "0 cells have the tag `parameters`"),
        ("two_parameters_tags", "2 cells have the tag `parameters`"),
        ("unannotated_parameter", "line 2: `seed = 0`: write `name: int"),
        ("derived_parameter", "line 2: .* has a derived value"),
        ("wrong_kernel", "kernelspec.name is 'my-project-env'"),
        ("no_contract", "no `reproduction`"),
        ("wrong_contract", "minutes.smoke"),
        ("absent", "no such notebook"),
    ],
)
def test_refuses_a_wrong_notebook_before_a_kernel_starts(no_kernel, name, reason):
    with pytest.raises(UserError, match=rf"{name}\.ipynb.*{reason}"):
        execution.run(FIXTURES / f"{name}.ipynb")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"sede": 1}, "unknown parameter 'sede': it has profile, seed, rate, fast"),
        ({"rate": "1e-4"}, "rate = '1e-4' is not of type float"),
        ({"seed": 1.0}, "seed = 1.0 is not of type int"),
        ({"seed": True}, "seed = True is not of type int"),
        ({"fast": 1}, "fast = 1 is not of type bool"),
    ],
)
def test_refuses_a_wrong_value_before_a_kernel_starts(no_kernel, values, reason):
    with pytest.raises(UserError, match=reason):
        execution.run(FIXTURES / "well_behaved.ipynb", "cpu", values)


def test_refuses_an_unknown_profile_before_a_kernel_starts(no_kernel):
    with pytest.raises(UserError, match="laptop"):
        execution.run(FIXTURES / "well_behaved.ipynb", "laptop")


def test_refuses_to_record_what_is_not_the_reference(no_kernel):
    for profile, values in [("smoke", {}), ("cpu", {"seed": 1})]:
        with pytest.raises(UserError, match="drop --record"):
            execution.run(FIXTURES / "well_behaved.ipynb", profile, values, record=True)


def test_refuses_an_output_without_a_place_before_a_kernel_starts(no_kernel, project, monkeypatch):
    notebook = FIXTURES / "well_behaved.ipynb"
    (project / "file").write_text("")
    for output, reason in [
        (project, "a folder: name the file"),
        (project / "file/x.ipynb", "file.*name a folder|folder is needed"),
    ]:
        with pytest.raises(UserError, match=reason):
            execution.run(notebook, "cpu", output=output)
    with monkeypatch.context() as within:
        within.setenv("REPRODUCTION_WORK_ROOT", str(project / "file"))
        with pytest.raises(UserError, match=r"REPRODUCTION_WORK_ROOT=.*: a file: name a folder"):
            execution.run(notebook)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(UserError, match="1 MiB are free on its disk"):
        execution.run(notebook)


def test_a_disk_that_runs_full_in_a_run_is_one_line(project, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "partial.ipynb")

    monkeypatch.setattr(papermill, "execute_notebook", full)
    with pytest.raises(execution.NotebookFailedError, match="no space left on device: free some"):
        execution.run(FIXTURES / "well_behaved.ipynb")


def test_parses_texts_of_the_command_line_strictly():
    def value(name, text):
        return parameters.parse(FIXTURES / "well_behaved.ipynb", [(name, text)])[name]

    assert (value("seed", "-3"), value("rate", "1e-4"), value("rate", "2")) == (-3, 1e-4, 2.0)
    assert (value("fast", "true"), value("fast", "False"), value("profile", "7")) == (True, False, "7")
    for name, text in [("seed", "1.0"), ("seed", "1_0"), ("rate", "nan"), ("rate", "1,5"), ("fast", "1")]:
        assert value(name, text) == text  # stays text, which `changes` refuses
        with pytest.raises(UserError, match=f"parameter {name}"):
            parameters.changes(FIXTURES / "well_behaved.ipynb", {name: text})


def test_passes_on_only_what_differs_from_the_defaults():
    values = {"profile": "cpu", "seed": 0, "rate": 1e-3, "fast": True}
    assert parameters.changes(FIXTURES / "well_behaved.ipynb", values) == {"fast": True}


@pytest.mark.parametrize(
    "source", ["lr: float = x", "n: int = 1.5", "n: int", "n: list = []", "import os", "f()", "n: int = "]
)
def test_refuses_parameters_that_are_no_plain_typed_values(tmp_path, source):
    notebook = nbformat.read(FIXTURES / "well_behaved.ipynb", as_version=4)
    notebook.cells[1].source = source
    nbformat.write(notebook, tmp_path / "n.ipynb")
    with pytest.raises(UserError, match=r"n\.ipynb: parameters cell, line 1"):
        parameters.declared(tmp_path / "n.ipynb")


def test_a_good_run_publishes_records_and_repeats_byte_for_byte(project, capfd):
    notebook = project / "notebooks/1_series/1.1_good.ipynb"
    notebook.parent.mkdir(parents=True)
    notebook.write_bytes((FIXTURES / "well_behaved.ipynb").read_bytes())
    first = execution.run(notebook, record=True)
    assert first.published
    assert "figures/fixtures/well_behaved.csv" in first.changed
    assert "notebooks/1_series/1.1_good.ipynb" in first.changed
    published, committed = files_of(project / "figures"), notebook.read_bytes()
    assert set(published) == {f"fixtures/well_behaved.{suffix}" for suffix in ("csv", "md", "tex", "json")}
    assert (project / "build/notebooks/cpu/1_series/1.1_good.ipynb").read_bytes() == committed

    second = execution.run(notebook, record=True)
    assert second.changed == ()
    assert (files_of(project / "figures"), notebook.read_bytes()) == (published, committed)

    recorded = json.loads(committed)
    original = json.loads((FIXTURES / "well_behaved.ipynb").read_text())
    *between, last = recorded["cells"]
    assert [cell["id"] for cell in between] == [cell["id"] for cell in original["cells"]]
    assert [cell["source"] for cell in between[1:]] == [cell["source"] for cell in original["cells"][1:]]
    assert "".join(between[0]["source"]).startswith("# 1.1 A fixture\n")
    assert "".join(last["source"]).startswith("## About this notebook\n\n| | |\n")
    assert [cell.get("execution_count") for cell in between] == [None, 1, 2, 3]
    assert recorded["metadata"]["reproduction"] == original["metadata"]["reproduction"]
    assert "papermill" not in committed.decode()
    assert "iopub" not in committed.decode()
    assert capfd.readouterr().err == ""  # no warning of the kernel either


def test_a_folder_of_any_name_will_do(project, monkeypatch):
    odd = project / "odd {x} {} 'q\" ü $HOME"
    for name in ("ROOT", "NOTEBOOKS", "FIGURES", "BUILD"):
        monkeypatch.setattr(paths, name, odd / ("" if name == "ROOT" else name.lower()))
    (odd / "notebooks").mkdir(parents=True)
    (odd / "notebooks/good.ipynb").write_bytes((FIXTURES / "well_behaved.ipynb").read_bytes())
    assert execution.run(odd / "notebooks/good.ipynb").published
    assert len(files_of(odd / "figures")) == 4


def test_a_work_root_that_snakemake_cannot_name_is_refused_in_one_line(project, monkeypatch):
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(project / "{x}"))
    with pytest.raises(UserError, match=r"REPRODUCTION_WORK_ROOT=.*\{x\}: braces .*: choose another folder"):
        execution.run(FIXTURES / "well_behaved.ipynb")
    monkeypatch.setattr(paths, "ROOT", project / "{x}")  # in a project of that name all paths are relative
    assert paths.work_root() == project / "{x}"


def test_numbers_that_come_from_another_record_are_published_again(project, monkeypatch):
    monkeypatch.setattr(paths, "work_figures", lambda profile: project / "work")
    promise = contract.load(FIXTURES / "well_behaved.ipynb")
    for file in promise.files:
        for folder in (project / "work", project / "figures"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text('{"rows": [], "records": []}')
    assert execution._publish(promise, "cpu") == []
    (project / "work/fixtures/well_behaved.json").write_text('{"rows": [], "records": [{"digest": "other"}]}')
    assert execution._publish(promise, "cpu") == ["figures/fixtures/well_behaved.json"]


def test_recording_writes_the_first_and_the_last_cell_from_the_contract(project):
    notebook = project / "notebooks/1_series/1.1_good.ipynb"
    notebook.parent.mkdir(parents=True)
    content = json.loads((FIXTURES / "well_behaved.ipynb").read_text())
    content["cells"][0]["source"] = "# Of old\n\nProse."
    notebook.write_text(json.dumps(content))
    execution.run(notebook, record=True)
    first, *_, last = json.loads(notebook.read_text())["cells"]
    assert "".join(first["source"]) == "# 1.1 A fixture\n\nProse."
    assert (last["id"], "".join(last["source"])[:24]) == ("about", "## About this notebook\n\n")


def test_another_seed_is_injected_and_not_published(project):
    outcome = execution.run(FIXTURES / "well_behaved.ipynb", "cpu", {"seed": 5})
    assert not outcome.published
    assert not (project / "figures").exists()
    assert (paths.work_figures("cpu") / "fixtures/well_behaved.csv").read_text() == "5\n"


def test_a_run_from_scratch_stays_in_its_own_folder(project, monkeypatch):
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(project / "build/fresh"))
    execution.run(FIXTURES / "well_behaved.ipynb")
    written = {name.split("/")[1] for name in files_of(project / "build") if name.startswith("fresh/")}
    assert written == {"notebooks", "work"}
    assert not (project / "figures").exists()


@pytest.mark.parametrize(
    ("name", "place", "reason"),
    [
        ("takes_too_long", "cell 4 `import time`", "TimeoutError: the cell took more than 1 s"),
        ("raises", "cell 4 `# The next line fails.`", "ValueError: no sentence for seed 0"),
        ("writes_nothing", "at its end", "BrokenPromise: did not write fixtures/writes_nothing.csv, "),
        ("leaves_early", "cell 3 `import sys`", "SystemExit: "),
        ("dies", "cell 3 `import os`", "DeadKernelError: "),
    ],
)
def test_a_failed_run_is_named_kept_apart_and_publishes_nothing(project, name, place, reason):
    notebook = project / "notebooks" / f"{name}.ipynb"
    notebook.parent.mkdir()
    notebook.write_bytes((FIXTURES / f"{name}.ipynb").read_bytes())
    published = paths.FIGURES / f"fixtures/{name}.csv"
    stale = paths.work_figures("cpu") / f"fixtures/{name}.csv"
    for path in (published, stale):  # of an earlier run
        path.parent.mkdir(parents=True)
        path.write_text("old")
    with pytest.raises(execution.NotebookFailedError) as caught:
        execution.run(notebook, record=True)
    message = str(caught.value)
    assert f"{name}, {place}, after " in message
    assert reason in message
    assert f"build/failed/{name}.ipynb" in message
    assert nbformat.read(project / f"build/failed/{name}.ipynb", as_version=4).cells
    assert notebook.read_bytes() == (FIXTURES / f"{name}.ipynb").read_bytes()
    assert published.read_text() == "old"
    assert not (project / f"build/notebooks/cpu/{name}.ipynb").exists()
    assert json.loads(last_runs.file("cpu", name).read_text())["error"].startswith(reason)


def test_a_kernel_that_ended_before_it_ran_anything_is_started_once_more(project, monkeypatch):
    assert kernels.UNANSWERED in inspect.getsource(jupyter_client.client)
    began, really = [], papermill.execute_notebook

    def unlucky(*places, **settings):
        began.append(len(began))
        if len(began) <= ended:
            raise RuntimeError(kernels.UNANSWERED)
        return really(*places, **settings)

    monkeypatch.setattr(papermill, "execute_notebook", unlucky)
    ended = 1
    execution.run(FIXTURES / "well_behaved.ipynb")
    assert len(began) == 2
    ended = 4
    with pytest.raises(execution.NotebookFailedError, match=f"before its first cell.*\\n.*{kernels.UNANSWERED}"):
        execution.run(FIXTURES / "well_behaved.ipynb")
    assert len(began) == 4


def test_kernels_run_in_the_notebooks_folder_with_the_threads_of_their_load(project, monkeypatch):
    seen = {}

    def record(notebook, _, cwd, **__):
        seen.update(cwd=cwd, environment=dict(os.environ))
        raise RuntimeError("Kernel did not start")

    monkeypatch.setattr(papermill, "execute_notebook", record)
    monkeypatch.setattr(nbformat, "read", lambda *_, **__: pytest.fail("there is no notebook to read"))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with pytest.raises(execution.NotebookFailedError, match="before its first cell"):
        execution.run(FIXTURES / "well_behaved.ipynb")
    assert seen["cwd"] == FIXTURES
    assert seen["environment"]["REPRODUCTION_PROGRESS"] == "0"
    assert seen["environment"]["OMP_NUM_THREADS"] == "1"
    assert seen["environment"]["REPRODUCTION_TALLY"].endswith("build/work/cpu/tally/well_behaved.jsonl")
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert kernels.environment("alone")["OMP_NUM_THREADS"] == "7"


def test_the_command_exits_with_1_for_a_failed_and_2_for_a_wrong_call(project, monkeypatch, capsys):
    def exit_status(*arguments):
        monkeypatch.setattr(sys, "argv", ["running", *arguments])
        with pytest.raises(SystemExit) as caught:
            errors.command(execution.main)
        return caught.value.code

    assert exit_status(str(FIXTURES / "well_behaved.ipynb"), "-p", "rate", "fast") == 2
    assert "rate = 'fast' is not of type float" in capsys.readouterr().err
    assert exit_status(str(FIXTURES / "well_behaved.ipynb"), "-p", "profile", "smoke") == 2
    monkeypatch.setattr(
        execution, "_execute", lambda *_: (_ for _ in ()).throw(execution.NotebookFailedError("Boom: no"))
    )
    assert exit_status(str(FIXTURES / "well_behaved.ipynb")) == 1
    assert "FAILED   well_behaved, before its first cell" in capsys.readouterr().out
