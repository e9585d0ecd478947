"""Records are read while current, and named when they are stale or damaged."""

import dataclasses
import json
import os
import re
import shutil

import pandas as pd
import pytest
import torch
from pydantic import create_model

from lib import paths, records
from lib.errors import UserError
from lib.machine import environment
from lib.records import Outcome, store
from lib.statements import reach
from lib.statements.parsing import Code
from tests.records.made_records import MODEL, NAME, SENTENCES, Config, Counted, case, edit, make_package, outcome


@pytest.fixture
def package(tmp_path, monkeypatch):
    return make_package(tmp_path, monkeypatch)


def test_a_record_is_computed_once_and_then_read(package):
    compute = Counted()
    assert records.status(case(compute)) == "missing"
    first, second = records.get(case(compute)), records.get(case(compute))
    assert compute.runs == 1
    assert records.status(case(compute)) == "current"
    assert first.content_digest == second.content_digest
    expected = outcome()
    assert second.values == expected.values
    assert second.config == {"steps": 10, "rate": 0.1}
    assert (second.case, second.profile, second.seed, second.threads) == (NAME, "cpu", 0, 1)
    for name, frame in expected.frames.items():
        pd.testing.assert_frame_equal(second.frames[name], frame)
    assert sorted(second.frames) == ["losses", "outputs"]
    assert second.provenance["environment"] == environment.describe() | {"threads": 1}
    assert second.provenance["cost"]["tokens_per_second"] > 0
    assert second.path == paths.results("cpu") / f"{NAME}.json"


def test_raw_outputs_are_zstd_parquet_beside_the_record(package):
    import pyarrow.parquet

    record = records.get(case())
    file = next(record.path.parent.glob("seed0.outputs.*.parquet"))
    metadata = pyarrow.parquet.ParquetFile(file).metadata
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert json.loads(record.path.read_text())["frames"]["outputs"]["rows"] == len(SENTENCES)


def test_equal_runs_give_equal_bytes_outside_provenance(package, tmp_path, monkeypatch):
    first = records.get(case())
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path / "again"))
    second = records.get(case())
    other = records.get(case(Counted(0.5), name="1_series/task/seed1"))
    assert first.path != second.path
    contents = []
    for record in (first, second):
        stored = json.loads(record.path.read_text())
        assert stored.pop("provenance")["cost"] == record.provenance["cost"]
        del stored["checksums"]["all"]
        contents.append(stored)
    assert json.dumps(contents[0]) == json.dumps(contents[1])
    for file in first.path.parent.glob("seed0.*.*"):
        assert file.read_bytes() == second.path.with_name(file.name).read_bytes()
    assert first.provenance != second.provenance
    assert first.content_digest == second.content_digest
    assert first.content_digest != other.content_digest


DAMAGES = {
    "value edited": ("seed0.json", lambda path: edit(path, lambda stored: stored["values"].update(score=0.9))),
    "provenance edited": ("seed0.json", lambda path: edit(path, lambda stored: stored["provenance"].update(seconds=1))),
    "not a record": ("seed0.json", lambda path: path.write_text("[]")),
    "empty": ("seed0.json", lambda path: path.write_text("")),
    "truncated": ("seed0.json", lambda path: path.write_bytes(path.read_bytes()[:-40])),
    "table flipped": ("seed0.outputs", lambda path: path.write_bytes(b"q" + path.read_bytes()[1:])),
    "table truncated": ("seed0.losses", lambda path: path.write_bytes(path.read_bytes()[:-1])),
    "table gone": ("seed0.losses", lambda path: path.unlink()),
    "weights truncated": ("seed0.denoiser", lambda path: path.write_bytes(path.read_bytes()[:-1])),
}


