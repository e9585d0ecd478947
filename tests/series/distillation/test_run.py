"""One experiment from data to answers, on a tiny backbone and tiny sets: arms, resume, cache and what is measured."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from lib import records
from lib.causal_lm import backbones
from lib.distillation import layer_maps
from lib.distillation.decoding import DecodingConfig
from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.teacher import states_of
from lib.distillation.training import TrainingConfig
from lib.distillation.vocabularies import TrainedVocabulary
from lib.errors import UserError
from lib.registry import Registry
from lib.series.distillation import arms, evaluation, run, slices
from lib.series.distillation.arms import RunConfig, StudentConfig
from lib.series.distillation.run import GREEDY
from lib.series.distillation.world import DataConfig, TeacherConfig, World, world_of
from lib.text import instructions, suites
from lib.text.instructions import NAMES, TRAINED, Instruction
from tests.tiny_models import llama

WORDS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "Do",
    "Instruction",
    "Input",
    "Response",
    ":",
    ".",
]
DATA = DataConfig(suite="embedded", examples=12, validation=2, test=3, longest=(24, 6))
TEACHER = TeacherConfig(
    backbone="tiny",
    layers=None,
    layer=2,
    data=DATA,
    training=TrainingConfig(steps=4, batch=4, rate=1e-3, micro_batches=2),
    decoding=DecodingConfig(tokens=6),
    decoding_seeds=(10,),
    dtype="float32",
)


def backbone(*_: object) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    words = {word: number for number, word in enumerate(["<unk>", "<end>", *WORDS, "never", "ever"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    model = llama(vocabulary=len(words), spread=0.02)
    return model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>")


def rows(name: str) -> dict[str, tuple[Instruction, ...]]:
    """Say the input backwards."""
    generator = torch.Generator().manual_seed(NAMES.index(name))
    found = {}
    for split, count in (("train", 12), ("validation", 3), ("test", 4)):
        items = []
        for number in range(count):
            said = [WORDS[place] for place in torch.randint(0, 8, (3,), generator=generator).tolist()]
            answer = " ".join(reversed(said))
            items.append(Instruction("Do.", " ".join(said), answer, name, f"{name}/{split}/{number}", (answer,)))
        found[split] = tuple(items)
    return found


def use_tiny_world(monkeypatch) -> None:
    """Put the tiny backbone and the rows of `rows` in the place of the real ones."""
    monkeypatch.setattr(backbones, "load_causal_lm", backbone)
    small = Registry("suite", {"embedded": dataclasses.replace(suites.SUITES["embedded"], load=rows)})
    monkeypatch.setattr(suites, "SUITES", small)


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    use_tiny_world(monkeypatch)
    model = backbone()[0]
    found = World(TEACHER, "cpu", lambda: weights, tmp_path / "caches", "tiny")
    weights = run.Adaptation(model, found.vocabulary.kept, 2, (), 0).weights()
    return found


PLAIN = {
    "objective": ObjectiveConfig(output=1.0, middle=1.0),
    "student": StudentConfig(width=8, layers=2, heads=2),
    "data": DATA,
    "training": TrainingConfig(steps=6, batch=8, rate=1e-2, micro_batches=2),
    "decoding": DecodingConfig(tokens=6),
    "decoding_seeds": (10, 20),
    "watch_at": (2, 6),
    "top_k": 4,
    "cache_gib": 1.0,
}


def config(**changes: object) -> RunConfig:
    return RunConfig(**{**PLAIN, **changes})


def test_an_arm_answers_every_row_as_often_as_it_should(world) -> None:
    found = run.run(config(similarity=True), world, 0)
    outputs = found.outputs
    test = outputs[outputs["split"] == "test"]
    assert len(test) == len(NAMES) * 3 * 3
    assert set(test["seed"]) == {GREEDY, 10, 20}
    assert sorted(test["set"].unique()) == sorted(NAMES)
    watched = outputs[outputs["split"] == "validation"]
    assert watched.groupby("step").size().to_dict() == {2: len(TRAINED) * 2, 6: len(TRAINED) * 2}
    assert len(found.curve) == 6
    assert {"ce", "output", "middle"} < set(found.curve.columns)
    assert found.values["map"] == {"1": 2, "2": 4}
    before, after = (torch.tensor(found.values[f"cka_{when}"]) for when in ("before", "after"))
    assert before.shape == after.shape == (2, 4)
    assert ((before >= -1) & (before <= 1)).all()
    assert not torch.equal(before, after)
    assert "cka_read" not in found.values  # the uniform rule reads none


def test_the_same_arm_gives_the_same_results_and_another_seed_others(world) -> None:
    first, again, other = (run.run(config(), world, seed) for seed in (0, 0, 1))
    assert first.outputs.equals(again.outputs)
    assert first.curve.equals(again.curve)
    assert not first.curve.equals(other.curve)


def test_a_killed_arm_resumes_to_the_same_record(world, tmp_path, monkeypatch) -> None:
    whole = run.run(config(), world, 0)
    plain, place = run.training.train, tmp_path / "run"

    def killed(*arguments: object, watch: object, **named: object) -> None:
        def stop(step: int) -> None:
            watch(step)
            if step == 6:
                raise KeyboardInterrupt

        return plain(*arguments, watch=stop, save_every=3, **named)

    monkeypatch.setattr(run.training, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        run.run(config(), world, 0, place)
    monkeypatch.setattr(run.training, "train", plain)
    resumed = run.run(config(), world, 0, place)
    assert resumed.outputs.equals(whole.outputs)
    assert resumed.curve.equals(whole.curve)
    assert all(torch.equal(value, whole.weights[name]) for name, value in resumed.weights.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": ObjectiveConfig(output=1.0, divergence="jensen_shannon", on_policy=0.5)},
        {"objective": ObjectiveConfig(), "text": "teacher"},
        {"objective": ObjectiveConfig(output=1.0, middle=1.0, rule="cka_monotone")},
        {"signals": "live"},
        {"cache_gib": 1e-7},
        {"student": StudentConfig(width=8, layers=3, heads=2, style="llama", init="scratch")},
    ],
    ids=["gkd", "sequence", "cka", "live", "top k", "llama"],
)
def test_every_kind_of_arm_runs(world, changes) -> None:
    found = run.run(config(**changes), world, 0)
    assert found.curve["ce"].max() > 0  # zero on the student's own batches
    assert len(found.outputs)


def still(block: torch.nn.Module) -> None:
    """Let a block of a GPT-2-style model add nothing to what it reads."""
    for layer in (block.attn.c_proj, block.mlp.c_proj):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)


def test_the_similarity_rule_finds_the_layers_that_a_student_was_made_of(world, monkeypatch) -> None:
    """The teacher is what the student becomes, with blocks between its own that do nothing: which is which is known."""
    deep = StudentConfig(width=16, layers=3, heads=2, init="scratch")
    training = TrainingConfig(steps=60, batch=8, rate=1e-2, optimiser="muon")
    chosen = config(student=deep, training=training, objective=ObjectiveConfig(middle=1.0, rule="cka_monotone"))
    made_of, batch = arms.warmed_up(chosen, world, 0), world.batch(world.calibration_rows)
    teacher = arms.fresh_student(deep.model_copy(update={"layers": 7}), world, 0)
    teacher.transformer.wte, teacher.transformer.wpe = made_of.transformer.wte, made_of.transformer.wpe
    theirs = {2: 1, 4: 2, 7: 3}  # the teacher's block to the student's
    for number, block in enumerate(teacher.transformer.h, start=1):
        if number in theirs:
            block.load_state_dict(made_of.transformer.h[theirs[number] - 1].state_dict())
        else:
            still(block)
    with torch.no_grad(), states_of(teacher, range(1, 8)) as seen:
        teacher(input_ids=batch.ids, attention_mask=batch.mask.long())
    states = {layer: state[batch.predicting] for layer, state in seen.items()}
    monkeypatch.setattr(World, "calibration", property(lambda _: (batch, states)))
    monkeypatch.setattr(World, "pretrained", property(lambda _: SimpleNamespace(depth=7)))
    found = arms.layer_map(chosen, world, 0)
    assert found.layers == {1: 2, 2: 4, 3: 7}  # of equal states, 2 and 3 or 4 to 6, the lower
    assert found.read.shape == (3, 7)
    untrained = arms.similarity(chosen, arms.fresh_student(deep, world, 0), world)
    assert layer_maps.cka_monotone(untrained.numpy()) != found.layers  # what the rule read before
    again = arms.layer_map(chosen, world, 0)
    assert torch.equal(again.read, found.read)


def test_a_warmed_up_student_is_that_of_the_first_steps_by_cross_entropy_alone(world) -> None:
    chosen = config(objective=ObjectiveConfig(output=1.0, middle=1.0, rule="cka_monotone", compared_after=0.5))
    alone = config(objective=ObjectiveConfig(), watch_at=(3,))
    told = {}
    arm, _ = arms.build(alone, world, 0)
    lengths = [len(example) for example in world.examples]
    order = run.batches.order(lengths, 8, 6, 0)

    def keep(step: int) -> None:
        told.update({name: value.detach().clone() for name, value in arm.student.named_parameters()})

    run.training.train(arm, order, alone.training, 0, watch=keep, watch_at=(3,))
    found = dict(arms.warmed_up(chosen, world, 0).named_parameters())
    assert all(torch.equal(value, found[name]) for name, value in told.items())
    results = run.run(chosen, world, 0)
    assert set(results.values) == {"parameters", "map", "cka_read"}
    assert len(results.curve) == 6  # its own steps are as many as everyone's


@pytest.mark.parametrize("pairing", ["universal_logit", "minimum_edit", "dual_space"])
def test_a_student_with_its_own_tokenizer_runs(world, pairing, monkeypatch) -> None:
    monkeypatch.setattr(World, "own_vocabulary", property(lambda self: vocabulary))
    vocabulary = world_vocabulary(world)
    own = StudentConfig(width=8, layers=2, heads=2, init="scratch", tokenizer="own")
    found = run.run(config(student=own, objective=ObjectiveConfig(output=1.0, pairing=pairing)), world, 0)
    assert found.curve["output"].iloc[-1] > 0


def world_vocabulary(world: World) -> object:
    """Byte-pair tokens: the world's own would be fewer than the bytes."""
    return TrainedVocabulary(instructions.texts(world.splits.train), 300)


