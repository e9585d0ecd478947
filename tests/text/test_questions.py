"""Question generation: true facts, phrasings that belong together, and subjects in one split only."""

import re

import pytest

from lib.facts import databases
from lib.text import bible, pairs, questions
from lib.text.phrasings import PHRASINGS
from lib.text.questions import Fact
from lib.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def tables():
    loaded = questions.QUESTIONS.load()
    return {split: loaded[split].to_pandas() for split in pairs.SPLITS}


def test_sizes(tables):
    assert [len(tables[split]) for split in ("validation", "test")] == [500, 500]
    assert len(tables["train"]) >= 8000
    for table in tables.values():
        assert set(table["relation"]) == set(PHRASINGS)
        for side in ("src", "trg"):
            assert table[side].str.split().str.len().between(4, 20).all()


def test_subjects_are_in_one_split(tables):
    subjects = [set(table["group"]) for table in tables.values()]
    assert sum(map(len, subjects)) == len(set().union(*subjects))


def test_the_statement_holds_subject_and_answer_and_the_question_the_subject_only(tables):
    for table in tables.values():
        for row in table.itertuples():
            statement, question = f" {row.src} ", f" {row.trg} "
            assert f" {row.answer} " in statement
            assert f" {row.group} " in statement
            assert f" {row.group} " in question
            assert f" {row.answer} " not in question
            assert row.src.endswith(" .")
            assert row.trg.endswith(" ?")


def test_held_out_questions_are_made_of_words_seen_in_training(tables):
    train = tables["train"]
    vocabulary = Vocabulary.build([*train["src"], *train["trg"]], 8000)
    for split in ("validation", "test"):
        words = " ".join([*tables[split]["src"], *tables[split]["trg"]]).split()
        assert sum(word not in vocabulary.index for word in words) < 0.05 * len(words)
        assert all(word in vocabulary.index for text in tables[split]["trg"] for word in text.split())


def test_told_facts_are_true(tables):
    table = tables["test"]
    capitals = databases.countries().set_index("name")["capital"].dropna()
    capitals = {bible.normalise(name): bible.normalise(capital) for name, capital in capitals.items()}
    told = table[table["relation"] == "capital"]
    assert len(told) > 20
    assert all(capitals[re.sub("^the ", "", row.group)] == row.answer for row in told.itertuples())
    numbers = databases.elements().set_index("name")["number"]
    told = table[table["relation"] == "number"]
    assert len(told) > 5
    assert all(str(numbers[row.group.capitalize()]) == row.answer for row in told.itertuples())
    assert Fact("the united states", "capital", "washington") in questions.known_facts()


def test_phrasings_are_many_distinct_and_say_what_they_must():
    assert len(PHRASINGS) >= 8
    everything = []
    for families in PHRASINGS.values():
        assert len(families) == questions.FAMILIES
        for family in families:
            everything += [*family.statements, *family.questions]
            for statement in family.statements:
                assert re.findall(r"{.}", statement).count("{s}") == re.findall(r"{.}", statement).count("{a}") == 1
            for question in family.questions:
                assert re.findall(r"{.}", question) == ["{s}"]
            for text in (*family.statements, *family.questions):
                assert bible.normalise(text.format(s="x", a="y")) == text.format(s="x", a="y")
    assert len(everything) == len(set(everything)) >= 16 * len(PHRASINGS)


def test_a_statement_template_leads_to_two_questions(tables):
    asked = {}
    for row in tables["train"].itertuples():
        template = row.src.replace(row.answer, "{a}", 1).replace(row.group, "{s}", 1)
        asked.setdefault((row.relation, template), set()).add(row.trg.replace(row.group, "{s}"))
    for relation, families in PHRASINGS.items():
        for family in families:
            for statement in family.statements:
                assert asked[relation, statement] == set(family.questions)


def test_a_telling_depends_on_the_fact_alone():
    fact = Fact("france", "capital", "paris")
    assert questions.phrase(fact, 0) == questions.phrase(Fact(*fact), 0)
    told = {questions.phrase(Fact(str(number), "capital", "x"), 0)[1].replace(str(number), "s") for number in range(20)}
    assert len(told) == 2


def test_splits_leave_out_what_gives_the_answer_away_or_was_never_seen():
    known = [Fact(f"land {n}", "continent", "asia") for n in range(20)]
    known += [Fact(f"land {n}", "border", f"land {(n + 1) % 20}") for n in range(20)]
    known += [
        Fact("land 1", "capital", "land"),
        Fact("lonely", "capital", "somewhere"),
        Fact("land 2", "city", "x " * 20),
    ]
    assert questions.nameable(known) == {f"land {n}" for n in range(20)}
    rows, dropped = questions.split(known)
    assert {row["group"] for row in rows["test"]}.isdisjoint(row["group"] for row in rows["validation"])
    assert {"lonely"} <= {row["group"] for row in rows["train"]}
    assert dropped["answer_in_question"] > 0
    assert dropped["length"] > 0
    words = {word for row in rows["train"] for word in f"{row['src']} {row['trg']}".split()}
    for split in ("test", "validation"):
        assert rows[split]
        for row in rows[split]:
            assert set(row["trg"].split()) <= words
