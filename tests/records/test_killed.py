"""A record survives being killed while it is written, and two processes that want it at once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib import files, paths, records
from lib.machine import environment
from lib.records import Outcome, cache
from lib.records import files as record_files
from lib.statements import reach
from lib.statements.parsing import Code
from tests.records.made_records import case, outcome

# What forks runs in a process of its own, since forking is safe only in a process without other threads.


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Results of the two functions below that fork, by name."""
    script = "import test_killed; test_killed.fork()"
    changes = {"PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:3])), "REPRODUCTION_RECORDS": "compute"}
    folder = tmp_path_factory.mktemp("forks")
    command = [sys.executable, "-c", script, str(folder)]
    run = subprocess.run(command, env={**os.environ, **changes}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def fork() -> None:
    """Print the results of the functions that fork, each with an empty work root of its own."""
    found = {}
    reach.AT_START = Code({"lib.training": "def train(case): ..."})
    reach.code_now = lambda: reach.AT_START
    for action in (compute_in_two_processes, kill_at_every_line):
        os.environ["REPRODUCTION_WORK_ROOT"] = str(Path(sys.argv[1]) / action.__name__ / "work")
        found[action.__name__] = action()
    print(json.dumps(found))


def forked(action) -> int:
    """Process number of a child that does `action` and ends."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killing(step: int, action) -> None:
    """Do `action`, but kill this process before the given line (counted as they run) of the functions that write."""
    functions = (files.write_atomically, files._draft.__wrapped__, files._fill)
    functions += (record_files.attach, record_files.write, record_files.sweep, cache.keep)
    watched = {function.__code__ for function in functions}
    left = step

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code not in watched:
            return None
        left -= event == "line"
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    action()


def kill_at_every_line() -> list[list[str]]:
    """Status of the old and the new record for each line at which a store was killed; last, of a store not killed."""
    import pyarrow.parquet  # noqa: F401  (once here, not in each child)

    environment.describe = lambda: {}

    def compute(score: float) -> Outcome:
        whole = outcome(score)
        return Outcome(whole.values, {"losses": whole.frames["losses"]})

    old = case(lambda: compute(0.1))
    new = case(lambda: compute(0.2), seed=1)
    root, kept = paths.work_root(), paths.work_root().with_name("kept")
    ended(forked(lambda: records.get(old)))
    shutil.copytree(root, kept)
    seen, killed = [], True
    while killed:
        shutil.rmtree(root)
        shutil.copytree(kept, root)
        child = forked(lambda: killing(len(seen), lambda: records.get(new)))
        killed = ended(child) == -signal.SIGKILL
        seen.append([records.status(old), records.status(new)])
    return seen


def test_killed_at_any_line_leaves_the_old_or_the_new(forks):
    seen = forks["kill_at_every_line"]
    assert len(seen) > 30
    assert {tuple(pair) for pair in seen} == {("current", "stale: config"), ("stale: config", "current")}
    assert seen == sorted(seen, key=lambda pair: pair[0] != "current")  # one moment makes it new
    assert seen[-1] == ["stale: config", "current"]


def compute_in_two_processes() -> list[list[str]]:
    """Runs of a case for which two processes ask at once, and their tally."""
    environment.describe = lambda: {}
    log = paths.work_root().with_name("log")
    log.parent.mkdir()
    os.environ["REPRODUCTION_TALLY"] = str(log.with_name("tally"))

    def compute() -> Outcome:
        with open(log, "a") as stream:
            stream.write("run\n")
        time.sleep(0.5)
        return Outcome(values={})

    children = [forked(lambda: records.get(case(compute))) for _ in range(2)]
    assert [ended(child) for child in children] == [0, 0]
    tally = [json.loads(line)["action"] for line in log.with_name("tally").read_text().splitlines()]
    return [log.read_text().split(), tally]


def test_two_processes_compute_a_case_once(forks):
    assert forks["compute_in_two_processes"] == [["run"], ["computed", "read"]]
