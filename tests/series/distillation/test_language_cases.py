"""The cases on the language sets: equal steps, equal rows by seed, one thing changed at a time, one cache for all."""

import json

import pytest

from lib.distillation import layer_maps
from lib.profiles import profile as sizes_of
from lib.running import reckoning
from lib.series.distillation import cases, language_cases
from lib.series.distillation.language_cases import MANY_SEEDS
from lib.series.distillation.language_run import LanguageConfig


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """The digest of the instructions without reading them all."""
    monkeypatch.setattr(cases, "instructions_digest", lambda _: "digest")


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_every_arm_gets_the_same_steps_from_the_same_teacher(profile) -> None:
    found = language_cases.listed(profile)
    sizes = sizes_of(profile).distillation.language
    assert len({case.name for case in language_cases.every(profile)}) == len(cases.cases(profile)) + len(found)
    core = [case.name for case in found if case.row == "core"]
    many = [f"4_hetero_kd/language/{student}/{method}" for student in language_cases.MAIN for method in MANY_SEEDS]
    computed = sizes.seeds if profile == "smoke" else sizes.seeds[:1]
    wanted = [f"{row}/seed{seed}" for row in many for seed in computed]
    assert sorted(core) == sorted([*wanted, *(f"4_hetero_kd/language/teacher/{one}" for one in ("adapted", "cache"))])
    for case in (case for case in found if isinstance(case.config, LanguageConfig)):
        assert case.config.training.steps == sizes.steps
        assert case.inputs["teacher"].config.data == case.config.data == language_cases.data_config(profile)
        assert case.config.text == "data"
        alone = case.name.split("/")[3] == "sft"
        assert (case.config.own, case.config.further) == (sizes.student_own, 0 if alone else sizes.student_further)


def test_there_are_none_where_a_profile_reads_the_fields_own_sets() -> None:
    assert language_cases.listed("paper") == []
    with pytest.raises(ValueError, match="paper has no language sets"):
        language_cases.sizes_of("paper")


def test_ten_seeds_for_what_the_main_claims_compare_and_three_for_all_else() -> None:
    for student, method in language_cases.arms("cpu"):
        many = student in ("gpt2", "llama") and method in MANY_SEEDS
        assert language_cases.seeds(student, method, "cpu") == tuple(range(10 if many else 3))
    assert set(MANY_SEEDS) == {*("sft", "forward_kl", "ours", "rule_reversed", "rule_random", "module_frozen")}


def test_the_teacher_is_looked_at_after_each_epoch_of_its_rows() -> None:
    config = language_cases.teacher_config("cpu")
    rows = 4 * config.data.examples
    assert config.watch_at == tuple(epoch * rows // config.training.batch for epoch in (1, 2, 3, 4))
    assert config.training.steps == config.watch_at[-1]


def test_the_students_differ_in_what_their_names_say() -> None:
    built = {name: language_cases.arm(name, "ours", 0, "cpu").config for name in language_cases.students("cpu")}
    shapes = {name: (one.student.style, one.student.layers, one.student.width) for name, one in built.items()}
    assert shapes["gpt2"] == ("gpt2", 4, 192)
    assert shapes["llama"] == ("llama", 4, 192)
    for name, (style, layers, width) in shapes.items():
        assert name in ("gpt2", "llama") or name == f"{style}_{layers}x{width}"
    changed = {
        name
        for name in LanguageConfig.model_fields
        if getattr(built["gpt2"], name) != getattr(language_cases.arm("gpt2", "forward_kl", 0, "cpu").config, name)
    }
    assert changed == {"objective"}


def test_later_seeds_keep_some_texts_and_draw_none() -> None:
    first, later = (language_cases.arm("gpt2", "ours", seed, "cpu").config for seed in (2, 3))
    assert (first.texts, len(first.decoding_seeds)) == (0, 5)
    assert (later.texts, later.decoding_seeds) == (50, ())


def test_one_pass_of_the_teacher_keeps_what_every_arm_reads() -> None:
    def layers(rule: str, blocks: int) -> set[int]:
        return set(layer_maps.RULES[rule](blocks, 30, None).values())

    maps = language_cases.kept("cpu").config.maps
    kept = set().union(*(layers(*one) for one in maps))
    read = set()
    for case in language_cases.listed("cpu"):
        objective = getattr(case.config, "objective", None)
        if objective is not None and objective.middle > 0 and objective.rule != "cka_monotone":
            read |= layers(objective.rule, case.config.student.layers)
    assert read == kept


def test_every_case_is_planned() -> None:
    found = {case.name: reckoning.of(case) for case in language_cases.listed("cpu")}
    assert all(cost.memory.total > 0 and cost.operations > 0 for cost in found.values())
    usual, kept = reckoning.of(cases.kept("cpu")), found["4_hetero_kd/language/teacher/cache"]
    assert kept.operations / usual.operations == pytest.approx((200 + 400) / 1500)  # rows that the teacher passes over


def test_a_configuration_comes_back_from_its_json() -> None:
    for case in language_cases.listed("cpu"):
        assert type(case.config).model_validate(json.loads(case.config.model_dump_json())) == case.config
