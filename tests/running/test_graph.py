"""The graph on a toy project: order, one failure among others, a killed run, and the same graph on SLURM (dry)."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lib import files, paths
from lib.running import contract, last_runs, reproduce, tolerances

ROOT = Path(__file__).parents[2]

# In place of lib/running/catalogue.py, without torch: two core cases, the second of which waits while a file
# `wait` exists, one of hours, and one that fails.
TOY_CASES = """
import json, os, sys, time
from lib import files, paths
from typing import Literal, NamedTuple

Rows = Literal["core", "all"]

class Case(NamedTuple):
    name: str
    row: str
    path: object

def find(prefixes, profile, rows="all"):
    found = [("0_toy/a", "core"), ("0_toy/b", "core"), ("0_toy/hours", "extended"), ("1_fails/c", "core")]
    cases = [Case(name, row, paths.results(profile) / f"{name}.json") for name, row in found]
    return [case for case in cases if case.name.startswith(tuple(prefixes)) and (rows == "all" or case.row == "core")]

promised = find

def recorded(prefixes, profile):
    return any(case.row == "core" or case.path.exists() for case in find(prefixes, profile))

def readable(case):
    return case.path.exists()

def obtain(case):
    if case.name == "1_fails/c":
        sys.exit("error: c cannot be computed")
    action = "read" if case.path.exists() else "computed"
    while action == "computed" and case.name == "0_toy/b" and (paths.ROOT / "wait").exists():
        time.sleep(0.05)
    if action == "computed":
        files.write_json(case.path, {"half": 0.5, "when": time.time()})
    with open(os.environ["REPRODUCTION_TALLY"], "a") as tally:
        print(json.dumps({"case": case.name, "action": action}), file=tally)

if __name__ == "__main__":
    obtain(find([sys.argv[-1]], "cpu")[0])
