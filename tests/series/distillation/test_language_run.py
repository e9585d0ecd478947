"""One arm on the language sets from data to losses, on a tiny backbone: rows that seeds draw, held-out loss, looks."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.teacher import Adaptation
from lib.series.distillation import arms, language_run, language_scores
from lib.series.distillation.arms import StudentConfig
from lib.series.distillation.language_run import LanguageConfig
from lib.series.distillation.language_world import LanguageData, LanguageTeacherConfig, LanguageWorld
from lib.text.instructions import NAMES, TRAINED
from tests.series.distillation.test_run import PLAIN, TEACHER, backbone, rows, use_tiny_world

DATA = LanguageData(suite="embedded", examples=8, further=4, validation=2, test=3, longest=(24, 6))
CONFIG = LanguageTeacherConfig(**dict(TEACHER) | {"data": DATA, "watch_at": (2, 4)})
EMPTY = "facts/train/9"


@pytest.fixture
def world(tmp_path, monkeypatch) -> LanguageWorld:
    use_tiny_world(monkeypatch)
    texts = {item.identity: "one two" for name in TRAINED for item in rows(name)["train"][8:]} | {EMPTY: " "}
    found = LanguageWorld(CONFIG, "cpu", lambda: weights, tmp_path / "caches", "tiny", lambda: texts)
    weights = Adaptation(backbone()[0], found.vocabulary.kept, 2, (), 0).weights()
    return found


def config(**changes: object) -> LanguageConfig:
    own = {"data": DATA, "decoding_seeds": (10,), "watch_at": (2, 4, 6), "own": 5, "further": 3}
    return LanguageConfig(**{**PLAIN, **own, **changes})


def test_rows_with_answers_stand_before_those_that_the_teacher_answered(world) -> None:
    train = world.splits.train
    assert [item.identity for item in train[: 8 * len(TRAINED)]] == [
        f"{n}/train/{i}" for n in TRAINED for i in range(8)
    ]
    answered = train[8 * len(TRAINED) :]
    assert {item.output for item in answered} == {"one two"}
    wanted = {f"{name}/train/{place}" for name in TRAINED for place in range(8, 12)} - {EMPTY}  # it teaches nothing
    assert {item.identity for item in answered} == wanted
    assert len(world.examples) == len(train)
    untaught = LanguageWorld(CONFIG, "cpu", dict, world._folder, "tiny")
    assert untaught.splits.train == train[: 8 * len(TRAINED)]  # what the teacher itself learns


def test_a_seed_gives_every_student_the_same_rows_of_every_set(world) -> None:
    train = world.splits.train
    both, alone = world.drawn(0, 5, 3), world.drawn(0, 5, 0)
    assert both == world.drawn(0, 5, 3) != world.drawn(1, 5, 3)
    assert set(alone) < set(both)
    assert alone == [row for row in both if row < 8 * len(TRAINED)]
    for name in TRAINED:
        found = [row for row in both if train[row].name == name]
        assert [sum(row < 8 * len(TRAINED) for row in found), len(found)] == [5, 8]
    assert world.drawn(0, 100, 100) == list(range(len(train)))


def test_the_held_out_loss_is_that_of_the_answer_and_its_end(world) -> None:
    student = arms.fresh_student(StudentConfig(width=8, layers=2, heads=2), world, 0)
    items = world.splits.test
    found = language_run.held_out(language_run.of_student(student), world, items, 7)
    for item, row in zip(items, found.itertuples(), strict=True):
        (example,) = language_run.batches.encode([item], world.vocabulary, DATA.longest)
        ids = torch.tensor([[*example.prompt, *example.response]])
        with torch.no_grad():
            told = student(input_ids=ids).logits.log_softmax(-1)[0]
        start = len(example.prompt)
        lost = -sum(told[start + place - 1, token].item() for place, token in enumerate(example.response))
        assert example.response[-1] == world.vocabulary.end
        assert (row.identity, row.step, row.tokens) == (item.identity, 7, len(example.response))
        assert row.nats == pytest.approx(lost, abs=2e-4)


def test_the_teachers_loss_is_over_the_words_that_students_have(world) -> None:
    read = language_run.of_teacher(world.teacher)
    batch = world.batch(range(4))
    assert read(batch).exp().sum(-1).numpy() == pytest.approx(np.ones(batch.tokens), abs=1e-5)
    found = language_run.held_out(read, world, world.splits.test, 1)
    assert found["nats"].gt(0).all()


@pytest.mark.parametrize("further", [0, 3])
def test_a_student_learns_from_the_rows_that_were_drawn_alone(world, further, monkeypatch) -> None:
    seen, plain = set(), language_run.training.train

    def noted(arm, order, *arguments, **named):
        seen.update(row for step in order for row in step)
        return plain(arm, order, *arguments, **named)

    monkeypatch.setattr(language_run.training, "train", noted)
    objective = ObjectiveConfig(output=1.0, middle=1.0) if further else ObjectiveConfig()
    found = language_run.learn(config(further=further, objective=objective), world, 0)
    assert seen <= set(world.drawn(0, 5, further))
    assert found.values["rows"] == len(world.drawn(0, 5, further))
    assert len(found.frames["curve"]) == 6
    assert set(found.frames["outputs"]["seed"]) == {-1, 10}


def test_losses_are_kept_after_the_best_look_and_after_the_last(world, monkeypatch) -> None:
    told = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(language_scores, "mean_loss", lambda _: next(told))
    found = language_run.learn(config(), world, 0)
    assert found.values["validation"] == {"2": 3.0, "4": 1.0, "6": 2.0}
    assert found.values["best"] == 4
    losses = found.frames["losses"]
    assert losses.groupby("step").size().to_dict() == {4: 3 * len(NAMES), 6: 3 * len(NAMES)}


def test_some_texts_and_all_scores_are_kept(world) -> None:
    whole, some = (language_run.learn(config(texts=texts, decoding_seeds=()), world, 0) for texts in (0, 4))
    assert "scores" not in whole.frames
    assert len(some.frames["outputs"]) == 4
    assert set(some.frames["outputs"]["set"]) > {NAMES[0], NAMES[-1]}  # not the first set's alone
    items = {item.identity: item for item in world.splits.test}
    wanted = language_scores.scored(whole.frames["outputs"], items)
    pd.testing.assert_frame_equal(
        some.frames["scores"], wanted[["set", "identity", "rouge", "exact", "edits", "tokens"]].round(4)
    )
    assert some.frames["losses"].equals(whole.frames["losses"])  # equal arguments, equal results


def test_the_teacher_stays_as_it_is_best_on_the_validation_rows(world, monkeypatch) -> None:
    made, plain = [], language_run.Adaptation.weights

    def noted(self):
        made.append(plain(self))
        return made[-1]

    monkeypatch.setattr(language_run.Adaptation, "weights", noted)
    untaught = LanguageWorld(CONFIG, "cpu", dict, world._folder, "tiny")
    found = language_run.adapt(untaught, 0)
    losses = {int(step): loss for step, loss in found.validation.items()}
    assert list(losses) == [2, 4]
    assert found.step == min(losses, key=losses.get)
    assert len(made) == (1 if found.step == 2 else 2)
    assert all(torch.equal(value, found.weights[name]) for name, value in made[-1].items())
