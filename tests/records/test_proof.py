"""A record takes a new stamp only where tiny twins run all that changed, and give the same bits before and after."""

import json
import subprocess
from dataclasses import replace

import pytest

from lib import paths, records
from lib.errors import UserError
from lib.records import proof
from tests.records.made_records import MODEL, NAME, Counted, case, make_package

# In place of the project's command: it prints the statements that were noted, and computes what `value` says.
COMMAND = """
import json, os, pathlib, sys
if sys.argv[1] == "lines":
    print(json.dumps(json.loads(pathlib.Path("noted.json").read_text())[sys.argv[3]]))
else:
    for name in sys.argv[sys.argv.index("--only") + 1:]:
        file = pathlib.Path(os.environ["REPRODUCTION_WORK_ROOT"], "results", "smoke", name + ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        made = {"values": {"loss": pathlib.Path("value").read_text()}, "frames": {}, "weights": {}, "published": {}}
        file.write_text(json.dumps(made))
"""
EQUAL = "def loss(x):\n    one = 1.0\n    return x - one\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with one record, of a case that has a twin in tiny; its code is about to change."""
    package = make_package(tmp_path, monkeypatch)
    root = tmp_path / "project"
    (root / "lib").mkdir(parents=True)
    (root / "data").mkdir()
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(paths, "BUILD", root / "build")
    monkeypatch.setattr(paths, "EXTERNAL", tmp_path / "external")
    records.get(case(Counted()))
    noted = {profile: proof.lines([replace(case(), profile=profile)]) for profile in ("cpu", "smoke")}
    files = {
        "noted.json": json.dumps(noted),
        "value": "0.5",
        "command.py": COMMAND,
        "lib/__init__.py": "",
        "data/a": "",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(root)]
    for line in (["init", "-q"], ["add", "."], ["commit", "-qm", "before"]):
        subprocess.run([*git, *line], check=True)
    return package


def proven() -> list[proof.Verdict]:
    return proof.prove("HEAD", [case()], [replace(case(), profile="smoke")], ["command.py"])


def test_equal_twins_prove_a_change_and_the_record_notes_them(project):
    (project / "model.py").write_text(EQUAL)
    assert records.status(case()) == "stale: code"
    (verdict,) = proven()
    assert (verdict.twins, verdict.reason) == ((NAME,), "")
    assert proof.stamp([verdict], "HEAD", None) == 1
    assert records.status(case()) == "current"
    (note,) = records.get(case()).provenance["proofs"]
    assert (note["against"], note["twins"]) == ("HEAD", [NAME])
    assert note["from"] != note["to"]


def test_twins_of_other_bits_prove_nothing(project):
    (project / "model.py").write_text(MODEL.replace("x - 1", "x + 1"))
    (paths.ROOT / "value").write_text("1.5")
    (verdict,) = proven()
    assert verdict.reason == f"{NAME} gives other bits"
    assert proof.stamp([verdict], "HEAD", None) == 0
    assert records.status(case()) == "stale: code"


def test_a_twin_that_fails_is_told_apart_from_one_of_other_bits(project):
    (project / "model.py").write_text(EQUAL)
    (paths.ROOT / "value").unlink()
    (verdict,) = proven()
    assert verdict.reason == f"{NAME} gave no record with the new code: see why above"
    assert proof.stamp([verdict], "HEAD", None) == 0


def test_what_no_twin_runs_is_not_proven(project):
    (project / "model.py").write_text(EQUAL)
    assert [one.reason for one in proof.prove("HEAD", [case()], [], ["command.py"])] == [
        "no tiny case runs all that changed"
    ]


def test_a_commit_that_is_not_there_is_told(project):
    with pytest.raises(UserError, match="nowhere: no such commit"):
        proof.prove("nowhere", [case()], [], ["command.py"])
