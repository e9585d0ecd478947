"""From sentences to numbers: plateaus, order correlations and groups, on cases worked out by hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from lib.series.infodiffusion import evaluation
from lib.text import metrics


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([1.0, 1.0, 1.0, 1.0], 1),
        ([0.1, 0.5, 0.96, 1.0], 5),
        ([0.1, 0.97, 0.5, 1.0], 10),  # falls below again
        ([2.0, 1.5, 1.2, 1.0], 1),  # better with few steps
        ([0.0, 0.0, 0.0, 1.0], 10),
    ],
)
def test_the_plateau_begins_where_all_later_values_stay_within_95_percent(values: list[float], step: int) -> None:
    assert evaluation.plateau_step((1, 2, 5, 10), values) == step


def test_the_interval_of_the_plateau_widens_with_disagreement() -> None:
    early, late = [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]
    steps = (1, 2, 5, 10)
    same = evaluation.plateau_interval(steps, [early] * 20)
    mixed = evaluation.plateau_interval(steps, [early] * 19 + [late])
    assert same == (2, 2, 2)
    assert (mixed.estimate, mixed.low, mixed.high) == (2, 2, 10)


def test_the_order_correlation_is_a_mean_over_sentences_that_have_an_order() -> None:
    rows = [(0, k, k) for k in range(5)] + [(1, k, -k) for k in range(5)] + [(2, k, k) for k in range(5)]
    rows += [(3, k, 1) for k in range(5)] + [(4, k, k) for k in range(3)]  # constant; too short
    found = evaluation.order_correlation(pd.DataFrame(rows, columns=["item", "x", "y"]), "x", "y")
    assert found.estimate == pytest.approx(1 / 3)
    assert found.low == pytest.approx(-1)
    assert found.high == pytest.approx(1)


def test_items_of_one_group_are_averaged() -> None:
    rows = {"group": ["b", "a", "b", "c", "unused"], "src": ["u", "v", "w", "v", "u"]}
    pairs = {"test": Dataset.from_dict(rows)}
    assert evaluation.by_group([1.0, 2.0, 3.0, 4.0], pairs).tolist() == [2.0, 2.0, 4.0]


def test_items_of_one_source_are_averaged_where_a_file_names_no_groups() -> None:
    pairs = {"test": Dataset.from_dict({"src": ["u", "v", "w", "v", "u"]})}
    assert evaluation.by_group([1.0, 2.0, 3.0, 4.0], pairs).tolist() == [1.0, 3.0, 3.0]


def test_a_sweep_is_scored_by_sampler_steps_and_item() -> None:
    texts = {0: ["the king said to him", "a king said to him", "he said"], 1: ["they went out of it"] * 3}
    rows = [
        {"sampler": "ddim", "steps": steps, "item": item, "candidate": k, "text": text if steps == 2 else "no"}
        for steps in (1, 2)
        for item, several in texts.items()
        for k, text in enumerate(several)
    ]
    record = SimpleNamespace(frames={"outputs": pd.DataFrame(rows)})
    references = ["the king said to him", "they went to it", "not used"]
    found = evaluation.swept(record, references).set_index(["steps", "item"])
    assert found.loc[(2, 0), "bleu"] == pytest.approx(1.0)
    assert found.loc[(2, 1), "bleu"] == pytest.approx(metrics.bleu([texts[1][0]], [references[1]])[0])
    assert found.loc[(2, 1), "diverse_4"] == pytest.approx(1 / 3)
    assert np.isclose(found.loc[(1, 0), "diverse_4"], 0.0)


def test_one_candidate_is_the_first_and_not_the_best(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts = [["a b c d", "a b c e", "a b c e"], ["x y z", "x y w", "x y w"]]
    rows = [(k, c, text) for k, row in enumerate(texts) for c, text in enumerate(row)]
    frame = pd.DataFrame(rows, columns=["item", "candidate", "text"]).assign(split="test")
    run = SimpleNamespace(frames={"outputs": frame}, profile="cpu")
    pairs = SimpleNamespace(sources=lambda split: ["a b", "x y"], targets=lambda split: ["a b c d", "x y z"])
    seen = {}
    monkeypatch.setattr(evaluation.scores, "compare", lambda systems, *a, **k: seen.update(systems, **k) or {})
    for most, expected in ((1, [["a b c d"], ["x y z"]]), (None, texts)):
        evaluation.on_test({"model": run}, pairs, most=most)
        assert seen["model"] == expected
    assert seen["released"] is False
    (tmp_path / "mine.toml").write_text('from = "paper"\nabout = "my own"\n')
    monkeypatch.setenv("REPRODUCTION_PROFILE", str(tmp_path / "mine.toml"))
    for name in ("paper", "mine"):
        seen.clear()
        evaluation.on_test({"model": SimpleNamespace(frames={"outputs": frame}, profile=name)}, pairs)
        assert seen["released"] is True


def scored(values: list[list[float]], metric: str = "bleu") -> pd.DataFrame:
    """A sweep of one sampler: rows of `values` are items, columns are 1, 2 and 4 steps."""
    rows = [
        {"sampler": "ddim", "steps": steps, "item": item, "bleu": value, "diverse_4": 1 - value}
        for item, line in enumerate(values)
        for steps, value in zip((1, 2, 4), line, strict=True)
    ]
    return pd.DataFrame(rows)


SWEEPS = [scored([[0.1 + s / 100, 0.3, 0.5], [0.3, 0.5 + s / 100, 0.7]]) for s in range(3)]


def test_a_walk_is_over_seeds_from_three_on_and_else_over_items() -> None:
    found = evaluation.walk(SWEEPS, "ddim", "bleu")
    assert {step: round(one.estimate, 4) for step, one in found.items()} == {1: 0.205, 2: 0.405, 4: 0.6}
    alone = evaluation.walk(SWEEPS[:1], "ddim", "diverse_4")
    assert (alone[1].estimate, alone[1].low, alone[1].high) == pytest.approx((0.8, 0.7, 0.9))
    gain, over = evaluation.more_steps(SWEEPS, "ddim", 1, 4)
    assert (round(gain.estimate, 4), over) == (0.395, "3 seeds")


def test_temperatures_are_those_of_the_sweep_or_the_one_of_the_model() -> None:
    sampling = {"clamp": "none", "steps": 4}
    record = SimpleNamespace(config={"trained": {"method": {"sampling": sampling}}})
    own = [one.assign(sampler="ancestral") for one in SWEEPS[:1]]
    ((warmth, (diverse, bleu)),) = evaluation.temperatures(own, record).items()
    assert (warmth, diverse.estimate, bleu.estimate) == (1.0, pytest.approx(0.4), pytest.approx(0.6))
    warm = [pd.concat([own[0], own[0].query("steps == 1").assign(sampler="temperature 0.5")])]
    assert list(evaluation.temperatures(warm, record)) == [0.5]


def test_a_difference_is_paired_and_says_what_it_is_over() -> None:
    rows = {"a": [pd.DataFrame({"bleu": [0.5, 0.9]})], "b": [pd.DataFrame({"bleu": [0.4, 0.8]})]}
    found, over = evaluation.minus(rows, "bleu")
    assert (found.estimate, over.startswith("2 items of one seed")) == (pytest.approx(0.1), True)


def test_the_sentence_whose_words_settle_furthest_apart_is_found_among_the_first():
    wide, narrow = [1, 50], [1, 2]
    a, b = (
        pd.DataFrame({"item": [0, 0, 1, 1, 2, 2, 3], "step": [*first, *second, *wide, 1]})
        for first, second in ((narrow, [1, 30]), ([1, 20], [1, 20]))
    )
    assert evaluation.widest_spread([a, b]) == 2
    assert evaluation.widest_spread([a, b], first=2) == 1
    assert evaluation.widest_spread([a.query("item == 3"), b.query("item == 3")]) == 3


def test_a_sentence_of_few_words_is_shown_only_where_there_is_no_other():
    short = pd.DataFrame({"item": [0, 0], "step": [1, 50]})
    long = pd.DataFrame({"item": [1] * 8, "step": [1, 2, 3, 4, 5, 6, 7, 8]})
    both = pd.concat([short, long])
    assert evaluation.widest_spread([both, both]) == 1
    assert evaluation.widest_spread([both, short]) == 0  # the other model writes two words
