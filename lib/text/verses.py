"""Pairs of verses: King James to World English (paraphrase), and World English to Basic English (simplification).

A verse is held out in all its translations at once, before any splitting into clauses. Verses stand in the order of a
hash of their ids; the test split is taken from its start, the validation split from its end: no random generator.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lib.ordering import hash_order
from lib.text import bible
from lib.text.pairs import Recipe

HELD_OUT = 500
SHORTEST, LONGEST, LONGEST_WHOLE = 4, 16, 40  # words, punctuation marks included, on both sides
LONGEST_SIMPLIFIED = 24  # at 16 words fewer than 3,000 verses of Basic English are left
LENGTH_RATIO, OVERLAP = 2.0, 0.25  # a clause pair beyond these is taken as misaligned
_STRONG = frozenset(".;:?!")
_ANY = _STRONG | {","}
Words = list[str]
Texts = dict[int, Words]
Row = dict[str, Any]


def _of_two_bibles(longest: int) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Build the rows of each split, King James (training: also American Standard) to World English, and count drops.

    Verses of 4 to `longest` words, and for training the clauses of verses of more than 16.
    """
    texts = {version: _normalised(bible.verses(version)) for version in bible.VERSIONS}
    kjv, web = texts["kjv"], texts["web"]
    # The verses of both readings are held out of both, so that a model trained on either may be scored on either.
    readings = _readings(kjv, web)
    excluded = {verse for chosen in readings.values() for verses in chosen.values() for verse in verses}
    known = {" ".join(side[verse]) for verse in excluded for side in (kjv, web)}
    sources = {"kjv": kjv, "asv": texts["asv"]}
    train, dropped = _unseen(_candidates(sources, web, excluded, longest, LONGEST), known)
    rows = {s: [_row(kjv[v], web[v], v, "kjv", "verse") for v in vs] for s, vs in readings[longest].items()}
    return {"train": train, **rows}, dropped


def paraphrase() -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Build the rows of each split out of verses of 4-16 words, and count drops."""
    return _of_two_bibles(LONGEST)


def paraphrase_whole() -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Build the rows of each split out of verses of 4-40 words, and count drops."""
    return _of_two_bibles(LONGEST_WHOLE)


def simplification() -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Build the rows of each split, World English to Basic English, and count drops.

    Verses of 4-24 words, and for training the clauses of longer ones. Held-out verses are chosen among those that the
    paraphrase set holds out, and no verse held out there is trained on here: one model may learn both sets.
    """
    raw = {version: bible.verses(version) for version in ("kjv", "web")}
    kjv, web, basic = (_normalised(one) for one in (*raw.values(), bible.basic_english(raw["web"])))
    readings = _readings(kjv, web).values()
    taken = {split: {verse for chosen in readings for verse in chosen[split]} for split in ("test", "validation")}
    tests, validations = hash_order(taken["test"]), hash_order(taken["validation"])[::-1]
    chosen = _held_out(web, basic, LONGEST_SIMPLIFIED, tests, validations)
    excluded = taken["test"] | taken["validation"]
    known = {" ".join(side[verse]) for verse in excluded for side in (web, basic) if verse in side}
    candidates = _candidates({"web": web}, basic, excluded, LONGEST_SIMPLIFIED, LONGEST_SIMPLIFIED)
    train, dropped = _unseen(candidates, known)
    rows = {s: [_row(web[v], basic[v], v, "web", "verse") for v in vs] for s, vs in chosen.items()}
    return {"train": train, **rows}, dropped


def clauses(source: Words, target: Words, longest: int = LONGEST) -> list[tuple[Words, Words]]:
    """Split a verse pair where both sides split alike, and join neighbouring pieces up to `longest` words (our choice).

    First at strong marks (. ; : ? !), then each piece at all marks; a level is used only if both sides have the same
    number of pieces. Pieces of fewer than 4 or more than `longest` words, or that fail `aligned`, are left out.
    """
    joined: list[tuple[Words, Words]] = []
    for left, right in _pieces(source, target):
        if joined and max(len(joined[-1][0]) + len(left), len(joined[-1][1]) + len(right)) <= longest:
            joined[-1] = (joined[-1][0] + left, joined[-1][1] + right)
        else:
            joined.append((left, right))
    return [pair for pair in joined if _fits(*pair, longest) and aligned(*pair)] if len(joined) > 1 else []


def overlap(source: Words, target: Words) -> float:
    """Return the F1 of the shared words (punctuation aside) of two sentences, in [0, 1]."""
    left, right = (Counter(w for w in words if w[0].isalnum()) for words in (source, target))
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 0.0


def aligned(source: Words, target: Words) -> bool:
    """Whether two clauses may be one another's translation: lengths within a factor of 2, a quarter of words shared."""
    longer, shorter = max(len(source), len(target)), min(len(source), len(target))
    return longer <= LENGTH_RATIO * shorter and overlap(source, target) >= OVERLAP


