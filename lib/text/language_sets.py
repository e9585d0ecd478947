"""Instruction sets whose answers have to be worked out: no test prompt and no test answer occurs in training.

"modern" and "simple" say a verse otherwise (as in `instructions`); "ask" turns a statement into a question, "state" a
question into a statement; "shorter" leaves out what describes. A group (a verse, a question) is in one split and in
one set's direction only. `UNSEEN` is trained on by neither teacher nor students. All choices are ours.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from lib.errors import UserError
from lib.ordering import hash_order, pick
from lib.text import bible, dialogue, instruction_sets, tagging
from lib.text.instruction_sets import Row, canonical, most_frequent, plain, split_of
from lib.text.instructions import SPLITS
from lib.text.prompts import Instruction

NAMES = ("modern", "ask", "state", "shorter", "simple")
UNSEEN = "simple"
TRAINED = tuple(name for name in NAMES if name != UNSEEN)
WORDINGS: Mapping[str, tuple[str, ...]] = {
    "ask": ("Make a question of it.", "Ask whether this is so.", "Turn this into a question."),
    "state": ("Make a statement of it.", "Say that this is so.", "Turn this into a statement."),
    "shorter": ("Make it shorter.", "Leave out what only describes.", "Say it in fewer words."),
}
FREQUENT = 1000  # a text's words are among the most frequent of its kind
QUESTION_WORDS = (4, 10)  # with the mark at the end
PASSAGE_WORDS, TAGGED = (7, 14), 3600  # words of a passage; how many are tagged
MOST = {"train": 900, "validation": 150, "test": 200}  # rows of a set: what more there is would only add words
AUXILIARIES = (
    *("am", "is", "are", "was", "were", "do", "does", "did", "has", "have", "had"),
    *("will", "can", "could", "should", "shall", "would", "may", "might", "must"),
)
SUBJECTS = ("i", "you", "he", "she", "it", "we", "they", "this", "that", "there")
# Words of questions alone, or of two in one.
ASKING = {"ever", "any", "anything", "anyone", "anybody", "anywhere", "yet", "or", "and"}
# Adverbs that a sentence cannot do without, or that say something else when they are gone.
NEEDED = {
    *("not", "never", "no", "n't", "when", "where", "how", "why", "whenever", "wherever", "as", "so", "than", "too"),
    *("up", "out", "down", "off", "away", "back", "in", "on", "over", "far", "near"),
}
_SENTENCE = re.compile(r"[^.?!…]+[.?!…]")


def question_rows(name: str) -> list[Row]:
    """Questions of the Chit-Chat Challenge that begin with an auxiliary and a pronoun, and the statement they ask for.

    "ask" holds the statement and wants the question, "state" the other way round; a question is in one of the two. An
    auxiliary "do" goes with the question, so that "you have a dog" is asked with "do" and "you have eaten" without.
    """
    rows = []
    for asked in hash_order(_questions()):
        key = canonical(asked)
        if pick(f"language/direction/{key}", ("ask", "state")) == name:
            given, wanted = (stated(asked), asked) if name == "ask" else (asked, stated(asked))
            wording = pick(f"language/{name}/{key}", WORDINGS[name])
            told = plain(wanted)
            rows.append(Row(wording, plain(given), told, (told,), f"question/{key}", split_of("question", key)))
    return rows


def stated(asked: str) -> str:
    """Return the statement that a question of an auxiliary, a pronoun and more asks for, in words parted by blanks."""
    auxiliary, subject, *rest = asked.removesuffix("?").split()
    return " ".join([subject, *([] if auxiliary == "do" else [auxiliary]), *rest, "."])


def shortened_rows() -> list[Row]:
    """World English clauses, and the same without adjectives before a noun and without adverbs.

    A passage has at least one such word and keeps at least half of its words.
    """
    verses = [(str(verse), words) for verse, text in bible.verses("web").items() for words in _passages(text)]
    frequent = most_frequent((" ".join(words) for _, words in verses), FREQUENT)
    known = {" ".join(words): verse for verse, words in verses if frequent.issuperset(words)}
    chosen = list(hash_order(known))[:TAGGED]
    rows = []
    for text, tags in zip(chosen, tagging.tags([text.split() for text in chosen]), strict=True):
        kept = without_descriptions(text.split(), tags)
        if len(text.split()) / 2 <= len(kept) < len(text.split()):
            told = plain(" ".join(kept))
            wording = pick(f"language/shorter/{text}", WORDINGS["shorter"])
            split = split_of("verse", known[text])
            rows.append(Row(wording, plain(text), told, (told,), f"verse/{known[text]}", split))
    return rows


def without_descriptions(words: Sequence[str], tags: Sequence[str]) -> list[str]:
    """Return the words without adjectives that stand before a noun, and without adverbs but those that are `NEEDED`.

    `tags` are universal parts of speech. "a" and "an" follow the word that then comes next.
    """
    described = [tag == "ADV" and word not in NEEDED for word, tag in zip(words, tags, strict=True)]
    for place in reversed(range(len(words) - 1)):
        before_noun = tags[place + 1] in ("NOUN", "PROPN") or (tags[place + 1] == "ADJ" and described[place + 1])
        described[place] |= tags[place] == "ADJ" and before_noun
    kept = [word for word, gone in zip(words, described, strict=True) if not gone]
    for place, (word, following) in enumerate(zip(kept, [*kept[1:], ""], strict=True)):
        if word in ("a", "an") and following:
            kept[place] = "an" if following[0] in "aeiou" else "a"
    return kept


_SETS: Mapping[str, Callable[[], list[Row]]] = {
    "modern": functools.partial(instruction_sets.verse_rows, "modern"),
    "ask": functools.partial(question_rows, "ask"),
    "state": functools.partial(question_rows, "state"),
    "shorter": shortened_rows,
    "simple": functools.partial(instruction_sets.verse_rows, "simple"),
}


def load(name: str) -> Mapping[str, tuple[Instruction, ...]]:
    """Return the rows of a set by split, in a fixed order, at most `MOST` of each; no two of a set have one input.

    Raises `UserError` for an unknown name, and where a source is missing.
    """
    if name not in _SETS:
        raise UserError(f"no instruction set {name!r}: choose one of {', '.join(NAMES)}")
    return _every()[name]


@functools.cache
def _every() -> Mapping[str, Mapping[str, tuple[Instruction, ...]]]:
    found = apart({name: build() for name, build in _SETS.items()})
    return {name: _of_set(name, rows) for name, rows in found.items()}


def apart(sets: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """Return rows of which no two of a set have the same input, and none shares a text across splits, in any two sets.

    A text is an input or an output, punctuation and case aside; of two splits that share one the test keeps it, then
    validation.
    """
    seen: set[str] = set()
    kept: dict[str, list[Row]] = {name: [] for name in sets}
    for split in reversed(SPLITS):
        texts: set[str] = set()
        for name, rows in sets.items():
            inputs: set[str] = set()
            for row in rows:
                own = {canonical(row.input.lower()), canonical(row.output.lower())}
                if row.split == split and not own & seen and canonical(row.input.lower()) not in inputs:
                    inputs.add(canonical(row.input.lower()))
                    texts |= own
                    kept[name].append(row)
        seen |= texts
    return kept


def _of_set(name: str, rows: Iterable[Row]) -> dict[str, tuple[Instruction, ...]]:
    found: dict[str, list[Instruction]] = {split: [] for split in SPLITS}
    for row in rows:
        place = found[row.split]
        identity = f"{name}/{row.split}/{len(place)}"
        place.append(Instruction(row.instruction, row.input, row.output, name, identity, row.references))
    return {split: tuple(items[: MOST[split]]) for split, items in found.items()}


def _questions() -> set[str]:
    found = set()
    for turns in dialogue.conversations().values():
        for message in (message for turn in turns for message in turn if "?" in message):
            for sentence in _SENTENCE.findall(dialogue.normalise(message)):
                words = sentence.split()
                if (
                    QUESTION_WORDS[0] <= len(words) <= QUESTION_WORDS[1]
                    and words[-1] == "?"
                    and words[0] in AUXILIARIES
                    and words[1] in SUBJECTS
                    and all(word.isalpha() or "'" in word for word in words[:-1])
                    and not ASKING & set(words)
                ):
                    found.add(" ".join(words))
    frequent = most_frequent(sorted(found), FREQUENT)
    return {text for text in found if frequent.issuperset(text.split())}


def _passages(text: str) -> list[list[str]]:
    """Return the sentences of a verse that are neither too short nor too long, in words."""
    found = [sentence.split() for sentence in re.findall(r"[^.;:?!]+[.;:?!]", bible.normalise(text))]
    return [words for words in found if PASSAGE_WORDS[0] <= len(words) <= PASSAGE_WORDS[1]]
