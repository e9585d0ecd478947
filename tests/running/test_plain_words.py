"""What the README says follows where the intervals lie: findings, answers of notebooks, sentences on claims."""

import json
from collections import Counter
from pathlib import Path

import pytest

from lib import paths
from lib.errors import UserError
from lib.reporting import claims
from lib.running import answers, contract, findings, plain_claims, scorecard


def comparison(name: str, interval: tuple | None, claimed: str = "difference > 0", over: str = "3 seeds") -> dict:
    told = None if interval is None else dict(zip(("estimate", "low", "high"), interval, strict=True))
    outcome = claims.NOT_JUDGED if "one seed" in over else claims.INCONCLUSIVE
    return {"comparison": name, "claimed": claimed, "difference": told, "over": over, "outcome": outcome}


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    return tmp_path


def publish(figures: Path, stem: str, *rows: dict) -> None:
    (figures / stem).parent.mkdir(exist_ok=True)
    (figures / f"{stem}.json").write_text(json.dumps({"rows": rows}))


@pytest.mark.parametrize(
    ("nouns", "bleu", "told"),
    [
        ((-0.2, -0.3, -0.1), (0.2, 0.1, 0.3), ["settled earlier, by -0.200 [-0.300, -0.100]", "it writes are better"]),
        ((0.2, 0.1, 0.3), (-0.2, -0.3, -0.1), ["settled later", "writes are worse, BLEU -0.200 [-0.300, -0.100]"]),
        ((0.2, -0.1, 0.3), (0.0, -0.1, 0.1), ["about as early", "no better and no worse for certain"]),
        (None, (0.2, 0.1, 0.3), ["by not recorded yet of all"]),
    ],
)
def test_a_finding_is_worded_by_its_intervals(figures: Path, nouns: tuple | None, bleu: tuple, told: list[str]) -> None:
    settled = comparison("nouns earlier than in DiffuSeq", nouns, "difference < 0")
    publish(figures, "1_infodiffusion/claim_order", settled)
    publish(figures, "1_infodiffusion/claim_quality", comparison("Question Generation: BLEU", bleu))
    assert all(part in findings.order() for part in told)
    assert "seed" not in findings.order()


def test_a_finding_says_how_few_seeds_it_rests_on(figures: Path) -> None:
    publish(figures, "4_hetero_kd/claim_middle", comparison("ours minus output only, four sets", (1.0, 0.5, 1.5)))
    assert findings.middle().endswith(", helps: in points of ROUGE-L 1.0 [0.5, 1.5].")
    row = comparison("ours minus output only, four sets", (1.0, 0.5, 1.5), over="1,200 items of one seed")
    publish(figures, "4_hetero_kd/claim_middle", row)
    assert findings.middle().endswith(", helps: in points of ROUGE-L 1.0 [0.5, 1.5] (one seed).")
    sides = {
        "GPT-2 style: ours minus output only": (-0.2, -0.3, -0.1),
        "Llama style: ours minus output only": (0, -1, 1),
    }
    found = [comparison(name, interval, claimed="difference < 0") for name, interval in sides.items()]
    publish(figures, "4_hetero_kd/claim_middle", *found)
    assert findings.middle().endswith(
        ", helps and makes no visible difference: in held-out loss (nats a token, lower is better) -0.200 [-0.300, "
        "-0.100] (GPT-2 style student) and 0.000 [-1.000, 1.000] (Llama style student)."
    )


def test_a_new_verdict_takes_the_place_of_the_one_that_stood_in_for_it(figures: Path) -> None:
    old = [comparison("paraphrase, equal updates per fact", (0.4, 0.1, 0.6))]
    old += [comparison("prompt, equal updates per fact", (0.1, -0.1, 0.2), "difference > 0.05")]
    publish(figures, "2_beacons/claim_interference", *old)
    assert "falls by 0.400 [0.100, 0.600]; asked as trained" in findings.together()
    assert "0.100 [-0.100, 0.200], not for certain." in findings.together()
    new = comparison("paraphrase, equal updates per fact", (0.3, 0.2, 0.5), over="10 seeds")
    publish(figures, "2_beacons/claim_expression", new)
    learnt = comparison("prompt, equal updates per fact", (0.01, 0.0, 0.04), "difference > 0.05")
    publish(figures, "2_beacons/claim_learning", learnt)
    assert "falls by 0.300 [0.200, 0.500];" in findings.together()
    assert "0.010 [0.000, 0.040], hardly anything." in findings.together()  # all of it below the margin


def test_remedies_that_help_and_harm_are_named(figures: Path) -> None:
    for name, interval in (("a", (0.2, 0.1, 0.3)), ("b", (-0.2, -0.3, -0.1))):
        rows = [comparison(f"full set, minus {other}", interval) for other in ("plain", "random")]
        publish(figures, f"2_beacons/claim_filter_{name}", *rows)
    publish(figures, "2_beacons/claim_reweighting", comparison("right, minus plain", (0.1, -0.1, 0.3)))
    assert "helps: filter A; harms: filter B; undecided: the weighted loss." in findings.remedies()
    for name in ("a", "b"):
        rows = [comparison(f"full set, minus {other}", (0.0, -0.1, 0.1)) for other in ("plain", "random")]
        publish(figures, f"2_beacons/claim_filter_{name}", *rows)
    assert "none is seen to help." in findings.remedies()


def test_a_table_that_changed_is_named(figures: Path) -> None:
    publish(figures, "3_lemoe/kinds", {"kind": "leak", "edits": 3})
    with pytest.raises(UserError, match=r"kinds\.json: no row with kind 'all'"):
        findings.row("3_lemoe/kinds", kind="all")
    with pytest.raises(UserError, match=r"none\.json: missing or damaged"):
        findings.rows("3_lemoe/none")


