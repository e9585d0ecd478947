"""Words of every script: the library's in Latin, and in others what a reader would count."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from lib.text import metrics
from lib.text.words import AnyScript

PLAIN = AnyScript(stemmed=False)
# In scripts that a reader may give: the words that count.
READ = {
    "我爱北京。": ["我", "爱", "北", "京"],
    "Я люблю Москву!": ["я", "люблю", "москву"],
    "Η ΑΘΉΝΑ, η πόλη": ["η", "αθήνα", "η", "πόλη"],
    "أحب القاهرة": ["أحب", "القاهرة"],
    "אני אוהב": ["אני", "אוהב"],
    "हिन्दी में": ["हिन्दी", "में"],
    "한국어 문장": ["한국어", "문장"],
    "日本語のテスト": ["日", "本", "語", "の", "テ", "ス", "ト"],
    "สวัสดี": ["ส", "วั", "ส", "ดี"],
    "I love 北京 in 2008!": ["i", "love", "北", "京", "in", "2008"],
    "COVID疫苗": ["covid", "疫", "苗"],
    "Т34 и T34": ["т34", "и", "t34"],
    "می‌خواهم": ["میخواهم"],
    "👍 и 🍕🍕": ["👍", "и", "🍕", "🍕"],
    "ở đâu": ["ở", "u"],  # Latin: what the library leaves of it, but no word is lost
    "€ ∞ ½ …": [],
    "": [],
}


@pytest.mark.parametrize("text", READ)
def test_words_of_every_script(text):
    assert PLAIN.tokenize(text) == READ[text]
    decomposed = unicodedata.normalize("NFD", text)
    assert PLAIN.tokenize(decomposed) == READ[text], "the Unicode form does not matter"


@pytest.mark.parametrize("text", [text for text, words in READ.items() if words])
def test_rouge_l_of_equal_text_is_one_and_of_half_of_it_two_thirds(text):
    assert metrics.rouge_l([text], [text]).tolist() == [1]
    words = READ[text]
    joined = " ".join(words)
    assert metrics.rouge_l([f"{joined} {joined}"], [joined])[0] == pytest.approx(2 / 3)


def test_rouge_l_by_hand_in_chinese_and_russian():
    # "我爱京" is the longest common subsequence: 3 of 4 characters and 3 of 4.
    assert metrics.rouge_l(["我爱东京"], ["我爱北京"])[0] == pytest.approx(3 / 4)
    assert metrics.rouge_l(["я люблю рим"], ["Я люблю Москву и Рим."])[0] == pytest.approx(2 * 1 * 0.6 / 1.6)


english = st.text(st.characters(max_codepoint=0x7F), max_size=40)
latin = st.text(st.sampled_from("abcXYZ019 .,'-_éüñÅß€½°©’…"), max_size=30)


@given(english | latin, english | latin, st.booleans())
@example("He walked, don't walk: naïve", "walking the ciudad juárez", True)
@example("where does ciudad juárez lie ?", "where does ciudad juarez lie ?", False)
def test_scores_of_english_are_the_librarys_to_the_bit(hypothesis, reference, stemmed):
    ours, library = metrics.rouge_scorer(stemmed), RougeScorer(["rougeL"], use_stemmer=stemmed)
    for text in (hypothesis, reference):
        theirs = DefaultTokenizer(stemmed).tokenize(text)
        found = AnyScript(stemmed).tokenize(text)
        assert [word for word in found if word.isascii()] == theirs
        if not any(letter in "éüñÅß" for letter in text):
            assert found == theirs
    if (hypothesis + reference).isascii():
        assert ours.score(reference, hypothesis) == library.score(reference, hypothesis)


@given(st.text(max_size=20))
@example("\u0301a")  # a mark after nothing
@example("\u200d\u200c")
def test_no_text_breaks_it_and_every_letter_is_in_a_word(text):
    found = PLAIN.tokenize(text)
    assert all(found)
    assert PLAIN.tokenize(" ".join(found)) == found
    if any(unicodedata.category(letter) in ("Lo", "Nd") for letter in text):
        assert found
        assert metrics.rouge_l([text], [text]).tolist() == [1]