def _cut(words: Words, marks: frozenset[str]) -> list[Words]:
    ends = [i + 1 for i, word in enumerate(words) if word in marks]
    if not ends or ends[-1] != len(words):
        ends.append(len(words))
    return [words[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def _pieces(source: Words, target: Words) -> list[tuple[Words, Words]]:
    for marks in (_STRONG, _ANY):
        left, right = _cut(source, marks), _cut(target, marks)
        if len(left) == len(right) > 1:
            if marks is _ANY:
                return list(zip(left, right, strict=True))
            return [leaf for pair in zip(left, right, strict=True) for leaf in _pieces(*pair)]
    return [(source, target)]


def _fits(source: Words, target: Words, longest: int) -> bool:
    return min(len(source), len(target)) >= SHORTEST and max(len(source), len(target)) <= longest


def _held_out(
    sources: Texts, targets: Texts, longest: int, tests: Iterable[int], validations: Iterable[int]
) -> dict[str, list[int]]:
    """Choose the first 500 verses of 4 to `longest` words of either list, no text twice among them."""
    chosen: dict[str, list[int]] = {"test": [], "validation": []}
    texts: set[tuple[str, ...]] = set()
    for split, candidates in (("test", tests), ("validation", validations)):
        for verse in candidates:
            if not _fits(sources.get(verse, []), targets.get(verse, []), longest):
                continue
            pair = {tuple(sources[verse]), tuple(targets[verse])}
            if len(chosen[split]) < HELD_OUT and not pair & texts:
                chosen[split].append(verse)
                texts |= pair
    return chosen


def _readings(kjv: Texts, web: Texts) -> dict[int, dict[str, list[int]]]:
    """Choose the held-out verses of both readings of the paraphrase set, by the longest verse."""
    order = hash_order(kjv.keys() & web.keys())
    # From both ends: a short verse in the test split of one reading is then never in the validation split of the other.
    return {longest: _held_out(kjv, web, longest, order, order[::-1]) for longest in (LONGEST, LONGEST_WHOLE)}


def _candidates(
    sources: dict[str, Texts], targets: Texts, excluded: set[int], longest: int, longest_clause: int
) -> Iterator[Row]:
    for version, texts in sources.items():
        for verse in sorted(texts.keys() & targets.keys() - excluded):
            source, target = texts[verse], targets[verse]
            if _fits(source, target, longest):
                yield _row(source, target, verse, version, "verse")
            if not _fits(source, target, longest_clause):
                for left, right in clauses(source, target, longest_clause):
                    yield _row(left, right, verse, version, "clause")


def _row(source: Words, target: Words, verse: int, version: str, kind: str) -> Row:
    return {"src": " ".join(source), "trg": " ".join(target), "group": verse, "version": version, "kind": kind}


def _unseen(candidates: Iterable[Row], known: set[str]) -> tuple[list[Row], dict[str, int]]:
    """Leave out rows with a text in `known` and repeated pairs, and count both."""
    dropped = {"text_of_a_held_out_verse": 0, "repeated_pair": 0}
    kept, seen = [], set()
    for row in candidates:
        pair = row["src"], row["trg"]
        if known.intersection(pair):
            dropped["text_of_a_held_out_verse"] += 1
        elif pair in seen:
            dropped["repeated_pair"] += 1
        else:
            seen.add(pair)
            kept.append(row)
    return kept, dropped


def _normalised(raw: dict[int, str]) -> Texts:
    return {verse: bible.normalise(text).split() for verse, text in raw.items()}


def _bibles() -> list[Path]:
    return [bible.source(version) for version in bible.VERSIONS]


def _simplified() -> list[Path]:
    return [bible.source(version) for version in ("kjv", "web", "bbe")]


PARAPHRASE = Recipe("paraphrase", paraphrase, _bibles, bible.LICENCE)
PARAPHRASE_WHOLE = Recipe("paraphrase_whole", paraphrase_whole, _bibles, bible.LICENCE)
SIMPLIFICATION = Recipe("simplification", simplification, _simplified, bible.BASIC_LICENCE)
