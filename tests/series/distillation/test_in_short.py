"""The sentences with which the notebooks open say what the records say, or that there are none."""

import types

import pandas as pd
import pytest

from lib.intervals import Interval
from lib.series.distillation import answered, compared, in_short


def test_an_interval_is_told_by_its_ends_and_whether_its_sign_is_open():
    assert in_short.between(Interval(-1.2, -3.06, 0.7)) == "between 3.1 worse and 0.7 better; sign undecided"
    assert in_short.between(Interval(2.0, 1.0, 3.0)) == "between 1.0 better and 3.0 better"


@pytest.mark.parametrize(
    ("gain", "told"),
    [
        (
            Interval(2.0, 1.0, 3.0),
            "It does. With the middle loss beside the output loss the difference is +2.0 [+1.0, +3.0] points",
        ),
        (Interval(-2.0, -3.0, -1.0), "It does not: it costs points"),
        (Interval(0.0, -1.0, 1.0), "It is not shown"),
        (None, "Not recorded yet: what the middle loss gives."),
    ],
)
def test_the_main_sentence_follows_the_interval(monkeypatch, gain, told):
    monkeypatch.setattr(answered.Answered, "difference", lambda *_: gain)
    monkeypatch.setattr(answered.Answered, "sampled", lambda *_: [1, 2, 3])
    assert told in in_short.main("cpu")


def test_similarity_is_read_at_the_layers_that_are_paired(monkeypatch):
    values = {
        "forward_kl": {"cka_after": [[0.1, 0.9], [0.9, 0.3]]},
        "ours": {"cka_after": [[0.5, 0.0], [0.0, 0.7]], "map": {"1": 1, "2": 2}},
    }
    monkeypatch.setattr(in_short.cases, "main", lambda name, *_: name)
    monkeypatch.setattr(in_short.records, "available", lambda name: types.SimpleNamespace(values=values[name]))
    assert "raises it between the layers that it pairs: 0.20 without, 0.60 with it" in in_short.layers("cpu")
    monkeypatch.setattr(in_short.records, "available", lambda name: None)
    assert "Not recorded yet" in in_short.layers("cpu")


def test_the_letters_of_the_loss_are_told_from_profile_and_record(monkeypatch):
    run = types.SimpleNamespace(values={"parameters": 2_190_000, "map": {"1": 8, "2": 15, "3": 23, "4": 30}})
    monkeypatch.setattr(in_short.cases, "main", lambda name, *_: name)
    monkeypatch.setattr(in_short.records, "available", lambda _: run)
    told = in_short.setting("cpu")
    assert "GPT-2-style: $N = 4$ blocks of width 192 with 4 heads, 2.2 million weights." in told
    assert "the teacher's 8, 15, 23 and 30." in told
    assert "weights are 1, 1 and 1" in told
    monkeypatch.setattr(in_short.records, "available", lambda _: None)
    assert "$g$ pairs" not in in_short.setting("cpu")


def test_controls_that_are_not_beaten_are_told(monkeypatch):
    monkeypatch.setattr(compared, "first_seed", lambda *_: "ours")
    monkeypatch.setattr(compared, "changed", lambda _, name: name)
    gaps = {"rule_reversed": Interval(2.0, 1.0, 3.0), "rule_random": Interval(-2.0, -3.0, -1.0)}
    monkeypatch.setattr(
        in_short.evaluation, "difference", lambda _, other, sets: gaps.get(other[0], Interval(0.0, -1.0, 1.0))
    )
    assert "Of three controls the method beats reversed and loses to random layers" in in_short.ablations("cpu")
    monkeypatch.setattr(in_short.evaluation, "difference", lambda *_: Interval(2.0, 1.0, 3.0))
    assert "beats all of three controls" in in_short.ablations("cpu")


def test_students_that_gain_and_that_lose_are_named(monkeypatch):
    gains = [Interval(2.0, 1.0, 3.0), Interval(-2.0, -3.0, -1.0)]
    frame = pd.DataFrame({"student": ["deep", "wide"], compared.BOTH_MINUS_OUTPUT: gains})
    monkeypatch.setattr(compared, "pairs", lambda _: frame)
    assert "gains points for *deep* and loses points for *wide*" in in_short.students("cpu")


def test_a_step_is_told_in_multiples_of_a_plain_one(monkeypatch):
    seconds = {"sft/cached": 0.2, "ours/cached": 0.3, "ours/live": 1.4}
    cost = {name: {"seconds": one} for name, one in seconds.items()}
    monkeypatch.setattr(in_short.cases, "cost", lambda _: "cost")
    monkeypatch.setattr(in_short.records, "available", lambda _: types.SimpleNamespace(provenance={"cost": cost}))
    assert "1.5 times as long as plain training" in in_short.cost("cpu")
    assert "7.0 times" in in_short.cost("cpu")
