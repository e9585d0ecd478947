"""Where an installed package keeps what it fetches, on each system."""

import subprocess
import sys
from pathlib import Path

import pytest

from lib import paths


@pytest.mark.parametrize(
    ("system", "variables", "expected"),
    [
        ("linux", {}, "{home}/.local/share/wang-li-reproductions"),
        ("linux", {"XDG_DATA_HOME": "{home}/data"}, "{home}/data/wang-li-reproductions"),
        ("linux", {"XDG_DATA_HOME": "data"}, "{home}/.local/share/wang-li-reproductions"),  # XDG ignores relative ones
        ("darwin", {"XDG_DATA_HOME": "{home}/data"}, "{home}/Library/Application Support/wang-li-reproductions"),
        ("win32", {"LOCALAPPDATA": "{home}/here"}, "{home}/here/wang-li-reproductions"),
        ("win32", {}, "{home}/AppData/Local/wang-li-reproductions"),
        ("linux", {"WANG_LI_DATA": "{home}/mine", "XDG_DATA_HOME": "{home}/data"}, "{home}/mine"),
        ("darwin", {"WANG_LI_DATA": "~/mine"}, "{home}/mine"),
        ("linux", {"WANG_LI_DATA": ""}, "{home}/.local/share/wang-li-reproductions"),
    ],
)
def test_the_users_folder(
    system: str, variables: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANG_LI_DATA", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    monkeypatch.setattr(sys, "platform", system)
    assert paths.user_folder() == Path(expected.format(home=tmp_path))


def test_a_checkout_has_its_own_folders_and_a_wheel_the_users(tmp_path: Path) -> None:
    assert not paths.INSTALLED
    assert paths.EXTERNAL == paths.ROOT / "data" / "external"
    source = Path(paths.__file__).parent
    package = tmp_path / "wheel"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("paths", "errors"):
        text = (source / f"{name}.py").read_text(encoding="utf-8").replace("from lib.", "from wheel.")
        (package / f"{name}.py").write_text(text)
    line = "from wheel import paths; print(paths.EXTERNAL, paths.relative(paths.EXTERNAL))"
    environment = {"PYTHONPATH": str(tmp_path), "WANG_LI_DATA": str(tmp_path / "mine"), "REPRODUCTION_ROOT": "/no"}
    run = subprocess.run([sys.executable, "-c", line], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(tmp_path / "mine/external")] * 2
