"""Several processes: two on a CPU, sharing batches or weights too, give one's losses and weights, also resumed."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.causal_lm import processes
from lib.distillation import batches, students, training
from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.objectives import Distillation, Live
from lib.distillation.teacher import Adaptation, Teacher
from lib.distillation.teacher_cache import Classes
from lib.distillation.training import TrainingConfig, check_sharded
from lib.errors import UserError
from tests.distillation.test_training import END, EXAMPLES, MAPPING, OURS, PAD, VOCABULARY, Small
from tests.launching import launch
from tests.tiny_models import llama

HERE = "tests.distillation.test_several_processes"
STEPS = 6
STUDENTS = [("fixed", 2), ("gradnorm", 1)]  # proportions, and parts in each process
SHARDED = {"sharded": True, "checkpointing": True, "micro_batches": 2}


def trained(arm: training.Arm, folder: Path, config: TrainingConfig, stop: int | None) -> list[dict[str, float]]:
    """Train on 7 rows a step, so that the processes' parts are unequal; `stop`: as if killed after so many steps."""
    order = batches.order([len(example) for example in EXAMPLES], config.batch, STEPS, seed=0)
    once, seen = training.advance, []

    def advance(*given: Any) -> dict[str, float]:
        if len(seen) == stop:
            raise KeyboardInterrupt
        seen.append(once(*given))
        return seen[-1]

    training.advance = advance
    try:
        return training.train(arm, order, config, 0, folder, save_every=2).curve
    except KeyboardInterrupt:
        return []
    finally:
        training.advance = once


def student(folder: Path, proportions: str, parts: int, stop: int | None = None) -> Any:
    """Train a student by our objective; returns the curve and all weights."""
    teacher = Teacher(llama(), torch.arange(VOCABULARY))
    live = Live(teacher, Classes(VOCABULARY))
    objective = OURS.model_copy(update={"proportions": proportions})
    one = students.student("gpt2", 16, 3, 2, Small())
    arm = Distillation(one, EXAMPLES, objective, PAD, END, STEPS, 0, live, MAPPING, teacher.width)
    config = TrainingConfig(steps=STEPS, batch=7, rate=1e-2, micro_batches=parts)
    curve = trained(arm, folder / f"student {proportions} {parts}", config, stop)
    return curve, {name: value.clone() for name, value in arm.module.state_dict().items()}


def teacher(folder: Path, stop: int | None = None, **more: Any) -> Any:
    """Adapt the upper layers of a model; returns the curve and the adapted weights."""
    arm = Adaptation(llama(), torch.arange(VOCABULARY), 1, EXAMPLES, PAD)
    curve = trained(arm, folder / "teacher", TrainingConfig(steps=STEPS, batch=7, rate=1e-2, **more), stop)
    return curve, arm.weights()


def all_of_them(folder: Path) -> list[list[Any]]:
    """Train each once straight, then with a stop after 5 of its steps, of which 4 are saved; the teacher is divided."""
    found: list[list[Any]] = [[], []]
    for how in STUDENTS:
        found[0].append(student(folder / "straight", *how))
        student(folder / "resumed", *how, stop=5)
        found[1].append(student(folder / "resumed", *how))
    found[0].append(teacher(folder / "straight", **SHARDED))
    teacher(folder / "resumed", 5, **SHARDED)
    shutil.copytree(folder / "resumed" / "teacher", folder / f"kept by {os.environ['RANK']}")
    found[1].append(teacher(folder / "resumed", **SHARDED))
    return found


def same(found: Any, wanted: Any, exactly: bool = False) -> None:
    (curve, weights), (theirs, others) = found, wanted
    assert len(curve) == len(theirs) == STEPS
    for row, other in zip(curve, theirs, strict=True):
        assert row == (other if exactly else pytest.approx(other, rel=1e-6, abs=1e-6))
    for name, value in weights.items():
        near = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-2, "atol": 1e-4}  # the teacher's are told in bf16
        torch.testing.assert_close(value, others[name], **near)


@pytest.mark.thorough
def test_two_processes_have_the_losses_of_one_also_resumed_and_with_divided_weights(tmp_path: Path) -> None:
    one = [student(tmp_path / "one", *how) for how in STUDENTS] + [teacher(tmp_path / "one")]
    for straight, resumed in launch(2, HERE, "all_of_them", tmp_path / "two"):
        for mine, found, again in zip(one, straight, resumed, strict=True):
            same(found, mine)
            same(again, found, exactly=True)
    (tmp_path / "fewer").mkdir()
    shutil.copytree(tmp_path / "two" / "kept by 0", tmp_path / "fewer" / "teacher")
    same(teacher(tmp_path / "fewer"), one[-1])  # what two have saved, one takes up


def test_parts_of_all_processes_are_the_batch() -> None:
    """Without processes: what each of several adds, weighted, is the mean of one."""
    arm = Adaptation(llama(), torch.arange(VOCABULARY), 1, EXAMPLES, PAD)
    config = TrainingConfig(steps=1, batch=7, rate=1e-2)
    wanted, _ = training.descend(training.State(arm, config), range(7), 0)
    gradient = [value.grad.clone() for value in arm.module.parameters()]
    means, sums = [], [torch.zeros_like(one) for one in gradient]
    for rank in range(3):
        team = processes.Team()
        team.rank, team.count = rank, 3
        arm.module.zero_grad()
        told, _ = training.descend(training.State(arm, config, team), range(7), 0)
        means.append(told["ce"])
        sums = [more + value.grad / 3 for more, value in zip(sums, arm.module.parameters(), strict=True)]
    assert sum(means) / 3 == pytest.approx(wanted["ce"], rel=1e-6)
    for found, one in zip(sums, gradient, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-6)


def test_what_needs_whole_weights_is_named() -> None:
    one = students.student("gpt2", 16, 3, 2, Small())
    live = Live(Teacher(llama(), torch.arange(VOCABULARY)), Classes(VOCABULARY))
    config = TrainingConfig(steps=1, batch=4, rate=1e-2, sharded=True)
    objective = ObjectiveConfig(output=1.0, on_policy=0.5, proportions="gradnorm")
    arm = Distillation(one, EXAMPLES, objective, PAD, END, 1, 0, live, live=live, longest=2)
    with pytest.raises(UserError, match="gradients' norms, answers while it trains, on-policy batches cannot be had"):
        check_sharded(arm, config, True)
    with pytest.raises(UserError, match="optimiser='muon'"):
        check_sharded(arm, config.model_copy(update={"optimiser": "muon"}), False)
    check_sharded(Adaptation(llama(), torch.arange(VOCABULARY), 1, EXAMPLES, PAD), config, False)
