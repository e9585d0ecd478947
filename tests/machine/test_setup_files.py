"""Set-up: the environment from the lock, the verbs of the Makefile, and the files that must agree with the lock."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lib
from lib.errors import UserError
from lib.machine import installation

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11.9", "3.12.5", "3.13.1")


def locked(python="3.11.9"):
    """Versions of the lock on Linux under a version of Python, by normalised name."""
    environment = {"python_full_version": python, "python_version": python.rpartition(".")[0], "sys_platform": "linux"}
    environment |= {"platform_machine": "x86_64", "implementation_name": "cpython", "os_name": "posix"}
    lines = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line]
    return {line.name: str(line.specifier) for line in lines if not line.marker or line.marker.evaluate(environment)}


def required():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["reproduction"], *extras["notebooks"], *extras["test"]]
    return [Requirement(line) for line in lines]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a lock of its own for `lib.machine.installation`."""
    for name, path in [("VENV", ".venv"), ("STAMP", ".venv/complete"), ("LOCK", "requirements.lock")]:
        monkeypatch.setattr(installation, name, tmp_path / path)
    monkeypatch.setattr(installation, "ROOT", tmp_path)
    monkeypatch.setattr(installation, "LOG", tmp_path / "build/setup.log")
    (tmp_path / "requirements.lock").write_text("one==1.0\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_pins_every_requirement_once_for_each_python(python):
    versions = locked(python)
    for requirement in required():
        pin = versions[canonicalize_name(requirement.name)]
        assert pin.startswith("==")
        assert requirement.specifier.contains(pin.removeprefix("=="))
    assert versions["torch"] == "==2.13.0"


def test_the_lock_accepts_both_builds_of_torch_and_names_no_place():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"nvidia|cuda|triton|\+cpu|://|file:|--", text)


def test_the_conda_environment_agrees_with_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    versions = locked()
    assert (python, pip) == ("python=3.11", "pip" + versions["pip"].replace("==", "="))
    wanted = {canonicalize_name(requirement.name) for requirement in required()} - {"pip"}
    assert packages["pip"] == [*(name + versions[name] for name in sorted(wanted)), "--editable ."]


def test_the_stamp_follows_lock_project_python_and_folder(project, monkeypatch):
    digests = [installation.wanted()]
    (project / "requirements.lock").write_text("one==1.1\n")
    digests.append(installation.wanted())
    (project / "pyproject.toml").write_text("[project]\nname='x'\n")
    digests.append(installation.wanted())
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    digests.append(installation.wanted())
    monkeypatch.setattr(installation, "ROOT", shutil.copytree(project, project / "moved"))
    digests.append(installation.wanted())
    assert len(set(digests)) == 5


def test_an_interrupted_or_stale_environment_is_built_again(project, monkeypatch):
    steps = []

    def run(line, log, packages=0):
        steps.append(line)
        if "venv" in line:
            assert not (project / ".venv/leftover").exists()
            (project / ".venv/bin").mkdir(parents=True)
            (project / ".venv/bin/python").touch()
        if fail_at and fail_at in line:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(installation, "_run", run)
    (project / ".venv").mkdir()
    (project / ".venv/leftover").touch()
    for step in ("-r", "-e"):
        fail_at = step
        with pytest.raises(KeyboardInterrupt):
            installation.main()
        assert not installation.is_current()
    fail_at = None
    installation.main()
    assert installation.is_current()
    assert len(steps) == 2 + 3 + 3
    installation.main()  # does nothing
    assert len(steps) == 8
    (project / "requirements.lock").write_text("one==1.1\n")
    assert not installation.is_current()
    installation.main()
    assert len(steps) == 11
    (project / ".venv/bin/python").unlink()  # the interpreter it was made from is gone
    assert not installation.is_current()


def test_a_folder_in_which_no_environment_can_be_is_refused_in_one_line(project, monkeypatch):
    monkeypatch.setattr(installation, "ROOT", project / "a:b")
    monkeypatch.setattr(installation, "_run", lambda *_: pytest.fail("something was installed"))
    with pytest.raises(UserError, match=r"a:b: no Python .* ':' in its name: move the project"):
        installation.install()


def test_without_packages_there_is_one_line_and_no_environment_taken_for_good(project, monkeypatch, capfd):
    bare = ["--without-pip", "--system-site-packages"]  # to be quick: pip is that of the base interpreter
    run = installation._run
    monkeypatch.setattr(installation, "_run", lambda line, *rest: run(line + (bare if "venv" in line else []), *rest))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    (project / "requirements.lock").write_text("no-such-package-anywhere==1.0\n")
    with pytest.raises(UserError) as caught:
        installation.main()
    assert "\n" not in str(caught.value)
    assert "network" in str(caught.value)
    assert "no-such-package-anywhere" in (project / "build/setup.log").read_text()
    assert not installation.is_current()
    assert capfd.readouterr().err == ""


def test_a_missing_lock_and_a_file_for_the_environment_have_their_own_remedies(project, monkeypatch):
    monkeypatch.setattr(installation, "_run", lambda *_: pytest.fail("something was installed"))
    (project / ".venv").write_text("not a folder")
    with pytest.raises(UserError, match=r"^\.venv: a file stands where .* move it away"):
        installation.main()
    assert (project / ".venv").read_text() == "not a folder"
    for name in ("requirements.lock", "pyproject.toml"):
        (project / name).rename(project / "away")
        with pytest.raises(UserError, match=f"^{name}: missing: restore it with `git checkout {name}`$"):
            installation.main()
        (project / "away").rename(project / name)


