"""Replies that people give often: what is kept, what is left out, and splits by conversation."""

from collections import defaultdict
from itertools import pairwise

import pytest

from lib.text import dialogue, pairs, replies


@pytest.fixture(scope="module")
def tables():
    loaded = replies.REPLIES.load()
    return {split: loaded[split].to_pandas() for split in pairs.SPLITS}


def test_real_pairs_end_a_turn_and_begin_the_next_one(tables):
    talks = dialogue.conversations()
    assert len(tables["train"]) > 6000
    for split, table in tables.items():
        assert table["src"].str.split().str.len().between(4, 16).all()
        assert table["trg"].str.split().str.len().between(3, 16).all()
        for row in table.iloc[:: 100 if split == "train" else 20].itertuples():
            said = [dialogue.turn(messages) for messages in talks[row.group]]
            ends = [
                (before.endswith(row.src), after.lstrip(".?!… ").startswith(row.trg))
                for before, after in pairwise(said)
            ]
            assert (True, True) in ends, (row, said)


def test_every_reply_is_given_in_three_conversations(tables):
    turns = defaultdict(set)
    for identity, talk in dialogue.conversations().items():
        for messages in talk[1:]:
            words = "".join(c if c.isalnum() or c in " '" else " " for c in dialogue.turn(messages).replace(".", " . "))
            turns[" ".join(words.split()[:3])].add(identity)  # a reply of three words begins so
    for table in tables.values():
        for reply in table["trg"].iloc[::50]:
            words = [word for word in reply.split() if word[0].isalnum()]
            assert len(words) < 3 or len(turns[" ".join(words[:3])]) >= 3


def test_no_conversation_and_no_pair_is_in_two_splits(tables):
    assert [tables[split]["group"].nunique() for split in ("test", "validation")] == [500, 500]
    groups = [set(table["group"]) for table in tables.values()]
    pairs_of = [list(zip(table["src"], table["trg"], strict=True)) for table in tables.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert sum(map(len, pairs_of)) == len(set().union(*pairs_of))


def test_sentences_are_cut_and_rare_replies_left_out(monkeypatch):
    monkeypatch.setattr(dialogue, "HELD_OUT", 0)
    talks = {
        name: [["Hi!", f"I am {name} and I like tea."], ["Me too! What kind of tea do you like?"], [last]]
        for name, last in (("a", "Not sure."), ("b", "Green tea."), ("c", "Green tea."))
    }
    rows, dropped = replies.split(talks)
    assert {(row["src"], row["trg"], row["group"]) for row in rows["train"]} == {
        (f"i am {name} and i like tea .", "me too !", name) for name in "abc"
    }
    # "green tea ." is said in two conversations, "not sure ." in one.
    assert dropped == {"rare_reply": 3, "repeated_pair": 0, "pair_of_a_held_out_conversation": 0}
    twice = {**talks, "d": talks["b"]}
    answers = [row["trg"] for row in replies.split(twice)[0]["train"]]
    assert answers.count("green tea .") == 1  # in three conversations now; the same pair stands once
    assert replies.split(dict(reversed(talks.items()))) == (rows, dropped)


def test_two_exchanges_of_one_conversation_make_no_third_pair(monkeypatch):
    monkeypatch.setattr(dialogue, "HELD_OUT", 0)
    talks = {
        name: [["How are you doing?"], ["I am fine."], [f"What is {name} good for?"], ["I am fine."]] for name in "abc"
    }
    rows, dropped = replies.split(talks)
    assert {(row["src"], row["trg"]) for row in rows["train"]} == {
        ("how are you doing ?", "i am fine ."),
        *((f"what is {name} good for ?", "i am fine .") for name in "abc"),
    }
    assert dropped["rare_reply"] == 3  # the questions, as replies to the first answer
