"""The registry of the series: equal steps for all, one thing changed at a time, everything tied to its teacher."""

import json

import pytest

from lib.distillation.objective_config import ObjectiveConfig
from lib.profiles import profile as sizes_of
from lib.records import Case
from lib.series.distillation import cases


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """The digest of the instructions without reading them all."""
    monkeypatch.setattr(cases, "instructions_digest", lambda _: "digest")


def changes(one: Case, other: Case) -> dict[str, tuple[object, object]]:
    a, b = (case.config.model_dump() for case in (one, other))
    return {
        f"{part}.{name}" if isinstance(a[part], dict) else part: (x, y)
        for part in a
        for name, x, y in (
            [(name, a[part][name], b[part][name]) for name in a[part]]
            if isinstance(a[part], dict)
            else [("", a[part], b[part])]
        )
        if x != y and part != "similarity" and name != "losses"  # a measurement, and what follows from the weights
    }


@pytest.mark.parametrize("profile", ["smoke", "cpu", "paper"])
def test_names_are_unique_and_every_arm_gets_the_same_steps(profile) -> None:
    found = cases.cases(profile)
    assert len({case.name for case in found}) == len(found)
    arms = [case for case in found if "/main/" in case.name or "/ablation/" in case.name or "/pairs/" in case.name]
    sizes = sizes_of(profile).distillation
    for case in arms:
        training = case.config.training
        assert (training.steps, training.batch, training.rate) == (sizes.steps, sizes.batch, sizes.rate)
        assert case.config.data == cases.teacher_config(profile).data
        assert case.config.decoding.temperature == case.config.decoding.top_p == 1
        assert case.config.decoding.no_repeat_ngram_size == 0


def test_the_teacher_of_a_profile_is_adapted_as_it_says() -> None:
    paper, cpu = (cases.teacher_config(name) for name in ("paper", "cpu"))
    assert (paper.layer, paper.dtype, paper.frozen, paper.training.checkpointing) == (24, "bfloat16", "bfloat16", True)
    assert (cpu.dtype, cpu.frozen, cpu.training.checkpointing) == ("bfloat16", "float32", False)
    assert cpu.training.micro_batches == cases.PARTS
    assert (paper.training.batch, paper.training.micro_batches) == (32, 4)  # eight rows at a time fit a card


def test_ours_is_output_only_and_the_middle_loss() -> None:
    ours, output, middle, sft = (cases.main(name, 0, "cpu") for name in ("ours", "forward_kl", "middle", "sft"))
    assert changes(output, ours) == {"objective.middle": (0.0, 1.0)}
    assert changes(middle, ours) == {"objective.output": (0.0, 1.0)}
    assert changes(sft, output) == {"objective.output": (0.0, 1.0)}
    assert ours.config.objective.ce == 1.0


def test_an_ablation_changes_what_it_says() -> None:
    ours = cases.main("ours", 0, "cpu")
    for name in cases.ABLATIONS:
        found = changes(ours, cases.ablation(name, "cpu"))
        assert 1 <= len(found) <= 2, name
    assert set(changes(ours, cases.ablation("rule_reversed", "cpu"))) == {"objective.rule"}
    assert set(changes(ours, cases.ablation("distance_cka", "cpu"))) == {
        "objective.distance",
        "objective.alignment",
    }


def test_longer_rows_change_the_steps_alone() -> None:
    sizes = sizes_of("cpu").distillation
    for method in cases.COMPARED:
        usual, more = cases.main(method, 1, "cpu"), cases.longer(method, 1, "cpu")
        found = changes(usual, more)
        assert found.keys() == {"training.steps", "watch_at"}
        assert found["training.steps"] == (sizes.steps, sizes.longer * sizes.steps)
        assert found["watch_at"][1][-1] == more.config.training.steps
        assert (more.seed, more.row) == (1, "extended")


def test_weights_are_in_units_of_the_profiles_proportions(monkeypatch) -> None:
    chosen = sizes_of("cpu")
    sizes = chosen.distillation.model_copy(update={"proportions": (0.5, 2.0, 3.0), "on_policy": 0.1})
    monkeypatch.setattr(cases.profiles, "profile", lambda _: chosen.model_copy(update={"distillation": sizes}))
    objective = cases.ablation("weight_ten", "cpu").config.objective
    assert (objective.ce, objective.output, objective.middle) == (0.5, 2.0, 30.0)
    gkd = cases.main("gkd", 0, "cpu").config.objective
    assert (gkd.output, gkd.middle, gkd.on_policy) == (2.0, 0.0, 0.1)


def test_three_seeds_for_the_four_compared_rows_and_one_for_the_others() -> None:
    for method in cases.METHODS:
        wanted = 3 if method in ("sft", "forward_kl", "middle", "ours") else 1
        assert len(cases.seeds(method, "cpu")) == wanted


def test_older_rows_are_computed_anew_where_no_language_sets_take_their_place() -> None:
    core = {case.name.removeprefix("4_hetero_kd/") for case in cases.cases("cpu") if case.row == "core"}
    assert core == {"teacher/adapted", "teacher/cache", "cost/step"}
    core = {case.name.removeprefix("4_hetero_kd/") for case in cases.cases("paper") if case.row == "core"}
    wanted = [f"main/{method}/seed" for method in ("sft", "forward_kl", "middle", "ours")]
    wanted += [f"ablation/{name}/seed" for name in ("rule_reversed", "rule_random", "module_frozen")]
    assert all(any(name.startswith(one) for name in core) for one in wanted)
    assert not any(name.startswith("pairs/") for name in core)
    assert all(case.row == "core" for case in cases.cases("smoke"))


def test_every_case_reads_the_teacher_of_its_profile() -> None:
    for case in cases.cases("cpu"):
        adapted = case if case.name.endswith("/teacher/adapted") else case.inputs["teacher"]
        assert (adapted.name, adapted.config) == ("4_hetero_kd/teacher/adapted", cases.teacher_config("cpu"))
        if "/slices/" in case.name:
            who = case.name.rpartition("/")[2]
            assert case.inputs["learnt"].name.split("/")[1:3] in (["main", who], ["teacher", "adapted"])


def test_a_configuration_comes_back_from_its_json() -> None:
    for case in cases.cases("cpu"):
        stored = json.loads(case.config.model_dump_json())
        assert type(case.config).model_validate(stored) == case.config


def test_a_configuration_names_the_losses_it_reads_the_teacher_by() -> None:
    wanted = {"sft": (), "forward_kl": ("output_loss",), "middle": ("middle_loss",)}
    wanted |= {"ours": ("output_loss", "middle_loss")}
    for method, names in wanted.items():
        assert cases.main(method, 0, "cpu").config.objective.losses == names
    stored = cases.main("middle", 0, "cpu").config.objective.model_dump() | {"middle": 0.0}
    assert ObjectiveConfig(**stored).losses == ()  # what is stored follows the weights
