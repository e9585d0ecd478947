"""The mutation run's own parts: what counts as noticed, and which survivors count."""

import json
import os
from pathlib import Path

import pytest

from tests.mutation import run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project of one module and one test."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/__init__.py").write_text("")
    (tmp_path / "lib/half.py").write_text("def half(x):\n    return x / 2\n")
    (tmp_path / "test_half.py").write_text("def test_half():\n    from half import half\n    assert half(4) == 2\n")
    (tmp_path / "conftest.py").write_text("import sys\nsys.path.insert(0, 'lib')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "seconds", "survives"),
    [
        ("def half(x):\n    return x / 2\n", 300, True),  # far above what a busy machine takes
        ("def half(x):\n    return x - 2\n", 300, True),
        ("def half(x):\n    return x / 3\n", 300, False),
        ("def half(x):\n    while True:\n        pass\n", 10, False),
    ],
)
def test_a_mutant_is_noticed_by_a_failing_test_or_by_its_time(
    tree: Path, source: str, seconds: float, survives: bool
) -> None:
    (tree / "lib/half.py").write_text(source)
    assert run.attempt(tree, ["test_half.py"], seconds)[0] is survives
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # none is left behind


@pytest.mark.thorough
def test_what_its_own_tests_let_pass_meets_the_other_tests_that_import_it(tree: Path) -> None:
    (tree / "tests").mkdir()
    (tree / "tests/test_own.py").write_text("def test_own():\n    from half import half\n    assert half(4) == 2\n")
    imports = "if False:\n    from lib import half\n"  # as far as can be read; what runs is the tree's
    (tree / "tests/test_other.py").write_text(
        imports + "def test_other():\n    from half import half\n    assert half(8) == 4\n"
    )
    (tree / "tests/test_far.py").write_text("def test_far():\n    assert False\n")
    own, module = ["tests/test_own.py"], "lib/half.py"
    assert run.others(tree, module, own) == ["tests/test_other.py"]
    mutant = {"module": module, "source": "def half(x):\n    return x - 2\n"}
    taken: dict[str, float] = {}
    assert run.tried(tree, mutant, own, taken)[0]
    assert not run.tried(tree, mutant, run.others(tree, module, own), taken)[0]
    assert run.tried(tree, mutant, ["tests/test_far.py"], taken) == (True, 0.0)  # it fails without a mutant, too
    assert len(taken) == 3
    assert "x / 2" in (tree / module).read_text()


def test_a_mutant_counts_as_it_was_last_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "OUTCOMES", tmp_path / "outcomes.jsonl")
    lines = [{"key": "a", "survived": True}, {"key": "b", "survived": True}, {"key": "a", "survived": False}]
    run.OUTCOMES.write_text("\n".join(map(json.dumps, lines)))
    assert run.outcomes() == {"a": False, "b": True}


def test_equivalent_mutants_do_not_count_and_too_many_survivors_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = [
        {"module": "lib/a.py", "line": n, "before": f"x = {n}", "after": f"x = {n + 1}", "source": f"x = {n + 1}"}
        for n in range(21)
    ]
    monkeypatch.setattr(run, "OUTCOMES", tmp_path / "outcomes.jsonl")
    lines = [json.dumps({"key": run.key(mutant), "survived": mutant["line"] < 2}) for mutant in drawn]
    run.OUTCOMES.write_text("\n".join([*lines, '{"key": "cut o']))
    monkeypatch.setattr(run, "equivalent", dict)
    assert run.told(drawn) == 1  # 19 of 21 are noticed
    monkeypatch.setattr(run, "equivalent", lambda: {run.name(drawn[0]): "for the test"})
    assert run.told(drawn) == 0  # 19 of 20
    printed = capsys.readouterr().out
    assert "line 1: lib/a.py: x = 1 -> x = 2" in printed
    assert "'noticed': 19" in printed
    assert "95.0%" in printed
