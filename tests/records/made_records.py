"""A small package, a computation and a case, for the tests of records."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel

from lib.records import Case, Outcome
from lib.statements import reach
from lib.statements.parsing import Code

NAME = "1_series/task/seed0"
MODEL = '"""Model."""\n\n\ndef loss(x: float) -> float:\n    return x - 1.0  # why\n'
SENTENCES = ["in the beginning", "god created", ""]


def make_package(tmp_path, monkeypatch) -> Path:
    """A package of its own to change, and an empty folder for records and cache."""
    root = tmp_path / "package" / "lib"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "training.py").write_text("from lib import model\n\n\ndef train(case):\n    return model.loss(1.0)\n")
    (root / "model.py").write_text(MODEL)
    (root / "unreached.py").write_text("")
    monkeypatch.setattr(reach, "PACKAGE", root)
    monkeypatch.setattr(reach, "AT_START", Code.on_disk(root))
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path / "work"))
    for name in ("REPRODUCTION_RECORDS", "REPRODUCTION_STALE", "REPRODUCTION_TALLY"):
        monkeypatch.delenv(name, raising=False)
    return root


def outcome(score: float = 0.4) -> Outcome:
    """Return a result with something of every kind; `score` marks all of it."""
    weight = torch.arange(6, dtype=torch.float32).reshape(2, 3) * score
    return Outcome(
        values={"score": score, "none": None, "curve": [0.1, 0.2]},
        frames={
            "outputs": pd.DataFrame({"sentence": SENTENCES, "length": [3, 2, 0], "score": [score, 1.5, np.nan]}),
            "losses": pd.DataFrame({"loss": np.float32([3, 2, 1]) * np.float32(score)}),
        },
        weights={"denoiser": {"weight": weight, "step": torch.tensor(7)}},
        published={"denoiser": {"weight": weight, "step": torch.tensor(7)}},
        cost={"tokens_per_second": time.perf_counter()},
    )


class Config(BaseModel):
    """Of a case; not of the package, so its fields count by their values alone."""

    steps: int = 10
    rate: float = 0.1


class Entry:
    """A computation of the test's own that stands for `train` of the package."""

    __module__ = "lib.training"

    def __init__(self, run: Callable[[Case], Outcome]) -> None:
        self.run, self.__qualname__ = run, "train"

    def __call__(self, case: Case) -> Outcome:
        return self.run(case)


class Counted(Entry):
    """A computation that counts its runs."""

    __module__ = "lib.training"

    def __init__(self, score: float = 0.4) -> None:
        super().__init__(lambda _: outcome(score))
        self.runs = 0

    def __call__(self, case: Case) -> Outcome:
        self.runs += 1
        return super().__call__(case)


def case(compute=None, **changes) -> Case:
    """Return a case of the package; a plain function of no argument serves as a computation, too."""
    if compute is not None and not isinstance(compute, Entry):
        plain = compute
        compute = Entry(lambda _: plain())
    given = {
        "name": NAME,
        "profile": "cpu",
        "config": Config(),
        "data": {"pairs": "0" * 64},
        "seed": 0,
        "compute": compute or Counted(),
    }
    return Case(**{**given, **changes})


def edit(path: Path, change) -> None:
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored, indent=2, ensure_ascii=False) + "\n")
