"""The words of a text in any script, for ROUGE: what the metric's library finds in English, and no less elsewhere."""

import itertools
import unicodedata
from collections.abc import Iterator

from rouge_score import tokenizers

# Scripts that set no blanks between words, by how the Unicode names of their characters begin: a word is a character.
UNSPACED = (
    "CJK",
    "IDEOGRAPHIC",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "BOPOMOFO",
    "YI SYLLABLE",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
)
_PICTURES = 0x2300  # emoji and their like begin here; the signs below, such as degrees, are no words in English either
_JOINERS = dict.fromkeys((0x200C, 0x200D))  # zero-width, within words of Persian and of Indian scripts


class AnyScript(tokenizers.Tokenizer):
    """A tokenizer for `RougeScorer`, whose own takes every letter beyond a-z for a blank.

    Our choice. Latin words are the library's, to the bit: one with accents is cut at them, as in published scores,
    unless nothing would be left. In all other scripts that separate words (Cyrillic, Greek, Arabic, Hebrew, Devanagari,
    Hangul, ...) a word is a run of letters, digits and their marks, in lower case and composed form; in those that do
    not (`UNSPACED`) a single character. Pictures such as emoji are words one by one; punctuation, currency, fractions
    and mathematical signs are none, as in the library.
    """

    def __init__(self, stemmed: bool) -> None:
        """Take whether Latin words of more than three letters are cut to their stems (Porter)."""
        self._library = tokenizers.DefaultTokenizer(stemmed)

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text in their order."""
        if text.isascii():
            return self._library.tokenize(text)
        return [word for run in _runs(text) for word in (_is_latin(run) and self._library.tokenize(run)) or [run]]


def _runs(text: str) -> Iterator[str]:
    """Return the runs of characters that stand together as a word, in lower case."""
    plain = unicodedata.normalize("NFC", text.lower()).translate(_JOINERS)
    number = 0  # of the run; a character by itself begins one, and so does what follows it
    labelled: list[tuple[int, str]] = []
    alone = False
    for character in plain:
        kind = unicodedata.category(character)
        if kind[0] == "M" and labelled and labelled[-1][0] == number:
            labelled.append((number, character))
            continue
        is_letter = kind[0] == "L" or kind in ("Nd", "Nl")
        unspaced = is_letter and unicodedata.name(character, "").startswith(UNSPACED)
        picture = kind == "So" and ord(character) >= _PICTURES
        number += alone or unspaced or picture or not is_letter
        alone = unspaced or picture
        if is_letter or picture:
            labelled.append((number, character))
    for _, run in itertools.groupby(labelled, key=lambda pair: pair[0]):
        yield "".join(character for _, character in run)


def _is_latin(run: str) -> bool:
    return all(c.isascii() or unicodedata.name(c, "").startswith(("LATIN", "COMBINING")) for c in run)