"""
READ = (
    "from lib.running.catalogue import find, obtain\n\nfor case in find(['0_toy'], profile, 'core'):\n    obtain(case)"
)


STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def nothing_runs_on():
    """End what a failed test left running."""
    yield
    for process in STARTED:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    STARTED.clear()


@pytest.fixture
def project(tmp_path):
    """A project with toy cases and two notebooks, the second one raises, in a folder that a shell would misread."""
    tmp_path = tmp_path / "it's a; $(touch injected) `&` folder"
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", tmp_path)
    shutil.copytree(ROOT / "cluster", tmp_path / "cluster")
    for name, source in [("running/catalogue", TOY_CASES), ("sources/setup", "")]:
        (tmp_path / f"lib/{name}.py").write_text(source)
    add_notebook(tmp_path, "0_good", "well_behaved", cases=["0_toy"], load="alone")
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


def start(project, *arguments, module="lib.running.reproduce"):
    environment = os.environ | {"PYTHONPATH": str(project), "REPRODUCTION_RECORDS": "compute"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    line = [sys.executable, "-m", module, *arguments]
    STARTED.append(subprocess.Popen(line, cwd=project, env=environment, start_new_session=True, **streams))
    return STARTED[-1]


def finish(project, *arguments, module="lib.running.reproduce"):
    process = start(project, *arguments, module=module)
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def wait_for(condition, process, seconds=120):
    for _ in range(seconds * 20):
        if condition():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    pytest.fail("waited in vain")


def test_one_failure_stops_nothing_else_and_the_table_tells(project):
    add_notebook(project, "2_starved", "well_behaved", cases=["1_fails"], writes=[], kinds={})
    add_notebook(project, "0_verdicts", "well_behaved", writes=[], kinds={}, reads_verdicts=True)
    status, output = finish(project)
    assert status == 1, output
    assert "records to compute first: 3" in output
    assert "error: c cannot be computed" in output
    rows = {line.split()[0]: line for line in output.split("\nnotebook ")[1].splitlines() if line}
    assert rows["0_good"].split()[1:3] == ["Table", "0"]
    assert rows["0_good"].endswith("  4  4 changed")
    assert "FAILED ValueError: no sentence for seed 0" in rows["1_series/1.1_bad"]
    assert rows["2_starved"].endswith("did not run: see above")
    assert rows["0_verdicts"].endswith("did not run: see above")  # it waits for all others
    assert "records: 0 read, 2 computed" in output
    assert "cell 4 `# The next line fails.`" in output
    assert "Traceback" not in output
    assert sorted(path.name for path in (project / "data/results/cpu/0_toy").glob("*.json")) == ["a.json", "b.json"]
    assert len(list((project / "figures").rglob("*.*"))) == 4


def test_a_killed_run_from_scratch_goes_on_where_it_stood(project):
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

    told = f"another run is under way (process {process.pid}): wait for it or stop it with `kill {process.pid}`"
    assert finish(project) == (2, f"error: build/: {told}\n")

    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait.unlink()
    (
        fresh / "work/cpu/stamps/0_toy/b.done"
    ).touch()  # as if killed while it finished: Snakemake holds it for incomplete
    status, output = finish(project, "--fresh", "1")
    assert "goes on with the run that did not complete" in output
    assert "records to compute first: 1" in output
    assert record.read_bytes() == first
    assert "records: 1 read, 1 computed" in output
    assert "0.25 -> 0" in output  # the comparison with what is published
    assert status == 1
    assert published.read_text() == "0.25\n"
    assert not (project / "data").exists()


def end_at_once(process, number=signal.SIGTERM) -> float:
    """Send a signal to one process alone; return the seconds until it and all below it are gone."""
    below = psutil.Process(process.pid).children(recursive=True)
    assert below
    began = time.monotonic()
    os.kill(process.pid, number)
    process.communicate(timeout=30)
    _, running = psutil.wait_procs([one for one in below if one.is_running()], timeout=20)
    assert not [one for one in running if one.status() != psutil.STATUS_ZOMBIE]
    return time.monotonic() - began


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_ends_its_cases_and_frees_the_lock(project, number):
    (project / "notebooks/1_series/1.1_bad.ipynb").unlink()
    wait = project / "wait"
    wait.touch()
    process = start(project)
    wait_for((project / "data/results/cpu/0_toy/a.json").exists, process)
    leftover = project / "data/results/cpu/.partial-killed.json"
    leftover.touch()
    wait_for(lambda: any("0_toy/b" in one.cmdline() for one in below(process)), process)
    assert end_at_once(process, number) < 5
    assert process.returncode == (143 if number == signal.SIGTERM else 130)
    wait.unlink()
    status, output = finish(project)
    assert status == 0, output
    assert "records: 1 read, 1 computed" in output
    assert not leftover.exists()


def below(process) -> list[psutil.Process]:
    return [one for one in psutil.Process(process.pid).children(recursive=True) if one.is_running()]


def test_a_run_that_is_ended_ends_its_notebook_and_what_that_started(project):
    (project / "notebooks/1_series/1.1_bad.ipynb").unlink()
    notebook = project / "notebooks/0_good.ipynb"
    content = json.loads(notebook.read_text())
    whole = content["cells"][2]["source"]
    content["cells"][2]["source"] = (
        "import os, signal, subprocess, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '71'])\nopen('../started', 'w').close()\ntime.sleep(70)"
    )
    notebook.write_text(json.dumps(content))
    process = start(project)
    wait_for((project / "started").exists, process)
    names = [one.cmdline() for one in below(process)]
    assert any("ipykernel_launcher" in " ".join(line) for line in names)
    assert ["sleep", "71"] in names
    assert end_at_once(process) < 5
    content["cells"][2]["source"] = whole
    notebook.write_text(json.dumps(content))
    status, output = finish(project)
    assert status == 0, output


@pytest.mark.thorough
def test_one_notebook_that_is_ended_ends_its_kernel(project):
    notebook = project / "notebooks/0_good.ipynb"
    content = json.loads(notebook.read_text())
    content["cells"][2]["source"] = "import time\nopen('../started', 'w').close()\ntime.sleep(70)"
    notebook.write_text(json.dumps(content))
    process = start(project, str(notebook), module="lib.running.execution")
    wait_for((project / "started").exists, process)
    assert end_at_once(process) < 5
    assert process.returncode == 143


@pytest.mark.thorough
def test_a_run_killed_at_random_moments_goes_on_to_the_same_end(project):
    """Seven kills of the whole graph: set-up, cases, notebook and publishing."""
    (project / "notebooks/1_series/1.1_bad.ipynb").unlink()
    began = time.monotonic()
    status, output = finish(project)
    assert status == 0, output
    lasts = time.monotonic() - began
    results = project / "data/results"

    def left() -> tuple[dict[str, bytes], list[float], bytes]:
        halves = [json.loads(path.read_text())["half"] for path in sorted(results.rglob("*.json"))]
        published = {path.name: path.read_bytes() for path in (project / "figures").rglob("*.*")}
        return published, halves, (project / "build/notebooks/cpu/0_good.ipynb").read_bytes()

    expected, draw = left(), random.Random(5)
    for _ in range(7):
        if draw.random() < 0.6:
            shutil.rmtree(results)
            shutil.rmtree(project / "figures")
        process = start(project)
        time.sleep(draw.uniform(0.1, lasts))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        status, output = finish(project)
        assert status == 0, output
        assert left() == expected
        assert not list(project.rglob(f"{files.PARTIAL}*"))


def test_a_queue_that_is_ended_ends_its_streams(tmp_path):
    line = "import sys, time; open(sys.argv[sys.argv.index('--stream') + 1], 'w').close(); time.sleep(70)"
    script = f"""
