"""The sentences with which the notebooks open say what the records say, or that there are none."""

import types

import pandas as pd
import pytest

from lib.intervals import Interval
from lib.reporting.claims import judge
from lib.series.distillation import answered, compared, hypotheses, in_short


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


def judged(claim, differences, gate=1.0):
    """Return the verdict on seeds that all differ by about as much, half of the comparisons by a difference each."""
    seeds = [[[float(seed) / 100, -float(seed) / 100] for seed in range(10)], [[0.0, 0.0]] * 10]
    pairs = {
        one.name: ([[a + gap for a in items] for items in seeds[0]], seeds[1])
        for one, gap in zip(claim.comparisons, differences, strict=True)
    }
    return judge(claim, pairs, gate)


@pytest.mark.parametrize(
    ("differences", "gate", "told"),
    [
        ((-1.0, -1.0), 1.0, "**In short.** It does."),
        ((-1.0, 1.0), 1.0, "**In short.** It does not."),
        ((0.0, 0.0), 1.0, "**In short.** It is not shown."),
        ((-1.0, -1.0), -1.0, "**In short.** It cannot be tested at this size."),
    ],
)
def test_the_main_sentence_follows_the_verdict_where_the_language_sets_judge(monkeypatch, differences, gate, told):
    verdict = judged(hypotheses.middle(["gpt2", "llama"]), differences, gate)
    monkeypatch.setattr(in_short.language_cases, "judges", lambda _: True)
    monkeypatch.setattr(in_short.verdicts, "by_claim", lambda _: {"middle": verdict})
    found = in_short.main("cpu")
    assert found.startswith(told)
    assert "for GPT-2 style and" in found
    assert "two students together, over ten training seeds" in found
    assert compared.findings(verdict).endswith(f"Verdict: {verdict.outcome}.")
    assert compared.findings(verdict).startswith("In nats a token: GPT-2 style: both losses minus output loss ")
    assert compared.shown(verdict).formats["difference"] == "+.3f"
    nothing = {one.name: None for one in verdict.claim.comparisons}
    monkeypatch.setattr(in_short.verdicts, "by_claim", lambda _: {"middle": judge(verdict.claim, nothing)})
    assert "Not recorded yet" in in_short.main("cpu")


def test_controls_are_counted_where_the_language_sets_judge(monkeypatch):
    verdict = judged(hypotheses.controls(["gpt2"]), (-1.0, 1.0, 0.0))
    monkeypatch.setattr(in_short.language_cases, "judges", lambda _: True)
    monkeypatch.setattr(in_short.verdicts, "by_claim", lambda _: {"controls": verdict})
    told = in_short.ablations("cpu")
    assert "of three comparisons with controls" in told
    assert "wins 1 and loses 1 by whole intervals" in told
    assert told.endswith("So it is not shown that rule and module matter.")


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
