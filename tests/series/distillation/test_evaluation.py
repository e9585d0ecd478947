"""Scores of responses: against rouge-score itself, by hand, and as properties; what has no model scores as it must."""

import numpy as np
import pandas as pd
import pytest
from rouge_score.rouge_scorer import RougeScorer
from scipy import stats

from lib import intervals
from lib.series.distillation import evaluation
from lib.text.instructions import Instruction

SETS = ("chat", "facts", "modern")


def item(name: str, number: int, given: str, *references: str) -> Instruction:
    return Instruction("Do it.", given, references[0], name, f"{name}/test/{number}", tuple(references))


ITEMS = [
    item("modern", 0, "thou art my king", "you are my king"),
    item("modern", 1, "he hath spoken unto me", "he has spoken to me"),
    item("chat", 0, "how are you?", "fine, thanks!", "good.", "i am running"),
    item("facts", 0, "", "Paris"),
    item("facts", 1, "", "Euro"),
    item("facts", 2, "", "Paris"),
]
BY_IDENTITY = {one.identity: one for one in ITEMS}


class Record:
    """What the functions read of a record."""

    def __init__(self, texts: dict[tuple[str, int], str]) -> None:
        rows = [
            {"split": split, "step": 1, "set": BY_IDENTITY[who].name, "identity": who, "seed": seed, "text": text}
            for (who, seed), text in texts.items()
            for split in ("test", "validation")
        ]
        self.frames = {"outputs": pd.DataFrame(rows).assign(tokens=2)}


def answered(text: str, seeds: tuple[int, ...] = (-1, 10, 20)) -> Record:
    return Record({(one.identity, seed): text for one in reversed(ITEMS) for seed in seeds})


def test_rouge_is_the_librarys_best_over_references_with_stemming() -> None:
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    for text in ("fine", "I am run", "good thanks", "nothing"):
        wanted = max(scorer.score(reference, text)["rougeL"].fmeasure for reference in ITEMS[2].references)
        assert evaluation.rouge_l(text, ITEMS[2].references) == pytest.approx(100 * wanted)
    assert evaluation.rouge_l("i am run", ITEMS[2].references) == pytest.approx(100)  # runs, running: one stem
    assert evaluation.rouge_l("", ("a",)) == 0


@pytest.mark.parametrize(
    ("text", "wanted"), [("Fine, thanks!", 100), ("fine thanks", 100), ("GOOD", 100), ("thanks fine", 0), ("", 0)]
)
def test_an_exact_match_is_of_words_in_order(text, wanted) -> None:
    assert evaluation.exact(text, ITEMS[2].references) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("thou art my king", 0.0),  # a copy
        ("you are my king", 100.0),
        ("you art my king", 100 * 2 / 3),  # one of two changes, none wrong
        ("you are my lord", 100 * 4 / 5),  # two right, one more
        ("my king", 0.0),
        ("lord", 0.0),
    ],
)
def test_changed_words_count_what_is_new_against_what_should_be(text, wanted) -> None:
    assert evaluation.changed_words("thou art my king", text, ["you are my king"]) == pytest.approx(wanted)


def test_changed_words_where_nothing_is_to_be_changed() -> None:
    assert evaluation.changed_words("a b", "a", ["a b"]) == 100
    assert evaluation.changed_words("a b", "a c", ["a b"]) == 0
    assert evaluation.changed_words("a a", "a a a", ["a a a a"]) == pytest.approx(100 * 2 / 3)  # counted with repeats


def test_a_records_test_scores_are_means_over_decoding_seeds_in_a_fixed_order() -> None:
    texts = {(one.identity, -1): "" for one in ITEMS}
    texts |= {(one.identity, 10): one.output for one in ITEMS}
    texts |= {(one.identity, 20): "" for one in reversed(ITEMS)}
    sampled = evaluation.of_test(Record(texts), BY_IDENTITY)
    assert sampled["rouge"].tolist() == [50] * len(ITEMS)
    assert sampled["exact"].tolist() == [50] * len(ITEMS)
    assert list(sampled.index.unique("set")) == sorted(SETS)
    assert sampled.loc["modern"]["changed"].tolist() == [50, 50]
    assert sampled.loc["facts"]["changed"].isna().all()
    greedy = evaluation.of_test(Record(texts), BY_IDENTITY, sampled=False)
    assert greedy["rouge"].tolist() == [0] * len(ITEMS)
    assert greedy.index.equals(sampled.index)


