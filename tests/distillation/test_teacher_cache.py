"""The teacher's cache: what is read is what was written, in any order of rows; faults are named, nothing is halved."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from lib.distillation.teacher_cache import Classes, Signals, TeacherCache, over_classes
from lib.errors import UserError

LENGTHS, VOCABULARY, WIDTH = [3, 1, 4, 2], 11, 6
WHOLE = Classes(VOCABULARY)
IDENTITY = {"teacher": "a" * 8, "data": "b" * 8, "tokenizer": "c" * 8}


def said(rows: list[int], seed: int = 0) -> Signals:
    """What a teacher says about rows: fixed random numbers of each row, whatever the batch."""
    parts = []
    for row in rows:
        generator = torch.Generator().manual_seed(100 * seed + row)
        shape = (LENGTHS[row], VOCABULARY + 1 + 2 * WIDTH)
        parts.append(torch.randn(shape, generator=generator) * 3)
    flat = torch.cat(parts)
    logs = flat[:, :VOCABULARY].log_softmax(-1)
    states = {2: flat[:, VOCABULARY + 1 :][:, :WIDTH], 5: flat[:, -WIDTH:]}
    return Signals(logs, None, flat[:, VOCABULARY].sigmoid(), states)


def passes(*batches: list[int]) -> Iterator[tuple[list[int], Signals]]:
    return ((rows, said(rows)) for rows in batches)


def cache(folder, classes=WHOLE, **identity) -> TeacherCache:
    return TeacherCache(folder / "cache", {**IDENTITY, **identity}, LENGTHS, classes)


@pytest.mark.parametrize("order", [([0, 1, 2, 3],), ([3, 1], [2], [0]), ([2, 0], [1, 3])])
def test_what_is_read_is_what_the_teacher_said(tmp_path, order) -> None:
    kept = cache(tmp_path)
    kept.fill([2, 5], WIDTH, passes(*order))
    for rows in ([0], [3, 0], [1, 2, 3, 0], [2, 2]):
        found, wanted = kept.signals(rows, [5, 2]), said(rows)
        assert torch.allclose(found.output, wanted.output, rtol=1e-3, atol=1e-3)
        assert torch.equal(found.lost, wanted.lost)
        assert found.states[2].half().equal(wanted.states[2].half())
        assert found.states[5].half().equal(wanted.states[5].half())
        assert found.chosen is None
    assert np.array_equal(kept.lost_mass(), said([0, 1, 2, 3]).lost.numpy())


def test_top_k_keeps_the_best_tokens_and_one_class_for_the_others(tmp_path) -> None:
    kept = cache(tmp_path, Classes(VOCABULARY, top_k=4))
    kept.fill([], WIDTH, passes([0, 1, 2, 3]))
    found, whole = kept.signals([2, 0]), said([2, 0]).output
    for place, logs in enumerate(whole.double()):
        best = sorted(range(VOCABULARY), key=lambda token: -logs[token])[:4]
        assert found.chosen[place].tolist() == best
        others = [logs[token].exp() for token in range(VOCABULARY) if token not in best]
        wanted = [*(logs[token] for token in best), torch.log(torch.stack(others).sum())]
        assert torch.allclose(found.output[place].double(), torch.stack(wanted), rtol=2e-3, atol=2e-3)
    assert torch.allclose(found.output.exp().sum(1), torch.ones(7), atol=5e-3)


def test_the_students_classes_are_a_distribution_with_a_gradient_at_every_token() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, VOCABULARY, generator=generator, dtype=torch.float64, requires_grad=True)
    chosen = torch.stack([torch.randperm(VOCABULARY, generator=generator)[:3] for _ in range(5)])
    logs = over_classes(logits, chosen)
    assert torch.allclose(logs.exp().sum(1), torch.ones(5, dtype=torch.float64))
    assert torch.allclose(logs[:, -1].exp(), 1 - logs[:, :-1].exp().sum(1))
    assert torch.autograd.gradcheck(lambda x: over_classes(x, chosen), logits)
    logs[:, -1].sum().backward()
    assert (logits.grad != 0).all()


def test_all_tokens_are_kept_where_they_fit_and_the_best_where_they_do_not() -> None:
    assert Classes.fitting(1000, 2**20, 8, gib=2.0) == Classes(1000)
    assert Classes.fitting(1025, 2**20, 8, gib=2.0) == Classes(1025, 8)
    with pytest.raises(ValueError, match="top_k = 0"):
        Classes.fitting(5000, 2**20, 0, gib=2.0)


def test_the_size_is_told_before_it_is_written_and_is_what_is_written(tmp_path, capsys) -> None:
    kept = cache(tmp_path)
    planned, said_first = kept.planned_bytes([2], WIDTH), []

    def watched():
        said_first.append(capsys.readouterr().out)
        yield [0, 1, 2, 3], said([0, 1, 2, 3])

    assert kept.fill([2], WIDTH, watched()) == planned
    assert "MiB" in said_first[0]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.bin")) == planned


def test_layers_can_be_added_later_and_nothing_is_written_twice(tmp_path) -> None:
    kept = cache(tmp_path)
    kept.fill([2], WIDTH, passes([0, 1, 2, 3]))
    before = (tmp_path / "cache/output/values.bin").stat().st_mtime_ns
    assert kept.missing([2, 5]) == ["state_05"]
    kept.fill([2, 5], WIDTH, passes([0, 1, 2, 3]))
    assert (tmp_path / "cache/output/values.bin").stat().st_mtime_ns == before
    assert kept.fill([2, 5], WIDTH, iter(())) == 0
    assert kept.signals([1], [5]).states[5].shape == (1, WIDTH)


@pytest.mark.parametrize("part", ["teacher", "data", "tokenizer"])
def test_a_cache_of_something_else_is_refused_by_name(tmp_path, part) -> None:
    cache(tmp_path).fill([], WIDTH, passes([0, 1, 2, 3]))
    other = cache(tmp_path, **{part: "z" * 8})
    with pytest.raises(UserError, match=f"another {part}"):
        other.signals([0])
    with pytest.raises(UserError, match=f"another {part}"):
        other.fill([], WIDTH, passes([0, 1, 2, 3]))
    with pytest.raises(UserError, match="another classes"):
        cache(tmp_path, Classes(VOCABULARY, top_k=3)).signals([0])


def test_an_unfinished_pass_leaves_no_part_behind(tmp_path) -> None:
    def killed():
        yield [0, 1], said([0, 1])
        raise KeyboardInterrupt

    kept = cache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        kept.fill([2], WIDTH, killed())
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]
    with pytest.raises(ValueError, match="2 of 4 rows"):
        kept.fill([2], WIDTH, passes([0, 1]))
    with pytest.raises(UserError, match="fill the cache first"):
        kept.signals([0])


def test_numbers_beyond_half_precision_are_named(tmp_path) -> None:
    kept = cache(tmp_path)
    huge = said([0, 1, 2, 3])
    huge.states[2][4, 1] = 70000.0
    with pytest.raises(UserError, match="state_02/values: numbers beyond float16"):
        kept.fill([2], WIDTH, [([0, 1, 2, 3], huge)])
    assert kept.missing([2]) == ["output", "state_02"]


def rewritten(part: str, **changes):
    """Damage that changes entries of a part's manifest."""

    def damage(folder) -> None:
        file = folder / part / "manifest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return damage


