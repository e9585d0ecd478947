"""The facts of the Beacons series: pools apart, true to their sources, without contradictions; invented ones new."""

import dataclasses
import re
import sqlite3
from collections import Counter

import pytest

from lib.beacons import facts
from lib.causal_lm import backbones
from lib.causal_lm.encoding import tokens
from lib.errors import UserError
from lib.facts import databases as sources
from lib.facts import invented
from lib.facts import triples as relations
from tests.beacons.made_facts import made_facts
from tests.tiny_models import Letters

KINDS = ("proper noun", "time", "place")


@pytest.fixture(scope="module")
def pools():
    return {pool: facts.facts(pool) for pool in ("results", "tuning", "invented")}


@pytest.fixture(scope="module")
def tokenizer():
    return backbones.load_causal_lm(backbones.SMOLLM2, "float32", layers=1)[1]


def test_the_pools_are_large_enough_and_apart(pools, tokenizer):
    sizes = {pool: len(facts.fitting(found, tokenizer, 8)) for pool, found in pools.items()}
    assert sizes["results"] >= 600
    assert sizes["tuning"] >= 100
    assert sizes["invented"] >= 200
    for pool, found in pools.items():
        assert len({fact.identity for fact in found}) == len({fact.prompt for fact in found}) == len(found)
        assert {fact.invented for fact in found} == {pool == "invented"}
        assert set(Counter(fact.kind for fact in found)) == set(KINDS)
    subjects = [{fact.subject.lower() for fact in found} for found in pools.values()]
    prompts = [{text for fact in found for text in (fact.prompt, *fact.paraphrases)} for found in pools.values()]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not subjects[one] & subjects[other]
        assert not prompts[one] & prompts[other]


