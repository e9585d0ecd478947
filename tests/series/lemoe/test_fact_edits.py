"""The embedded edits: true answers, false targets, no contradictions, untouched locality; and what a model knows."""

import dataclasses
import re
from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest
import torch

from lib.causal_lm.edits import Edit, check
from lib.errors import UserError
from lib.facts import databases, relations
from lib.series.lemoe import fact_edits as data
from tests.editing.contradictions import contradictions
from tests.tiny_models import small_gpt2, small_llama

WORDS = "abcdefghijklmnop"


@cache
def edits_of(split: str = "edits") -> list[Edit]:
    return data.fact_edits(split)


def every() -> list[Edit]:
    return edits_of() + edits_of("tuning")


class Letters:
    """A tokenizer of single letters, without blanks."""

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [WORDS.index(letter) + 3 for letter in text.lower() if letter in WORDS]}


@cache
def truths() -> dict[tuple[str, str], set[str]]:
    """Return all answers that the tables give, by relation and subject, gathered column by column."""
    true = defaultdict(set)
    countries, cities, elements = databases.countries(), databases.cities(), databases.elements()
    for _, row in countries.iterrows():
        name = row["name"].removeprefix("The ").replace("’", "'")
        for relation in ("capital", "currency", "code", "continent"):
            true[relation, name].add(str(row[relation]).replace("’", "'").strip())
        true["language", name].update(row["languages"])
    for _, row in cities.iterrows():
        true["country", row["name"].replace("’", "'")].add(row["country"].replace("’", "'"))
    for _, row in elements.iterrows():
        for relation in ("symbol", "number", "group", "period", "block", "discoverer"):
            true[relation, row["name"].lower()].add(str(row[relation]))
        true["series", row["name"].lower()].add(row["series"].lower())
    return true


def bare(text: str) -> str:
    text = text.strip().removeprefix("the ").removeprefix("The ")
    return "America" if text == "Americas" else text


def test_sizes_and_relations():
    assert len(edits_of()) >= 1000
    assert len(edits_of("tuning")) >= 300
    for edits in (edits_of(), edits_of("tuning")):
        assert {edit.relation for edit in edits} == set(relations.WORDINGS)
    assert len({edit.identity for edit in every()}) == len(every())


def test_every_edit_is_well_formed():
    for edit in every():
        check(edit, needs_subject=True)
        texts = [edit.prompt, *edit.rephrases, edit.locality[0]]
        assert all(text == text.strip() and "{" not in text for text in texts)
        assert not edit.prompt.endswith("?")
        assert len({edit.prompt, *edit.rephrases}) == 3
        assert [text.endswith("?") for text in edit.rephrases] == [False, True]
        assert all(edit.subject in text for text in edit.rephrases)
        for answer in (edit.target, edit.answer, edit.locality[1]):
            assert re.fullmatch(r" \S(.*\S)?", answer)
        assert edit.target != edit.answer
        assert edit.target.strip().lower() not in re.findall(r"\w+", edit.prompt.lower().replace("'s", "")) or (
            edit.relation in ("block", "symbol")  # one letter
        )


def test_answers_are_true_and_targets_are_not():
    true = truths()
    spelling = {new: old for old, new in relations._SPELLING.items()}
    for edit in every():
        answers = {bare(answer) for answer in true[edit.relation, edit.subject]} | {None}
        answer = bare(edit.answer)
        if edit.relation == "discoverer":
            answers = {str(text).removeprefix("Sir ") for text in answers}
            answer = spelling.get(answer, answer)
        assert answer in answers, edit
        assert bare(edit.target) not in answers, edit


def test_targets_are_of_the_type_of_the_answers():
    pool = data.targets()
    for edit in every():
        assert edit.target.strip() in pool[edit.relation]
    elements = set(databases.elements()["symbol"])
    assert {edit.target.strip() for edit in every() if edit.relation == "symbol"} <= elements
    assert {edit.target.strip() for edit in every() if edit.relation == "continent"} == {
        "Africa",
        "Asia",
        "Europe",
        "Oceania",
        "America",
    }
    # Drawn over all other answers: large pools are not used up by a few.
    drawn = Counter(edit.target for edit in edits_of() if edit.relation == "country")
    assert len(drawn) > 80
    assert max(drawn.values()) < 20


