"""The recipes of CONTRIBUTING.md, each followed in a copy.

What is new runs, no record becomes stale, and no other file has to change.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recipes.following import Server, command, copied, different, follow, recipe

STATUS = "python -m lib.running.catalogue status --profile cpu --rows all"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    line = [sys.executable, str(Path(__file__).with_name("server.py"))]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        line, cwd="/", env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Server(process)
        process.stdin.close()


@pytest.fixture(scope="module")
def before(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the cases of an untouched copy that are not current, and how they stand."""
    project = copied(tmp_path_factory.mktemp("untouched"))
    return standing(server.run(project, [command(STATUS)])[1])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copied(tmp_path)


def standing(output: str) -> dict[str, str]:
    """Return what `status` printed: the cases that are not current, and how many are."""
    found = dict(re.findall(r"^(\d_\S+): ((?:missing|stale|pending|historic|corrupted).*)$", output, re.MULTILINE))
    return found | {"current": re.search(r"^(\d+) of \d+ records are current$", output, re.MULTILINE)[1]}


def check_status(output: str, before: dict[str, str]) -> None:
    """Fail unless all records stand as they did, and what is new has none."""
    now = standing(output)
    assert {case: state for case, state in now.items() if before.get(case) != state and state != "missing"} == {}
    assert before.keys() <= now.keys()


@pytest.mark.parametrize(
    "title", ["An editing method", "A seq2seq model", "A data set", "A distillation loss", "A PEFT method"]
)
def test_a_new_row_runs_and_makes_no_record_stale(
    title: str, project: Path, server: Server, before: dict[str, str]
) -> None:
    blocks = recipe(title)
    named = follow(blocks, project)
    (line,) = (block.text for block in blocks if block.kind == "run")
    apart = {"REPRODUCTION_RECORDS": "compute", "REPRODUCTION_WORK_ROOT": str(project / "work")}
    commands = [command(line, **apart), command(STATUS, REPRODUCTION_WORK_ROOT="")]
    _, output = server.run(project, commands)
    assert re.search(rf"^{line.split()[-1]}\S*: computed in ", output, re.MULTILINE), output
    check_status(output, before)
    assert different(project) == named


def test_the_check_sees_what_a_recipe_must_not_do(project: Path, server: Server, before: dict[str, str]) -> None:
    module = project / "lib/distillation/divergences.py"
    module.write_text(module.read_text(encoding="utf-8").replace("return values.sum() / count", "return values.mean()"))
    _, output = server.run(project, [command(STATUS)])
    assert standing(output)["4_hetero_kd/main/forward_kl/seed0"] == "stale: code"
    with pytest.raises(AssertionError):
        check_status(output, before)
    assert different(project) == {"lib/distillation/divergences.py"}


def promised(project: Path, notebook: str) -> set[str]:
    """Return the files under figures/ that a notebook promises."""
    found = json.loads((project / notebook).read_text(encoding="utf-8"))["metadata"]["reproduction"]
    suffixes = {"figure": ("png", "pdf", "json"), "table": ("csv", "md", "tex", "json")}
    return {f"figures/{stem}.{end}" for stem, kind in found["kinds"].items() for end in suffixes[kind]}


def test_a_new_claim_is_judged_and_comes_to_scorecard_and_readmes(
    project: Path, server: Server, before: dict[str, str]
) -> None:
    blocks = recipe("A claim")
    (notebook,) = follow(blocks, project)
    assert f"make notebooks ONLY={notebook[10:-6]}" in blocks[-1].text
    record = f"python -m lib.running.execution {notebook} --profile cpu --record"  # what that verb does, without setup
    commands = [command(record), command("python -m lib.running.readme"), command(STATUS)]
    _, output = server.run(project, commands, PYTHONPATH=str(project))
    assert "done     3_lemoe/3.5_batch_editing" in output, output
    check_status(output, before)
    verdict = json.loads((project / "figures/3_lemoe/claim_batch_locality.json").read_text(encoding="utf-8"))
    readmes = {"README.md", "notebooks/3_lemoe/README.md"}
    told = {readme: (project / readme).read_text(encoding="utf-8") for readme in readmes}
    assert f"\n- {verdict['text']}: **" in told["README.md"]
    assert f"| {verdict['text']} |" in told["notebooks/3_lemoe/README.md"]
    assert different(project) <= {notebook} | readmes | promised(project, notebook)


def test_a_new_notebook_runs_as_its_contract_says(project: Path, server: Server, before: dict[str, str]) -> None:
    blocks = recipe("A notebook")
    (notebook,) = follow(blocks, project)
    lines = blocks[-1].text.splitlines()
    apart = {"REPRODUCTION_RECORDS": "compute", "REPRODUCTION_WORK_ROOT": str(project / "work")}
    commands = [command(line, **apart) for line in lines] + [command(STATUS, REPRODUCTION_WORK_ROOT="")]
    _, output = server.run(project, commands, PYTHONPATH=str(project))
    assert f"{notebook}: written" in output, output
    assert f"done     {notebook[10:-6]}" in output, output
    check_status(output, before)
    assert "# 3.8 What the model knew\n" in (project / notebook).read_text(encoding="utf-8").replace("\\n", "\n")
    drawn = project / "work/work/smoke"
    assert promised(project, notebook) == {path.relative_to(drawn).as_posix() for path in drawn.rglob("known.*")}
    assert different(project) == {notebook}