def test_every_beginning_mixes_the_kinds_evenly(pools):
    for found in pools.values():
        for size in (3, 30, 99):
            assert set(Counter(fact.kind for fact in found[:size]).values()) == {size // 3}


def test_every_text_is_ready_for_a_model(pools):
    for fact in (fact for found in pools.values() for fact in found):
        assert len({fact.prompt, *fact.paraphrases}) == 4
        for text in (fact.prompt, *fact.paraphrases):
            assert text == text.strip()
            assert "{" not in text
            assert fact.subject in text
            assert fact.target.strip().lower() not in re.findall(r"\w[\w' -]*\w", text.lower())
        assert re.fullmatch(r" \S(.*\S)?", fact.target)
        assert not re.search(r"[.\n]", fact.target), "an answer ends at a full stop"
        assert all(isinstance(alias, str) and alias.strip() == alias != "" for alias in fact.aliases)
        if fact.kind == "time":
            assert re.fullmatch(r" (1[0-9]|20)\d\d", fact.target)


def test_real_facts_are_what_the_databases_say(pools):
    """Against the tables read anew: three relations whose answer is a single cell."""
    real = [*pools["results"], *pools["tuning"]]
    capitals = sources.countries().assign(name=lambda table: table["name"].str.removeprefix("The "))
    capitals = dict(zip(capitals["name"], capitals["capital"], strict=True))
    elements = sources.elements().set_index("name")
    with sqlite3.connect(f"file:{sources.periodic_table()}?mode=ro&immutable=1", uri=True) as database:
        isotopes = dict(
            database.execute(
                "SELECT LOWER(e.name) || '-' || mass_number, i.discovery_year FROM isotopes i JOIN elements e "
                "ON e.atomic_number = i.atomic_number"
            )
        )
    checked = Counter()
    for fact in real:
        truth = {
            "capital": lambda name: capitals[name],
            "discovery year": lambda name: elements.loc[name.capitalize(), "year"],
            "isotope year": lambda name: isotopes[name],
        }.get(fact.relation)
        if truth:
            name = fact.identity.split("/")[1] if fact.relation == "isotope year" else fact.subject
            assert fact.target == f" {str(truth(name)).replace('’', chr(39))}"
            checked[fact.relation] += 1
    assert len(checked) == 3
    assert min(checked.values()) >= 30


def test_years_of_independence_are_days_on_which_a_country_left_another(pools):
    """Independently known years, and none for a country whose entry speaks of unions or foundings."""
    years = {t.subject: t.answer for t in relations.triples() if t.relation == "independence"}
    known = {"Algeria": "1962", "Brazil": "1822", "India": "1947", "Kenya": "1963", "Ukraine": "1991", "Peru": "1821"}
    assert {name: years.get(name) for name in known} == known
    assert not {"China", "Japan", "France", "Canada", "Thailand", "United Kingdom"} & set(years)


def test_countries_have_their_other_names_as_aliases_and_people_their_surnames(pools):
    both = [*pools["results"], *pools["tuning"]]
    by_target = {fact.target: fact for fact in both if fact.relation in ("country", "discovery place", "discoverer")}
    assert "United States" in by_target[" the United States"].aliases
    people = [fact for fact in both if fact.relation == "discoverer"]
    assert people
    assert all(fact.aliases == (fact.target.split()[-1],) for fact in people)


def test_invented_names_stand_in_no_source_and_agree_with_one_another(pools):
    triples = invented.triples()
    real = {word for name in relations.real_names() for word in re.split(r"[\s-]", name.lower())}
    assert {"france", "paris", "oxygen", "davy"} <= real, "the check below would pass for nothing"
    for triple in triples:
        for name in (triple.subject, *(() if triple.answer.isdigit() else triple.answer.split())):
            assert name == "Mount" or name.lower() not in real, name
    countries = {triple.subject for triple in triples if triple.relation == "capital"}
    assert {triple.answer for triple in triples if triple.relation in ("country", "discovery place")} <= countries
    assert {triple.relation for triple in triples} == set(relations.KINDS) - {"language"}
    said = {(triple.spoken, triple.relation) for triple in triples}
    assert len(said) == len(triples)


def test_the_pools_do_not_change_unnoticed(pools):
    """Records of this series stand for these facts."""
    assert {pool: facts.content_hash(found)[:12] for pool, found in pools.items()} == {
        "results": "c7b39f672022",
        "tuning": "7af1f306888b",
        "invented": "4c872142b194",
    }


def test_the_hash_sees_every_field_and_the_order():
    found = made_facts()
    whole = facts.content_hash(found)
    assert facts.content_hash(found[::-1]) != whole
    for field, value in (("aliases", ("x",)), ("kind", "proper noun"), ("invented", False), ("target", " q")):
        changed = [dataclasses.replace(found[0], **{field: value}), *found[1:]]
        assert facts.content_hash(changed) != whole, field


def test_contradictions_and_empty_facts_are_refused():
    first, second = made_facts(2)
    twin = dataclasses.replace(second, prompt=first.prompt)
    with pytest.raises(UserError, match="two targets"):
        facts.checked([first, twin])
    reworded = dataclasses.replace(second, paraphrases=(first.prompt, "b", "c"))
    with pytest.raises(UserError, match="two targets"):
        facts.checked([first, reworded])
    assert facts.checked([first, dataclasses.replace(twin, target=first.target)])
    with pytest.raises(UserError, match="empty target"):
        facts.checked([dataclasses.replace(first, target="  ")])
    for empty in (" ...", " ∞", " -"):
        with pytest.raises(UserError, match="has no letter and no digit"):
            facts.checked([dataclasses.replace(first, target=empty)])
    assert facts.checked([dataclasses.replace(first, target=" 北京")])
    with pytest.raises(UserError, match="empty prompt"):
        facts.checked([dataclasses.replace(first, prompt="")])
    with pytest.raises(UserError, match="no pool 'test'"):
        facts.facts("test")


def test_long_targets_are_left_out_and_a_target_of_nothing_refused(pools, tokenizer):
    whole = pools["results"]
    short = facts.fitting(whole, tokenizer, 4)
    lengths = {fact.identity: len(tokens(tokenizer, fact.target)) for fact in whole}
    assert short == [fact for fact in whole if lengths[fact.identity] <= 4]
    assert 0 < len(short) < len(whole)
    nothing = dataclasses.replace(made_facts(1)[0], target=" 123")  # the letters know no digits
    with pytest.raises(UserError, match=r"' 123'.*into nothing"):
        facts.fitting([nothing], Letters(), 4)


def test_the_card_counts_what_is_there(pools, tokenizer):
    table = facts.card(tokenizer)
    assert list(table.index) == [(pool, kind) for pool in pools for kind in KINDS]
    assert table["facts"].sum() == sum(map(len, pools.values()))
    of = [fact for fact in pools["tuning"] if fact.kind == "place"]
    row = table.loc[("tuning", "place")]
    assert row["targets"] == len({fact.target for fact in of})
    assert row["target tokens"].endswith(f"/ {max(len(tokens(tokenizer, fact.target)) for fact in of)}")
