"""The registry of the series: configurations, the user's own files, and equal records from equal seeds."""

import json
import os
from pathlib import Path

import pytest

from lib import paths, profiles, records
from lib.diffusion import cases, experiment
from lib.errors import UserError
from lib.text import pairs
from lib.text.vocabulary import WordPieces


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
    cases.task.cache_clear()
    yield tmp_path
    cases.task.cache_clear()


def test_the_two_models_differ_in_schedule_and_self_conditioning_only() -> None:
    one, two = (cases.configuration("paraphrase", name, "smoke") for name in ("infodiffusion", "diffuseq_skewed"))
    first, second = one.model_dump(), two.model_dump()
    assert {key for key in first if first[key] != second[key]} == {"model", "process"}
    changed = {key for key in first["process"] if first["process"][key] != second["process"][key]}
    assert changed == {"schedule", "self_conditioning"}


def test_the_paper_profile_reads_the_users_files_with_the_bert_vocabulary(benchmark: Path) -> None:
    own_set(benchmark / "QQP")
    config = cases.configuration("paraphrase", "infodiffusion", "paper")
    loaded = cases.task("paraphrase", "paper")
    assert isinstance(loaded.vocabulary, WordPieces)
    assert (config.shape.vocabulary, config.process.steps, config.training.steps) == (30522, 2000, 50000)
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
    own_set(benchmark / "long" / "QQP", test=[json.dumps({"src": "w " * 80, "trg": "w"})])
    monkeypatch.setenv("BENCHMARK_DIR", str(benchmark / "long"))
    with pytest.raises(UserError, match="80 words, the model takes 63"):
        cases.task("paraphrase", "paper")
    monkeypatch.delenv("BENCHMARK_DIR")
    with pytest.raises(UserError, match="set BENCHMARK_DIR"):
        cases.task("paraphrase", "paper")


def test_a_real_slice_of_the_papers_set_is_read() -> None:
    folder = os.environ.get("BENCHMARK_DIR")
    if not folder or not (Path(folder) / "qqp_sample.jsonl").exists():
        pytest.skip("BENCHMARK_DIR does not hold qqp_sample.jsonl")
    assert len(pairs.read_jsonl(Path(folder) / "qqp_sample.jsonl")) > 0


def test_equal_seeds_give_equal_records_and_a_published_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {
        "training_steps": 3,
        "tokens": 200,
        "train_pairs": 60,
        "test_pairs": 3,
        "whole_verses": 2,
        "curve_points": 1,
    }
    smoke = profiles.profile("smoke")
    small = smoke.model_copy(update={"diffusion": smoke.diffusion.model_copy(update=tiny | {"width": 32, "layers": 1})})
    monkeypatch.setitem(profiles.PROFILES, "smoke", small)
    monkeypatch.setattr(experiment, "TRACED", 1)
    monkeypatch.setattr(experiment, "WATCHED", 2)
    monkeypatch.setenv("REPRODUCTION_RECORDS", "compute")
    cases.task.cache_clear()
    try:
        cases.task("paraphrase", "smoke")  # remembered, so that its pairs are not built again below
        found = []
        for name in ("one", "two"):
            monkeypatch.setattr(paths, "cache", lambda name=name: tmp_path / name / "cache")
            monkeypatch.setattr(paths, "results", lambda profile, name=name: tmp_path / name / profile)
            found.append(records.get(cases.case("paraphrase", "infodiffusion", 0, "smoke")))
        assert records.same_content(*found)
        assert len(cases.candidates(found[0], "test")) == 3
        assert len(cases.candidates(found[0], "whole")[0]) == small.diffusion.candidates
        writer = cases.Writer.of(found[0])
        steps = writer.steps("and he said , come .", seed=0)
        assert list(steps) == list(range(1, small.diffusion.sampling_steps + 1))
        with pytest.raises(UserError, match="0 words"):
            writer.steps("", seed=0)
    finally:
        cases.task.cache_clear()
