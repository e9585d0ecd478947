"""Records are read while current, named when stale or damaged, and survive being killed while they are written."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from lib import case_cache, environment, files, fingerprints, paths, record_files, records
from lib.errors import UserError
from lib.records import Case, Outcome

NAME = "1_series/task/seed0"
MODEL = '"""Model."""\n\n\ndef loss(x: float) -> float:\n    return x - 1.0  # why\n'
SENTENCES = ["in the beginning", "god created", ""]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of its own to change, and an empty folder for records and cache."""
    root = tmp_path / "package" / "lib"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "training.py").write_text("from lib import model\n\n\ndef train():\n    return model.loss(1.0)\n")
    (root / "model.py").write_text(MODEL)
    (root / "unreached.py").write_text("")
    monkeypatch.setattr(fingerprints, "PACKAGE", root)
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path / "work"))
    for name in ("REPRODUCTION_RECORDS", "REPRODUCTION_STALE", "REPRODUCTION_TALLY"):
        monkeypatch.delenv(name, raising=False)
    return root


def outcome(score: float = 0.4) -> Outcome:
    """Return a result with something of every kind; `score` marks all of it."""
    weight = torch.arange(6, dtype=torch.float32).reshape(2, 3) * score
    return Outcome(
        values={"score": score, "none": None, "curve": [0.1, 0.2]},
        frames={
            "outputs": pd.DataFrame({"sentence": SENTENCES, "length": [3, 2, 0], "score": [score, 1.5, np.nan]}),
            "losses": pd.DataFrame({"loss": np.float32([3, 2, 1]) * np.float32(score)}),
        },
        weights={"denoiser": {"weight": weight, "step": torch.tensor(7)}},
        published={"denoiser": {"weight": weight, "step": torch.tensor(7)}},
        cost={"tokens_per_second": time.perf_counter()},
    )


class Counted:
    """A computation that counts its runs."""

    def __init__(self, score: float = 0.4) -> None:
        self.score, self.runs = score, 0

    def __call__(self) -> Outcome:
        self.runs += 1
        return outcome(self.score)


def case(compute=None, **changes) -> Case:
    given = {
        "name": NAME,
        "profile": "cpu",
        "config": {"steps": 10, "rate": 0.1},
        "data": {"pairs": "0" * 64},
        "code": ("lib.training",),
        "seed": 0,
        "compute": compute or Counted(),
        "prefix": lambda: "bits",
    }
    return Case(**{**given, **changes})


def edit(path: Path, change) -> None:
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored, indent=2, ensure_ascii=False) + "\n")


def test_a_record_is_computed_once_and_then_read(package):
    compute = Counted()
    assert records.status(case(compute)) == "missing"
    first, second = records.get(case(compute)), records.get(case(compute))
    assert compute.runs == 1
    assert records.status(case(compute)) == "current"
    assert records.same_content(first, second)
    expected = outcome()
    assert second.values == expected.values
    assert second.config == {"steps": 10, "rate": 0.1}
    assert (second.case, second.profile, second.seed, second.prefix) == (NAME, "cpu", 0, "bits")
    for name, frame in expected.frames.items():
        pd.testing.assert_frame_equal(second.frames[name], frame)
    assert sorted(second.frames) == ["losses", "outputs"]
    assert second.provenance["environment"] == environment.describe()
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
    assert records.same_content(first, second)
    assert not records.same_content(first, other)


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
    assert records.same_content(records.get(case(compute)), intact)
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
    "config": lambda root: {"config": {"steps": 11, "rate": 0.1}},
    "seed": lambda root: {"seed": 1},
    "data": lambda root: {"data": {"pairs": "1" * 64}},
    "code": lambda root: (root / "model.py").write_text(MODEL.replace("x - 1", "x + 1")) and {},
}


@pytest.mark.parametrize("what", STALE)
def test_stale_records_are_never_used_silently(package, monkeypatch, what):
    old, compute = records.get(case()), Counted(0.7)
    stale = case(compute, **STALE[what](package))
    part = "config" if what == "seed" else what
    assert records.status(stale) == f"stale: {part}"
    monkeypatch.setenv("REPRODUCTION_RECORDS", "read")
    with pytest.raises(UserError, match=rf"case {NAME} is stale: {part}: run `make recheck` or `make reproduce`"):
        records.get(stale)
    monkeypatch.setenv("REPRODUCTION_STALE", "allow")
    assert records.same_content(records.get(stale), old)
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
    monkeypatch.setattr(fingerprints, "AT_START", {package / "model.py": MODEL.replace("x - 1", "x + 1")})
    compute = Counted()
    with pytest.raises(UserError, match=r"lib\.model: edited since this process began: restart it"):
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
    assert records.same_content(records.get(case()), old)


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