def test_answers_that_may_pass_for_another_are_no_targets():
    both = {"nonmetals", "halogens", "noble gases", "metalloids"}
    metals = {"transition metals", "lanthanides", "actinides", "poor metals", "metalloids"}
    pool = data.targets()
    assert {"Malay", "Indonesian", "Filipino", "Tagalog"} <= set(pool["language"])
    for fact in relations.known_facts():
        if fact.relation not in ("series", "continent") and fact.answer != "Malay":
            continue
        free = {data._target(fact, pool[fact.relation], str(draw)).strip() for draw in range(40)}
        if fact.relation == "series":
            for kin in (both, metals):
                assert fact.answer not in kin or not free & kin
        if fact.relation == "continent" and fact.subject in ("Russia", "Turkey"):
            assert free == {"Africa", "Oceania", "America"}
        if fact.relation == "language" and fact.answer == "Malay":
            assert "Indonesian" not in free


def test_nothing_contradicts():
    assert contradictions(edits_of()) == (0, 0)
    prompts = Counter(text for edit in every() for text in (edit.prompt, *edit.rephrases))
    assert max(prompts.values()) == 1  # no prompt or rephrase is another's, in either split
    places = Counter(edit.subject for edit in every() if edit.relation in relations.PLACES)
    assert max(places.values()) == 1
    capitals = {str(name).replace("’", "'") for name in databases.countries()["capital"]}
    cities = {edit.subject for edit in every() if edit.relation == "country"}
    assert not cities & capitals
    names = databases.cities()["name"].value_counts()
    assert not cities & {name.replace("’", "'") for name in names[names > 1].index}


def test_splits_share_no_subject_and_locality_touches_none():
    split = {"edits": edits_of(), "tuning": edits_of("tuning")}
    subjects = {name: {edit.subject for edit in edits} for name, edits in split.items()}
    assert not subjects["edits"] & subjects["tuning"]
    edited = subjects["edits"] | subjects["tuning"]
    asked = {name: set(data.locality(name)) for name in split}
    assert not {prompt for _, prompt, _ in asked["edits"]} & {prompt for _, prompt, _ in asked["tuning"]}
    spaced = [f" {name} " for name in edited]
    for name, edits in split.items():
        for edit in edits:
            assert (edit.locality[0], edit.locality[1]) in {(prompt, answer) for _, prompt, answer in asked[name]}
            (relation,) = {row[0] for row in asked[name] if row[1] == edit.locality[0]}
            assert relation != edit.relation
    for _, prompt, _ in asked["edits"] | asked["tuning"]:
        text = f" {re.sub(r'[,?]', ' ', prompt)} "
        assert not [name for name in spaced if name in text], prompt
    assert len(asked["edits"]) > 200
    assert len({edit.locality for edit in edits_of()}) > 200


def test_every_beginning_is_a_mixture():
    share = Counter(edit.relation for edit in edits_of())
    for size in (100, 300, 1000):
        start = Counter(edit.relation for edit in edits_of()[:size])
        for relation, count in share.items():
            expected = size * count / len(edits_of())
            assert abs(start[relation] - expected) < 4 * np.sqrt(expected) + 1


def test_more_cities_keep_splits_and_order():
    many = data.fact_edits(per_country=None)
    assert len(many) >= 3000
    kept = {edit.identity for edit in edits_of()}
    assert [edit.identity for edit in many if edit.identity in kept] == [edit.identity for edit in edits_of()]
    assert not {edit.subject for edit in many} & {edit.subject for edit in edits_of("tuning")}
    assert contradictions(many)[0] == 0
    most = Counter(edit.answer for edit in edits_of() if edit.relation == "country").most_common(1)[0][1]
    assert most <= relations.PER_COUNTRY