def test_live_and_cached_arms_agree(world) -> None:
    curves = [run.run(config(signals=signals), world, 0).curve for signals in ("cached", "live")]
    for name in ("ce", "output", "middle"):
        assert curves[0][name].to_numpy() == pytest.approx(curves[1][name].to_numpy(), rel=1e-2)


def test_what_is_kept_is_measured(world) -> None:
    found = run.keep(world, ["uniform", "last_k"], 2, 4, 1.0)
    assert found["layers"] == [2, 3, 4]
    assert found["rows"] == 12 * len(TRAINED)
    assert found["vocabulary"] == found["classes"] == len(WORDS) + 2  # "never" and "ever" do not occur
    assert all(0 < value < 0.5 for value in found["lost"].values())
    assert found["coverage"] == 1.0
    assert max(found["off"].values()) < 1e-2
    assert found["off"]["kl"] < 1e-4


def test_the_cost_of_a_live_teacher_is_counted(world) -> None:
    cached, live = (run.cost(config(signals=signals), world, 2) for signals in ("cached", "live"))
    assert live["mib"] > cached["mib"]
    assert cached["seconds"] > 0


def test_adapting_lowers_the_loss_and_resumes(world, tmp_path) -> None:
    weights, curve = run.adapt(world, 0)
    assert len(curve) == TEACHER.training.steps
    again, _ = run.adapt(world, 0, tmp_path / "run")
    assert all(torch.equal(value, again[name]) for name, value in weights.items())