def test_threads_set_inside_a_case_do_not_leak(package):
    before = torch.get_num_threads()

    def compute() -> Outcome:
        environment.limit_threads(before + 1)
        return Outcome(values={"threads": torch.get_num_threads()})

    assert records.get(case(compute)).values == {"threads": before + 1}
    assert torch.get_num_threads() == before


def test_weights_are_kept_in_the_cache_and_computed_again_when_lost(package, capsys, monkeypatch):
    compute = Counted()
    record = records.get(case(compute))
    expected = outcome().weights["denoiser"]
    (file,) = paths.cache().rglob("weights/**/denoiser.safetensors")
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:-4] + b"\1\2\3\4", b""):
        file.write_bytes(damaged)
        assert records.load_weights(case(compute), "denoiser") is None
        assert "denoiser.safetensors: truncated or edited: not used" in capsys.readouterr().err
    monkeypatch.setenv("REPRODUCTION_RECORDS", "read")
    with pytest.raises(UserError, match="without its weights 'denoiser'"):
        records.trained_weights(case(compute), "denoiser")
    monkeypatch.delenv("REPRODUCTION_RECORDS")
    loaded = records.trained_weights(case(compute), "denoiser")
    assert compute.runs == 2
    assert records.load_weights(case(compute), "denoiser").keys() == loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    assert record.weight_digests["denoiser"] == records.store_weights(case(), "denoiser", expected)
    assert records.load_weights(case(seed=1), "denoiser") is None  # another fingerprint


def test_weights_may_be_given_as_a_file_and_may_be_tied(package):
    shared = torch.ones(2)

    def compute() -> Outcome:
        path = records.workspace(case()) / "last.safetensors"
        safetensors.torch.save_file({"w": shared}, path)
        return Outcome(values={}, weights={"file": path, "tied": {"a": shared, "b": shared}})

    records.get(case(compute))
    assert torch.equal(records.load_weights(case(), "file")["w"], shared)
    assert records.load_weights(case(), "tied").keys() == {"a", "b"}


def test_published_weights_are_rounded_to_bf16(package):
    loaded = records.get(case()).weights("denoiser")
    expected = outcome().published["denoiser"]
    assert loaded["weight"].dtype == torch.bfloat16
    assert torch.equal(loaded["weight"], expected["weight"].bfloat16())
    assert torch.equal(loaded["step"], expected["step"])


def test_a_computation_that_failed_finds_its_checkpoints(package):
    def compute() -> Outcome:
        checkpoint = records.workspace(case()) / "checkpoint"
        if not checkpoint.exists():
            checkpoint.write_text("step 5")
            raise InterruptedError
        return Outcome(values={"resumed": checkpoint.read_text()})

    with pytest.raises(InterruptedError):
        records.get(case(compute))
    assert records.status(case()) == "missing"
    assert records.get(case(compute)).values == {"resumed": "step 5"}
    assert not (paths.cache() / "runs" / NAME / case().fingerprint()["total"][:16]).exists()


def refactor(package: Path) -> None:
    (package / "model.py").write_text("def loss(x):\n    one = 1.0\n    return x - one\n")


def test_recheck_stamps_a_record_whose_prefix_is_equal(package):
    old, weights = records.get(case()), records.trained_weights(case(), "denoiser")
    refactor(package)
    compute = Counted()
    assert records.recheck(case(compute)) == "re-verified"
    assert records.recheck(case(compute)) == "current"
    new = records.get(case(compute))
    assert compute.runs == 0
    assert new.values == old.values
    (note,) = new.provenance["reverified"]
    assert (note["from"], note["to"]) == (old.fingerprint["code"], case().fingerprint()["code"])
    assert {"commit", "date"} <= note.keys()
    assert new.provenance["date"] == old.provenance["date"]
    assert torch.equal(records.load_weights(case(), "denoiser")["weight"], weights["weight"])


def test_recheck_lists_what_must_be_computed(package, monkeypatch):
    assert records.recheck(case()) == "recompute: missing"
    path = records.get(case()).path
    before = path.read_bytes()
    assert records.recheck(case(seed=1)) == "recompute: stale: config"
    refactor(package)
    assert records.recheck(case(data={"pairs": "1" * 64})) == "recompute: stale: data, code"
    assert records.recheck(case(prefix=lambda: "other")).endswith("its prefix gives other bits")
    assert records.recheck(case(prefix=None)).endswith("no prefix to compare")
    here = environment.describe()
    monkeypatch.setattr(environment, "describe", lambda: {**here, "threads": here["threads"] + 1})
    assert records.recheck(case()).endswith("equal bits need an equal environment (threads differ)")
    assert path.read_bytes() == before


