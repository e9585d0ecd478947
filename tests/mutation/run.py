"""Run the tests of its module on each drawn mutant, and name those that no test notices (`make mutants`).

Everything but `lib` is imported once; each mutant is a fork in a copy of the project. It goes on where it was stopped,
and tries again what survived before: the tests may be others now. What its own tests let pass meets every other test
file that imports the module.
"""

import ast
import compileall
import gc
import hashlib
import json
import math
import multiprocessing
import os
import py_compile
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = ROOT / "build/mutation"
OUTCOMES = HERE / "outcomes.jsonl"
WORKERS = int(os.environ.get("MUTATION_WORKERS", "2"))
# A mutant that loops for ever is noticed by its processor time: so many seconds, and so often what the tests take
# without it. The clock, which runs on while others use the machine, stops only what waits for so many times as long.
PATIENCE, FACTOR, WAIT = 30.0, 6.0, 20
NEEDED = 0.95
# Tests that read records, run notebooks or measure time: they take long, and fail for other reasons in a copy.
LONG = tuple(f"tests/{room}/" for room in ("series", "running", "notebooks", "benchmarks", "machine", "packaging"))


def main() -> int:
    """Run what was not run yet, print the outcome, and fail where more than one mutant in twenty survives."""
    drawn = json.loads((HERE / "drawn.json").read_text(encoding="utf-8"))
    tests = json.loads((ROOT / "tests/mutation/modules.json").read_text(encoding="utf-8"))
    preload()
    noticed, same = {one for one, survived in outcomes().items() if not survived}, equivalent()
    survivors = outcomes().keys() - noticed
    waiting = [
        mutant
        for mutant in drawn
        if key(mutant) not in noticed and not (key(mutant) in survivors and name(mutant) in same)
    ]
    parts = [waiting[number::WORKERS] for number in range(WORKERS)]
    workers = [
        multiprocessing.get_context("fork").Process(target=work, args=(number, part, tests))
        for number, part in enumerate(parts)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        return 1
    return told(drawn)


def preload() -> None:
    """Import what nearly all tests import, so that no fork has to."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONDONTWRITEBYTECODE": "1"}
    import hypothesis  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pandas  # noqa: F401
    import peft  # noqa: F401
    import pytest  # noqa: F401
    import rouge_score.rouge_scorer  # noqa: F401
    import sacrebleu  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    import transformers  # noqa: F401
    import trl  # noqa: F401

    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    # No fork looks through what is imported here for garbage, which would take it longer than most tests do.
    gc.collect()
    gc.freeze()


def work(number: int, mutants: list[dict], tests: dict[str, list[str]]) -> None:
    """Run a share of the mutants in a copy of the project, one after the other."""
    tree = HERE / f"tree{number}"
    shutil.rmtree(tree, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    (tree / "data/external").symlink_to((ROOT / "data/external").resolve())
    # Compiled once; by the content and not by the time, so that a mutant is never taken for what it was made of.
    compileall.compile_dir(tree / "lib", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    seconds: dict[str, float] = {}
    for mutant in mutants:
        module = mutant["module"]
        survived, taken = True, 0.0
        for files in (tests[module], others(tree, module, tests[module])):
            if survived and files:
                survived, more = tried(tree, mutant, files, seconds)
                taken += more
        if math.isinf(seconds[" ".join(tests[module])]):
            sys.exit(f"{module}: its tests fail without a mutant")
        outcome = {"key": key(mutant), "survived": survived, "seconds": round(taken, 1)}
        with open(OUTCOMES, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(outcome) + "\n")


def tried(tree: Path, mutant: dict, tests: list[str], seconds: dict[str, float]) -> tuple[bool, float]:
    """Return whether tests pass on a mutant, and their time; `seconds` holds what tests took without one.

    It is infinite for tests that fail without one: they tell nothing.
    """
    together = " ".join(tests)
    if together not in seconds:
        passed, used = attempt(tree, tests, 600)
        seconds[together] = used if passed else math.inf
    if math.isinf(seconds[together]):
        return True, 0.0
    path = tree / mutant["module"]
    original = path.read_bytes()
    path.write_text(mutant["source"], encoding="utf-8")
    try:
        return attempt(tree, tests, PATIENCE + FACTOR * seconds[together])
    finally:
        path.write_bytes(original)


def others(tree: Path, module: str, tests: list[str]) -> list[str]:
    """Return the test files beside these that import a module, but for those of records and whole runs."""
    named, found = module.removesuffix(".py").replace("/", "."), []
    for path in sorted((tree / "tests").rglob("test_*.py")):
        file = str(path.relative_to(tree))
        if file in tests or file.startswith(LONG):
            continue
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        if named in imported:
            found.append(file)
    return found


def attempt(tree: Path, tests: list[str], limit: float) -> tuple[bool, float]:
    """Run tests in a fork within `tree`; return whether all passed within `limit` seconds of processor time, and it."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 1))
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        quiet = os.open(os.devnull, os.O_WRONLY)
        log = os.open(tree / "tests.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(quiet, 2)
        import pytest

        code = 1
        try:
            code = int(pytest.main([*tests, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:nbval"]))
        finally:
            os._exit(code)
    while time.monotonic() - began < WAIT * limit:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return status == 0, used.ru_utime + used.ru_stime
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False, limit


def key(mutant: dict) -> str:
    """Return what a mutant is known by: the module with its one change."""
    return hashlib.sha256(f"{mutant['module']}\n{mutant['source']}".encode()).hexdigest()[:16]


def name(mutant: dict) -> str:
    """Return a mutant as `equivalent.txt` lists it: without line numbers, which move."""
    return f"{mutant['module']}: {mutant['before']} -> {mutant['after']}"


def outcomes() -> dict[str, bool]:
    """Return which mutants survived so far, each as it was last tried; a line that a kill cut off does not count."""
    lines = OUTCOMES.read_text(encoding="utf-8").splitlines() if OUTCOMES.is_file() else []
    found = (json.loads(line) for line in lines if line.endswith("}"))
    return {outcome["key"]: outcome["survived"] for outcome in found}


def equivalent() -> dict[str, str]:
    """Return the mutants that give the same values, with the reason for each."""
    found = {}
    for line in (ROOT / "tests/mutation/equivalent.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            mutant, _, reason = line.rpartition(" | ")
            found[mutant] = reason
    return found


def told(drawn: list[dict]) -> int:
    """Print the survivors and the count of each outcome; return 1 where too many survive."""
    survived = {one for one, alive in outcomes().items() if alive}
    same = equivalent()
    count: Counter[str] = Counter()
    for mutant in drawn:
        if key(mutant) not in survived:
            count["noticed"] += 1
        elif name(mutant) in same:
            count["equivalent"] += 1
        else:
            count["survived"] += 1
            print(f"line {mutant['line']}: {name(mutant)}")
    share = count["noticed"] / max(count["noticed"] + count["survived"], 1)
    print(f"{len(drawn)} mutants: {dict(count)}; {share:.1%} of those that can be noticed are")
    return int(share < NEEDED)


if __name__ == "__main__":
    sys.exit(main())
