"""The graph on a toy project: order, one failure among others, killed runs, and the same graph on SLURM as a dry run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Two core cases, the second of which waits while a file `wait` exists, and one of hours.
TOY_CASES = """
import time
from lib import paths
from lib.records import Case, Outcome

def compute(name):
    while name == "b" and (paths.ROOT / "wait").exists():
        time.sleep(0.05)
    return Outcome(values={"half": 0.5})

def cases(profile):
    rows = {"a": "core", "b": "core", "hours": "extended"}
    return [
        Case(name=f"0_toy/{name}", profile=profile, config={}, data={}, code=["lib.toy"], seed=0, row=row,
             compute=lambda name=name: compute(name))
        for name, row in rows.items()
    ]
"""
READ = "from lib import cases, records\n\nhalves = [records.get(case).values for case in cases.find(['0_toy'], profile, 'core')]"


@pytest.fixture
def project(tmp_path):
    """A project with toy cases and two notebooks; the second one raises."""
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", tmp_path)
    shutil.copytree(ROOT / "cluster", tmp_path / "cluster")
    (tmp_path / "lib/toy.py").write_text(TOY_CASES)
    (tmp_path / "lib/sources.py").write_text("")
    with open(tmp_path / "lib/cases.py", "r+") as file:
        text = file.read().replace("Rows = Literal", 'SERIES = {"0_toy": "lib.toy"}\nRows = Literal', 1)
        file.seek(0)
        file.write(text)
    add_notebook(tmp_path, "0_good", "well_behaved", cases=["0_toy"])
    add_notebook(tmp_path, "1_series/1.1_bad", "raises")
    return tmp_path


def add_notebook(project, name, fixture, **changes):
    content = json.loads((ROOT / f"tests/fixtures/notebooks/{fixture}.ipynb").read_text())
    content["metadata"]["reproduction"] |= changes
    if changes.get("cases"):
        content["cells"][2]["source"] = READ
    path = project / f"notebooks/{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def start(project, *arguments, module="lib.reproduce"):
    environment = os.environ | {"PYTHONPATH": str(project), "REPRODUCTION_RECORDS": "compute"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    line = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(line, cwd=project, env=environment, start_new_session=True, **streams)


def finish(project, *arguments, module="lib.reproduce"):
    process = start(project, *arguments, module=module)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def wait_for(condition, process, seconds=120):
    for _ in range(seconds * 20):
        if condition():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    pytest.fail("waited in vain")


def test_one_failure_stops_nothing_else_and_the_table_tells(project):
    status, output = finish(project)
    assert status == 1, output
    assert "records to compute first: 2" in output
    rows = {line.split()[0]: line for line in output.split("\nnotebook ")[1].splitlines() if line}
    assert rows["0_good"].split()[1:3] == ["Table", "0"]
    assert rows["0_good"].endswith("  4  4 changed")
    assert "FAILED ValueError: no sentence for seed 0" in rows["1_series/1.1_bad"]
    assert "records: 0 read, 2 computed" in output
    assert "cell 4 `# The next line fails.`" in output
    assert "Traceback" not in output
    assert sorted(path.name for path in (project / "data/results/cpu/0_toy").glob("*.json")) == ["a.json", "b.json"]
    assert len(list((project / "figures").rglob("*.*"))) == 4

    (project / "notebooks/1_series/1.1_bad.ipynb").unlink()
    status, output = finish(project)
    assert status == 0, output
    assert "records to compute first: 0" in output
    assert "records: 2 read, 0 computed" in output
    assert [line for line in output.splitlines() if line.startswith("0_good")][-1].endswith("unchanged")


def test_a_killed_run_from_scratch_goes_on_and_the_next_starts_empty(project):
    (project / "notebooks/1_series/1.1_bad.ipynb").unlink()
    published = project / "figures/fixtures/well_behaved.json"
    published.parent.mkdir(parents=True)
    published.write_text("0.25\n")
    wait, fresh = project / "wait", project / "build/fresh"
    record = fresh / "results/cpu/0_toy/a.json"
    wait.touch()
    process = start(project, "--fresh", "1")
    wait_for(record.exists, process)
    first = record.read_bytes()

    status, output = finish(project)
    assert status == 2
    assert output == "error: build/: another run is under way: wait for it or stop it\n"

    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait.unlink()
    status, output = finish(project, "--fresh", "1")
    assert "goes on with the run that did not complete" in output
    assert "records to compute first: 1" in output
    assert record.read_bytes() == first
    assert "records: 1 read, 1 computed" in output
    assert "0.25 -> 0" in output  # the comparison with what is published
    assert status == 1
    assert published.read_text() == "0.25\n"
    assert not (project / "data").exists()

    published.write_text("0\n")
    status, output = finish(project, "--fresh", "1")
    assert status == 0, output
    assert "records to compute first: 2" in output


def test_a_wrong_notebook_or_profile_is_one_line_before_anything_runs(project):
    assert finish(project, "--profile", "laptop")[0] == 2
    add_notebook(project, "2_wrong", "wrong_contract")
    status, output = finish(project)
    assert status == 2
    assert output.startswith("error: notebooks/2_wrong.ipynb: metadata `reproduction.minutes.smoke`")
    assert output.count("\n") == 1


def test_the_same_graph_runs_on_slurm(project):
    add_notebook(project, "2_alone", "well_behaved", load="alone", writes=[], kinds={})
    line = ["--profile", "cluster/slurm", "--dry-run", "--config", "profile=gpu"]
    status, output = finish(project, *line, module="snakemake")
    assert status == 0, output
    jobs = dict(line.split() for line in output.split("\n-----")[1].splitlines()[1:] if len(line.split()) == 2)
    counted = {"sources": "1", "case": "2", "notebook_0_good": "1", "notebook_1_series_1_1_bad": "1"}
    assert counted.items() <= jobs.items(), output
    alone = output.split("rule notebook_2_alone:")[1].split("resources:")
    assert "threads: 16" in alone[0]
    assert "gpu=1" in alone[1].splitlines()[0]
    status, output = finish(project, *line, "rows=all", module="snakemake")
    assert "case                             3" in output
