"""Digests of data that are kept: built once, and built again when what keeps them was edited."""

import json

import pytest

from lib import paths
from lib.records import digests

BUILT: list[str] = []


def made(name: str) -> str:
    BUILT.append(name)
    return f"digest of {name}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache, and a builder whose code never changes."""
    monkeypatch.setattr(paths, "DATA", tmp_path)
    monkeypatch.setattr(digests, "entry_of", lambda builder: "lib.text:made")
    monkeypatch.setattr(digests, "reach", lambda entry, config: ("code", None))
    monkeypatch.setattr(digests, "fetched", lambda found: {})
    BUILT.clear()
    return tmp_path / "cache/digests"


@pytest.mark.parametrize(
    "damage",
    [
        lambda told: json.dumps(told | {"value": told["value"].replace("d", "e", 1)}),
        lambda told: json.dumps({name: told[name] for name in ("key", "value")}),
        lambda told: json.dumps(told)[:40],
        lambda told: "[]",
        lambda told: "",
    ],
)
def test_an_edited_digest_is_built_again(folder, damage):
    assert [digests.kept(made, "a"), digests.kept(made, "a"), digests.kept(made, "b")] == [
        "digest of a",
        "digest of a",
        "digest of b",
    ]
    assert BUILT == ["a", "b"]
    for path in folder.iterdir():
        path.write_text(damage(json.loads(path.read_text())))
    assert digests.kept(made, "a") == digests.kept(made, "a") == "digest of a"
    assert BUILT == ["a", "b", "a"]
