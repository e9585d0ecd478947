"""Writing files: whole or not at all, together or not at all, and in one line where the system refuses."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib import errors, files, paths
from lib.errors import UserError


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture
def old(tmp_path):
    """Three files of before."""
    content = {tmp_path / f"table.{suffix}": f"old {suffix}".encode() for suffix in ("csv", "md", "json")}
    for path, text in content.items():
        path.write_bytes(text)
    return content


def test_several_files_are_replaced_together(old, tmp_path):
    new = {path: b"new" for path in old} | {tmp_path / "sub/more.tex": b"new"}
    files.write_together(new)
    assert {path: path.read_bytes() for path in new} == new
    assert names(tmp_path) == {"table.csv", "table.md", "table.json", "sub", "sub/more.tex"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_failure_at_any_step_leaves_all_files_as_they_were(old, tmp_path, monkeypatch, step, number):
    real, calls = getattr(os, step), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == number + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    monkeypatch.setattr(os, step, failing)
    with pytest.raises(UserError, match=r"no space left on device: free some space on its disk$"):
        files.write_together({**{path: b"new" for path in old}, tmp_path / "new.tex": b"new"})
    assert {path: path.read_bytes() for path in old} == old
    assert names(tmp_path) == {path.name for path in old}


def test_a_folder_in_the_place_of_a_file_is_one_line_and_nothing_changes(old, tmp_path):
    (tmp_path / "last.tex").mkdir()
    with pytest.raises(UserError, match=r"last\.tex: is a directory: name a file, not a folder"):
        files.write_together({**{path: b"new" for path in old}, tmp_path / "last.tex": b"new"})
    assert {path: path.read_bytes() for path in old} == old
    with pytest.raises(UserError, match=r"a file stands where a folder is needed"):
        files.write_text(tmp_path / "table.csv/inner.txt", "x")
    assert names(tmp_path) == {"table.csv", "table.md", "table.json", "last.tex"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path):
    path = tmp_path / "record.json"
    path.write_text("old")

    def write(temporary):
        with open("/dev/full", "wb") as stream:
            stream.write(b"x")

    with pytest.raises(UserError, match=r"record\.json: no space left on device"):
        files.write_atomically(path, write)
    assert path.read_text() == "old"
    assert names(tmp_path) == {"record.json"}


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError):
        files.write_atomically(tmp_path / "x", lambda path: 1 / 0)
    with pytest.raises(FileNotFoundError):
        files.write_atomically(tmp_path / "x", lambda path: (tmp_path / "none").read_bytes())
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
    ],
)
def test_what_is_written_checked_is_read_whole_or_refused(tmp_path, damage):
    path = tmp_path / "work/answers"
    for content in (b"", b"answers" * 100):
        files.write_checked(path, content)
        assert files.read_checked(path) == content
    damage(path)
    with pytest.raises(UserError, match=r"work/answers: truncated, edited or missing: delete .*work and run it again"):
        files.read_checked(path)


WRITING = """
import sys, time
from pathlib import Path
from lib import files
def wait(path):
    path.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
if sys.argv[2] == "file":
    files.write_atomically(Path(sys.argv[1]) / "sub/record.json", wait)
else:
    with files.draft_folder(Path(sys.argv[1]), "part") as folder:
        wait(folder / "values.bin")
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_swept_and_what_one_writes_now_is_not(tmp_path, kind):
    child = subprocess.Popen([sys.executable, "-c", WRITING, str(tmp_path), kind], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "writing\n"
        before = names(tmp_path)
        assert files.sweep([tmp_path]) == 0
        assert names(tmp_path) == before
        assert any(files.PARTIAL in name for name in before)
    finally:
        child.kill()
        child.communicate()
    assert files.sweep([tmp_path, tmp_path / "absent"]) == 1
    assert names(tmp_path) <= {"sub"}


def test_leftovers_are_ignored_by_git(tmp_path):
    shutil.copy(paths.ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    for path in ("data/results/cpu/.partial-x.json", "figures/.partial-y/values.bin", "figures/kept.json"):
        files.write_text(tmp_path / path, "x")
    told = subprocess.run(["git", "status", "--porcelain", "-uall"], cwd=tmp_path, capture_output=True, text=True)
    assert told.stdout.split() == ["??", ".gitignore", "??", "figures/kept.json"]


def test_too_little_space_is_told_before_a_file_is_made(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=100 * 2**20))
    files.reserve(tmp_path / "new/fits.bin", 10 * 2**20)
    assert (tmp_path / "new/fits.bin").read_bytes() == bytes(10 * 2**20)
    with pytest.raises(UserError, match=r"100 MiB are free on its disk, 114 MiB are needed: free some"):
        files.reserve(tmp_path / "new/big.bin", 50 * 2**20)
    assert names(tmp_path) == {"new", "new/fits.bin"}


def test_the_blocks_of_a_reserved_file_are_taken(tmp_path):
    files.reserve(tmp_path / "values.bin", 2**20)
    assert (tmp_path / "values.bin").stat().st_blocks * 512 >= 2**20


def test_a_work_root_that_is_a_file_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "root").write_text("")
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path / "root"))
    with pytest.raises(UserError, match=r"root: a file: name a folder"):
        paths.results("cpu")


@pytest.mark.parametrize(
    ("raised", "status", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "log"), 2, "error: log: no space left on device: free some"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "error: x: permission denied: change its perm"),
        (UserError("one line"), 2, "error: one line"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_command_tells_what_the_system_refuses_in_one_line(capsys, raised, status, told):
    def main():
        raise raised

    with pytest.raises(SystemExit) as caught:
        errors.command(main)
    assert caught.value.code == status
    output = capsys.readouterr().err
    assert output.startswith(told)
    assert output.count("\n") == 1


def test_a_command_lets_through_what_is_a_mistake_of_ours():
    def main():
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")

    with pytest.raises(FileNotFoundError):
        errors.command(main)


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_a_terminated_command_goes_through_every_finally(name):
    script = """
import os, signal, sys
from lib import errors
signal.signal(signal.SIG{name}, signal.SIG_DFL)  # whoever runs this may ignore it
def main():
    try:
        os.kill(os.getpid(), signal.SIG{name})
        import time; time.sleep(30)
    finally:
        print("cleared")
errors.command(main)
"""
    done = subprocess.run([sys.executable, "-c", script.format(name=name)], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (143 if name == "TERM" else 129, "cleared\n", "")