def test_same_numerics_asks_for_lock_threads_and_cpu_capability():
    here = environment.describe()
    assert environment.same_numerics(here, {**here, "commit": None, "cpu": "another of its kind"})
    for name in ("lock", "threads", "cpu_capability", "packages"):
        assert not environment.same_numerics(here, {**here, name: "other"})


def test_the_environment_names_neither_the_machine_nor_a_path():
    import platform

    text = json.dumps(environment.describe())
    assert platform.node() not in text
    assert str(paths.ROOT) not in text
    assert str(Path.home()) not in text


# What forks runs in a process of its own, since forking is safe only in a process without other threads.


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Results of the two functions below that fork, by name."""
    script = "import test_records; test_records.fork()"
    changes = {"PYTHONPATH": str(Path(__file__).parent), "REPRODUCTION_RECORDS": "compute"}
    folder = tmp_path_factory.mktemp("forks")
    command = [sys.executable, "-c", script, str(folder)]
    run = subprocess.run(command, env={**os.environ, **changes}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def fork() -> None:
    """Print the results of the functions that fork, each with an empty work root of its own."""
    found = {}
    for action in (compute_in_two_processes, kill_at_every_line):
        os.environ["REPRODUCTION_WORK_ROOT"] = str(Path(sys.argv[1]) / action.__name__ / "work")
        found[action.__name__] = action()
    print(json.dumps(found))


def forked(action) -> int:
    """Process number of a child that does `action` and ends."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killing(step: int, action) -> None:
    """Do `action`, but kill this process before the given line (counted as they run) of the functions that write."""
    functions = (files.write_atomically, record_files.attach, record_files.write, record_files.sweep, case_cache.keep)
    watched = {function.__code__ for function in functions}
    left = step

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code not in watched:
            return None
        left -= event == "line"
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    action()


def kill_at_every_line() -> list[list[str]]:
    """Status of the old and the new record for each line at which a store was killed; last, of a store not killed."""
    import pyarrow.parquet  # noqa: F401  (once here, not in each child)

    environment.describe = lambda: {}

    def compute(score: float) -> Outcome:
        whole = outcome(score)
        return Outcome(whole.values, {"losses": whole.frames["losses"]})

    old = case(lambda: compute(0.1), code=())
    new = case(lambda: compute(0.2), code=(), seed=1)
    root, kept = paths.work_root(), paths.work_root().with_name("kept")
    ended(forked(lambda: records.get(old)))
    shutil.copytree(root, kept)
    seen, killed = [], True
    while killed:
        shutil.rmtree(root)
        shutil.copytree(kept, root)
        child = forked(lambda: killing(len(seen), lambda: records.get(new)))
        killed = ended(child) == -signal.SIGKILL
        seen.append([records.status(old), records.status(new)])
    return seen


def test_killed_at_any_line_leaves_the_old_or_the_new(forks):
    seen = forks["kill_at_every_line"]
    assert len(seen) > 30
    assert {tuple(pair) for pair in seen} == {("current", "stale: config"), ("stale: config", "current")}
    assert seen == sorted(seen, key=lambda pair: pair[0] != "current")  # one moment makes it new
    assert seen[-1] == ["stale: config", "current"]


def compute_in_two_processes() -> list[list[str]]:
    """Runs of a case for which two processes ask at once, and their tally."""
    environment.describe = lambda: {}
    log = paths.work_root().with_name("log")
    log.parent.mkdir()
    os.environ["REPRODUCTION_TALLY"] = str(log.with_name("tally"))

    def compute() -> Outcome:
        with open(log, "a") as stream:
            stream.write("run\n")
        time.sleep(0.5)
        return Outcome(values={})

    children = [forked(lambda: records.get(case(compute, code=()))) for _ in range(2)]
    assert [ended(child) for child in children] == [0, 0]
    tally = [json.loads(line)["action"] for line in log.with_name("tally").read_text().splitlines()]
    return [log.read_text().split(), tally]


def test_two_processes_compute_a_case_once(forks):
    assert forks["compute_in_two_processes"] == [["run"], ["computed", "read"]]


def test_records_are_frozen(package):
    record = records.get(case())
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.seed = 1
