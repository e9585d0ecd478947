"""The training loop: splitting a batch changes nothing, a killed run goes on bit for bit, NaN stops it by name."""

import itertools
import math

import pytest
import torch

from lib.distillation import students
from lib.distillation.batches import Example, collate, order
from lib.distillation.losses import MiddleLoss, Reading, Setting
from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.objectives import Cached, Distillation, Live
from lib.distillation.teacher import Teacher
from lib.distillation.teacher_cache import Classes, Signals, TeacherCache
from lib.distillation.training import DivergedError, TrainingConfig, optimisers, rate_factor, train
from lib.errors import UserError
from tests.tiny_models import gpt2, llama


class Small:
    """A vocabulary as far as students need one."""

    pad, end = 0, 2

    def __len__(self) -> int:
        return VOCABULARY


PAD, END, VOCABULARY = Small.pad, Small.end, 20
CONFIG = TrainingConfig(steps=6, batch=8, rate=1e-2)
MAPPING = {1: 2, 2: 3, 3: 4}
OURS = ObjectiveConfig(output=1.0, middle=1.0)


def examples(count: int = 24) -> list[Example]:
    generator = torch.Generator().manual_seed(1)

    def ids(least: int, most: int) -> tuple[int, ...]:
        length = int(torch.randint(least, most + 1, (), generator=generator))
        return tuple(torch.randint(3, VOCABULARY, (length,), generator=generator).tolist())

    return [Example(ids(1, 6), (*ids(1, 5), END)) for _ in range(count)]


EXAMPLES = examples()
ORDER = order([len(example) for example in EXAMPLES], CONFIG.batch, CONFIG.steps, seed=0)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(llama(), torch.arange(VOCABULARY))


def arm(teacher: Teacher, config: ObjectiveConfig = OURS, source=None, seed: int = 0) -> Distillation:
    student = students.student("gpt2", 16, 3, 2, Small())
    live = Live(teacher, Classes(VOCABULARY))
    return Distillation(
        student, EXAMPLES, config, PAD, END, CONFIG.steps, seed, source or live, MAPPING, teacher.width, live, longest=4
    )


def weights(one: Distillation) -> torch.Tensor:
    return torch.cat([value.detach().double().flatten() for value in one.module.parameters()])


@pytest.mark.parametrize(
    "config",
    [
        OURS,
        OURS.model_copy(update={"distance": "cka", "alignment": "none"}),
        OURS.model_copy(update={"distance": "gram", "alignment": "none", "divergence": "reverse_kl"}),
        OURS.model_copy(update={"proportions": "uncertainty"}),
        OURS.model_copy(update={"proportions": "gradnorm"}),
        OURS.model_copy(update={"proportions": "dynamic"}),
        ObjectiveConfig(output=1.0, divergence="jensen_shannon", on_policy=0.5),
    ],
    ids=lambda config: f"{config.distance} {config.proportions} {config.on_policy}",
)
def test_a_batch_of_eight_is_two_of_four_accumulated(teacher, config) -> None:
    whole, split = arm(teacher, config), arm(teacher, config)
    curve = train(whole, ORDER, CONFIG, 0).curve
    other = train(split, ORDER, CONFIG.model_copy(update={"micro_batches": 2}), 0).curve
    start = weights(arm(teacher, config))
    # Adam divides by a gradient's own size, so rounding shows where gradients are next to nothing.
    assert ((weights(whole) - weights(split)).abs() > 1e-4).double().mean() < 1e-3
    assert (weights(whole) - start).abs().max() > 1e-2
    assert [sorted(row) for row in curve] == [sorted(row) for row in other]
    for row, same in zip(curve, other, strict=True):
        assert row == pytest.approx(same, rel=1e-4, abs=1e-5)


def test_the_first_losses_are_the_means_over_all_response_tokens(teacher) -> None:
    one = arm(teacher, ObjectiveConfig(output=1.0))
    batch = collate([EXAMPLES[row] for row in ORDER[0]], PAD)
    with torch.no_grad():
        logs = one.student(input_ids=batch.ids, attention_mask=batch.mask.long()).logits.log_softmax(-1)
        told = teacher.model(input_ids=batch.ids, attention_mask=batch.mask.long()).logits.log_softmax(-1)
    nats, divergence, count = 0.0, 0.0, 0
    for row, column in batch.response.nonzero().tolist():
        nats -= logs[row, column - 1, batch.ids[row, column]].item()
        p, q = told[row, column - 1], logs[row, column - 1]
        divergence += torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True).item()
        count += 1
    first = train(one, ORDER, CONFIG.model_copy(update={"steps": 1}), 0).curve[0]
    assert first["ce"] == pytest.approx(nats / count, rel=1e-5)
    assert first["output"] == pytest.approx(divergence / count, rel=1e-5)
    assert "middle" not in first


