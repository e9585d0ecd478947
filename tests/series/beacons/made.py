"""Records made by hand for pictures and sentences: facts with as many right answers as are asked for."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from lib.beacons.facts import facts

FACTS = facts("results")[:8]
NAMED = [fact.identity for fact in FACTS]
STEPS = (0, 1, 2, 4)


def path(seed: int) -> pd.DataFrame:
    """Trajectories of 30 facts, as pictures read them: a fifth is pushed after one update, none after two."""
    draw = np.random.default_rng(seed)
    start = np.linspace(0.05, 1.0, 30)
    rows = []
    for step in STEPS:
        pushed = (np.arange(30) % 5 == seed % 5) & (step == 1)
        d = np.where(pushed, start + 0.2, start * (1 - step / 4)) + draw.uniform(0, 1e-3, 30) * (step > 0)
        frame = pd.DataFrame({"identity": [f"fact {n}" for n in range(30)], "step": step, "d": d, "start": start})
        rows.append(frame.assign(loss=5.0 - step, pushed=pushed, lighter=step > 0, right=~pushed & (step > 0)))
    return pd.concat(rows, ignore_index=True)


def among(right: float, again: float, seed: int) -> Any:
    """A record of eight facts with these shares of right answers to the trained prompt and to one paraphrase.

    Which facts are right differs by seed.
    """
    order = np.random.default_rng(seed).permutation(len(FACTS))
    rows = []
    for prompt, share in ((0, right), (1, again)):
        known = set(order[: round(share * len(FACTS))].tolist())
        rows += [
            (fact.identity, prompt, fact.target.strip() if place in known else "never heard of it", 0)
            for place, fact in enumerate(FACTS)
        ]
    answers = pd.DataFrame(rows, columns=["identity", "prompt", "answer", "run"])
    frame = pd.DataFrame({"identity": NAMED, "run": 0, "trained": True, "loss": 1.0, "raw": 0.5, "centred": 0.5})
    config = {"count": len(FACTS), "steps": 10, "batch": 10}
    return SimpleNamespace(frames={"answers": answers, "facts": frame}, config=config, case="made", values={})
