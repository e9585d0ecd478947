"""Dialogue pairs: the reader, the normalisation, and splits by conversation."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.text import dialogue, pairs


@pytest.fixture(scope="module")
def tables():
    loaded = dialogue.TURNS.load()
    return {split: loaded[split].to_pandas() for split in pairs.SPLITS}


def test_real_pairs_are_neighbouring_turns_of_one_conversation(tables):
    talks = dialogue.conversations()
    assert len(talks) == 7168
    assert len(tables["train"]) > 20_000
    for split, table in tables.items():
        assert table["src"].str.split().str.len().between(4, 16).all()
        assert table["trg"].str.split().str.len().between(2, 16).all()
        for row in table.iloc[:: 200 if split == "train" else 20].itertuples():
            said = [dialogue.turn(messages) for messages in talks[row.group]]
            assert (row.src, row.trg) in set(pairwise(said))


def test_no_conversation_and_no_pair_is_in_two_splits(tables):
    assert [tables[split]["group"].nunique() for split in ("test", "validation")] == [500, 500]
    groups = [set(table["group"]) for table in tables.values()]
    pairs_of = [list(zip(table["src"], table["trg"], strict=True)) for table in tables.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert sum(map(len, pairs_of)) == len(set().union(*pairs_of))


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("Hi!!! How's it goin?? :)", "hi ! how's it goin ?"),
        ("I don’t know... maybe \U0001f600 XD", "i don't know … maybe"),
        ("wait . . what :D lol =P", "wait . what lol"),
        ("at 10:30, (really) *smiles*", "at 10 : 30 , ( really ) smiles"),
        ("dad: no; see you", "dad : no ; see you"),
        (":) :-( ;) <3", ""),
    ],
)
def test_normalise(raw, normal):
    assert dialogue.normalise(raw) == normal


@given(st.text(max_size=40))
def test_normalise_leaves_plain_words(raw):
    normal = dialogue.normalise(raw)
    assert normal == " ".join(normal.split()) == normal.lower()
    assert all(character == "…" or " " <= character <= "~" for character in normal)


def test_a_turn_joins_its_messages():
    assert dialogue.turn(["Hello", ":)", "How are you?", "i am fine"]) == "hello . how are you ? i am fine"
    assert dialogue.turn([":)"]) == ""


def talk(name, *texts):
    return {name: [[text] for text in texts]}


def test_splits_and_counts(monkeypatch):
    monkeypatch.setattr(dialogue, "HELD_OUT", 1)
    same = ("what do you think of it", "not very much")
    talks = {}
    for name in ("a", "b", "c", "d"):
        talks |= talk(name, *same, "and why is that so", f"because of {name}")
    talks |= talk("e", "look at www.example.org my friend", "that is nice", "too short", "ok")
    talks |= talk("f", "a word " * 9, "that is nice to hear", "oh")
    rows, dropped = dialogue.split(talks)
    assert [len(rows[split]) for split in ("test", "validation")] == [1, 1]
    held_out = {row["group"] for split in ("test", "validation") for row in rows[split]}
    trained = {row["group"] for row in rows["train"]}
    assert len(held_out) == 2
    assert trained <= set("abcd") - held_out
    texts = [(row["src"], row["trg"]) for split in rows.values() for row in split]
    assert len(texts) == len(set(texts))
    assert dropped["link"] == 1
    # a to d: the middle pair begins with three words; e: replies or turns too short, twice; f: too long, and one word.
    assert dropped["length"] == 4 + 2 + 2
    assert dialogue.split(dict(reversed(talks.items()))) == (rows, dropped)


OTHERS = ["", "[1]", '{"a": {}}', '{"a": {"messages": [[{"sender": "x"}]]}}']
OTHERS += ['{"a": {"messages": [[{"text": 5}]]}}', '{"a": {"messages": [[{"text": null}]]}}', "[" * 100_000, "\0"]


@pytest.mark.parametrize("content", OTHERS)
def test_a_file_of_another_layout_is_a_readable_error(tmp_path, monkeypatch, content):
    path = tmp_path / "dataset.json"
    path.write_text(content)
    monkeypatch.setattr(dialogue.sources, "path", lambda carrier, filename: path)
    with pytest.raises(UserError, match=r"dataset\.json: not a set of conversations .*fetch it again") as caught:
        dialogue.conversations()
    assert "\n" not in str(caught.value)
