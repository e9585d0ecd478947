"""Order and choice by hash."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.ordering import hash_order, pick


@given(st.sets(st.text(max_size=5)), st.randoms())
def test_the_order_does_not_depend_on_the_order_given(ids, shuffler):
    shuffled = sorted(ids)
    shuffler.shuffle(shuffled)
    assert hash_order(shuffled) == hash_order(ids)
    assert set(hash_order(ids)) == ids


def test_choices_are_fixed_and_spread_evenly():
    assert [pick(str(number), "abcd") for number in range(8)] == list("abcdcddc")
    counts = Counter(pick(f"fact {number}", "abcd") for number in range(4000))
    assert all(abs(count - 1000) < 4 * 27.4 for count in counts.values())  # 27.4: the binomial standard deviation
    with pytest.raises(ValueError, match="nothing to pick from for 'x'"):
        pick("x", [])
