"""Every block of docs/library.md runs as it stands, in a folder of its own."""

import re
from pathlib import Path

import pytest

from lib import paths

BLOCKS = re.findall(r"^## (.+?)\n.*?```python\n(.*?)```", (paths.ROOT / "docs/library.md").read_text(), re.S | re.M)


@pytest.mark.parametrize("code", [code for _, code in BLOCKS], ids=[title for title, _ in BLOCKS])
def test_a_block_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    exec(compile(code, "docs/library.md", "exec"), {})  # the blocks are ours


def test_each_section_has_its_block() -> None:
    titles = re.findall(r"^## (.+)$", (paths.ROOT / "docs/library.md").read_text(), re.M)
    assert titles == [title for title, _ in BLOCKS]