import sys
from pathlib import Path
from lib import errors
from lib.running import case_queue
real = case_queue.subprocess.Popen
stream = [sys.executable, "-c", {line!r}]
case_queue.subprocess.Popen = lambda line, **settings: real(stream + line[4:], cwd={str(tmp_path)!r}, **settings)
errors.command(lambda: case_queue.start(Path("queue"), [], 2))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "REPRODUCTION_WORK_ROOT": str(tmp_path / "work")}
    STARTED.append(subprocess.Popen([sys.executable, "-c", script], env=environment, start_new_session=True))
    wait_for(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists(), STARTED[-1])
    assert len(below(STARTED[-1])) == 2
    assert end_at_once(STARTED[-1]) < 5
    assert STARTED[-1].returncode == 143


def test_after_a_completed_run_from_scratch_the_next_starts_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", "")  # restored after the test
    monkeypatch.setattr(tolerances, "compare_folders", lambda *_, **__: [])
    done = contract.load(ROOT / "tests/fixtures/notebooks/well_behaved.ipynb")
    ran, seen = iter([[], [done], [done]]), []

    def run(*_):
        seen.append(sorted(path.name for path in (tmp_path / "fresh").rglob("*")))
        (tmp_path / "fresh").mkdir(exist_ok=True)
        (tmp_path / "fresh/record").touch()
        return next(ran)

    monkeypatch.setattr(reproduce, "run", run)
    assert [reproduce.run_from_scratch("cpu", 0, "core") for _ in range(3)] == [1, 0, 0]
    assert seen == [[], ["record"], []]


@pytest.mark.thorough
def test_some_notebooks_alone(project):
    status, output = finish(project, "--only", "notebooks/0_good.ipynb")
    assert status == 0, output
    assert "1 notebooks, profile cpu; records to compute first: 2" in output
    assert "1_series" not in output
    assert len(list((project / "figures").rglob("*.*"))) == 4
    status, output = finish(project, "--only", "1_series")
    assert "FAILED ValueError" in output
    assert "0_good" not in output
    assert finish(project, "--only", "1_ser") == (
        2,
        "error: 1_ser: no notebook has this name or lies below it: `ls notebooks/*` names them\n",
    )