def test_arms_that_do_not_fit_are_named(world, monkeypatch) -> None:
    vocabulary = world_vocabulary(world)
    monkeypatch.setattr(World, "own_vocabulary", property(lambda self: vocabulary))
    with pytest.raises(UserError, match="data of different sizes"):
        run.run(config(data=DATA.model_copy(update={"test": 1})), world, 0)
    with pytest.raises(UserError, match="unknown mapping rule 'first'"):
        run.run(config(objective=ObjectiveConfig(middle=1.0, rule="first")), world, 0)
    own = StudentConfig(width=8, layers=2, heads=2, init="scratch", tokenizer="own")
    with pytest.raises(UserError, match="choose how their tokens are paired"):
        run.run(config(student=own), world, 0)
    with pytest.raises(UserError, match="pairs tokens of two tokenizers, and here there is one"):
        run.run(config(objective=ObjectiveConfig(output=1.0, pairing="dual_space")), world, 0)
    with pytest.raises(UserError, match="unknown pairing of tokens 'by_length': choose one of same"):
        run.run(config(student=own, objective=ObjectiveConfig(output=1.0, pairing="by_length")), world, 0)
    with pytest.raises(UserError, match="compares a student's states"):
        run.keep(world, ["cka_monotone"], 2, 4, 1.0)
    compared = ObjectiveConfig(middle=1.0, pairing="minimum_edit", rule="cka_monotone")
    with pytest.raises(UserError, match="no states at its teacher's tokens"):
        run.run(config(student=own, objective=compared), world, 0)
    with pytest.raises(UserError, match="no states at its teacher's tokens"):
        run.run(config(student=own, objective=ObjectiveConfig(), similarity=True), world, 0)
    with pytest.raises(UserError, match="no teacher's embeddings to project"):
        run.run(config(student=StudentConfig(width=8, layers=2, heads=2, tokenizer="own")), world, 0)