def test_the_middle_loss_of_one_token_is_that_token_and_of_own_responses_zero() -> None:
    draw = torch.Generator().manual_seed(3)
    ours, theirs = torch.randn(2, 3, 6, generator=draw), torch.randn(1, 6, generator=draw)
    places = torch.tensor([[False, False, False], [False, True, False]])
    loss = MiddleLoss(ObjectiveConfig(middle=1.0, distance="mse", alignment="none"), Setting({1: 2}, 6, 6, 0))
    said = Signals(torch.zeros(1, 4), None, torch.zeros(1), {2: theirs})
    read = Reading(torch.zeros(1, 4), {1: ours}, places, said, 1, torch.tensor([0, 1]))
    one, other = (torch.nn.functional.layer_norm(state, (6,)) for state in (ours[1, 1], theirs[0]))
    assert loss(read).item() == pytest.approx((one - other).square().mean().item())
    assert loss(read._replace(own=True)).item() == 0


@pytest.mark.parametrize("top_k", [0, 5])
def test_the_cached_teacher_trains_as_the_live_one_does(teacher, tmp_path, top_k) -> None:
    classes = Classes(VOCABULARY, top_k)
    cache = TeacherCache(tmp_path, {}, [len(example.response) for example in EXAMPLES], classes)
    rows = [list(range(start, start + 6)) for start in range(0, len(EXAMPLES), 6)]
    batches = [(part, collate([EXAMPLES[row] for row in part], PAD)) for part in rows]
    cache.fill(sorted(MAPPING.values()), teacher.width, teacher.passes(batches, sorted(MAPPING.values())))
    live, cached = arm(teacher, source=Live(teacher, classes)), arm(teacher, source=Cached(cache))
    curves = [train(one, ORDER, CONFIG, 0).curve for one in (live, cached)]
    for row, same in zip(*curves, strict=True):
        assert row == pytest.approx(same, rel=5e-3)
    assert curves[0][-1]["output"] < curves[0][0]["output"]
    assert torch.allclose(weights(live), weights(cached), atol=2e-2)


@pytest.mark.parametrize("proportions", ["fixed", "uncertainty", "gradnorm", "dynamic", "linear", "muon"])
def test_a_killed_run_goes_on_bit_for_bit(teacher, tmp_path, proportions) -> None:
    training = CONFIG.model_copy(update={"optimiser": "muon" if proportions == "muon" else "adamw"})
    proportions = "fixed" if proportions == "muon" else proportions
    config = OURS.model_copy(update={"proportions": proportions, "on_policy": 0.3})
    whole = arm(teacher, config)
    wanted = train(whole, ORDER, training, 0).curve

    def kill(step: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(arm(teacher, config), ORDER, training, 0, tmp_path, save_every=2, watch=kill, watch_at=(5,))
    resumed = arm(teacher, config)
    found = train(resumed, ORDER, training, 0, tmp_path, save_every=2).curve
    assert found == wanted
    assert torch.equal(weights(resumed), weights(whole))


def test_muon_takes_the_matrices_of_the_students_blocks_and_adamw_the_rest(teacher) -> None:
    one = arm(teacher)
    muon, adamw = optimisers(one, CONFIG.model_copy(update={"optimiser": "muon"}))
    names = {id(value): name for name, value in one.module.named_parameters()}
    taken = [{names[id(value)] for group in kind.param_groups for value in group["params"]} for kind in (muon, adamw)]
    assert taken[0] | taken[1] == set(names.values())
    assert not taken[0] & taken[1]
    assert len(taken[0]) == 3 * 4  # attention in and out, feed-forward in and out
    assert all(name.startswith("student.transformer.h.") for name in taken[0])
    assert {"student.transformer.wte.weight", "alignment.maps.1.weight"} < taken[1]
    (alone,) = optimisers(one, CONFIG)
    assert {group["weight_decay"] for group in alone.param_groups} == {0.0, 0.01}
    assert sum(len(group["params"]) for group in alone.param_groups) == len(names)


def test_a_damaged_checkpoint_is_named_and_training_starts_anew(teacher, tmp_path, capsys) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"half of a file")
    one = arm(teacher)
    assert len(train(one, ORDER, CONFIG, 0, tmp_path).curve) == CONFIG.steps
    assert "damaged" in capsys.readouterr().err


