"""Dockerfile, Binder and Colab name the Python and the lock that the rest of the project has, and files that exist."""

import json
import re
import shlex
import stat
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
KEYWORDS = {"FROM", "RUN", "USER", "WORKDIR", "ARG", "COPY", "EXPOSE", "CMD"}
ADDRESS = "ADDRESS-OF-THIS-REPOSITORY"


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each on one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def ignored() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_docker_binder_and_conda_name_one_python_and_one_lock() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][0]
    python = conda.removeprefix("python=")
    assert re.fullmatch(r"3\.\d+", python)
    assert dict(instructions())["FROM"] == f"python:{python}-slim"
    assert (ROOT / "binder/runtime.txt").read_text().strip() == f"python-{python}"
    lines = (ROOT / "binder/requirements.txt").read_text().splitlines()
    (lock,) = [line.split()[1] for line in lines if line.startswith("--requirement")]
    assert (ROOT / "binder" / lock).resolve() == ROOT / "requirements.lock"
    (index,) = [line.split()[1] for line in lines if line.startswith("--extra-index-url")]
    assert f"PIP_EXTRA_INDEX_URL={index}" in [told for name, told in instructions() if name == "ARG"]


def test_the_image_is_built_from_the_lock_and_run_by_a_user_who_is_not_root() -> None:
    found = instructions()
    assert {name for name, _ in found} <= KEYWORDS
    names = [name for name, _ in found]
    assert names[0] == "FROM"
    assert names[-1] == "CMD"
    user = next(told for name, told in found if name == "USER")
    assert user != "root"
    assert f"useradd --create-home --uid 1000 {user}" in found[1][1]
    place = next(told for name, told in found if name == "WORKDIR")
    assert f"install --directory --owner={user} --group={user} {place}" in found[1][1]
    assert json.loads(re.findall(r"echo '(.*?)'", found[1][1])[0]) == {
        "ServerApp": {"ip": "0.0.0.0", "open_browser": False}
    }
    # As that user: the lock is copied before the set-up, which is run once, and everything after it.
    later = found[names.index("USER") :]
    copies = [shlex.split(told) for name, told in later if name == "COPY"]
    assert all(copy[0] == f"--chown={user}:{user}" for copy in copies)
    assert "requirements.lock" in copies[0]
    assert [told for name, told in later if name == "RUN"] == ["make setup"]
    assert later[-3][1].endswith(" . .")
    assert json.loads(found[-1][1]) == ["make", "lab"]
    verbs = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"setup", "lab"} <= set(verbs)


def test_what_the_image_copies_is_there_and_not_left_out() -> None:
    kept = ignored()
    sources = [one for name, told in instructions() if name == "COPY" for one in shlex.split(told)[1:-1] if one != "."]
    assert all((ROOT / one).exists() and one not in kept for one in sources)
    assert {"Makefile", "lib", "pyproject.toml"} <= set(sources)
    # All that git ignores stays out too: an environment or a cache of this machine is none of the image's.
    git = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line]
    assert [line for line in git if not {line, f"**/{line}"} & set(kept)] == []


def test_binder_may_run_what_comes_after_the_lock() -> None:
    script = ROOT / "binder/postBuild"
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text()
    assert text.startswith("#!/bin/bash\n")
    assert "set -euo pipefail" in text
    assert re.findall(r"^python .*", text, re.MULTILINE) == commands()[1:]


def commands() -> list[str]:
    """What the cell for Colab runs after it has the project."""
    text = (ROOT / "docs/without_installing.md").read_text()
    cell = text.partition("<!-- begin colab -->\n```\n")[2].partition("```\n<!-- end colab -->")[0].splitlines()
    assert cell[:2] == [f"!git clone --depth 1 {ADDRESS} reproductions", "%cd reproductions"]
    return [line.removeprefix("!").replace(" --quiet", "") for line in cell[2:]]


def test_colab_installs_the_lock_and_the_project() -> None:
    assert commands() == [
        "python -m pip install --requirement requirements.lock",
        "python -m pip install --no-deps --no-build-isolation --editable .",
        "python -m lib.sources.setup",
    ]


def test_the_way_in_and_one_notebook_of_each_series_can_be_opened() -> None:
    text = (ROOT / "docs/without_installing.md").read_text()
    for opened in (
        rf"mybinder\.org/v2/gh/{ADDRESS}/HEAD\?urlpath=lab/tree/",
        rf"google\.com/github/{ADDRESS}/blob/main/",
    ):
        found = re.findall(opened + r"(notebooks/[\w./]+\.ipynb)\)", text)
        assert all((ROOT / notebook).is_file() for notebook in found)
        assert [Path(notebook).name[0] for notebook in found] == ["0", "1", "2", "3", "4"]
    assert f"git clone {ADDRESS}" in (ROOT / "README.md").read_text()
