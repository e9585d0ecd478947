"""A profile of one's own: what a file changes, what it may not, and the name that its records go by."""

import json
import os
from pathlib import Path

import pytest

from lib import paths, profiles
from lib.errors import UserError


@pytest.fixture(autouse=True)
def no_profile_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REPRODUCTION_PROFILE", "BACKBONE", "REPRODUCTION_SET"):
        monkeypatch.setenv(name, "")  # restored after the test


def written(folder: Path, text: str, name: str = "mine.toml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_file_names_where_it_starts_and_what_differs(tmp_path: Path) -> None:
    text = """
from = "paper"
backbone = "models/llama"
[diffusion]
tokens = 4096
train_pairs = "all"
[diffusion.tasks.paraphrase]
training_steps = 7
[editing]
runs = {1 = 5, 30 = 2}
"""
    (tmp_path / "models/llama").mkdir(parents=True)
    assert profiles.named(written(tmp_path, text)) == "mine"
    mine, paper = profiles.profile("mine"), profiles.profile("paper")
    assert (mine.name, mine.origin, profiles.origin("mine")) == ("mine", "paper", "paper")
    assert mine.backbone == str((tmp_path / "models/llama").resolve())  # notebooks work in another folder
    assert (mine.diffusion.tokens, mine.diffusion.train_pairs, mine.editing.runs) == (4096, None, {1: 5, 30: 2})
    assert mine.diffusion.tasks["paraphrase"].training_steps == 7
    assert mine.diffusion.tasks["dialogue"] == paper.diffusion.tasks["dialogue"]
    assert mine.beacons == paper.beacons
    assert paths.results("mine") == paths.DATA / "results/mine"
    assert profiles.table()["mine"]["diffusion: tokens"] == "4096"
    assert profiles.named("mine") == "mine"  # as a job of it is called


def test_json_says_the_same_as_toml_and_a_changed_file_is_read_again(tmp_path: Path) -> None:
    content = {"from": "smoke", "beacons": {"seeds": [4]}}
    assert profiles.named(written(tmp_path, json.dumps(content), "ours.json")) == "ours"
    assert profiles.profile("ours").beacons.seeds == (4,)
    content["beacons"]["seeds"] = [4, 5, 6]  # type: ignore[index]
    file = Path(written(tmp_path, json.dumps(content), "ours.json"))
    os.utime(file, ns=(1, 1))  # a clock that is too coarse to tell
    assert profiles.profile("ours").beacons.seeds == (4, 5, 6)


def test_folders_of_backbones_are_absolute_since_notebooks_work_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models/llama").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKBONE", os.pathsep.join(["models/llama", "mistralai/Mistral-7B-v0.1"]))
    assert profiles.named("paper") == "paper"
    found = os.environ["BACKBONE"].split(os.pathsep)
    assert found == [str((tmp_path / "models/llama").resolve()), "mistralai/Mistral-7B-v0.1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from = 'paper'\n[editing]\nstepz = 3", "mine.toml: profiles have no size 'editing.stepz'"),
        ("from = 'paper'\n[editing]\nsteps = 0", "mine.toml: editing.steps: Input should be greater than 0"),
        ("from = 'paper'\n[editing]\nsteps = true", "mine.toml: editing.steps: Input should be a valid integer"),
        ("from = 'paper'\n[editing]\nrate = nan", "mine.toml: editing.rate: Input should be"),
        ("from = 'paper'\n[diffusion.tasks.sonnets]\ntest_pairs = 1", "no size 'diffusion.tasks.sonnets"),
        ("from = 'paper'\nediting = 3", "mine.toml: editing: Input should be"),
        ("from = 'paper'\norigin = 'cpu'", "no size 'origin'"),
        ("[editing]\nsteps = 3", "mine.toml: from: missing: name the profile to start from, one of smoke, cpu"),
        ("from = 'papr'", "mine.toml: from: 'papr'"),
        ("from = ['paper']", "mine.toml: from: \\['paper'\\]"),
        ("from =", "mine.toml: broken TOML"),
        ("from = 'paper'\nwhen = 1979-05-27", "mine.toml: a date"),
    ],
)
def test_what_a_file_gets_wrong_is_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        profiles.named(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_has_a_name_of_the_projects(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine.toml: .*check the path"):
        profiles.named(str(tmp_path / "mine.toml"))
    with pytest.raises(UserError, match="'paper' is a profile of the project"):
        profiles.named(written(tmp_path, "from = 'smoke'", "paper.toml"))
    with pytest.raises(UserError, match="'My Own' is to name a folder"):
        profiles.named(written(tmp_path, "from = 'smoke'", "My Own.toml"))
    with pytest.raises(UserError, match="unknown profile 'mine'"):
        profiles.named("mine")
