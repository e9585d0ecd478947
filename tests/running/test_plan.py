"""The plan: what a profile needs, told at once and by series, and what it costs, computed from its configuration."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from lib import profiles
from lib.errors import UserError
from lib.records import digests
from lib.running import case_queue, catalogue, costs, jobs, needs, plan, reckoning
from lib.running.costs import GIB, Card, Cost, Memory

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def none_of_the_users_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BENCHMARK_DIR", "BACKBONE", "REPRODUCTION_PROFILE", "REPRODUCTION_SET"):
        monkeypatch.setenv(name, "")


def make(folder: Path, need: needs.Need) -> None:
    file = folder / need.names[0]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}")


def test_the_page_has_the_table_of_the_command() -> None:
    text = plan.PAGE.read_text(encoding="utf-8")
    assert plan.renewed(text) == text, "python -m lib.running.plan --write"
    with pytest.raises(UserError, match="put these lines back"):
        plan.renewed("no place")


def test_the_page_names_every_file_and_its_own_profile_is_one(tmp_path: Path) -> None:
    text = plan.PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./-]+\.jsonl?)`", text))
    for need in needs.of("paper"):
        if not need.is_model:
            assert any(name in named or Path(name).name in named for name in need.names), need.names
    example = text.partition("```toml\n")[2].partition("```")[0]
    assert tomllib.loads(example)["from"] == "paper"
    (tmp_path / "mine.toml").write_text(example)
    mine = profiles.profile(profiles.named(str(tmp_path / "mine.toml")))
    assert mine.diffusion.micro_tokens == 2048
    (planned,) = plan.listed("mine", ["1_infodiffusion/paraphrase"]).values()
    assert max(one.cost.memory.total for one in planned) < 24 * GIB  # as its line says


def test_cases_are_listed_and_reckoned_without_any_file_of_the_users() -> None:
    planned = plan.listed("paper")
    assert list(planned) == list(catalogue.SERIES)
    assert all(one.cost.operations > 0 or "no_edit" in one.case.name for found in planned.values() for one in found)
    fits = [one.cost.memory.total <= 80 * GIB for found in planned.values() for one in found]
    assert all(fits)
    drawn = [one.case for one in planned["1_infodiffusion"] if "/sampling/" in one.case.name]
    core = {case.name.split("/")[2] for case in drawn if case.row == "core"}
    assert core == {"question_generation", "simplification"}  # without them Figure 6 is not drawn


def test_what_is_missing_is_told_at_once_and_one_series_needs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = r"^18 files of your own are missing: QQP/train.jsonl.*set BENCHMARK_DIR"
    with pytest.raises(UserError, match=said) as told:
        needs.require(["1_infodiffusion", "4_hetero_kd"], "paper")
    assert all(name in str(told.value) for name in ("Quasar-T/test.jsonl", "uinst/11_/valid.jsonl"))
    with pytest.raises(UserError, match=r"3 files of your own are missing: CommonsenseConversation/train.jsonl"):
        needs.require(["1_infodiffusion/sampling/dialogue"], "paper")
    with pytest.raises(UserError, match="3 files of your own are missing: Quasar-T"):
        needs.require(["1_infodiffusion/ablation"], "paper")
    needs.require(["2_beacons"], "paper")
    with pytest.raises(UserError, match=r"5 files of your own are missing: ZsRE/zsre_mend_edit.json"):
        needs.require(["3_lemoe/main"], "paper")
    with pytest.raises(UserError, match="23 files of your own are missing"):
        needs.require([], "paper")
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path))
    for need in needs.of("paper"):
        if need.prefix in ("1_infodiffusion/paraphrase", "4_hetero_kd") and not need.is_model:
            make(tmp_path, need)
    needs.require(["1_infodiffusion/paraphrase", "4_hetero_kd/main"], "paper")
    needs.require([], "cpu")
    lines = "\n".join(plan.missing("paper", list(catalogue.SERIES)))
    assert "1_infodiffusion: 12 of 15 files and models are missing" in lines
    assert "QQP" not in lines
    assert "2 of 8 files and models are missing:\n    model meta-llama/Llama-2-7b-hf, for 4_hetero_kd" in lines


def test_a_task_is_listed_without_the_files_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path))
    monkeypatch.setenv("REPRODUCTION_SET", "diffusion.tasks.paraphrase.test_pairs=1")
    folder = tmp_path / "QQP"
    folder.mkdir()
    for split in needs.SPLITS:
        (folder / split).write_text('{"src": "is it true", "trg": "can it be true"}\n' * 3)
    found = catalogue.find(["1_infodiffusion/paraphrase", "1_infodiffusion/sampling/paraphrase"], "paper")
    assert {case.name.split("/")[1] for case in found} == {"paraphrase", "sampling"}
    assert all(len(value) == 64 for case in found for value in case.data.values())
    with digests.unread():
        every = catalogue.find([], "paper")
    assert {case.name for case in found} < {case.name for case in every}
    with pytest.raises(UserError, match=r"Wiki-Auto/train.jsonl: No such file"):
        catalogue.find(["1_infodiffusion"], "paper")


def test_seconds_are_operations_over_the_share_of_a_rate_and_bytes_over_a_band() -> None:
    cost = Cost(Memory(weights=3, gradients=2, activations=10, checkpointed=4), operations=6e12, moved=2e9)
    assert cost.seconds(Card(80, 1e12, 1e9, share=0.5)) == pytest.approx(12 + 2)
    assert (cost.memory.total, cost.memory.least) == (15, 9)
    assert costs.card("h100", 2e12).operations == 2e12
    with pytest.raises(UserError, match="--card tpu: unknown: choose one of a100-40"):
        costs.card("tpu")


def test_a_7b_model_that_adamw_trains_whole_needs_108_gb_before_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRODUCTION_SET", "distillation.teacher_layer=0")
    with digests.unread():
        (teacher,) = catalogue.find(["4_hetero_kd/teacher/adapted"], "paper")
        memory = reckoning.of(teacher).memory
    trained = 6_738_415_616 - 2 * 32000 * 4096  # neither embeddings nor head
    assert memory.gradients == 4 * trained
    assert memory.optimiser == 8 * trained
    assert memory.weights + memory.gradients + memory.optimiser > 108e9


@pytest.mark.parametrize("series", list(catalogue.SERIES))
def test_hours_are_within_a_factor_of_five_of_the_records_of_cpu(series: str) -> None:
    """The machine of the records is that of `make bench`; formulas leave out all that is no matrix product."""
    taken, said = 0.0, 0.0
    for one in plan.listed("cpu", [series])[series]:
        if one.case.row == "core" and (seconds := case_queue.seconds(one.case)) is not None:
            taken += seconds
            said += one.cost.seconds(costs.CARDS["cpu"])
    assert taken / 5 < said < taken * 5


def test_each_case_is_a_job_that_waits_for_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"18 files of your own are missing: QQP/train.jsonl"):
        jobs.graph(["4_hetero_kd", "1_infodiffusion"], "paper", "core")
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path))
    for need in needs.of("paper"):
        make(tmp_path, need)  # they are there, and nobody opens them
    books, found = jobs.graph(["4_hetero_kd", "1_infodiffusion/1.6_sampling_steps"], "paper", "core")
    assert [book.name.split("/")[0] for book in books].count("4_hetero_kd") == 5
    teacher = found["4_hetero_kd/teacher/adapted"]
    assert (teacher.after, teacher.gpus) == ((), 1)
    assert teacher.memory > 6_738_415_616 * 4 / 2**20  # it is loaded in float32
    student = found["4_hetero_kd/main/ours/seed0"]
    assert student.after == ("4_hetero_kd/teacher/adapted",)
    assert list(found).index("4_hetero_kd/teacher/adapted") < list(found).index("4_hetero_kd/main/ours/seed0")
    assert jobs.graph(["2_beacons"], "smoke", "core")[1]["2_beacons/known/facts"].gpus == 0


def test_the_largest_node_says_how_many_cores_a_job_may_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "sinfo"
    told.write_text("#!/bin/sh\nprintf '2\\n8+\\n'\n")
    told.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jobs.most_cores() == 8
    told.write_text("#!/bin/sh\nexit 1\n")
    assert jobs.most_cores() is None
    told.unlink()
    assert jobs.most_cores() is None


def test_finished_jobs_hold_until_code_profile_or_files_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path))
    first = jobs.state()
    assert jobs.state() == first
    (tmp_path / "edits.json").write_text("[]")
    second = jobs.state()
    monkeypatch.setenv("REPRODUCTION_SET", "editing.steps=3")
    assert len({first, second, jobs.state()}) == 3


def test_the_plan_as_it_is_typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["plan", "--profile", "cpu", "--only", "1_infodiffusion/paraphrase", "--flops", "1e12"]
    monkeypatch.setattr("sys.argv", line)
    assert plan.main() == 0
    printed = capsys.readouterr().out
    assert "1_infodiffusion: nothing of yours is needed" in printed
    assert re.search(r"1_infodiffusion: measured: \d+ of \d+ cases in [\d.]+ hours", printed)
    assert "computed from the configuration, on one card cpu (1 x 1 TFLOP/s" in printed


@pytest.mark.thorough
def test_a_light_notebook_runs_through_slurm() -> None:
    done = subprocess.run([ROOT / "cluster/one_node.sh"], cwd=ROOT, capture_output=True, text=True, timeout=500)
    if done.returncode == 77:
        pytest.skip(f"a light notebook through SLURM: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
