"""The registry finds cases by prefix; its command lists, computes and re-verifies them."""

import json
import sys

import pytest
import torch

from lib import cases, errors, fingerprints
from lib.errors import UserError

SERIES_MODULE = """
import json
import os
from lib.errors import UserError
from lib.records import Case, Outcome

def cases(profile):
    settings = json.loads(os.environ["FAKE_SETTINGS"])
    def case(name, row="core"):
        return Case(
            name=name, profile=profile, config={"steps": settings["steps"]}, data={}, code=(), seed=0, row=row,
            compute=lambda: compute(name), prefix=lambda: settings["bits"],
        )
    def compute(name):
        if settings.get("fails") == name:
            raise UserError("mend me") if settings["steps"] == 2 else ZeroDivisionError("by hand")
        return Outcome(values={"name": name})
    return [case("9_fake/a/seed0"), case("9_fake/a/seed1"), case("9_fake/ab/seed0"), case("9_fake/long", "extended")]
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Register a series of four cases; call it to change what they compute."""
    (tmp_path / "fake_series.py").write_text(SERIES_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cases, "SERIES", {"9_fake": "fake_series", "8_absent": "module_that_must_not_be_imported"})
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path / "work"))
    for name in ("REPRODUCTION_RECORDS", "REPRODUCTION_STALE", "REPRODUCTION_TALLY"):
        monkeypatch.delenv(name, raising=False)

    def change(steps=1, bits="0", **more):
        monkeypatch.setenv("FAKE_SETTINGS", json.dumps({"steps": steps, "bits": bits, **more}))

    change()
    yield change
    sys.modules.pop("fake_series", None)


def names(*prefixes, rows="all"):
    return [case.name.removeprefix("9_fake/") for case in cases.find(prefixes, "smoke", rows)]


def test_prefixes_end_where_a_part_of_a_name_ends(settings):
    assert names("9_fake") == names("9_fake/") == ["a/seed0", "a/seed1", "ab/seed0", "long"]
    assert names("9_fake/a") == ["a/seed0", "a/seed1"]
    assert names("9_fake/ab/seed0", "9_fake/a/seed1") == ["a/seed1", "ab/seed0"]
    assert names("9_fake", rows="core") == ["a/seed0", "a/seed1", "ab/seed0"]
    assert {case.profile for case in cases.find(["9_fake"], "smoke")} == {"smoke"}


@pytest.mark.parametrize("prefix", ["9_fake/b", "9_fake/a/seed", "7_none", "9"])
def test_a_prefix_without_cases_is_an_error(settings, prefix):
    with pytest.raises(UserError, match=f"^{prefix}: no case of profile smoke begins so"):
        cases.find(["9_fake", prefix], "smoke")


def test_an_extended_row_counts_once_it_is_recorded(settings):
    assert cases.recorded(["9_fake"], "smoke")
    assert not cases.recorded(["9_fake/long"], "smoke")
    cases.main(["run", "--profile", "smoke", "--rows", "all", "--only", "9_fake/long"])
    assert cases.recorded(["9_fake/long"], "smoke")


def test_no_prefix_means_every_series(settings, monkeypatch):
    monkeypatch.setattr(cases, "SERIES", {"9_fake": "fake_series"})
    assert names() == names("9_fake")


def command(*arguments, profile="smoke"):
    return cases.main([*arguments, "--profile", profile, "--only", "9_fake"])


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
    cases.main(["run", "--profile", "smoke", "--only", "9_fake/a/seed0"])
    capsys.readouterr()
    assert command("list", "--rows", "all") == 0
    table = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert table["9_fake/a/seed0"] == ["core", "0", "current"]
    assert table["9_fake/long"] == ["extended", "-", "missing"]


def test_recheck_reverifies_equal_bits_and_fails_for_the_others(settings, capsys, monkeypatch):
    command("run")
    monkeypatch.setattr(fingerprints, "code_fingerprint", lambda modules: "changed")
    capsys.readouterr()
    settings(bits="1")
    assert command("recheck") == 1
    out = capsys.readouterr().out
    assert "9_fake/a/seed0: recompute: stale: code, and its prefix gives other bits" in out
    assert "0 re-verified, 3 to compute again, 0 current" in out
    settings(bits="0")
    assert command("recheck") == 0
    assert "3 re-verified, 0 to compute again, 0 current" in capsys.readouterr().out
    assert command("status") == 0
    assert command("recheck") == 0
    assert "0 re-verified, 0 to compute again, 3 current" in capsys.readouterr().out


def test_an_error_of_the_command_is_one_line(settings, capsys):
    with pytest.raises(SystemExit, match="2"):
        errors.command(lambda: cases.main(["list", "--only", "9_fake/none"]))
    assert len(capsys.readouterr().err.splitlines()) == 1