def test_cells_and_pairs_count_every_set_alike() -> None:
    runs = [evaluation.of_test(answered(text), BY_IDENTITY) for text in ("Paris", "you", "fine thanks")]
    for run in runs:
        means = run.groupby(level="set")["rouge"].mean()
        assert evaluation.balanced([run]).mean() == pytest.approx(means.mean())
    together = evaluation.cell(runs, "")
    assert together.estimate == pytest.approx(np.mean([evaluation.set_means(run).mean() for run in runs]))
    assert evaluation.cell(runs[:1], "facts").estimate == pytest.approx(100 * 2 / 3)
    assert evaluation.cell(runs, "facts").estimate == pytest.approx(100 * 2 / 9)
    nothing = [run.assign(rouge=0.0) for run in runs[:1]]
    for name in ("facts", ""):  # all wrong is no certainty
        estimate, low, high = evaluation.cell(nothing, name)
        assert estimate == low == 0 < high < 100
    a, b = evaluation.paired(runs[:2], runs[1:], ["facts", "chat"])
    assert a.shape == b.shape == (2, 4)
    wanted = runs[0].loc[["facts", "chat"]].groupby(level="set")["rouge"].mean().mean()
    assert a[0].mean() == pytest.approx(wanted)
    assert np.array_equal(a[1], b[0])


def test_a_difference_is_over_three_seeds_or_over_the_instructions_of_one() -> None:
    generator, sets = np.random.default_rng(0), ["chat", "facts"]
    index = evaluation.of_test(answered("x"), BY_IDENTITY).index
    sides = [[pd.DataFrame({"rouge": generator.normal(size=len(index))}, index) for _ in range(3)] for _ in range(2)]
    means = [[evaluation.set_means(run)[sets].mean() for run in side] for side in sides]
    gaps = np.subtract(*means)
    wanted = stats.t.interval(0.95, 2, gaps.mean(), stats.sem(gaps))
    assert evaluation.difference(*sides, sets) == pytest.approx((gaps.mean(), *wanted))
    ours, others = evaluation.paired(*sides, sets)
    for count in (1, 2):  # too few for an interval over seeds
        found = evaluation.difference(*(side[:count] for side in sides), sets)
        assert found == pytest.approx(intervals.paired_bootstrap(ours[:count].mean(0), others[:count].mean(0)))
        assert found.estimate == pytest.approx(gaps[:count].mean())


def test_pairs_of_other_instructions_are_refused() -> None:
    run = evaluation.of_test(answered("Paris"), BY_IDENTITY)
    with pytest.raises(ValueError, match="other instructions"):
        evaluation.paired([run], [run.iloc[1:]], SETS)
    with pytest.raises(ValueError, match="1 and 2 seeds"):
        evaluation.paired([run], [run, run], SETS)


def test_rows_without_a_model() -> None:
    train = [item("facts", 10 + n, "", answer) for n, answer in enumerate(("Paris", "Euro", "Paris", "Rome"))]
    train += [item("chat", 10, "hi", "good.")]
    found = evaluation.trivial(train, ITEMS)
    frequent = found["most frequent answer"]
    assert frequent.loc["facts"]["exact"].tolist() == [100, 0, 100]
    assert frequent.loc["chat"]["exact"].tolist() == [100]
    assert frequent.loc["modern"]["exact"].tolist() == [0, 0]  # not trained on: the most frequent of all
    copied = found["copy the input"]
    assert copied.loc["modern"]["changed"].tolist() == [0, 0]
    assert copied.loc["modern"]["rouge"].min() > 20
    assert copied.index.equals(evaluation.of_test(answered(""), BY_IDENTITY).index)


def test_of_equally_frequent_answers_the_better_one_is_taken() -> None:
    train = [item("facts", 10 + n, "", answer) for n, answer in enumerate(("Rome", "Euro", "Paris"))]
    frequent = evaluation.trivial(train, ITEMS)["most frequent answer"]
    assert frequent.loc["facts"]["exact"].tolist() == [100, 0, 100]
