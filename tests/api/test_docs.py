"""Every block of docs/library.md runs as it stands, in a folder of its own."""

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
def test_a_block_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    exec(compile(code, "docs/library.md", "exec"), {})  # the blocks are ours


def test_each_section_has_its_block() -> None:
    titles = re.findall(r"^## (.+)$", (paths.ROOT / "docs/library.md").read_text(), re.M)
    assert titles == [title for title, _ in BLOCKS]
