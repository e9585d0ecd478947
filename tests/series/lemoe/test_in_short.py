"""What notebooks say first: made-up records give the numbers, missing ones are named as missing."""

from types import SimpleNamespace

import pytest

from lib.series.lemoe import in_short
from tests.series.lemoe.test_evaluation import record

GOOD = [(0, 1, 0, name, 1.0, 0.5, 1.0) for name in "abcd"]
IDLE = [(0, 1, 0, name, 0.0, 0.0, 1.0) for name in "abcd"]
EVERY = (
    in_short.factors,
    in_short.main_table,
    in_short.scaling,
    in_short.batch,
    in_short.ablations,
    in_short.single,
)


@pytest.fixture
def stored(monkeypatch):
    """Answer for records by what the name of their case holds, the first that fits."""
    found = {}

    def available(case):
        return next((run for part, run in found.items() if part in case.name), None)

    monkeypatch.setattr(in_short.records, "available", available)
    return found


@pytest.mark.parametrize("tell", EVERY)
def test_what_is_not_recorded_is_said_to_be_missing(stored, tell):
    assert tell("cpu") == in_short.NOT_YET


def test_lemoe_is_put_beside_the_unedited_model_as_the_interval_lies(stored):
    stored |= {"main/lemoe/": record(GOOD), "main/no_edit/": record(IDLE)}
    told = in_short.main_table("cpu")
    assert "Avg of 0.83" in told
    assert "more than the 0.33 of a model that was never edited" in told
    stored["main/lemoe/"] = record(IDLE)
    assert "not to be told apart from the 0.33" in in_short.main_table("cpu")


def test_scaling_and_batch_editing_name_both_ends(stored):
    stored |= {"main/lemoe/": record(GOOD), "main/no_edit/": record(IDLE)}
    assert in_short.scaling("cpu").endswith("that was never edited has 0.33 there.")
    cost = {"cost": {"seconds_by_experts": {"0": 0.2, "64": 0.25}}}
    stored["latency"] = SimpleNamespace(provenance=cost)
    assert in_short.scaling("cpu").endswith("250 ms with 64 experts and 200 ms with none.")
    stored |= {"batch/lemoe": record(IDLE), "batch/memoe": record(GOOD)}
    assert "LEMoE has an Avg of 0.33 and MEMoE 0.83, a difference of -0.50" in in_short.batch("cpu")
    assert in_short.batch("cpu").endswith("below that: none.")


def test_single_edits_are_counted(stored):
    stored |= {"main/lemoe/": record(GOOD), "main/lemoe_threshold/": record(IDLE), "main/no_edit/": record(IDLE)}
    told = in_short.single("cpu")
    assert "Of 4 edits of LEMoE 4 are said right, and 0 leak" in told
    assert told.endswith("0 leak; Gen goes from 0.50 to 0.00, and a model that was never edited has 0.00.")
