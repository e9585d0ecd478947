"""The reader of verse-aligned Bibles: offsets, layout errors, and the normalisation of the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.text import bible

# A file in the carriers' layout that would leave a trace if it were run.
LAYOUT = """
import absent_package
open({trace!r}, "w")
bible = Bible(Version.X, {text!r}, {starts!r}, {ends!r}, {{}}, {{}}, {{}}, False)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    def written(content):
        path = tmp_path / "carrier.py"
        path.write_text(content, encoding="utf-8")
        monkeypatch.setattr(bible.sources, "path", lambda carrier, filename: path)

    return written


def test_verses_are_cut_at_the_offsets_without_running_the_file(tmp_path, write):
    text = "One one. Two `two`.   BOOK I   Psalm 1 A Psalm by David. Three.  GIMEL"
    starts, ends = {1: 0, 2: 8, 3: 8, 4: 56}, {1: 8, 2: 8, 3: 56, 4: len(text)}
    write(LAYOUT.format(trace=str(tmp_path / "trace"), text=text, starts=starts, ends=ends))
    assert bible.verses("web") == {1: "One one.", 3: "Two `two`.", 4: "Three."}
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "content", ["", "bible = 3", "Bible(Version.X, 'text')", "Bible(V.X, 'text', {1: 0}, {2: 3})", "("]
)
def test_a_file_of_another_layout_is_a_readable_error(write, content):
    write(content)
    with pytest.raises(UserError, match=r"carrier\.py: not a verse index.*fetch it again") as caught:
        bible.verses("kjv")
    assert "\n" not in str(caught.value)


def test_unknown_version():
    with pytest.raises(UserError, match=r"'oeb'.*kjv, asv, web"):
        bible.verses("oeb")


@pytest.mark.parametrize(
    ("version", "first", "verses"),
    [
        ("kjv", "In the beginning God created the heaven and the earth.", 31102),
        ("asv", "In the beginning God created the heavens and the earth.", 31086),
        ("web", "In the beginning God created the heavens and the earth.", 31102),
    ],
)
def test_the_real_texts(version, first, verses):
    texts = bible.verses(version)
    assert texts[1001001] == first
    assert len(texts) == verses
    assert not any("Psalm 1" in text or "BEIT" in text for text in texts.values())
    assert texts[43011035] == "Jesus wept."


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("And darkness [was] upon the deep;", "and darkness was upon the deep ;"),
        ("God`s Spirit; God’s Spirit; God's Spirit", "god's spirit ; god's spirit ; god's spirit"),
        ('`You shall not die.`" He said, "Don`t!"', "you shall not die . he said , don't !"),
        ("`Behold` he said, his sons` wives", "behold he said , his sons' wives"),
        ("an offering of first -[fruits] at Beth-el", "an offering of first-fruits at beth-el"),
        ("live for ever— therefore Cæsar (the king)   spoke", "live for ever — therefore caesar ( the king ) spoke"),
        ("no help in God.[Selah", "no help in god . selah"),
        ("", ""),
    ],
)
def test_normalise(raw, normal):
    assert bible.normalise(raw) == normal


@given(st.text(alphabet="abS sT.,;:'`’\"[]()-—æ12", max_size=60))
def test_normalise_is_idempotent_and_single_spaced(raw):
    normal = bible.normalise(raw)
    assert bible.normalise(normal) == normal
    assert normal == " ".join(normal.split())
    assert not set(normal) & set('[]`’"')