def test_a_full_disk_is_not_blamed_on_the_network(project):
    script = "import sys; print('ERROR: [Errno 28] No space left on device', flush=True); import time; time.sleep(60)"
    with (
        open(project / "log", "w") as log,
        pytest.raises(UserError, match=r"no space left on the disk of .*: free some"),
    ):
        installation._run([sys.executable, "-c", script], log)


STUB = """#!/bin/sh
for argument; do printf '%s\\n' "$argument"; done >> "$STUB_LOG"
printf 'root %s\\n--\\n' "$REPRODUCTION_WORK_ROOT" >> "$STUB_LOG"
"""
HOSTILE = [
    "1_infodiffusion 2_beacons",
    "a; touch injected",
    "$(touch injected)",
    "`touch injected`",
    "$(shell touch injected)",
    'it\'s "quoted" & more | less > injected',
    "--record",
    "*",
    "$HOME $$ \\ #no comment",
    "",
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The Makefile in a folder that a shell would misread, with a `.venv` whose python writes down what it is given."""
    folder = tmp_path_factory.mktemp("make") / "it's a $(touch injected) `x` checkout"
    (folder / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / ".venv/bin/python").write_text(STUB)
    (folder / ".venv/bin/python").chmod(0o755)
    return folder


def given(folder, *arguments, **environment):
    """What the last command of a verb is given, and its work root."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    python = folder / ".venv/bin/python"
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        ["make", f"PYTHON={python}", *arguments],
        cwd=folder,
        env=inherited | {"STUB_LOG": str(log)} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not [path for path in folder.parent.rglob("injected")]
    return log.read_text().removesuffix("\n--\n").split("\n--\n")[-1].split("\n")


@pytest.mark.parametrize("text", HOSTILE)
def test_no_shell_reads_what_a_user_passes(checkout, text):
    if text:
        told = given(checkout, "reproduce", f"ONLY={text}", f"PROFILE={text}", f"SET={text}", f"FRESH={text}")
        line = [
            "-m",
            "lib.running.reproduce",
            f"--profile={text}",
            f"--only={text}",
            f"--fresh={text}",
            f"--set={text}",
        ]
        assert told[:-1] == line
        assert given(checkout, "notebooks", ONLY=text)[-2] == f"--only={text}"  # from the environment, too
    assert given(checkout, "prove", f"AGAINST={text}")[-2] == f"--against={text or 'HEAD'}"


def test_the_verbs_without_options(checkout):
    assert given(checkout, "reproduce") == ["-m", "lib.running.reproduce", "--profile=cpu", "root "]
    assert given(checkout, "smoke")[-1] == f"root {checkout}/build/smoke"


def make(*arguments, **environment):
    # Without what an outer make (`make test`) hands down, which would make this one talk of folders and levels.
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    run = subprocess.run(
        ["make", *arguments], cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout, run.stderr


def test_make_alone_lists_the_verbs_one_line_each():
    status, output, _ = make()
    verbs = {line.split()[1]: line for line in output.splitlines()}
    assert status == 0
    promised = "setup reproduce test fuzz check-all lab smoke notebooks prove mutants rehearsal bench lint site lock"
    assert list(verbs) == [*promised.split(), "clean", "distclean"]
    assert all(len(line) < 120 for line in verbs.values())


def test_make_refuses_another_python_in_one_line(tmp_path):
    status, _, errors = make("environment", PYTHON="no-such-python")
    assert status != 0
    assert errors.startswith("error: no-such-python: not found")
    old = tmp_path / "old-python"
    script = "import collections, sys; V = collections.namedtuple('V', 'major minor'); sys.version_info = V(3, 10); "
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{script}$2"\n')
    old.chmod(0o755)
    status, _, errors = make("environment", PYTHON=str(old))
    assert status != 0
    assert errors.splitlines()[0] == "error: this is Python 3.10: run make PYTHON=... with one of 3.11 to 3.13"


def test_the_gate_before_a_merge_runs_style_site_tests_and_smoke():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    verbs = [line.split()[1] for line in lines if line.startswith("make ")]
    assert verbs == ["lint", "site", "test", "smoke"]
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / ".ci/run"]).returncode == 0


def test_a_clone_that_converts_line_ends_has_the_same_bytes(tmp_path):
    contents = {
        "record.json": b"{}\n",
        "outputs.parquet": b"PAR1\n\r\nPAR1",
        "README.md": b"a\nb\n",
        "a.png": b"\x89PNG\n",
    }
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C"]
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for line in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "a"]):
        subprocess.run([*git, tmp_path, *line], check=True)
    line = ["git", "clone", "--quiet", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", tmp_path, tmp_path / "clone"]
    subprocess.run(line, check=True)
    assert {name: (tmp_path / "clone" / name).read_bytes() for name in contents} == contents


def test_the_citation_names_the_project_and_four_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (lib.__version__, project["license"])
    assert len(citation["references"]) == 4
    assert all(json.dumps(paper["authors"]).count("Piji") == 1 for paper in citation["references"])
