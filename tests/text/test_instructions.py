"""Instruction sets: what is held out from what, and that the answers are true of their sources."""

import re
from collections import defaultdict
from itertools import pairwise

import pytest

from lib.errors import UserError
from lib.facts import databases
from lib.text import bible, dialogue, instruction_sets, instructions
from lib.text.instruction_sets import Row, canonical, interleaved, most_frequent, plain
from lib.text.instructions import HELD_OUT, NAMES, SPLITS, TRAINED, Instruction, load, render


def group(item: Instruction) -> str:
    return item.identity.split("/", 3)[3]


@pytest.fixture(scope="module")
def every() -> list[tuple[str, Instruction]]:
    return [(split, item) for name in NAMES for split in SPLITS for item in load(name)[split]]


def test_there_are_enough_rows_and_they_are_short(every):
    for name in NAMES:
        sizes = {split: len(load(name)[split]) for split in SPLITS}
        assert min(sizes["test"], sizes["validation"]) >= 60
        assert name == HELD_OUT or sizes["train"] >= 700
    assert len(TRAINED) == 4
    assert HELD_OUT not in TRAINED
    for _, item in every:
        assert len(f"{item.instruction} {item.input}".split()) <= 30
        assert 1 <= len(item.output.split()) <= 12
        assert item.output == item.output.strip()
        assert item.output in item.references
        assert len(set(item.references)) == len(item.references)
    assert len({item.identity for _, item in every}) == len(every)


def test_a_verse_is_in_one_split_in_all_its_translations(every):
    splits, texts = defaultdict(set), defaultdict(set)
    for split, item in every:
        if item.name in ("modern", "simple"):
            splits[group(item)].add(split)
            for text in (item.input, item.output):
                texts[text].add("train" if split == "train" else "held out")
    assert len(splits) > 1000
    assert all(len(found) == 1 for found in splits.values())
    assert all(len(found) == 1 for found in texts.values())
    both = [{group(item) for _, item in every if item.name == name} for name in ("modern", "simple")]
    assert len(both[0] & both[1]) > 50  # else nothing would be shown


def test_a_conversation_and_a_described_subject_are_in_one_split(every):
    for name in ("chat", "describe"):
        splits = defaultdict(set)
        for split, item in every:
            if item.name == name:
                splits[group(item)].add(split)
        assert all(len(found) == 1 for found in splits.values())
        assert {split for found in splits.values() for split in found} == set(SPLITS)


def test_a_fact_is_taught_in_other_words_than_it_is_asked_in(every):
    asked = [(split, item, group(item).rsplit("/", 1)) for split, item in every if item.name == "facts"]
    taught = defaultdict(set)
    for split, item, (fact, family) in asked:
        if split == "train":
            taught[fact].add((family, item.instruction, item.output))
    questions = {item.instruction for split, item, _ in asked if split == "train"}
    held_out = [(item, fact, family) for split, item, (fact, family) in asked if split != "train"]
    assert len(held_out) == len(taught)
    for item, fact, family in held_out:
        assert item.instruction not in questions
        assert {told for told, *_ in taught[fact]} == {"0", "1", "2", "3"} - {family}
        assert {output for *_, output in taught[fact]} == {item.output}


def test_the_first_training_rows_teach_every_fact_and_describe_every_subject():
    for name in ("facts", "describe"):
        rows = load(name)["train"]
        of = [group(item).rsplit("/", 1)[0] if name == "facts" else group(item) for item in rows]
        assert set(of[: len(set(of))]) == set(of)


def test_subjects_that_are_described_in_the_test_are_not_asked_about(every):
    described = {
        bible.normalise(group(i).split("/")[1]) for split, i in every if i.name == "describe" and split != "train"
    }
    asked = {group(item).split("/")[0].removeprefix("the ") for _, item in every if item.name == "facts"}
    assert len(described) > 50
    assert not described & asked


def test_facts_are_those_of_the_sources(every):
    countries, elements = databases.countries().set_index("name"), databases.elements().set_index("name")
    kept = 0
    for _, item in every:
        found = re.fullmatch(r"What is the (capital|symbol) of (?:the )?(.+)\?", item.instruction)
        if item.name == "facts" and found:
            table = countries if found[1] == "capital" else elements
            assert table.loc[found[2], found[1]] == item.output
            kept += 1
        if item.name == "facts" and item.instruction.startswith("Which language is spoken in"):
            name = item.instruction.removesuffix("?").split(" in ")[1].removeprefix("the ")
            assert set(item.references) <= set(countries.loc[name, "languages"])
            kept += 1
    assert kept > 50


