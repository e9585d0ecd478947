"""Every block of docs/library.md runs as it stands, in a folder of its own."""

import ast
import re
from pathlib import Path

import pytest

from lib import paths

BLOCKS = re.findall(r"^## (.+?)\n.*?```python\n(.*?)```", (paths.ROOT / "docs/library.md").read_text(), re.S | re.M)


# Two Trainers on SmolLM2 take half a minute, and have tests of their own.
SLOW = ("Distillation", "Semantic distance")


@pytest.mark.parametrize(
    "code",
    [pytest.param(code, id=title, marks=[pytest.mark.thorough] * (title in SLOW)) for title, code in BLOCKS],
)
def test_a_block_runs_and_prints_what_it_says(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    exec(compile(code, "docs/library.md", "exec"), {})  # the blocks are ours
    said = [ast.literal_eval(one) for one in re.findall(r'print\(.*\)  # ({.*?}|".*?")', code)]
    printed = capsys.readouterr().out.splitlines()
    assert [one for one in map(str, said) if one not in printed] == []


def test_each_section_has_its_block() -> None:
    titles = re.findall(r"^## (.+)$", (paths.ROOT / "docs/library.md").read_text(), re.M)
    assert titles == [title for title, _ in BLOCKS]


def shown() -> list[tuple[str, str]]:
    """Return each (module, name) that README and docs import from this project."""
    texts = [(paths.ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/library.md")]
    code = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text, re.S)]
    found = [one for block in code for one in ast.walk(ast.parse(block)) if isinstance(one, ast.ImportFrom)]
    pairs = {(str(one.module), name.name) for one in found for name in one.names}
    return sorted(pair for pair in pairs if pair[0].split(".")[0] == "lib")


@pytest.mark.parametrize(("module", "name"), shown())
def test_what_a_reader_imports_is_public(module: str, name: str) -> None:
    place = paths.ROOT / module.replace(".", "/")
    text = (place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).read_text(encoding="utf-8")
    lists = [
        ast.literal_eval(one.value)
        for one in ast.parse(text).body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "__all__"
    ]
    assert [name in public for public in lists] == [True]


def test_the_package_hands_on_the_calls_of_editing() -> None:
    from lib import api
    from lib.api import editing

    assert all(getattr(api, name) is getattr(editing, name) for name in api.__all__)
    assert set(api.__all__) <= set(dir(api))
    with pytest.raises(AttributeError, match="no attribute 'edits'"):
        _ = api.edits