@pytest.mark.thorough
def test_a_notebook_of_extended_rows_waits_for_the_first_record(project):
    add_notebook(project, "0_good", "well_behaved", cases=["0_toy/hours"], load="alone")
    left_out = "left out: 0_good, all of whose cases are extended rows, none of them recorded\n"
    status, output = finish(project, "--only", "0_good")
    assert (status, output.startswith(f"{left_out}error: no notebook is left")) == (2, True), output
    _, output = finish(project)
    assert left_out in output
    assert "1 notebooks, profile cpu" in output
    record = project / "data/results/cpu/0_toy/hours.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    status, output = finish(project, "--only", "0_good")
    assert status == 0, output
    assert output.startswith("1 notebooks, profile cpu; records to compute first: 0")


def test_the_table_tells_what_was_read_published_or_did_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    good = contract.load(ROOT / "tests/fixtures/notebooks/well_behaved.ipynb")
    bad = contract.load(ROOT / "tests/fixtures/notebooks/raises.ipynb")
    last_runs.store("cpu", last_runs.Run("well_behaved", 12.34, published=True))
    for name, lines in [("well_behaved", ["a read", "b read", "c read"]), ("b", ["b computed"])]:
        entries = [dict(zip(("case", "action"), line.split(), strict=True)) for line in lines]
        files.write_text(last_runs.tally("cpu", name), "".join(json.dumps(entry) + "\n" for entry in entries))
    lines = last_runs.report([good, bad], "cpu").splitlines()
    assert lines[1].split() == ["well_behaved", "Table", "0", "12.3", "4", "unchanged"]
    assert lines[2].split()[-6:] == ["-", "did", "not", "run:", "see", "above"]
    assert lines[-1] == "records: 2 read, 1 computed"


@pytest.mark.parametrize(
    "half", ["", '{"notebook": "well_beh', "[]", '{"seconds": "x"}', '{"notebook": 1, "seconds": null}']
)
def test_half_written_runs_and_tallies_are_no_traceback(tmp_path, monkeypatch, half):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    good = contract.load(ROOT / "tests/fixtures/notebooks/well_behaved.ipynb")
    files.write_text(last_runs.file("cpu", "well_behaved"), half)
    whole = json.dumps({"case": "a", "action": "computed"})
    files.write_text(last_runs.tally("cpu", "x"), f"{whole}\n{half}\n3\n{whole[:20]}")
    lines = last_runs.report([good], "cpu").splitlines()
    assert lines[1].endswith("did not run: see above")
    assert lines[-1] == "records: 0 read, 1 computed"


def test_a_notebook_of_a_name_that_the_graph_cannot_hold_is_one_line(project):
    add_notebook(project, "2 odd; name", "well_behaved", writes=[], kinds={})
    status, output = finish(project)
    assert (status, output.count("\n")) == (2, 1)
    assert "notebooks/2 odd; name.ipynb: rename it" in output


def test_a_notebook_reads_the_cases_below_its_prefixes():
    notebook = contract.load(ROOT / "tests/fixtures/notebooks/well_behaved.ipynb").model_copy(
        update={"cases": ["1_a/b"]}
    )
    assert [notebook.reads(name) for name in ("1_a/b", "1_a/b/c", "1_a/bc", "1_a")] == [True, True, False, False]


def test_a_wrong_notebook_or_profile_is_one_line_before_anything_runs(project):
    for more in ([], ["--report"]):
        status, output = finish(project, "--profile", "laptop", *more)
        assert (status, output.count("\n")) == (2, 1)
        assert "laptop" in output
    add_notebook(project, "2_wrong", "wrong_contract")
    status, output = finish(project)
    assert status == 2
    assert output.startswith("error: notebooks/2_wrong.ipynb: metadata `reproduction.minutes.smoke`")
    assert output.count("\n") == 1