def test_nan_stops_the_run_and_names_step_and_loss(teacher) -> None:
    one = arm(teacher)

    def spoil(step: int) -> None:
        one.student.transformer.h[0].mlp.c_fc.weight.data[0, 0] = float("nan")

    with pytest.raises(DivergedError, match=r"step 4: the ce loss is nan"):
        train(one, ORDER, CONFIG, 0, watch=spoil, watch_at=(3,))


def test_on_policy_batches_hold_the_students_own_responses(teacher) -> None:
    one = arm(teacher, ObjectiveConfig(output=1.0, on_policy=0.5))
    kinds = {own: one.prepare(step, ORDER[0], 1)[0] for step in range(20) for own in [one._is_own(step)]}
    data, own = kinds[False], kinds[True]
    assert data.batch.ids.equal(collate([EXAMPLES[row] for row in ORDER[0]], PAD).ids)
    assert not own.batch.ids.equal(data.batch.ids)
    for place, row in enumerate(ORDER[0]):
        prompt = EXAMPLES[row].prompt
        assert own.batch.ids[place, : len(prompt)].tolist() == list(prompt)
        assert own.batch.response[place].sum() <= 4
    assert one.losses(own)["ce"] == 0
    assert one.losses(own)["output"] > 0
    drawn = sum(one._is_own(step) for step in range(400)) / 400
    assert abs(drawn - 0.5) < 0.1


def test_one_objective_works_for_either_style_of_student(teacher) -> None:
    for style in ("gpt2", "llama"):
        assert run_once(students.student(style, 8, 3, 2, Small()), teacher)["middle"] > 0
    with pytest.raises(UserError, match="one vocabulary"):
        run_once(gpt2(), teacher)  # of 30 tokens


def run_once(student, teacher) -> dict[str, float]:
    source = Live(teacher, Classes(VOCABULARY))
    one = Distillation(student, EXAMPLES, OURS, PAD, END, 1, 0, source, MAPPING, teacher.width)
    return train(one, ORDER, CONFIG.model_copy(update={"steps": 1}), 0).curve[0]


def test_what_an_objective_lacks_is_named(teacher) -> None:
    student = students.student("gpt2", 16, 3, 2, Small())
    live = Live(teacher, Classes(VOCABULARY))
    for config, sources, message in (
        (ObjectiveConfig(output=1.0), {}, "reads a teacher"),
        (OURS, {"source": live}, "without a layer map"),
        (ObjectiveConfig(output=1.0, on_policy=0.1), {"source": live}, "on-policy batches need"),
        (ObjectiveConfig(output=1.0, divergence="kl"), {"source": live}, "unknown divergence 'kl'"),
    ):
        with pytest.raises(UserError, match=message):
            Distillation(student, EXAMPLES, config, PAD, END, 1, 0, **sources)
    without_width = Distillation(student, EXAMPLES, OURS, PAD, END, 1, 0, live, MAPPING)
    with pytest.raises(UserError, match=r"equal widths, not 0 \(student\) and 16 \(teacher\)"):
        train(without_width, ORDER, CONFIG.model_copy(update={"steps": 1}), 0)


def test_the_longest_response_on_policy_bounds_what_is_drawn_and_may_be_one_token(teacher) -> None:
    student, live = students.student("gpt2", 16, 3, 2, Small()), Live(teacher, Classes(VOCABULARY))
    config = ObjectiveConfig(output=1.0, on_policy=1.0)
    for longest in (1, 3):
        one = Distillation(student, EXAMPLES, config, PAD, END, 1, 0, live, live=live, longest=longest)
        (part,) = one.prepare(0, ORDER[0], 1)
        assert part.own
        assert 1 <= part.lengths.min() <= part.lengths.max() <= longest
    with pytest.raises(UserError, match="on-policy batches need"):
        Distillation(student, EXAMPLES, config, PAD, END, 1, 0, live, live=live, longest=0)


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    config = TrainingConfig(steps=100, batch=1, rate=1.0, warm_up=0.1)
    factors = [rate_factor(step, config) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factors[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 45 / 90)))
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[9:]))
    with pytest.raises(ValueError, match="batches for 3"):
        train(object(), ORDER[:3], CONFIG, 0)