def test_a_trained_student_answers_files_as_it_answers_its_own_sets(world) -> None:
    learnt = run.run(config(), world, 0)
    again = slices.trained(arms.fresh_student(config().student, world, 0), learnt.weights)
    items = [item for item in world.splits.test if item.name == "chat"]
    found = slices.scores(again, world, config(), items)
    assert set(found.columns) == {"set", "identity", "seed", "tokens", "rouge", "exact"}  # no text
    written = learnt.outputs[(learnt.outputs["split"] == "test") & (learnt.outputs["seed"] == GREEDY)]
    told = written.set_index("identity")["text"]
    for row in found[found["seed"] == GREEDY].itertuples():
        (item,) = (item for item in items if item.identity == row.identity)
        assert row.rouge == evaluation.rouge_l(told[row.identity], item.references)
    with pytest.raises(KeyError):
        slices.trained(again, {})


def test_what_reading_a_file_loses_is_counted(world) -> None:
    known = Instruction("Do.", "one two", "two one", "dolly", "dolly/1/0", ("two one",))
    strange = Instruction("Do.", "one zwei", "one", "dolly", "dolly/2/0", ("one",))
    long = Instruction("Do.", " ".join(["one"] * 30), "one", "dolly", "dolly/3/0", ("one",))
    assert slices.asked([known], world) == {"cut": 0.0, "unknown": 0.0}
    assert slices.asked([known, long], world)["cut"] == 0.5
    words = [len(instructions.render(item).replace(":", " :").replace(".", " .").split()) for item in (known, strange)]
    assert slices.asked([known, strange], world)["unknown"] == pytest.approx(1 / sum(words))
    assert slices.copied([known]) == pytest.approx(50.0)  # of two words in the other order one is in order


def test_cases_with_one_adapted_teacher_share_a_world(world, monkeypatch) -> None:
    asked, digests = [], {TEACHER.layer: "first"}

    def weights(case: records.Case, name: str) -> object:
        asked.append((case.name, name))
        return world._upper()

    def record(case: records.Case) -> SimpleNamespace:
        return SimpleNamespace(weight_digests={"adapted": digests[case.config.layer]})

    monkeypatch.setattr(records, "get", record)
    monkeypatch.setattr(records, "trained_weights", weights)

    def case(name: str, teacher: TeacherConfig = TEACHER) -> records.Case:
        adapted = records.Case("tiny/teacher", "smoke", teacher, {}, 0, run.adapted_teacher)
        inputs = {"teacher": adapted}
        return records.Case(f"tiny/{name}", "smoke", config(), {}, 0, run.trained_student, inputs=inputs)

    one, other = world_of(case("one")), world_of(case("other"))
    assert one is other
    assert not asked  # the weights are read where the teacher is
    assert one.teacher.layers == 4
    assert asked == [("tiny/teacher", "adapted")]
    digests[1] = "second"
    assert world_of(case("one", TEACHER.model_copy(update={"layer": 1}))) is not one