@pytest.mark.parametrize(("start", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_and_computed_again(package, monkeypatch, capsys, start, damage):
    intact = records.get(case())
    path = next(intact.path.parent.glob(f"{start}*"))
    damage(path)
    assert records.status(case()).startswith("corrupted: ")
    monkeypatch.setenv("REPRODUCTION_RECORDS", "read")
    with pytest.raises(UserError, match=rf"{path.name}: .*run `make reproduce`"):
        records.get(case())
    monkeypatch.setenv("REPRODUCTION_RECORDS", "compute")
    compute = Counted()
    assert records.get(case(compute)).content_digest == intact.content_digest
    (line,) = capsys.readouterr().err.splitlines()
    assert path.name in line
    assert f"computing {NAME} again" in line
    assert compute.runs == 1
    assert records.status(case()) == "current"


def test_every_flipped_bit_and_every_truncation_of_the_json_is_seen(package):
    path = records.get(case()).path
    whole = path.read_bytes()
    for place in range(0, len(whole) - 1, 7):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            assert records.status(case()) != "current", place


def test_a_table_damaged_after_the_record_was_read_is_not_used(package):
    record = records.get(case())
    next(record.path.parent.glob("seed0.outputs.*")).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"seed0\.outputs\.\w+\.parquet: truncated or edited"):
        record.frames["outputs"]


def test_the_record_of_another_case_is_not_used(package):
    path = records.get(case()).path
    shutil.copy(path, path.with_name("seed1.json"))
    assert records.status(case(name="1_series/task/seed1")).endswith("the record of another case")


STALE = {
    "config": lambda root: {"config": Config(steps=11)},
    "seed": lambda root: {"seed": 1},
    "data": lambda root: {"data": {"pairs": "1" * 64}},
    "code": lambda root: (root / "model.py").write_text(MODEL.replace("x - 1", "x + 1")) and {},
}


@pytest.mark.parametrize("what", STALE)
def test_stale_records_are_never_used_silently(package, monkeypatch, what):
    old, compute = records.get(case()), Counted(0.7)
    stale = case(compute, **STALE[what](package))
    monkeypatch.setattr(reach, "AT_START", Code.on_disk(package))  # as in a process that begins now
    part = {"seed": "config", "data": "data (pairs)"}.get(what, what)
    assert records.status(stale) == f"stale: {part}"
    monkeypatch.setenv("REPRODUCTION_RECORDS", "read")
    with pytest.raises(UserError, match=re.escape(f"case {NAME} is stale: {part}: run `make reproduce`")):
        records.get(stale)
    monkeypatch.setenv("REPRODUCTION_STALE", "allow")
    assert records.get(stale).content_digest == old.content_digest
    monkeypatch.delenv("REPRODUCTION_STALE")
    monkeypatch.setenv("REPRODUCTION_RECORDS", "compute")
    assert records.get(stale).values["score"] == 0.7
    assert compute.runs == 1
    assert records.status(stale) == "current"


def test_comments_docstrings_annotations_and_unreached_modules_leave_a_record_current(package):
    records.get(case())
    (package / "model.py").write_text("def loss(x):\n    '''New.'''\n\n    return x - 1.0\n")
    (package / "unreached.py").write_text("SIGN = -1\n")
    assert records.status(case()) == "current"


def test_a_missing_record_in_read_mode_names_case_and_remedy(package, monkeypatch):
    monkeypatch.setenv("REPRODUCTION_RECORDS", "read")
    with pytest.raises(UserError, match=rf"case {NAME} is missing: run `make reproduce`"):
        records.get(case())
    monkeypatch.setenv("REPRODUCTION_RECORDS", "raed")
    with pytest.raises(UserError, match="REPRODUCTION_RECORDS=raed: unknown"):
        records.get(case())


def test_code_edited_under_a_running_process_is_not_recorded(package, monkeypatch):
    (package / "model.py").write_text(MODEL.replace("x - 1", "x + 1"))
    compute = Counted()
    with pytest.raises(UserError, match=r"loss, train: edited since this process began: restart it"):
        records.get(case(compute))
    assert compute.runs == 0


@pytest.mark.parametrize("name", ["seed0", "../a/b", "/a/b", "a//b", "a/b.c", "a/b c", "a/b\n", "a/"])
def test_names_that_could_leave_the_folder_or_collide_are_refused(name):
    with pytest.raises(ValueError, match="case name"):
        case(name=name)


def test_nan_is_refused_and_the_old_record_stays(package):
    old = records.get(case())
    bad = case(lambda: Outcome(values={"score": float("nan")}), seed=1)
    with pytest.raises(ValueError, match="JSON"):
        records.get(bad)
    with pytest.raises(ValueError, match="reset_index"):
        records.get(case(lambda: Outcome(values={}, frames={"a": pd.DataFrame({"x": [1]}, index=[5])}), seed=1))
    assert records.get(case()).content_digest == old.content_digest


def test_files_of_older_records_are_swept_and_neighbours_kept(package):
    first = records.get(case())
    neighbour = records.get(case(name=f"{NAME}0"))
    leftover = first.path.with_name(".partial-killed.parquet")
    leftover.write_text("")
    os.utime(leftover, (0, 0))
    records.get(case(Counted(0.9), seed=1))
    assert len(list(first.path.parent.glob("seed0.*.*"))) == 3
    assert not leftover.exists()
    assert records.status(case(name=f"{NAME}0")) == "current"
    assert len(neighbour.frames["outputs"]) == 3


def test_each_get_is_tallied_on_one_line(package, tmp_path, monkeypatch):
    monkeypatch.setenv("REPRODUCTION_TALLY", str(tmp_path / "tally"))
    records.get(case())
    records.get(case())
    lines = [json.loads(line) for line in (tmp_path / "tally").read_text().splitlines()]
    assert [line["action"] for line in lines] == ["computed", "read"]
    assert {(line["case"], line["profile"]) for line in lines} == {(NAME, "cpu")}


def test_an_extended_row_is_read_where_it_was_computed_and_never_computed_by_asking(package, tmp_path, monkeypatch):
    compute = Counted()
    extended = case(compute, row="extended")
    assert records.available(extended) is None
    assert records.whole([extended]) is None
    assert compute.runs == 0
    computed = records.get(extended)
    monkeypatch.setenv("REPRODUCTION_TALLY", str(tmp_path / "tally"))
    assert records.available(extended).content_digest == computed.content_digest
    assert compute.runs == 1
    assert [json.loads(line)["action"] for line in (tmp_path / "tally").read_text().splitlines()] == ["read"]
    assert records.available(case(compute, row="extended", config=Config(steps=11))) is None  # stale


def test_a_core_row_is_computed_by_asking(package):
    compute = Counted()
    assert records.available(case(compute)).values == outcome().values
    assert [one.values for one in records.whole([case(compute)] * 2)] == [outcome().values] * 2
    assert compute.runs == 1


def test_a_stored_row_is_never_computed_by_asking_even_where_it_is_core(package):
    compute = Counted()
    assert records.stored(case(compute)) is None
    assert compute.runs == 0
    computed = records.get(case(compute))
    assert records.stored(case(compute)).content_digest == computed.content_digest
    assert records.stored(case(compute, config=Config(steps=11))) is None  # stale
    assert compute.runs == 1


def test_a_case_computes_with_its_own_threads(package):
    def compute() -> Outcome:
        return Outcome(values={"threads": torch.get_num_threads()})

    before = torch.get_num_threads()
    for threads in (1, 2):
        record = records.get(case(compute, threads=threads, seed=threads))
        assert (record.values, record.threads) == ({"threads": threads}, threads)
        assert record.provenance["environment"]["threads"] == threads
    assert torch.get_num_threads() == before
    assert records.status(case(compute, threads=1, seed=2)) == "stale: config"


def test_a_new_field_of_a_config_changes_nothing_and_its_value_does(package):
    records.get(case())
    more = create_model("Config", __base__=Config, more=(int, 3))
    assert records.status(case(config=more())) == "current"
    assert records.status(case(config=more(more=4))) == "stale: config"


def test_an_input_counts_by_what_its_record_holds(package):
    made, compute = case(name="1_series/made/seed0"), Counted(0.7)
    reader = case(compute, inputs={"made": made})
    assert records.status(reader) == "missing"
    records.get(reader)  # computes its input first
    assert records.status(made) == records.status(reader) == "current"
    records.obtain(case(Counted(0.4), name="1_series/made/seed0", seed=1))  # other settings, the same outputs
    assert records.status(reader) == "current"
    records.obtain(case(Counted(0.9), name="1_series/made/seed0"))
    assert records.status(reader) == "stale: data (input/made)"


def test_a_pending_record_is_read_and_says_so_and_another_stale_one_is_not(package, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("REPRODUCTION_WORK_ROOT")
    monkeypatch.setattr(paths, "DATA", tmp_path / "data")
    old = records.get(case())
    pending = tmp_path / "data/results/pending"
    pending.write_text(f"# profile, case, made stale by, computed by\ncpu {NAME} step7 step10\n")
    changed = case(Counted(0.9), config=Config(steps=11))
    assert records.status(changed) == "pending: config (since step7; step10 computes it)"
    assert records.get(changed).content_digest == old.content_digest
    assert records.available(changed).content_digest == old.content_digest
    told = f"Some records of {NAME.partition('/')[0]} were made by older code and wait to be computed again; "
    assert capsys.readouterr().out == f"{told}`python -m lib.running.catalogue status` lists them.\n"  # once
    record, computed = store.obtain(changed, again=True)
    assert (record.values["score"], computed) == (0.9, True)
    assert records.status(changed) == "current"
    pending.write_text("cpu one\n")
    with pytest.raises(UserError, match=r"data/results/pending, line 1: profile, case"):
        records.status(case())


def test_a_historic_record_is_shown_and_checked_whatever_the_code_is(package):
    path = records.get(case()).path
    stored = json.loads(path.read_text())
    content = {name: value for name, value in stored.items() if name not in ("provenance", "checksums")}
    store.files.write(path, content | {"historic": {"commit": "1234", "code": "5678"}}, stored["provenance"])
    (package / "model.py").write_text(MODEL.replace("x - 1", "x + 1"))
    assert records.status(case()) == "historic"
    assert records.stored(case()).historic == {"commit": "1234", "code": "5678"}
    path.write_bytes(path.read_bytes()[:-40])
    assert records.status(case()).startswith("corrupted")


def test_a_record_stamped_anew_is_current_keeps_its_weights_and_says_what_proves_it(package):
    compute = Counted()
    old = records.get(case(compute))
    (package / "model.py").write_text("def loss(x):\n    one = 1.0\n    return x - one\n")
    assert records.status(case(compute)) == "stale: code"
    store.restamp(case(compute), {"commit": "abc"})
    assert records.status(case(compute)) == "current"
    new = records.get(case(compute))
    assert new.values == old.values
    assert new.provenance["proofs"] == [{"commit": "abc"}]
    assert records.load_weights(case(compute), "denoiser") is not None
    assert compute.runs == 1


def test_every_read_is_noted_in_the_process(package):
    before = len(records.reads())
    record = records.get(case())
    records.stored(case())
    assert [(one.case, one.path, one.digest) for one in records.reads()[before:]] == [
        (NAME, record.path, record.outputs_digest)
    ] * 2


def test_threads_set_inside_a_case_do_not_leak(package):
    before = torch.get_num_threads()

    def compute() -> Outcome:
        environment.limit_threads(before + 1)
        return Outcome(values={"threads": torch.get_num_threads()})

    assert records.get(case(compute)).values == {"threads": before + 1}
    assert torch.get_num_threads() == before


def test_records_are_frozen(package):
    record = records.get(case())
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.seed = 1


def test_weights_that_need_a_gpu_again_say_so(package, monkeypatch):
    lost = dataclasses.replace(case(), profile="gpu")
    monkeypatch.setattr(store, "get", lambda case: None)  # its record, made on another machine, is there
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="profile gpu computes on an NVIDIA GPU"):
        records.trained_weights(lost, MODEL)
