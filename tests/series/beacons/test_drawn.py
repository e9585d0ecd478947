"""Rows whose seeds draw their own facts: what they run on, what they are judged on, what they cost."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib import profiles
from lib.beacons import answers, distance, draws, training
from lib.beacons.facts import facts
from lib.beacons.methods import attach
from lib.causal_lm import backbones
from lib.intervals import t_interval
from lib.reporting import claims
from lib.series.beacons import (
    budget,
    building,
    cases,
    drawn,
    drawn_cases,
    evidence,
    gates,
    hypotheses,
    power,
    workbench,
)
from tests.beacons.made_facts import ADAPTER, made_facts
from tests.tiny_models import Letters, llama

FACTS = tuple(made_facts())
NAMED = facts("results")[:4]
A, B, C, D = (fact.identity for fact in NAMED)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> workbench.Workbench:
    model = llama()
    monkeypatch.setattr(backbones, "load_causal_lm", lambda name, dtype, layers: (model, Letters()))
    monkeypatch.setattr(workbench, "facts", lambda pool: list(FACTS))
    monkeypatch.setattr(draws, "draw", lambda seed: list(FACTS[::-1] if seed else FACTS))
    made = workbench.Workbench("made", None, "float32", "cpu")
    monkeypatch.setattr(drawn, "workbench", lambda *_: made)
    return made


def test_a_drawn_workbench_has_the_draws_facts_and_the_others_model(bench: workbench.Workbench) -> None:
    before = bench.facts("results", 5)
    ours = drawn.DrawnWorkbench(bench, 1)
    assert ours.facts("results", 5) == before[::-1]
    assert bench.facts("results", 5) == before
    assert ours.model is bench.model
    asked = [fact.prompt for fact in FACTS[:-3:-1]]
    assert ours.answers_before("results", 2, 5) == tuple(answers.greedy(bench.model, Letters(), asked, 5))


def tiny(name: str, **changes: Any) -> Any:
    """A smoke case whose configuration fits the tiny model."""
    case = {one.name: one for one in drawn_cases.cases("smoke")}[f"2_beacons/{name}"]
    config = case.config.model_copy(update={"count": 6, "answer_tokens": 5, "first_layer": 2} | changes)
    return SimpleNamespace(config=config, seed=1, device="cpu", inputs={}, name=case.name)


def test_each_kind_of_case_runs_on_the_draw(bench: workbench.Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn.records, "workspace", lambda case: None)
    told = drawn.train_drawn(tiny("drawn_filter/all/seed10", read=6)).frames["facts"]["identity"].tolist()
    assert told == [fact.identity for fact in FACTS[::-1]]
    asked = drawn.ask_drawn(tiny("drawn_known/seed10", count=4))
    assert asked.frames["facts"]["identity"].tolist() == told[:4]
    assert asked.values == {"facts": 4}
    alone = drawn.learn_drawn(tiny("drawn_alone/real/seed10"))
    assert alone.frames["facts"]["identity"].tolist() == told


def test_distances_after_an_epoch_are_those_of_plain_training(bench: workbench.Workbench) -> None:
    config = tiny("other_distances/after_an_epoch/a/seed0").config
    found = drawn.after_an_epoch(config, bench, 3)
    with attach(bench.model, "lora", ADAPTER, config.steps, 3) as handle:
        training.train(handle, Letters(), FACTS, 3, 2, config.rate, 3)
        said = answers.greedy(bench.model, Letters(), [fact.prompt for fact in FACTS], 5)
    wanted = distance.distance(bench.raw, said, [fact.target for fact in FACTS])
    assert found.index.tolist() == [fact.identity for fact in FACTS]
    assert found.tolist() == pytest.approx(wanted.tolist(), abs=1e-5)


def test_a_reading_chooses_by_its_ruler_and_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    known = pd.DataFrame({"raw": [0.1, 0.2], "hidden": [0.3, 0.4]}, index=["x", "y"])
    seen: list[list[float]] = []
    result = SimpleNamespace(values={}, frames={})
    monkeypatch.setattr(
        drawn, "run", lambda config, bench, seed, known, place: seen.append(list(known["raw"])) or result
    )
    monkeypatch.setattr(drawn, "workbench", lambda *_: None)
    monkeypatch.setattr(drawn.records, "workspace", lambda case: None)
    monkeypatch.setattr(drawn.arms, "known_facts", lambda case: known)
    monkeypatch.setattr(drawn, "after_an_epoch", lambda *_: pd.Series([0.6, 0.5], index=["y", "x"]))
    for name in ("raw/a", "hidden/reversed", "after_an_epoch/a"):
        case = tiny(f"other_distances/{name}/seed0")
        drawn.train_reading(SimpleNamespace(**vars(case) | {"inputs": {"known": None}}))
    assert seen == [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]
    assert known["raw"].tolist() == [0.1, 0.2]


def test_rows_of_draws_are_recorded_ones_on_seeds_and_names_of_their_own() -> None:
    found, sizes = drawn_cases.cases("cpu"), profiles.profile("cpu").beacons
    old = [case for case in cases.cases("cpu") if case not in found]
    assert {case.row for case in found} == {"extended"}
    assert not set(sizes.draws) & set(sizes.seeds)
    assert not {case.name.split("/")[1] for case in found} & {case.name.split("/")[1] for case in old}
    assert len(drawn_cases.learnt_seeds("cpu")) == 10
    assert len(drawn_cases.seeds_of("reversed", "cpu")) == 20
    assert drawn_cases.seeds_of("flipped", "cpu") == drawn_cases.seeds_of("a", "cpu") == sizes.draws
    assert {case.data["facts"] for case in found if "/drawn_" in case.name and "tuning" not in case.name} == {
        draws.digest()
    }


def test_facts_alone_are_the_first_of_those_learnt_together() -> None:
    alone, many = drawn_cases.alone("real", 12, "cpu"), drawn_cases.many("per_fact", 12, "cpu")
    assert (alone.seed, many.seed) == (12, 12)
    assert alone.config.count == many.config.read == 200
    assert (many.config.count, many.config.steps) == (500, 500)
    assert drawn_cases.many("total", 12, "cpu").config.steps == alone.config.steps


def test_arms_of_draws_differ_from_the_older_ones_in_nothing_but_their_facts() -> None:
    for arm in cases.FILTERS:
        assert drawn_cases.filtered(arm, 11, "cpu").config == cases.filtered(arm, 0, "cpu").config
    for arm in cases.WEIGHINGS:
        assert drawn_cases.reweighted(arm, 11, "cpu").config == cases.reweighted(arm, 0, "cpu").config
    filtered = drawn_cases.filtered("a", 11, "cpu")
    assert filtered.inputs["known"].name == "2_beacons/drawn_known/seed11"
    assert filtered.inputs["known"].config.count == filtered.config.count
    assert not drawn_cases.filtered("all", 11, "cpu").inputs


def test_other_readings_are_of_the_tuning_pool_and_each_changes_one_thing() -> None:
    def changed(name: str) -> set[str]:
        one, plain = (dict(drawn_cases.reading(n, "a", 0, "cpu").config) for n in (name, "raw"))
        assert one["pool"] == "tuning"
        return {key for key in one if one[key] != plain[key]}

    told = {name: changed(name) for name in drawn_cases.READINGS}
    assert {frozenset(one) for one in told.values()} == {
        frozenset(), frozenset({"ruler"}), frozenset({"moment"}), frozenset({"kept"})
    }  # fmt: skip
    assert told["raw"] == set()
    assert told["quarter"] == {"kept"}
    assert told["hidden"] == {"ruler"}


@pytest.mark.parametrize("profile", ["cpu", "gpu", "paper"])
def test_no_profile_asks_the_tuning_pool_for_more_facts_than_it_has(profile: str) -> None:
    config = drawn_cases.reading("raw", "a", 0, profile).config
    assert config.count == config.read == 100 < len(facts("tuning"))


def record(right: dict[str, int], paraphrase: dict[str, int]) -> Any:
    """A record of facts together: whether each is right on its prompt, and on a paraphrase."""
    named = {fact.identity: fact for fact in NAMED}
    rows = [(one, n, ok) for n, told in enumerate((right, paraphrase)) for one, ok in told.items()]
    said = [(one, n, named[one].target if ok else "never heard of it", 0) for one, n, ok in rows]
    frame = pd.DataFrame(said, columns=["identity", "prompt", "answer", "run"])
    told = pd.DataFrame([(one, 0, True, 1.0, 0.1, 0.1) for one in right])
    told.columns = ["identity", "run", "trained", "loss", "raw", "centred"]
    return SimpleNamespace(frames={"answers": frame, "facts": told}, config={}, case="made")


ALONE = record({A: 1, B: 1, C: 1, D: 1}, {A: 1, B: 1, C: 1, D: 0})
AMONG = record({A: 1, B: 1, C: 0, D: 1}, {A: 0, B: 1, C: 0, D: 0})


def test_expression_of_facts_that_both_trainings_learnt_by_hand() -> None:
    learning, expression = evidence.interference({"alone": [ALONE] * 3, "per_fact": [AMONG] * 3, "total": [AMONG] * 3})
    ours, theirs = expression.data[hypotheses.EXPRESSION[1]]  # C was not learnt among N
    assert ours[0].to_dict() == {A: 1, B: 1, D: 0}
    assert theirs[0].to_dict() == {A: 0, B: 1, D: 0}
    whole = expression.data[hypotheses.EXPRESSION[0]]
    assert [sum(part[0]) for part in whole] == [3, 1]
    assert learning.gate == [1.0] * 3
    assert expression.gate == [0.75] * 3
    assert learning.data.keys() == hypotheses.LEARNING.keys()
    nothing = record({A: 0}, {A: 0})
    none = evidence.interference({"alone": [nothing] * 3, "per_fact": [nothing] * 3, "total": [nothing] * 3})[1]
    assert none.data[hypotheses.EXPRESSION[1]] is None
    assert none.verdict().outcome == claims.NOT_TESTABLE


def test_the_facts_learnt_are_weighed_against_the_right_rows() -> None:
    best, worst = record({A: 1, B: 1}, {A: 1, B: 1}), record({A: 0, B: 1}, {A: 0, B: 0})
    rows = {"all": [worst] * 3, "random": [worst] * 3, "a": [best] * 3, "b": [worst] * 3, "reversed": [best] * 3}
    a, b, direction = evidence.filters(rows)
    gaps = {
        one.claim.id: {n: float(np.mean(np.subtract(*p))) for n, p in one.data.items()} for one in (a, b, direction)
    }
    assert gaps["filter_a"] == {"full set, minus random": 0.5, "full set, minus plain": 0.5}
    assert set(gaps["filter_b"].values()) == {0.0}
    assert gaps["filter_direction"] == {"full set, minus reversed": 0.0}
    assert a.gate == gates.room(rows["all"]) == [0.5] * 3
    weighed = {"plain": [worst] * 3, "permuted": [best] * 3, "distance": [best] * 3, "flipped": [worst] * 3}
    whole, sign = evidence.weighings(weighed)
    assert [float(np.mean(np.subtract(*p))) for p in whole.data.values()] == [0.5, 0.0]
    assert [float(np.mean(np.subtract(*p))) for p in sign.data.values()] == [0.5]


def alone_record(answers_after: dict[str, list[str]], distances: dict[str, list[float]]) -> Any:
    rows = [
        (one, step, said, d, 1.0)
        for one in answers_after
        for step, said, d in zip((0, 1, 2, 4), answers_after[one], distances[one], strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["identity", "step", "answer", "raw", "loss"]).assign(x=0.0, y=0.0)
    return SimpleNamespace(frames={"readings": frame, "facts": pd.DataFrame()}, config={"targets": "own"})


def test_a_push_on_the_way_is_no_push_in_the_end() -> None:
    right = {fact.identity: fact.target.strip() for fact in NAMED}
    said = {A: ["x", "y", "z", right[A]], B: ["x", "y", right[B], right[B]], C: ["x", right[C], right[C], right[C]]}
    apart = {A: [0.5, 0.9, 0.8, 0.0], B: [0.5, 0.9, 0.0, 0.0], C: [0.5, 0.0, 0.0, 0.0]}
    runs = [alone_record(said, apart)] * 3
    way, end = evidence.pushed({"real": runs, "shuffled": runs})
    ever, beyond = way.data.values()
    assert [part.mean() for part in ever[0]] == pytest.approx([2 / 3] * 3)
    assert [part.mean() for part in beyond[0]] == pytest.approx([0.0] * 3)
    assert next(iter(end.data.values()))[0][0].sum() == 0
    assert way.gate == [1.0] * 3
    told = evidence.passing(runs)
    assert told["readings"].tolist() == [1, 2]
    assert told["facts"].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert told["back by update"].tolist() == [2, 4]
    assert told["right at the end"].tolist() == [1, 1]


def test_what_is_pending_is_named_and_whole_seeds_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence.records, "available", lambda case: None)
    nothing = evidence.read("2.5", "cpu")
    assert nothing.seeds == 0
    assert nothing.verdicts() == []
    assert len(nothing.pending) == 80
    assert "80 rows are pending, from 2_beacons/drawn_filter/all/seed10 on" in nothing.told()
    frame, pending = evidence.readings("cpu")
    assert frame.empty
    assert pending == 60

    def some(case: Any) -> Any:
        return {"drawn_alone": ALONE, "drawn_many": AMONG}[case.name.split("/")[1]] if case.seed < 14 else None

    monkeypatch.setattr(evidence.records, "available", lambda case: None if case.name.endswith("13") else some(case))
    part = evidence.read("2.3", "cpu")
    assert part.seeds == 3
    assert len(part.pending) == 21
    assert [verdict.claim.id for verdict in part.verdicts()] == ["learning", "expression"]
    assert "3 of 10 seeds" in part.told()


def test_claims_have_gates_and_their_rows() -> None:
    every = hypotheses.every()
    assert len({claim.id for claim in every}) == len(every) == 9
    assert all(claim.gate is not None for claim in every)
    listed = {case.name for case in drawn_cases.cases("cpu")}
    for notebook, (rows, _) in evidence.NEEDED.items():
        assert {evidence.case(notebook, row, 10, "cpu").name for row in rows} < listed, notebook


def test_the_spread_of_a_seed_with_facts_of_its_own() -> None:
    # Means .1 and .3 have a variance of .02; facts 0 and 1 one of .5, of which a mean of 50 has .01.
    assert power.spread([0.1, 0.3], [[0, 1], [1, 0]], 50) == pytest.approx(np.sqrt(0.03))


def test_power_is_the_share_of_simulated_intervals_beyond_the_margin() -> None:
    values = np.random.default_rng(0).normal(0.05, 0.06, size=(20_000, 5))
    beyond = np.mean([t_interval(row, 0.975).low > 0 for row in values[:1000]])
    assert power.power(0.05, 0.06, 5, 0.975) == pytest.approx(beyond, abs=0.05)
    assert power.power(-0.05, 0.06, 5, 0.975) == power.power(0.05, 0.06, 5, 0.975)
    assert power.power(0.01, 0.0, 3, 0.95) == 1
    count = power.needed(0.05, 0.06, 0.95)
    assert power.power(0.05, 0.06, count, 0.95) >= power.WANTED > power.power(0.05, 0.06, count - 1, 0.95)
    assert power.needed(0.001, 0.06, 0.95) is None
    least = power.decided(0.05, 0.06, 0.95, 20)
    assert power.power(least, 0.06, 20, 0.95) >= power.WANTED > power.power(least - 0.005, 0.06, 20, 0.95)


def test_the_queue_holds_every_row_once_and_what_is_dropped_first_last(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(budget, "minutes", lambda case, profile="cpu": 1.0)
    kinds = budget.queue()
    names = [case.name for listed in kinds.values() for case in listed]
    assert sorted(names) == sorted({case.name for case in drawn_cases.cases("cpu")})
    assert tuple(kinds) == budget.KINDS
    assert all("other" in name or "tuning" in name for name in names[-61:])
    file = tmp_path / "queue"
    assert budget.main(["--queue", str(file)]) == 0
    assert [line for line in file.read_text().splitlines() if not line.startswith("#")] == names
    monkeypatch.setattr(budget, "minutes", lambda case, profile="cpu": 31.0)
    assert budget.main([]) == 1


def test_minutes_from_like_records_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"alone/real": 100.0, "many/lora/per_fact/N500": 300.0, "many/lora/total/N500": 12.0}
    told |= {"filter/a": 20.0, "reweight/flipped": 30.0, "known/facts": 660.0}
    monkeypatch.setattr(budget, "_seconds", lambda *names, profile: told[names[0]])
    monkeypatch.setattr(budget, "_facts", lambda case: 600)
    wanted = [
        (drawn_cases.alone("shuffled", 10, "cpu"), 200), (drawn_cases.many("per_fact", 10, "cpu"), 312),
        (drawn_cases.filtered("a", 10, "cpu"), 20), (drawn_cases.reweighted("flipped", 10, "cpu"), 30),
        (drawn_cases.known(10, "cpu"), 110), (drawn_cases.reading("after_an_epoch", "a", 0, "cpu"), 30),
    ]  # fmt: skip
    for case, seconds in wanted:
        assert budget.minutes(case) == pytest.approx(seconds / 60), case.name


def test_core_rows_after_the_swap_are_one_seed_of_what_is_compared() -> None:
    names = [case.name.removeprefix(f"{building.SERIES}/") for case in budget.core()]
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.endswith(("seed1", "seed2")) or name.startswith("filter")]
    assert {"drawn_alone/real/seed10", "drawn_alone/shuffled/seed10", "drawn_known/seed10", "known/facts"} <= set(names)
    assert "drawn_filter/lowest_loss/seed10" not in names