def test_an_unknown_split():
    with pytest.raises(UserError, match="take edits or tuning"):
        data.fact_edits("test")


def test_the_sets_are_the_ones_that_results_name():
    # To be changed only with intent: results before and after are of different edits.
    assert [data.content_hash(edits)[:12] for edits in (edits_of(), edits_of("tuning"), data.hard_edits())] == [
        "10832f341052",
        "0a2a45d2a98c",
        "33571656d346",
    ]


def test_the_content_hash_sees_fields_and_order():
    first = data.content_hash(edits_of()[:3])
    assert first == data.content_hash([Edit(**dataclasses.asdict(edit)) for edit in edits_of()[:3]])
    assert first != data.content_hash(edits_of()[2::-1])
    others = {"rephrases": ("x",), "locality": ("x", "y")}
    for field in dataclasses.fields(Edit):
        changed = dataclasses.replace(edits_of()[0], **{field.name: others.get(field.name, "x")})
        assert first != data.content_hash([changed, *edits_of()[1:3]])


@pytest.mark.parametrize(("twins", "reworded"), [(0.25, 0.1), (1.0, 0.5), (0.0, 0.1)])
def test_the_hard_set_contradicts_as_often_as_asked(twins, reworded):
    hard = data.hard_edits(200, twins, reworded)
    doubled = 200 - round(200 / (1 + twins))
    assert (len(hard), *contradictions(hard)) == (200, 2 * doubled, round(reworded * doubled))
    # The same, by comparing all pairs.
    at_odds = [
        any(
            one.target != other.target and (one.subject, one.relation) == (other.subject, other.relation)
            for other in hard
        )
        for one in hard
    ]
    assert sum(at_odds) == 2 * doubled
    true, pool = truths(), data.targets()
    for edit in hard:
        check(edit, needs_subject=True)
        assert edit.target.strip() in pool[edit.relation]
        assert bare(edit.target) not in {bare(answer) for answer in true[edit.relation, edit.subject]}
        assert edit.prompt not in edit.rephrases
    assert len({edit.identity for edit in hard}) == 200


def test_the_hard_set_is_as_zsre_and_mixes_twins_in():
    hard = data.hard_edits()
    assert (len(hard), *contradictions(hard)) == (1000, 400, 20)
    assert 0.35 * 200 < sum(edit.identity.endswith("/twin") for edit in hard[:500]) < 0.65 * 200
    with pytest.raises(UserError, match="ask for fewer"):
        data.hard_edits(100_000)
    with pytest.raises(UserError, match="between 0 and 1"):
        data.hard_edits(10, twins=1.5)


@pytest.mark.parametrize("make", [small_llama, small_gpt2])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_known_is_what_greedy_decoding_says(make, batch_size):
    model, draw = make(), np.random.default_rng(0)
    edits, expected = [], []
    while len(edits) < 40:
        prompt = "".join(draw.choice(list(WORDS), draw.integers(1, 9)))
        ids = torch.tensor([Letters()(prompt)["input_ids"]])
        length = int(draw.integers(1, 4))
        for _ in range(length):
            ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1)[:, None]], 1)
        told = ids[0, -length:].tolist()
        if min(told) < 3 or max(told) >= 3 + len(WORDS):
            continue
        wrong = int(draw.integers(-1, length))  # the place of a wrong token, -1 for none
        if wrong >= 0:
            told[wrong] = 3 + (told[wrong] - 2) % len(WORDS)
        edits.append(Edit(prompt, "a", answer="".join(WORDS[token - 3] for token in told)))
        expected.append(wrong < 0)
    assert 5 < sum(expected) < 35
    assert data.known(model, Letters(), edits, batch_size) == expected


def test_known_needs_answers():
    with pytest.raises(UserError, match="no true answer"):
        data.known(small_llama(), Letters(), [Edit("abc", "d")])
    with pytest.raises(UserError, match="at least 1"):
        data.known(small_llama(), Letters(), edits_of()[:1], 0)
    assert data.known(small_llama(), Letters(), []) == []