def test_what_is_described_follows_from_the_input(every):
    size = {"tiny": (0, 1), "small": (1, 50), "medium": (50, 500), "large": (500, 1e9)}
    checked = set()
    for _, item in every:
        if item.name != "describe":
            continue
        numbers = re.fullmatch(r".*; in (\w+); ([\d.]+) thousand km2; ([\d.]+) million people", item.input)
        sized = re.fullmatch(r"an? (tiny|small|medium|large) country(?: in (\w+) with (.*))?", item.output)
        if numbers and sized:
            least, most = size[sized[1]]
            assert least - 0.05 <= float(numbers[2]) <= most + 0.05  # the input is rounded
            assert sized[2] in (None, numbers[1])
            checked.add("sized")
        if "borders" in item.input:
            count = len(item.input.split("; borders ")[1].split(", "))
            assert ("none", "one", "two", "three", "four", "five", "six")[count] == item.output
            checked.add("borders")
        if (period := re.search(r"of period (\d)$", item.output)) is not None:
            assert item.input.endswith(f"period {period[1]}")
            checked.add("period")
    assert checked == {"sized", "borders", "period"}
    metal = {item.input.split(";")[0]: item.output for _, item in every if item.output in ("a metal", "a nonmetal")}
    assert [metal[name] for name in ("Iron", "Gold", "Uranium", "Neon", "Oxygen")] == ["a metal"] * 3 + [
        "a nonmetal"
    ] * 2


def test_verses_are_those_of_their_translations():
    world = bible.verses("web")
    texts = {"modern": (bible.verses("kjv"), world), "simple": (world, bible.basic_english(world))}
    for name, sides in texts.items():
        for item in load(name)["test"][:40]:
            verse = int(group(item).removeprefix("verse/"))
            for written, whole in zip((item.input, item.output), sides, strict=True):
                assert written in plain(bible.normalise(whole[verse]))
            assert item.input != item.output


def test_replies_are_those_of_the_conversation_and_all_references_of_the_same_split():
    talks = dialogue.conversations()
    rows = load("chat")["test"]
    replies = defaultdict(set)
    for item in rows:
        said = [plain(dialogue.turn(turn)) for turn in talks[group(item).removeprefix("conversation/")]]
        assert any(one.endswith(item.input) and two.startswith(item.output) for one, two in pairwise(said))
        replies[canonical(item.input)].add(item.output)
    for item in rows:
        assert set(item.references) == replies[canonical(item.input)]
        assert item.references[0] == item.output


def test_the_prompt_is_alpacas_without_its_preamble():
    item = Instruction("Say it.", "thou", "you", "modern", "x", ("you",))
    assert render(item) == "Instruction: Say it.\nInput: thou\nResponse:"
    assert render(Instruction("Say it.", "", "you", "modern", "x", ("you",))) == "Instruction: Say it.\nResponse:"
    assert instructions.texts([item]) == [render(item), " you"]


def test_an_unknown_set_is_named_with_the_choices():
    with pytest.raises(UserError, match=r"'dolly': choose one of facts, modern, chat, describe, simple"):
        load("dolly")


def test_the_card_counts_what_is_there():
    card = instructions.card()
    assert list(card.index) == list(NAMES)
    assert card.loc["chat", "test"] == len(load("chat")["test"])
    assert list(card.index[card["trained on"] == "no"]) == [HELD_OUT]
    outputs = [item.output for split in SPLITS for item in load("describe")[split]]
    assert card.loc["describe", "outputs"] == len(set(outputs))
    assert card["licence"].str.len().min() > 5


def test_small_parts():
    row = Row("", "", "", (), "", "")
    lists = [[row._replace(input=f"{letter}{turn}") for turn in range(count)] for letter, count in (("a", 3), ("b", 1))]
    assert [one.input for one in interleaved(lists)] == ["a0", "b0", "a1", "a2"]
    assert interleaved([]) == []
    assert plain("thou , art ; he said : no !") == "thou, art; he said: no!"
    assert canonical("how's it going , eh ?") == "hows it going eh"
    assert most_frequent(["b a c", "a b", "d"], 3) == {"a", "b", "c"}
    shares = [instruction_sets.split_of("test", number) for number in range(2000)]
    assert 150 < shares.count("test") < 250
    assert 150 < shares.count("validation") < 250
