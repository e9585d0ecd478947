"""Pictures of the series show what their records say, within the range of what they measure, and can be read."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.beacons import interference
from lib.beacons.methods import METHODS
from lib.reporting import figures, tables
from lib.reporting.looks import Look
from lib.series.beacons import evaluation, pushing
from lib.series.beacons import figures as pictures
from lib.series.beacons import figures_arms as arms
from lib.series.beacons.figures import Label
from lib.series.beacons.rows import BUDGETS, FILTERS, PAIR, WEIGHINGS
from tests.series.beacons.made import NAMED, among, path

LOOK = Look("#123f8c")


@pytest.fixture(autouse=True)
def _style():
    figures.style()
    yield
    plt.close("all")


def check(drawn: figures.Drawn) -> dict:
    figure, numbers = drawn
    figures.check_numbers(figure, tables.plain(numbers, "made"))
    figures.check_legible(figure)
    return numbers


def test_labels_keep_apart_and_a_label_without_room_is_refused() -> None:
    labels = [Label(1.0, 0.5, "first", LOOK), Label(1.0, 0.5, "second", LOOK), Label(1.0, 0.52, "third", LOOK)]
    for offsets in (pictures.RIGHT_OF, pictures.AROUND):
        _, axes = plt.subplots()
        axes.plot([0.0, 1.0], [0.0, 0.5])
        axes.set(xlim=(0, 2), ylim=(0, 1))
        pictures.place(axes, labels, offsets)
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 3
        assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    figure, axes = plt.subplots()
    axes.set(xlabel="x", ylabel="y", xlim=(0, 2), ylim=(0, 1))
    pictures.place(axes, labels, [(12, 0)])
    with pytest.raises(ValueError, match="overlap"):
        figures.check_legible(figure)


def test_the_push_rate_is_that_of_the_facts_and_its_axis_ends_at_0() -> None:
    paths = {name: [path(seed) for seed in range(3)] for name in pictures.TAUGHT}
    drawn = pictures.push_rate(paths)
    numbers = check(drawn)
    for name, several in paths.items():
        assert numbers[name]["mean"] == pushing.rate(several)["mean"].tolist()
        assert min(numbers[name]["low"]) >= 0
    assert {axes.get_ylim()[0] for axes in drawn[0].axes} == {0.0}


def test_distances_over_updates_by_third() -> None:
    paths = {name: [path(seed) for seed in range(3)] for name in pictures.TAUGHT}
    starts = [pushing.by_fact(frame)["start"] for frame in paths["own target"]]
    numbers = check(pictures.trajectories(paths, pushing.thirds(starts)))
    assert set(numbers) == {"own target", "shuffled target"}
    assert set(numbers["own target"]) == set(pushing.STARTS)


def test_accuracy_by_fifths() -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"start": np.linspace(0, 1, 50), "loss": draw.permutation(np.linspace(0, 5, 50))})
    frame = frame.assign(quick=np.repeat([1.0, 0.8, 0.6, 0.8, 0.6], 10), paraphrase=1.0)
    numbers = check(pictures.accuracy(frame))
    assert numbers["initial distance d(0)"]["share of readings right"]["estimate"] == pytest.approx(
        [1, 0.8, 0.6, 0.8, 0.6]
    )


def test_what_learning_together_costs_by_method_and_budget() -> None:
    alone = [among(right=1.0, again=1.0, seed=seed) for seed in range(3)]
    worse = [among(right=0.5, again=0.25, seed=seed) for seed in range(3)]
    learnt = {(method, budget, n): worse for method in PAIR for budget in BUDGETS for n in (10, 50)}
    learnt["full", "per_fact", 10] = learnt["full", "per_fact", 50] = []
    numbers = check(pictures.interference({"lora": alone, "full": alone}, learnt, (10, 50)))
    lora = numbers["LoRA, equal updates per fact"]
    assert lora["trained prompt"]["estimate"] == pytest.approx([0.5, 0.5])
    assert lora["paraphrase"]["estimate"] == pytest.approx([0.75, 0.75])
    assert numbers["full fine-tuning, equal updates per fact"] == {}
    with pytest.raises(ValueError, match="nothing is recorded"):
        pictures.cost(alone, [], "right")


def test_cosines_and_shifts() -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"before": draw.uniform(-0.2, 0.6, 200), "after": draw.uniform(-0.3, 0.3, 200)})
    numbers = check(pictures.gradient_cosines(dict.fromkeys(pictures.PAIRS, frame)))
    assert sum(numbers["other relation, before"]) == pytest.approx(1)
    planes = {name: interference.principal(draw.normal(size=(12, 4))) for name in ("alone", "together")}
    kinds = ["place", "time", "proper noun"] * 4
    numbers = check(pictures.feature_shifts(planes, kinds))
    assert numbers["alone, time"]["first"] == planes["alone"].places[1::3, 0].tolist()


def test_distances_by_kind_and_by_what_is_known() -> None:
    draw = np.random.default_rng(0)
    known = pd.DataFrame(
        {"kind": ["place", "time"] * 40, "raw": draw.uniform(-1e-7, 1.4, 80), "right": [True] + 79 * [False]}
    )
    numbers = check(arms.distances(known))
    assert sum(numbers["place"]["wrong"]) + sum(numbers["place"]["right"]) == pytest.approx(1)
    assert sum(numbers["place"]["right"]) == pytest.approx(1 / 40)
    real = pd.DataFrame({ruler: draw.uniform(0.1 * n, 0.1 * n + 0.1, 60) for n, ruler in enumerate(arms.RULERS)})
    real = real.assign(known=["maybe known"] * 20 + ["weakly known"] * 20 + ["unknown"] * 20)
    numbers = check(arms.distance_by_class(real))
    assert numbers["raw"]["estimate"] == pytest.approx(real.groupby("known", sort=False)["raw"].mean().tolist())


def test_arms_are_shown_beside_a_random_half_and_the_plain_loss() -> None:
    half = [among(right=0.5, again=0.25, seed=seed) for seed in range(3)]
    more = [among(right=0.75, again=0.25, seed=seed) for seed in range(3)]
    runs = {arm: more if arm == "all" else half if arm == "random" else half[:1] for arm in FILTERS}
    numbers = check(arms.filters(runs, {arm: row.title for arm, row in FILTERS.items()}, "random"))
    assert numbers["minus random"]["estimate"][list(FILTERS).index("all")] == pytest.approx(0.25)
    assert numbers["trained prompt"]["estimate"][1] == pytest.approx(0.5)
    weighed = {arm: half if arm == "plain" else more for arm in WEIGHINGS}
    first, rest = evaluation.among(NAMED[:2]), evaluation.among(NAMED[2:])
    numbers = check(arms.weighings(weighed, {arm: row.title for arm, row in WEIGHINGS.items()}, first, rest))
    assert numbers["all facts"]["estimate"] == pytest.approx([0.25] * (len(WEIGHINGS) - 1))
    one = arms.difference(more[:1], half, "right")
    assert (one.estimate, one.low < one.estimate) == (pytest.approx(0.25), True)


def test_the_grid_as_maps_and_over_perplexity() -> None:
    runs = {
        (method, n): [among(right=0.5, again=0.25, seed=seed) for seed in range(3)]
        for method in METHODS
        for n in (1, 10)
    }
    del runs["ia3", 10]
    numbers = check(arms.grid(runs, (1, 10)))
    assert numbers["trained prompt"][0] == pytest.approx([0.5, 0.5])
    assert numbers["paraphrase"][list(METHODS).index("ia3")] == [pytest.approx(0.25), None]
    here = {method: runs[method, 1] for method in METHODS}
    for place, several in enumerate(here.values()):
        for run in several:
            run.values["perplexity"] = 20.0 + 30 * place
    numbers = check(arms.learnt_and_kept(here, 18.0))
    assert numbers["dora"]["x"] == [50.0]
