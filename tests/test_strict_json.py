"""JSON read strictly: what is valid is read as Python reads it; what is not is said with its place."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import strict_json
from lib.errors import UserError

numbers = st.integers(-(10**200), 10**200) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(texts, inside, max_size=4),
    max_leaves=12,
)
forms = st.sampled_from([{}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (",", ":")}])


@given(values, forms)
def test_valid_json_is_read_as_python_reads_it(value, form):
    text = json.dumps(value, **form)
    assert strict_json.parse(f" {text}\n", "x") == json.loads(text) == value


@given(st.lists(values, max_size=5), forms)
def test_the_elements_of_a_list_are_those_of_the_whole(items, form):
    text = "\n" + json.dumps(items, **form)
    found = list(strict_json.elements(text, "x"))
    assert [value for _, value in found] == items
    assert [place.split(" (")[0] for place, _ in found] == [
        f"x, record {number}" for number in range(1, len(items) + 1)
    ]


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        json.loads(text)
    except ValueError:
        with pytest.raises(UserError) as caught:
            strict_json.parse(text, "x")
        assert str(caught.value).startswith("x: ")
        assert str(caught.value).isprintable()


def test_places_of_list_elements_name_record_and_line():
    assert [place for place, _ in strict_json.elements('[{"a":\n1},\n\n2, 3]', "x")] == [
        "x, record 1 (line 1)",
        "x, record 2 (line 4)",
        "x, record 3 (line 4)",
    ]


def test_a_pair_of_surrogates_is_one_character_and_half_of_one_is_refused():
    assert strict_json.parse(r'"\ud83d\ude00"', "x") == "\U0001f600"
    assert strict_json.parse(r'"\\ud83d"', "x") == r"\ud83d"
    for text in (r'"\ud83d"', r'["a", {"b": "\ude00c"}]', r'{"\ud83d": 1}'):
        with pytest.raises(UserError, match="half a surrogate pair"):
            strict_json.parse(text, "x")


def test_the_longest_number_and_the_largest_float():
    assert strict_json.parse("9" * 300, "x") == int("9" * 300)
    assert strict_json.parse("1.7976931348623157e308", "x") == 1.7976931348623157e308
    for text in ("9" * 301, "1e309", "-1e309"):
        with pytest.raises(UserError, match="number"):
            strict_json.parse(text, "x")


def test_lines_end_as_on_any_system_and_nowhere_else():
    text = '1\r\n2\r3\n\n \t\n\ufeff"a\u2028b\x0bc"'
    assert list(strict_json.lines(text)) == [(1, "1"), (2, "2"), (3, "3"), (6, '"a\u2028b\x0bc"')]


def test_what_a_message_shows_is_short_and_on_one_line():
    assert strict_json.clip("a\nb\0é\ud800") == r"a\nb\x00é\ud800"
    assert strict_json.clip("x" * 100, 10) == "x" * 9 + "…"
    assert strict_json.keys({}) == "none"
    assert strict_json.keys({str(number): 0 for number in range(9)}) == "0, 1, 2, 3, 4, 5, 6, 7, … (9 in all)"
    assert str(UserError("a\nb\0")) == r"a b\x00"
