"""Claims on draws: verdicts of made-up records by hand, what is not recorded stays open, gates alone, names."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.reporting import claims
from lib.series.lemoe import drawn_cases, drawn_scores, drawn_tables, hypotheses, verdicts


def record(
    rel: float, gen: float = 0.2, kept: float = 1.0, fall: float = 0.0, agreement: float = 1.0, luck: str = ""
) -> SimpleNamespace:
    """A record of eight edits in two batches; with `luck` scores and routes lie around their means."""
    identities = [f"edit/{number}" for number in range(8)]
    moved = np.random.default_rng(list(luck.encode())).normal(0, 0.02, 8) if luck else np.zeros(8)
    agreement += moved[0]
    rows = []
    for batches in (1, 2):
        for number, identity in enumerate(identities):
            batch = number // 4
            if batch < batches:
                now = rel + moved[number] - ((fall + moved[-number]) if batch == 0 and batches == 2 else 0)
                row = {"run": 0, "batches": batches, "batch": batch, "identity": identity, "rel": now}
                rows.append(row | {"gen": gen + moved[number], "loc": 0.3, "rel_exact": 0.0, "gen_exact": 0.0})
    distant = pd.DataFrame({"run": 0, "identity": identities, "kept": np.clip(kept + moved / 100, 0, 1)})
    routes = pd.DataFrame([{"run": 0, "batches": 2, "batch": -1, "agreement": agreement}])
    return SimpleNamespace(
        case="made",
        values={"settled": True},
        frames={"scores": pd.DataFrame(rows), "distant": distant, "routes": routes},
    )


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, SimpleNamespace]:
    """Records by what their cases are named; the others are not recorded."""
    found: dict[str, SimpleNamespace] = {}
    monkeypatch.setattr(verdicts.records, "available", lambda case: found.get(case.name.removeprefix("3_lemoe/")))
    return found


def put(found: dict, name: str, draws: int = 5, **scores: float) -> None:
    for draw in range(draws):
        found[f"{name}/seed{draw}"] = record(**scores, luck=f"{name}{draw}")


def test_scores_with_distant_questions_by_hand() -> None:
    found = drawn_scores.final(record(0.6, 0.3, kept=0.9))
    assert found["near"].tolist() == [0.3] * 8
    assert found["avg"].to_numpy() == pytest.approx([0.6] * 8)
    falls = drawn_scores.fall_of_first(record(0.6, fall=0.25))
    assert falls["learnt"].to_numpy() == pytest.approx([0.6] * 4)
    assert falls["fall"].to_numpy() == pytest.approx([0.25] * 4)
    one = record(0.6)
    one.frames["scores"] = one.frames["scores"].query("batches == 2")
    with pytest.raises(ValueError, match="not scored both after itself"):
        drawn_scores.fall_of_first(one)
    assert drawn_scores.learnt(one) == pytest.approx(0.6)


def test_deviations_have_the_mean_of_normal_ones_whatever_their_number() -> None:
    assert drawn_scores.deviations([0.2, 0.4]) == pytest.approx([0.1 * 2**0.5] * 2)
    drawn = np.random.default_rng(0).normal(3, 0.5, (4_000, 4))
    means = [drawn_scores.deviations(row).mean() for row in drawn]
    assert np.mean(means) == pytest.approx(0.5 * (2 / np.pi) ** 0.5, rel=0.03)
    with pytest.raises(ValueError, match="at least two"):
        drawn_scores.deviations([1.0])


def test_tables_hold_what_is_recorded_with_intervals_from_three_draws_on() -> None:
    runs = [record(0.8, 0.4, kept=0.9, luck=f"draw {draw}") for draw in range(3)]
    means = [drawn_scores.final(run)["avg"].mean() for run in runs]
    found = drawn_tables.over_draws(runs, "avg")
    assert found.estimate == pytest.approx(np.mean(means))
    assert found.low < min(means)
    assert drawn_tables.over_draws(runs[:2], "avg") == pytest.approx(np.mean(means[:2]))
    assert drawn_tables.over_draws([], "avg") is None
    assert drawn_tables.steps(runs) is None
    assert drawn_tables.steps([SimpleNamespace(values={"steps": [[20, 31], [25, 24]]})]) == 25


@pytest.mark.thorough
def test_without_records_every_claim_is_open_and_names_what_is_missing(shown: dict) -> None:
    found = verdicts.every("cpu")
    assert [verdict.claim.id for verdict in found] == [claim.id for claim in hypotheses.every(mend_settled=False)]
    assert {verdict.outcome for verdict in found} == {claims.INCONCLUSIVE}
    assert all("not recorded" in verdict.label for verdict in found)
    missing = verdicts.pending("cpu")
    assert set(missing) <= {case.name for case in drawn_cases.cases("cpu")}


@pytest.mark.thorough
def test_the_best_average_is_supported_and_one_better_rival_is_enough_against_it(shown: dict) -> None:
    put(shown, "drawn/columns/learnt/lemoe/T100", rel=0.9)
    for rival in hypotheses.rivals(mend_settled=False):
        put(shown, f"drawn/columns/{rival}/T100", rel=0.6)
    claim = hypotheses.lifelong("learnt/lemoe", mend_settled=False)
    assert verdicts.lifelong(claim, "learnt/lemoe", "cpu").outcome == claims.SUPPORTED
    put(shown, "drawn/columns/grace/T100", rel=1.0, gen=0.4)
    assert verdicts.lifelong(claim, "learnt/lemoe", "cpu").outcome == claims.NOT_SUPPORTED
    del shown["drawn/columns/grace/T100/seed3"]
    assert "Avg above GRACE: not recorded" in verdicts.lifelong(claim, "learnt/lemoe", "cpu").label
    put(shown, "drawn/columns/grace/T100", rel=0.6)
    put(shown, "drawn/columns/learnt/lemoe/T100", rel=0.45)  # which learns too little to be compared
    assert verdicts.lifelong(claim, "learnt/lemoe", "cpu").outcome == claims.NOT_TESTABLE


def test_mend_is_compared_only_where_validation_stopped_its_training(shown: dict) -> None:
    assert not verdicts.mend_settled("cpu")
    shown["mend/network"] = SimpleNamespace(values={"settled": False})
    assert not verdicts.mend_settled("cpu")
    shown["mend/network"] = SimpleNamespace(values={"settled": True})
    assert verdicts.mend_settled("cpu")
    names = [{c.name for c in hypotheses.lifelong("learnt/lemoe", settled).comparisons} for settled in (True, False)]
    assert names[0] - names[1] == {"Avg above MEND"}


@pytest.mark.parametrize(("kept", "outcome"), [(1.0, claims.SUPPORTED), (0.5, claims.NOT_SUPPORTED)])
def test_locality_is_that_of_distant_questions(shown: dict, kept: float, outcome: str) -> None:
    put(shown, "drawn/columns/learnt/lemoe/T100", rel=0.9, kept=kept)
    assert verdicts.locality("learnt/lemoe", "cpu").outcome == outcome


@pytest.mark.thorough
def test_falls_are_compared_where_every_method_had_learnt_its_first_batch(shown: dict) -> None:
    put(shown, "drawn/columns/learnt/lemoe_paper/T100", rel=0.9, fall=0.1)
    for rival in hypotheses.FALLS:
        put(shown, f"drawn/columns/{rival}/T100", rel=0.9, fall=0.6)
    assert verdicts.forgetting("learnt/lemoe_paper", "cpu").outcome == claims.SUPPORTED
    assert verdicts.forgetting("learnt/lemoe", "cpu").outcome == claims.INCONCLUSIVE
    put(shown, "drawn/columns/ewc/T100", rel=0.45, fall=0.4)
    assert verdicts.forgetting("learnt/lemoe_paper", "cpu").outcome == claims.NOT_TESTABLE


@pytest.mark.thorough
def test_the_order_matters_where_it_spreads_more_than_initial_weights(shown: dict) -> None:
    row = "learnt/lemoe_random"
    moved = (-1.1, 0.9, -0.8, 1.2, -1.0, 1.0, -0.9, 0.8, -1.2, 1.1)
    for seed, by in enumerate(moved):
        shown[f"drawn/orders/{row}/seed{seed}"] = record(0.7 + 0.2 * by)  # Avg moves by 0.07
        shown[f"drawn/weights/{row}/seed{seed}"] = record(0.8 + 0.01 * by)
    assert verdicts.spread(row, "cpu").outcome == claims.SUPPORTED
    for seed, by in enumerate(moved):
        shown[f"drawn/weights/{row}/seed{seed}"] = record(0.5 + 0.4 * by)
    assert verdicts.spread(row, "cpu").outcome == claims.NOT_SUPPORTED


@pytest.mark.thorough
def test_routes_order_and_batches_by_their_rows(shown: dict) -> None:
    put(shown, "drawn/columns/learnt/lemoe/T100", rel=0.9, gen=0.4, agreement=0.9)
    put(shown, "drawn/columns/learnt/conventional_clustered/T100", rel=0.6, agreement=0.3)
    put(shown, "drawn/columns/learnt/lemoe_random/T100", rel=0.6)
    for row, rel in zip(drawn_cases.AT_ONCE, (0.9, 0.95), strict=True):
        put(shown, f"drawn/at_once/{row}", rel=rel)
    assert verdicts.routing("learnt/lemoe", "cpu").outcome == claims.SUPPORTED
    assert verdicts.order("cpu").outcome == claims.SUPPORTED
    assert verdicts.batch("cpu").outcome == claims.SUPPORTED
    put(shown, "drawn/columns/learnt/conventional/T100", rel=0.9, fall=0.5, agreement=0.2)
    assert verdicts.factors("cpu").outcome == claims.SUPPORTED


def test_every_claim_has_a_name_a_gate_and_a_notebook_of_its_own() -> None:
    found = hypotheses.every()
    assert len({claim.id for claim in found}) == len(found) == 14
    assert all(claim.gate is not None and claim.id.startswith("drawn_") for claim in found)
