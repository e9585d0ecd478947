"""From sentences to numbers: plateaus, order correlations and groups, on cases worked out by hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

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
    pairs = {"test": {"group": ["b", "a", "b", "c", "unused"]}}
    assert evaluation.by_group([1.0, 2.0, 3.0, 4.0], pairs).tolist() == [2.0, 2.0, 4.0]


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
