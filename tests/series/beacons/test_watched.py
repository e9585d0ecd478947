"""One fact learnt live: which fact is shown, of those that a record pushed away and learnt in the end."""

import types

import pandas as pd
import pytest

from lib.series.beacons import evaluation, pushing, watched


@pytest.fixture
def recorded(monkeypatch):
    """Three facts: pushed once and right, pushed twice and right, pushed three times and wrong."""
    rows = [
        (name, step, step <= pushes and step > 0, step > pushes and right)
        for name, pushes, right in (("once", 1, True), ("twice", 2, True), ("lost", 3, False))
        for step in range(4)
    ]
    frame = pd.DataFrame(rows, columns=["identity", "step", "pushed", "right"]).assign(start=0.5, lighter=True)
    monkeypatch.setattr(pushing, "trajectories", lambda record: frame)
    monkeypatch.setattr(
        evaluation, "taught", lambda record: {name: f"fact {name}" for name in ("once", "twice", "lost")}
    )
    return types.SimpleNamespace()


def test_the_fact_shown_was_pushed_longest_and_is_right_at_the_end(recorded):
    assert watched.passing(recorded) == "fact twice"
