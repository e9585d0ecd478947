"""The registry finds cases by prefix; its command lists and computes them, one by one or as a queue."""

import json
import os

import pytest
import torch
from pydantic import BaseModel

from lib import errors, paths, profiles, records
from lib.errors import UserError
from lib.records import Case, Outcome
from lib.running import case_queue, catalogue
from tests.records.made_records import Entry, make_package


class Settings(BaseModel):
    name: str
    steps: int


def series(profile):
    settings = json.loads(os.environ["FAKE_SETTINGS"])

    def case(name, row="core"):
        config = Settings(name=name, steps=settings["steps"])
        return Case(name, profile, config, {}, 0, Entry(compute), row)

    def compute(case):
        if settings.get("fails") == case.name:
            raise UserError("mend me") if settings["steps"] == 2 else ZeroDivisionError("by hand")
        return Outcome(values={"name": case.name})

    return [case("9_fake/a/seed0"), case("9_fake/a/seed1"), case("9_fake/ab/seed0"), case("9_fake/long", "extended")]


def never(profile):
    raise AssertionError("a series that nobody asked for was listed")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Register a series of four cases; call it to change what they compute."""
    make_package(tmp_path, monkeypatch)
    monkeypatch.setattr(catalogue, "SERIES", {"9_fake": series, "8_absent": never})

    def change(steps=1, **more):
        monkeypatch.setenv("FAKE_SETTINGS", json.dumps({"steps": steps, **more}))

    change()
    return change


def names(*prefixes, rows="all"):
    return [case.name.removeprefix("9_fake/") for case in catalogue.find(prefixes, "smoke", rows)]


def test_prefixes_end_where_a_part_of_a_name_ends(settings):
    assert names("9_fake") == names("9_fake/") == ["a/seed0", "a/seed1", "ab/seed0", "long"]
    assert names("9_fake/a") == ["a/seed0", "a/seed1"]
    assert names("9_fake/ab/seed0", "9_fake/a/seed1") == ["a/seed1", "ab/seed0"]
    assert names("9_fake", rows="core") == ["a/seed0", "a/seed1", "ab/seed0"]
    assert {case.profile for case in catalogue.find(["9_fake"], "smoke")} == {"smoke"}


@pytest.mark.parametrize("prefix", ["9_fake/b", "9_fake/a/seed", "7_none", "9"])
def test_a_prefix_without_cases_is_an_error(settings, prefix):
    with pytest.raises(UserError, match=f"^{prefix}: no case of profile smoke begins so"):
        catalogue.find(["9_fake", prefix], "smoke")


def test_what_only_other_profiles_have_is_passed_over_for_a_notebook(settings, monkeypatch):
    here = catalogue.SERIES["9_fake"]
    monkeypatch.setitem(
        catalogue.SERIES, "9_fake", lambda profile: here(profile)[:1] if profile == "paper" else here(profile)
    )
    assert [case.name for case in catalogue.promised(["9_fake/a", "9_fake/long"], "paper")] == ["9_fake/a/seed0"]
    assert catalogue.promised(["9_fake/long"], "paper") == catalogue.promised([], "paper") == []
    assert len(catalogue.promised(["9_fake/a", "9_fake/long"], "smoke")) == 3
    with pytest.raises(UserError, match=r"^9_fake/b: no case of profile paper begins so"):
        catalogue.promised(["9_fake/a", "9_fake/b"], "paper")


def test_an_extended_row_counts_once_it_is_recorded(settings):
    assert catalogue.recorded(["9_fake"], "smoke")
    assert not catalogue.recorded(["9_fake/long"], "smoke")
    catalogue.main(["run", "--profile", "smoke", "--rows", "all", "--only", "9_fake/long"])
    assert catalogue.recorded(["9_fake/long"], "smoke")


def test_no_prefix_means_every_series(settings, monkeypatch):
    monkeypatch.setattr(catalogue, "SERIES", {"9_fake": series})
    assert names() == names("9_fake")


def command(*arguments, profile="smoke"):
    return catalogue.main([*arguments, "--profile", profile, "--only", "9_fake"])


def test_run_computes_what_is_not_current_and_status_tells(settings, capsys):
    assert command("status") == 1
    assert "9_fake/a/seed0: missing" in capsys.readouterr().out
    assert command("run") == 0
    out = capsys.readouterr().out
    assert out.count(": computed in 0 s") == 3
    assert "9_fake/long" not in out
    assert command("status") == 0
    assert "3 of 3 records are current" in capsys.readouterr().out
    assert command("run", "--rows", "all") == 0
    out = capsys.readouterr().out
    assert out.count(": read") == 3
    assert "9_fake/long: computed" in out
    settings(steps=2)
    assert command("status") == 1
    assert "9_fake/ab/seed0: stale: config" in capsys.readouterr().out


@pytest.mark.parametrize(("steps", "told"), [(1, "ZeroDivisionError: by hand"), (2, "error: mend me")])
def test_a_failed_case_stops_no_other(settings, capsys, steps, told):
    settings(steps=steps, fails="9_fake/a/seed0")
    assert command("run") == 1
    out, err = capsys.readouterr()
    assert told in err
    assert ("Traceback" in err) == (steps == 1)
    assert "9_fake/a/seed0: FAILED" in out
    assert out.count(": computed in 0 s") == 2


@pytest.mark.parametrize("profile", ["gpu", "paper"])
def test_a_profile_that_needs_a_gpu_says_so_in_one_line(settings, capsys, monkeypatch, profile):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command("run", profile=profile) == 1
    out, err = capsys.readouterr()
    assert out.count("FAILED") == len(err.splitlines()) == 3
    assert err.startswith(f"error: profile {profile} computes on an NVIDIA GPU, and torch ")
    assert "Traceback" not in err


def test_list_shows_row_status_and_seconds(settings, capsys):
    catalogue.main(["run", "--profile", "smoke", "--only", "9_fake/a/seed0"])
    capsys.readouterr()
    assert command("list", "--rows", "all") == 0
    table = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert table["9_fake/a/seed0"] == ["core", "0", "current"]
    assert table["9_fake/long"] == ["extended", "-", "missing"]


def test_a_size_set_from_outside_is_a_try_apart(settings, capsys, monkeypatch):
    for name in ("REPRODUCTION_SET", "REPRODUCTION_WORK_ROOT"):
        monkeypatch.setenv(name, "")  # restored after the test
    monkeypatch.setattr(paths, "BUILD", paths.ROOT / "build")
    before = profiles.profile("cpu")
    catalogue.try_sizes(["editing.steps=61", "beacons.seeds=[3]"])
    now = profiles.profile("cpu")
    assert (now.editing.steps, now.beacons.seeds) == (61, (3,))
    assert now.model_copy(update={"editing": before.editing, "beacons": before.beacons}) == before
    assert paths.results("cpu").is_relative_to(paths.BUILD.absolute() / "tries")
    for wrong, reason in {
        "editing.stepz=1": "profiles have no size 'editing.stepz'",
        "editing.steps=many": "editing.steps: Input should be a valid integer",
        "editing": "no size 'editing'|editing: Input should be",
    }.items():
        with pytest.raises(UserError, match=reason):
            catalogue.try_sizes([wrong])


def test_a_queue_goes_on_in_its_order_and_leaves_alone_what_another_stream_holds(settings, tmp_path):
    found = series("smoke")
    (tmp_path / "queue").write_text("9_fake/long  # first\n\n9_fake/a\n")
    queue = case_queue.ordered(case_queue.names(tmp_path / "queue"), found)
    assert [case.name for case in queue] == ["9_fake/long", "9_fake/a/seed0", "9_fake/a/seed1"]
    assert case_queue.plan(queue, 2).startswith("3 of 3 cases left")
    first, second = case_queue.taken(queue, 0, 2), case_queue.taken(queue, 1, 2)
    assert next(first).name == "9_fake/long"
    assert next(second).name == "9_fake/a/seed0"  # the first is held
    first.close()  # as a kill does: the lock is freed, nothing is recorded
    assert [case.name for case in map(computed, case_queue.taken(queue, 0, 2))] == ["9_fake/long", "9_fake/a/seed1"]
    second.close()
    assert [case.name for case in map(computed, case_queue.taken(queue, 1, 2))] == ["9_fake/a/seed0"]
    assert case_queue.plan(queue, 2) == "0 of 3 cases left, about 0 minutes in 2 streams"


def computed(case):
    records.get(case)
    return case


def test_a_queue_that_names_nothing_is_told(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        case_queue.names(tmp_path / "absent")
    with pytest.raises(UserError, match="9_fake/none: no case begins so"):
        case_queue.ordered(["9_fake/none"], [])
    (tmp_path / "binary").write_bytes(b"\xff\xfe9")
    with pytest.raises(UserError, match="not text in UTF-8"):
        case_queue.names(tmp_path / "binary")


@pytest.mark.parametrize(
    "arguments", [["plan", "--streams", "0"], ["run", "--streams", "-1"], ["list", "--profile", "x"]]
)
def test_streams_and_profiles_that_cannot_be_are_one_line_before_anything_runs(settings, capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        errors.command(lambda: catalogue.main(arguments))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_full_disk_under_a_case_is_one_line_and_stops_no_other(settings, monkeypatch, capsys):
    def full(case, again=False):
        raise OSError(28, "No space left on device", "record")

    monkeypatch.setattr(records, "obtain", full)
    assert catalogue.run(series("smoke")[:2]) == 1
    seen = capsys.readouterr()
    assert seen.err == "error: record: no space left on device: free some space on its disk\n" * 2
    assert seen.out.count("FAILED") == 2


def test_an_error_of_the_command_is_one_line(settings, capsys):
    with pytest.raises(SystemExit, match="2"):
        errors.command(lambda: catalogue.main(["list", "--only", "9_fake/none"]))
    assert len(capsys.readouterr().err.splitlines()) == 1
