"""Pictures of made-up records: what is drawn is what was handed in, each can be read, and names do not overlap."""

import itertools
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from lib.intervals import Interval
from lib.lemoe.router import Router
from lib.reporting import figures
from lib.series.lemoe import cases, glossary
from lib.series.lemoe import figures as pictures


@pytest.fixture(autouse=True)
def _style():
    figures.style()
    yield
    plt.close("all")


def made(seed: int = 0, batches: int = 3, edits: int = 4, values: dict | None = None) -> SimpleNamespace:
    draw, rows = np.random.default_rng(seed), []
    for after, batch in itertools.product(range(1, batches + 1), range(batches)):
        if batch < after:
            for number in range(edits):
                rel, gen, loc = draw.integers(0, 2, 3).astype(float)
                rows.append((0, after, batch, f"{batch}/{number}", rel, gen, loc))
    scores = pd.DataFrame(rows, columns=["run", "batches", "batch", "identity", "rel", "gen", "loc"])
    for name in ("rel", "gen", "loc"):
        scores[f"{name}_exact"] = (scores[name] == 1).astype(float)
    return SimpleNamespace(frames={"scores": scores}, values=values or {"within": 0.5, "between": 0.2}, case="made")


def legible(drawn: figures.Drawn) -> dict:
    figure, numbers = drawn
    figures.check_numbers(figure, numbers)
    figures.check_legible(figure)
    return numbers


def test_every_method_of_a_picture_is_a_row_and_has_a_name_and_a_look_of_its_own():
    assert set(pictures.METHODS) <= set(cases.METHODS)
    assert set(pictures.LOOKS) == set(pictures.NAMES)
    assert len({(look.colour, look.style, look.marker) for look in pictures.LOOKS.values()}) == len(pictures.LOOKS)


def test_forgetting_draws_a_line_from_each_batch_on():
    runs = [made(seed) for seed in range(3)]
    numbers = legible(pictures.forgetting({"one": runs, "other": runs[:1]}))
    assert {name: len(found["estimate"]) for name, found in numbers.items()} == {
        **{f"one, batch {batch}": 4 - batch for batch in (1, 2, 3)},
        **{f"other, batch {batch}": 4 - batch for batch in (1, 2, 3)},
    }
    scores = runs[0].frames["scores"]
    second = scores[(scores["batch"] == 1) & (scores["batches"] == 3)]["rel"].mean()
    assert numbers["other, batch 2"]["estimate"][-1] == pytest.approx(second)


def test_agreement_draws_the_mean_of_the_seeds_also_where_they_are_equal():
    values = {"a, random": ("conventional", [0.2, 0.2, 0.2]), "b, random": ("lemoe", [0.4, 0.5, 0.6])}
    numbers = legible(pictures.agreement(values, 0.2))
    assert numbers["estimate"] == pytest.approx([0.2, 0.5])
    assert numbers["row"] == [1, 0]


def test_orders_stand_in_rows_with_how_alike_their_batches_are():
    found = {order: [made(seed) for seed in range(3)] for order in ("random", "kmeans")}
    numbers = legible(pictures.orders({"conventional": found, "lemoe": found}, {"random": "random", "kmeans": "K"}))
    assert numbers["order"] == ["random", "kmeans"]
    assert numbers["lemoe"]["estimate"] == numbers["conventional"]["estimate"]
    assert numbers["lemoe"]["row"] != numbers["conventional"]["row"]
    labels = [label.get_text() for label in plt.gcf().axes[0].get_yticklabels()]
    assert labels == ["random\n(alike by +0.30)", "K\n(alike by +0.30)"]


def test_keys_places_each_text_by_its_two_scores():
    scores = {"edits": np.array([[2.0, 1.0], [0.0, 3.0]]), "unrelated": np.array([[1.0, 1.5]])}
    numbers = legible(pictures.keys(scores, {"edits": [0, 1], "unrelated": [None]}))
    assert numbers["edits, batch 1"] == {"key 1": [2.0], "key 2": [1.0]}
    assert numbers["unrelated"] == {"key 1": [1.0], "key 2": [1.5]}