def zeroed(folder) -> None:
    file = folder / "output/values.bin"
    file.write_bytes(bytes(file.stat().st_size))


def flipped(folder) -> None:
    file = folder / "output/lost.bin"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "zeros of equal length": zeroed,
    "a flipped bit": flipped,
    "truncated": lambda folder: os.truncate(folder / "output/values.bin", 10),
    "a file removed": lambda folder: (folder / "output/lost.bin").unlink(),
    "no manifest": lambda folder: (folder / "output/manifest.json").unlink(),
    "half a manifest": lambda folder: (folder / "output/manifest.json").write_text('{"identity": {'),
    "a list for a manifest": lambda folder: (folder / "output/manifest.json").write_text("[]"),
    "no digests": rewritten("output", files={"values.bin": 220, "lost.bin": 40}),
    "another width": rewritten("state_02", width=7),
    "a width that is none": rewritten("state_02", width=None),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_is_damaged_is_named_in_one_line_never_read_and_written_again(tmp_path, capsys, damage) -> None:
    cache(tmp_path).fill([2], WIDTH, passes([0, 1, 2, 3]))
    damage(tmp_path / "cache")
    (part,) = cache(tmp_path).missing([2])
    capsys.readouterr()
    damaged = cache(tmp_path)
    for refused in (lambda: damaged.signals([0], [2]), lambda: cache(tmp_path).signals([3], [2])):
        with pytest.raises(UserError, match=f"no part {part}: fill the cache first"):
            refused()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2  # one for each cache
    assert told[0].endswith(f"cache/{part}: truncated or edited: not used")
    assert damaged.fill([2], WIDTH, passes([3, 1], [2, 0])) > 0
    assert capsys.readouterr().err == ""
    for kept in (damaged, cache(tmp_path)):
        found, wanted = kept.signals([1, 2, 3, 0], [2]), said([1, 2, 3, 0])
        assert torch.equal(found.lost, wanted.lost)
        assert torch.equal(found.output, wanted.output.half().float())
        assert torch.equal(found.states[2], wanted.states[2].half().float())
    assert capsys.readouterr().err == ""


def test_lost_mass_is_checked_too(tmp_path) -> None:
    cache(tmp_path).fill([], WIDTH, passes([0, 1, 2, 3]))
    flipped(tmp_path / "cache")
    with pytest.raises(UserError, match="no part output"):
        cache(tmp_path).lost_mass()


def test_a_cache_of_rows_of_other_lengths_is_refused(tmp_path) -> None:
    cache(tmp_path).fill([], WIDTH, passes([0, 1, 2, 3]))
    moved = TeacherCache(tmp_path / "cache", IDENTITY, [3, 4, 1, 2], WHOLE)  # as many tokens, other rows
    with pytest.raises(UserError, match="another lengths"):
        moved.signals([0])


def test_too_little_space_is_told_before_anything_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 2**26))
    with pytest.raises(UserError, match="MiB are needed: free some"):
        cache(tmp_path).fill([2], WIDTH, passes([0, 1, 2, 3]))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_two_that_fill_a_cache_at_once_write_it_once(tmp_path, capsys) -> None:
    def slowly():
        for row in (3, 1, 0, 2):
            time.sleep(0.05)
            yield [row], said([row])

    written: list[int] = []
    both = [threading.Thread(target=lambda: written.append(cache(tmp_path).fill([2], WIDTH, slowly()))) for _ in "ab"]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sorted(written) == [0, cache(tmp_path).total_bytes([2], WIDTH)]
