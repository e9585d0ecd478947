"""The user's files of edits: any content, all that are missing in one line, the digest in name and record, no text."""

import json
from pathlib import Path

import pytest

from lib import paths, profiles, records
from lib.errors import UserError
from lib.records.stamps import stamp
from lib.series.lemoe import cases, edit_files, file_runs, titles, workbench
from lib.series.lemoe.edit_sets import edit_set
from lib.series.lemoe.workbench import BenchConfig
from lib.sources import own_files
from lib.sources.own_files import EDIT_FILES
from tests.rehearsal import files, models

TINY = (
    "device=cpu editing.steps=1 editing.expert_width=8 editing.layer=0 editing.upper_layer=1 editing.ablation=2 "
    'editing.most=4 editing.slow=4 editing.runs={"1":2} editing.passages=2 editing.batches=2 editing.unrelated=6'
)


@pytest.fixture(autouse=True)
def _read_afresh():
    edit_set.cache_clear()
    edit_files._recorded.cache_clear()
    yield
    edit_set.cache_clear()
    edit_files._recorded.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of made-up files, and records that go elsewhere."""
    files.write_edits(tmp_path / "files", 8)
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path / "files"))
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path / "work"))
    return tmp_path / "files"


def test_all_missing_files_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path / "work"))
    monkeypatch.delenv("BENCHMARK_DIR", raising=False)
    for listed in (cases.cases, lambda profile: cases.main("lemoe", 1, profile)):
        with pytest.raises(UserError, match="set BENCHMARK_DIR") as told:
            listed("paper")
        for name in (
            "zsre_mend_edit",
            "zsre_mend_train",
            "counterfact-edit",
            "hallucination-edit",
            "hallucination-train",
        ):
            assert f"{name}.json" in str(told.value)
    monkeypatch.setenv("BENCHMARK_DIR", str(tmp_path))
    files.write_edits(tmp_path, 4)
    (tmp_path / "counterfact" / "counterfact-edit.json").unlink()
    (tmp_path / "hallucination" / "hallucination-train.json").unlink()
    with pytest.raises(
        UserError, match=r"must hold CounterFact: .*counterfact-edit\.json.*hallucination-train"
    ) as told:
        cases.cases("paper")
    assert "zsre" not in str(told.value)
    (tmp_path / "ZsRE" / "zsre_mend_edit.json").unlink()
    with pytest.raises(UserError, match=r"must hold ZsRE: .*zsre_sample\.json"):
        EDIT_FILES["zsre"].path()


def test_a_file_of_any_content_is_read_and_its_digest_is_in_name_and_configuration(folder: Path) -> None:
    case = cases.main("lemoe", 1, "paper")
    file = folder / "ZsRE" / "zsre_mend_edit.json"
    digest = own_files.digest(file)
    assert case.name == f"3_lemoe/main/lemoe/zsre-{digest[:12]}/T1/seed0"
    assert case.config.digest == case.data["edits"] == digest
    assert titles.edits_of("paper")[0].prompt == files.zsre(0)["src"]
    file.write_text(json.dumps([files.zsre(number) for number in range(3)]))
    other = cases.main("lemoe", 1, "paper")
    assert other.name != case.name
    assert stamp(other) != stamp(case)
    assert len(titles.edits_of("paper")) == 3
    with pytest.raises(UserError, match=f"not {digest}: put back the file"):
        case.compute(case)


def test_both_layouts_of_counterfact_are_read_under_their_releases_names(folder: Path) -> None:
    (folder / "counterfact" / "counterfact-edit.json").unlink()
    (folder / "counterfact.json").write_text(json.dumps([files.nested_counterfact(number) for number in range(4)]))
    case = cases.main("ft", 1, "paper", "counterfact")
    assert case.config.digest == own_files.digest(folder / "counterfact.json")
    found = file_runs.edits_of("counterfact", case.config.digest)
    assert (found[0].prompt, found[0].relation) == (files.counterfact(0)["prompt"], "P36")


def test_slices_of_the_cpu_read_the_same_files_and_are_named_by_the_sample_without_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = cases.on_slice("zsre", "lemoe", "cpu")
    assert there.name == f"3_lemoe/slices/{edit_files.label('zsre', there.config.digest)}/lemoe/seed0"
    monkeypatch.delenv("BENCHMARK_DIR")
    without = cases.on_slice("zsre", "lemoe", "cpu")
    assert without.name == "3_lemoe/slices/zsre/lemoe/seed0"
    assert without.config.digest == without.data["edits"] == EDIT_FILES["zsre"].sample
    assert without.config.bench.training_set is None  # `cpu` learns on our own facts
    with pytest.raises(UserError, match="set BENCHMARK_DIR"):
        without.compute(without)


def test_a_record_holds_no_text_of_the_file_and_is_current_without_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRODUCTION_SET", TINY)
    monkeypatch.setenv("BACKBONE", str(models.write_llama(tmp_path / "Llama-2-7b-hf", vocabulary=300)))
    monkeypatch.setenv("REPRODUCTION_RECORDS", "compute")
    case = cases.main("lemoe_threshold", 2, "paper")
    assert case.config.generate
    assert case.config.bench.training_set == "zsre_train"
    record = records.get(case)
    scores = record.frames["scores"]
    assert set(scores["identity"]) == {"zsre/1", "zsre/2"}
    assert scores.columns.intersection(["generated", "rel_free"]).tolist() == ["rel_free"]
    words = {word for number in range(16) for text in files.zsre(number).values() for word in str(text).split()}
    held = {text for name in scores for text in scores[name].map(str)} | {case.path.read_text()}
    assert not [word for word in words if word.istitle() and len(word) > 4 and any(word in text for text in held)]
    assert records.status(case) == "current"
    monkeypatch.delenv("BENCHMARK_DIR")
    again = cases.main("lemoe_threshold", 2, "paper")
    assert again.name == case.name
    assert records.status(again) == "current"


def test_methods_learn_on_the_training_file_of_their_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbench, "loaded", lambda *_: (None, None))
    config = cases.passages("wise", "paper").config.bench
    assert (config.training_set, config.unrelated) == ("selfcheckgpt_train", 1000)
    bench = file_runs.FileBench("a", None, "float32", "cpu", config.model_copy(update={"unrelated": 3}))
    assert bench.unrelated_texts == [files.hallucination(number)["locality_prompt"] for number in (8, 9, 10)]
    taught: list[int] = []
    monkeypatch.setattr(file_runs.Mend, "train", lambda model, tokenizer, edits, config: (taught.append(len(edits)), 0))
    mend = cases.main("mend", 1, "paper").config
    assert mend.bench.training_set == "zsre_train"
    assert cases.main("ft", 1, "paper").config.bench == BenchConfig()
    file_runs.FileBench("a", None, "float32", "cpu", mend.bench).transformation(mend.settings)
    assert taught == [8]


def test_the_tables_of_the_paper_have_both_models_both_sets_and_every_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = {case.name: case for case in cases.tables("paper")}
    zsre = edit_files.label("zsre", edit_files.digest("zsre", "paper"))
    for method in (*cases.METHODS, "routing/shared"):
        for model in ("", "/Mistral-7B-v0_1"):
            assert listed[f"3_lemoe/main/{method}/{zsre}{model}/T3000/seed0"].row == "core"
    assert listed[f"3_lemoe/main/lemoe/{zsre}/Mistral-7B-v0_1/T1/seed0"].config.backbone == "mistralai/Mistral-7B-v0.1"
    assert sum("/passages/" in name for name in listed) == 2 * len(cases.REGISTRY)
    monkeypatch.setenv("BACKBONE", "/models/own")
    assert {case.config.backbone for case in cases.tables("paper")} == {"/models/own"}
    assert cases.others("paper") == [("counterfact", "/models/own")]


# Edits in the files that have a fixed number of them: WISE's release has 600 hallucinations, its scaling 3,000 of ZsRE.
RELEASED = {"selfcheckgpt": 600, "zsre": 3000, "counterfact": 3000}


@pytest.mark.parametrize("profile", sorted(profiles.PROFILES))
def test_no_case_asks_for_more_edits_than_its_pool_has(folder: Path, profile: str) -> None:
    needed: dict[str, int] = {}
    for case in cases.cases(profile):
        config = getattr(case.config, "run", case.config)
        asked = config.count * getattr(config, "runs", 1)
        name = getattr(config, "edits", "tuning")  # MEND's training names no set: it is always this one
        needed[name] = max(asked, needed.get(name, 0))
    for name, asked in needed.items():
        assert asked <= (RELEASED[name] if name in EDIT_FILES else len(edit_set(name).edits)), name


def test_captions_name_model_and_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert titles.told("cpu") == "SmolLM2-135M, facts of countries, cities and elements"
    assert titles.differs("cpu", "ZsRE") == (
        "SmolLM2-135M, not LLaMA-2-7B; facts of countries, cities and elements, not ZsRE; "
    )
    assert titles.differs("paper", "ZsRE") == ""
    assert titles.told("paper", "counterfact", "/models/Mistral-7B-v0.1") == "Mistral-7B-v0.1, CounterFact"
    assert paths.work_root() is not None  # nothing here touches the project's own records