def verdict(kind: str, *rows: dict, **more: str) -> dict:
    told = {"verdict": kind, "rows": list(rows), "text": "All is well.", "paper": "A", "stem": "a/claim_a"}
    return told | {"path": "2_beacons/2.4_filters"} | more


ON_SEED = {"over": "9 items of one seed"}


@pytest.mark.parametrize(
    ("found", "word", "sentence"),
    [
        (verdict("supported", comparison("x", (0.2, 0.1, 0.3))), "Yes", "**supported**, 0.200 [0.100, 0.300]"),
        (verdict("not supported", comparison("x", (-2.0, -3.0, -1.0))), "No", "**not supported**, -2.000"),
        (verdict("inconclusive (x: above 1 is ruled out)", comparison("x", None)), "Undecided", "**inconclusive**"),
        (
            verdict("inconclusive (x: not recorded)", comparison("x", None, over="not recorded")),
            "Undecided",
            "**inconclusive**, not recorded yet",
        ),
        (
            verdict("not testable at this size (gate: 0, not above 1)", comparison("x", (1.0, 0.0, 2.0))),
            "Not testable here",
            "**not testable here**",
        ),
        (
            verdict(
                "not judged: one seed",
                comparison("x", (0.2, 0.1, 0.3), **ON_SEED),
                comparison("y", (0.2, -0.1, 0.3), **ON_SEED),
            ),
            "One seed: undecided",
            "**not judged**, of 2 comparisons 1 for it",
        ),
        (
            verdict(
                "not judged: one seed",
                comparison("x", (0.2, 0.1, 0.3), **ON_SEED),
                comparison("y", (-0.2, -0.3, -0.1), **ON_SEED),
            ),
            "One seed: no",
            "**not judged**, of 2 comparisons 1 for it, 1 against it",
        ),
        (
            verdict("not judged: one seed", comparison("x", (0.2, 0.1, 0.3), **ON_SEED)),
            "One seed: yes",
            "**not judged**",
        ),
    ],
)
def test_a_verdict_in_words(monkeypatch: pytest.MonkeyPatch, found: dict, word: str, sentence: str) -> None:
    for row in found["rows"]:
        if row["outcome"] == claims.INCONCLUSIVE and row["difference"]:
            row["outcome"] = found["verdict"] if found["verdict"] in scorecard.WEIGHT else claims.INCONCLUSIVE
    monkeypatch.setattr(scorecard, "verdicts", lambda profile: [found])
    assert answers.verdict_words(found) == word
    text = plain_claims.markdown(paths.ROOT)
    assert text.startswith(f"**A**\n\n- All is well: {sentence}")
    assert text.endswith("([2.4](notebooks/2_beacons/2.4_filters.ipynb)).")


def test_a_notebook_answers_for_each_of_its_claims_and_one_that_nobody_asked_by_its_title() -> None:
    promises = {promise.name: promise for promise in contract.all_notebooks()}
    promise = promises["2_beacons/2.4_filters"]
    found = [verdict(kind, comparison("x", (1.0, 0.0, 2.0))) for kind in ("supported", "not supported")]
    assert answers.answer(promise, found) == "Yes; no."
    assert answers.answer(promise, found[:1] * 2) == "Yes."
    assert answers.answer(promise, []) == answers.NOBODY
    fresh = promise.model_copy(update={"notebook": paths.NOTEBOOKS / "2_beacons/2.9_new.ipynb"})
    assert answers.answer(fresh, []) == ""
    assert set(answers.ASKED) <= set(promises)


def test_what_became_of_the_claims_is_counted() -> None:
    stems = [stem for one in contract.all_notebooks() for stem in one.writes if "/claim_" in stem]
    told = [json.loads((paths.FIGURES / f"{stem}.json").read_text())["verdict"] for stem in stems]
    counts = Counter(one.split(":")[0].split(" (")[0] for one in told)
    answer = answers.tally()
    assert answer.startswith(f"{counts['supported']} of {len(stems)} supported, ")
    for kind in ("not supported", "inconclusive", "not judged"):
        assert (f" {counts[kind]} {kind}" in answer) == (counts[kind] > 0)


def test_answers_from_tables(figures: Path) -> None:
    def interval(estimate: float, low: float, high: float) -> dict:
        return {"estimate": estimate, "low": low, "high": high}

    for found, word in (((-2.0, -3.0, -1.0), "Yes"), ((2.0, 1.0, 3.0), "No"), ((0.0, -1.0, 1.0), "Undecided")):
        publish(figures, "2_beacons/own_target", {"ruler": "raw", "kind": "all", "own minus other": interval(*found)})
        assert answers.own_target().startswith(f"{word}, {found[0]:.3f} [")
    gains = (interval(2, 1, 3), interval(3, 2, 4), interval(-2, -3, -1), None)
    publish(figures, "4_hetero_kd/pairs", *({"both losses minus output loss": one} for one in gains))
    assert answers.unlike() == "No: the loss helps 2 of 3 students, harms 1."
    shares = {"LoRA": interval(0.5, 0, 1), "DoRA": interval(0.7, 0, 1), "IA3": interval(0.2, 0, 1), "LoHa": None}
    publish(figures, "2_beacons/grid", *({"method": name, "N = 100": one} for name, one in shares.items()))
    assert answers.grid() == "Of 100 facts it gets 0.50 right, others 0.20 to 0.70."
    publish(figures, "2_beacons/grid", {"method": "LoRA", "N = 100": None})
    assert answers.grid() == answers.NOBODY