def test_the_router_serves_a_text_by_the_side_of_the_diagonal_that_it_lies_on():
    torch.manual_seed(0)
    router = Router(4, 3, "frozen", "one")
    router.add()
    router.add()
    anchors = torch.randn(20, 4)
    scores = router.scores(anchors).detach().numpy()
    assert router.route(anchors).expert.tolist() == [int(above) for above in scores[:, 1] > scores[:, 0]]


def test_curves_over_edits_and_counts_are_named_at_their_ends():
    runs = {"lemoe": {1: made(0), 100: made(1)}, "grace": {1: made(2), 10: made(3)}, "ewc": {}}
    numbers = legible(pictures.over_edits(runs, {"one": ("lemoe", "grace"), "other": ("ewc", "lemoe")}))
    assert set(numbers) == {"lemoe", "grace"}
    assert numbers["grace"]["x"] == [1.0, 10.0]
    panels = {"time (s)": {"lemoe": {1: 1.0, 10: 2.0}, "grace": {1: 1.0, 10: 2.01}, "ewc": {1: 0.0, 10: 2.0}}}
    numbers = legible(pictures.over_count(panels | {"memory (MiB)": panels["time (s)"]}))
    assert numbers["time (s)"]["grace"] == {"T": [1, 10], "value": [1.0, 2.01]}


def test_latency_tells_the_model_without_an_adaptor_apart():
    numbers = legible(pictures.latency({"0": 0.2, "1": 0.3, "64": 0.25}))
    assert numbers == {"experts": [1, 64], "milliseconds": [300.0, 250.0], "without": 200.0}
    assert legible(pictures.latency({}))["experts"] == []


def test_scores_by_setting_are_means_over_edits():
    numbers = legible(pictures.experts({5: made(0), 1: made(1, batches=1)}))
    assert numbers["rel"]["x"] == [1.0, 5.0]
    scores = made(0).frames["scores"]
    assert numbers["rel"]["estimate"][1] == pytest.approx(scores[scores["batches"] == 3]["rel"].mean())


def test_locality_draws_groups_by_margin_and_scores_by_scale():
    draw = np.random.default_rng(0)
    texts = pd.DataFrame({"kind": "unrelated", "margin": draw.random(12), "kept": draw.random(12)})
    columns = {name: draw.random(12) for name in ("rel", "gen", "loc")}
    scales = pd.DataFrame(columns | {"scale": [0.0, 0.5, 1.0] * 4})
    numbers = legible(pictures.locality(SimpleNamespace(frames={"texts": texts, "scales": scales})))
    assert numbers["loc"]["x"] == [0.0, 0.5, 1.0]
    assert numbers["loc"]["estimate"][0] == pytest.approx(scales[scales["scale"] == 0]["loc"].mean())
    assert len(numbers["margin"]["x"]) == 4
    assert legible(pictures.locality(None)) == {}


def test_methods_stand_in_their_order_and_a_missing_score_is_left_out():
    cell = Interval(0.5, 0.4, 0.6)
    cells = {"LEMoE": dict.fromkeys(("rel", "gen", "loc", "avg"), cell), "b": {"rel": cell, "loc": cell, "avg": cell}}
    cells["b"]["gen"] = None
    numbers = legible(pictures.methods(cells, {"LEMoE": glossary.MIXTURE, "b": glossary.LOCATED}))
    assert numbers["rows"] == ["LEMoE", "b"]
    assert numbers["gen"]["estimate"] == [0.5, None]
    figure = plt.gcf()
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == [glossary.MIXTURE, glossary.LOCATED]  # only families that are there
    weights = {label.get_text(): label.get_fontweight() for label in figure.axes[0].get_yticklabels()}
    assert weights == {"LEMoE": "bold", "b": "normal"}


def test_every_row_of_the_table_is_explained_and_has_the_family_of_its_method():
    frame = glossary.frame(cases.METHODS)
    assert list(frame["method"]) == [row.title for row in cases.METHODS.values()]
    assert not (frame["published by"] == "–").any()
    families = glossary.families(cases.METHODS)
    assert families["MEMIT-MASS, weight 1,000"] == families["ROME"] == glossary.LOCATED
    assert set(families.values()) == {*glossary.FAMILIES, glossary.NONE} == set(pictures.FAMILIES)
    assert glossary.families({"other": cases.METHODS["lemoe"]}) == {"LEMoE": glossary.NONE}
