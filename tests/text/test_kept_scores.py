"""Kept scores: those of a first computation, read as long as nothing that decides them has changed."""

import numpy as np
import pytest

from lib import sources
from lib.machine import environment
from lib.statements import reach
from lib.text import bertscore, kept_scores

REFERENCES = ["the king spoke to the people .", "a ship sank in the storm ."]
SYSTEMS = {"first": REFERENCES, "second": ["the king talked .", "a boat sank in the storm ."]}


@pytest.fixture
def encoded(monkeypatch, tmp_path):
    """Let the cache be empty, and note which texts are encoded."""
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path))
    seen, encode = [], bertscore.token_vectors
    monkeypatch.setattr(bertscore, "token_vectors", lambda texts: seen.append(list(texts)) or encode(seen[-1]))
    return seen


def same(found, other):
    return found.keys() == other.keys() and all(np.array_equal(found[name], other[name]) for name in found)


def test_they_are_what_was_computed_at_first_to_the_bit(encoded):
    texts = [*REFERENCES, *SYSTEMS["first"], *SYSTEMS["second"]]
    vectors = bertscore.token_vectors(texts)
    expected = {name: bertscore.bertscore(texts, REFERENCES, vectors) for name, texts in SYSTEMS.items()}
    del encoded[:]
    assert same(kept_scores.bertscores(SYSTEMS, REFERENCES), expected)
    assert encoded == [texts]
    assert same(
        kept_scores.bertscores(dict(zip("ab", SYSTEMS.values(), strict=True)), REFERENCES),
        {"a": expected["first"], "b": expected["second"]},
    )
    assert len(encoded) == 1  # names say nothing
    for systems, references in [({"second": SYSTEMS["second"]}, REFERENCES), (SYSTEMS, REFERENCES[::-1])]:
        del encoded[:]
        kept_scores.bertscores(systems, references)
        assert len(encoded) == 1


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"sha256": 1, "scores": [1, 1]}', "[" * 100_000, "\0" * 4096])
def test_a_damaged_file_is_computed_and_written_again(encoded, tmp_path, content):
    first = kept_scores.bertscores(SYSTEMS, REFERENCES)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert len(files) == 1
    for path in files:
        path.write_text(content)
    assert same(kept_scores.bertscores(SYSTEMS, REFERENCES), first)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == files


def test_a_changed_digit_is_noticed(encoded, tmp_path):
    first = kept_scores.bertscores({"second": SYSTEMS["second"]}, REFERENCES)
    [path] = tmp_path.rglob("*.json")
    path.write_text(path.read_text().replace("0.", "0.1", 1))
    assert same(kept_scores.bertscores({"second": SYSTEMS["second"]}, REFERENCES), first)


def test_another_encoder_code_or_machine_takes_another_place(monkeypatch):
    places = [kept_scores._identity()]
    assert kept_scores._identity() == places[0]
    described = environment.describe()
    for change in ({"threads": 17}, {"cpu_capability": "none"}, {"lock": "other"}):
        with monkeypatch.context() as patch:
            patch.setattr(environment, "describe", lambda change=change: described | change)
            places.append(kept_scores._identity())
    with monkeypatch.context() as patch:
        patch.setattr(sources, "identity", lambda name: name)
        places.append(kept_scores._identity())
    with monkeypatch.context() as patch:
        patch.setattr(kept_scores, "reach", lambda entry: ("other", reach.reach(entry)[1]))
        places.append(kept_scores._identity())
    assert len(set(places)) == 6


def test_a_cache_that_cannot_be_written_costs_only_time(monkeypatch, tmp_path):
    (tmp_path / "cache").touch()  # a file where its folder is to be
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path))
    assert kept_scores.bertscores(SYSTEMS, REFERENCES)["first"] == pytest.approx(1.0, abs=1e-6)
