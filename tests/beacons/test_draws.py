"""Draws of facts: what is in them, and that seeds differ."""

from collections import Counter

from lib.beacons import draws, facts


def test_a_draw_is_every_drawable_fact_in_an_order_of_its_own() -> None:
    every = {fact.identity for fact in draws.drawable()}
    looked_at = {fact.identity for fact in facts.facts("results")[: draws.LOOKED_AT]}
    assert len(looked_at) == 100
    assert not every & looked_at
    assert every | looked_at == {fact.identity for fact in facts.uncut("results")}
    one, other = ([fact.identity for fact in draws.draw(seed)] for seed in (10, 11))
    assert one == [fact.identity for fact in draws.draw(10)] != other
    assert len(one) == len(every)
    assert set(one) == set(other) == every
    # Two draws of 200 of 1255 share 200 * 200 / 1255 = 32 facts on average, sd about 5.
    assert len(every) == 1255
    assert 12 < len(set(one[:200]) & set(other[:200])) < 52


def test_beginnings_of_a_draw_mix_the_kinds() -> None:
    for count in (3, 30, 300):
        assert set(Counter(fact.kind for fact in draws.draw(3)[:count]).values()) == {count // 3}


def test_uncut_facts_hold_their_pool_and_no_subject_of_the_other() -> None:
    results, tuning = facts.uncut("results"), facts.uncut("tuning")
    assert set(facts.facts("results")) < set(results)
    assert set(facts.facts("tuning")) < set(tuning)
    assert not {fact.subject.lower() for fact in results} & {fact.subject.lower() for fact in tuning}
    assert draws.digest() == facts.content_hash(draws.drawable())