def test_an_error_of_the_graph_itself_is_not_lost(project):
    (project / "Snakefile").write_text("1 / 0\n")
    status, output = finish(project)
    assert status == 1
    assert "something failed: see above, and build/snakemake.log" in output
    assert "did not run: see above" in output
    assert "ZeroDivisionError" in (project / "build/snakemake.log").read_text()


def test_the_same_graph_runs_on_slurm(project):
    add_notebook(project, "2_light", "well_behaved", writes=[], kinds={})
    line = ["--profile", "cluster/slurm", "--dry-run", "--config", "profile=gpu"]
    status, output = finish(project, *line, module="snakemake")
    assert status == 0, output
    jobs = dict(line.split() for line in output.split("\n-----")[1].splitlines()[1:] if len(line.split()) == 2)
    counted = {
        "sources": "1",
        "cases": "2",
        "notebook_0_good": "1",
        "notebook_1_series_1_1_bad": "1",
        "notebook_2_light": "1",
    }
    assert counted.items() <= jobs.items(), output
    described = {block.split(":")[0]: block.split("\n[")[0] for block in output.split("\nrule ")[1:]}
    assert "threads" not in described["cases"]
    assert "threads: 16" in described["notebook_0_good"]
    # Each case is a job of its own, which asks for memory and minutes, more at each further attempt.
    assert all(asked in described[name] for name in ("cases", "notebook_0_good") for asked in ("mem_mb=", "runtime="))
    outputs = [line.split("/")[-2:] for line in output.splitlines() if re.search("output: .*done$", line)]
    assert sorted(outputs) == [["0_toy", "a.done"], ["0_toy", "b.done"]]
    assert "threads" not in described["notebook_2_light"]  # one
    assert all("gpu=1" in described[name] for name in ("cases", "notebook_0_good", "notebook_2_light"))
    status, output = finish(project, *line, "rows=all", module="snakemake")
    assert "cases                            3" in output


def test_what_is_tiny_has_one_thread_and_a_series_one_process(project):
    def described(profile):
        line = ["--dry-run", "--nolock", "--cores", "2", "--printshellcmds", "--config", f"profile={profile}"]
        line.append("pending=0_toy/a 0_toy/b")  # as on this machine; without, each case is a job
        status, output = finish(project, *line, module="snakemake")
        assert status == 0, output
        (alone,) = output.split("\nrule notebook_0_good:")[1:]
        assert ("threads: 2" in alone.split("\n[")[0]) == (profile == "cpu")
        return [block.split("\n[")[0] for block in output.split("\nrule cases:")[1:]]

    (tiny,) = described("smoke")
    assert "threads" not in tiny
    assert " OMP_NUM_THREADS=1 " in tiny
    assert "0_toy/a 0_toy/b" in tiny
    first, second = described("cpu")  # cases name one thread, so two groups run side by side
    assert all("threads" not in job and " OMP_NUM_THREADS=1 " in job for job in (first, second))
    (project / "data/results").mkdir(parents=True)
    (project / "data/results/two_threads").write_text("cpu 0_toy/b\n")
    jobs = {"0_toy/b" in job: job for job in described("cpu")}  # their order is Snakemake's
    assert "threads" not in jobs[False]
    assert "threads: 2" in jobs[True]
    assert "OMP_NUM_THREADS" not in jobs[True]


@pytest.mark.parametrize(("record", "failed", "written"), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_recording_renews_the_readmes_when_all_went_well(tmp_path, monkeypatch, capsys, record, failed, written):
    from lib.running import readme

    monkeypatch.setattr(paths, "work", lambda profile: tmp_path)
    monkeypatch.setattr(reproduce, "needed", lambda *_: [])
    monkeypatch.setattr(reproduce, "_snakemake", lambda settings, lock: failed)
    monkeypatch.setattr(last_runs, "report", lambda *_: "the table")
    monkeypatch.setattr(readme, "renew", lambda: [paths.ROOT / "README.md"])
    assert bool(reproduce.run("cpu", 0, only=["5_scorecard"], record=record)) is not failed
    assert capsys.readouterr().out.count("written: README.md") == written
