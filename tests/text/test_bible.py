"""The reader of verse-aligned Bibles: offsets, layout errors, and the normalisation of the text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.text import bible, verses

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
    "content",
    [
        *("", "bible = 3", "Bible(Version.X, 'text')", "Bible(V.X, 'text', {1: 0}, {2: 3})", "(", "x = '\0'"),
        *("Bible(V.X, 5, {1: 0}, {1: 3})", "Bible(V.X, 'text', " + "-" * 100_000 + "1, {})"),
    ],
)
def test_a_file_of_another_layout_is_a_readable_error(write, content):
    write(content)
    with pytest.raises(UserError, match=r"carrier\.py: not a verse index.*fetch it again") as caught:
        bible.verses("kjv")
    assert "\n" not in str(caught.value)


def test_unknown_version():
    with pytest.raises(UserError, match=r"'oeb'.*kjv, asv, web, bbe"):
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


def test_basic_english_is_split_at_the_numbers_and_chapters_counted_otherwise_go(write):
    one = "<sup>1</sup> In [the] start.<sup>2</sup>Then."
    two = "<sup>1</sup> Light.<sup>2</sup> Dark.<sup>3</sup> A title more."
    three = "<sup>1</sup>\\\\2:1\\\\Land. <sup>2</sup> Sea."
    write(f'Bible(Version.X, """{one} {two} {three}""")')
    world = [1001001, 1001002, 1002001, 1002002, 2001001, 2001002]
    expected = {1001001: "In [the] start.", 1001002: "Then.", 2001001: "Land.", 2001002: "Sea."}
    assert bible.basic_english(reversed(world)) == expected
    with pytest.raises(UserError, match=r"carrier\.py: not a verse index .*3 chapters, not 4.*fetch it again"):
        bible.basic_english([*world, 3001001])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 12), st.integers(1, 9))
def test_a_chapter_too_many_is_the_one_without_which_most_fit(sizes, place, extra):
    chapters = [["x"] * size for size in sizes]
    chapters.insert(place, ["x"] * extra)
    left = bible.as_many(chapters, sizes)
    best = max(
        sum(len(one) == size for one, size in zip(chapters[:i] + chapters[i + 1 :], sizes, strict=True))
        for i in range(len(chapters))
    )
    assert sum(len(one) == size for one, size in zip(left, sizes, strict=True)) == best == len(sizes)


@pytest.fixture(scope="module")
def modern():
    world = bible.verses("web")
    return {"web": world, "basic": bible.basic_english(world)}


def test_the_real_basic_english_stands_beside_the_same_verses(modern):
    world, basic = ({v: bible.normalise(text).split() for v, text in texts.items()} for texts in modern.values())
    assert len(basic) == 29221
    assert modern["basic"][43011035] == "And Jesus himself was weeping."
    assert not any("\\" in text or "<" in text for text in modern["basic"].values())
    by_chapter = {}
    for verse in basic:
        if verse + 1 in world:
            pair = verses.overlap(world[verse], basic[verse]), verses.overlap(world[verse + 1], basic[verse])
            by_chapter.setdefault(verse // 1000, []).append(pair)
    means = np.array([np.mean(pairs, axis=0) for pairs in by_chapter.values()])
    everything = np.concatenate([*by_chapter.values()]).mean(axis=0)
    assert everything == pytest.approx([0.61, 0.22], abs=0.01)
    # Not one chapter has slipped: each fits its own verses far better than the next ones.
    assert means[:, 0].min() > 0.3
    assert (means[:, 0] > 1.4 * means[:, 1]).all()


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
