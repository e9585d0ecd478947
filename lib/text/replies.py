"""Sentences and short replies that people give often: the dialogue of a small model, out of the same conversations.

Whole turns (`dialogue`) ask for more than a model of a few million weights learns in minutes: most are said once.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lib.text import dialogue
from lib.text.pairs import Recipe

SHORTEST_SOURCE, SHORTEST_REPLY, LONGEST = 4, 3, 16  # words, punctuation marks included
SAID = 3  # conversations in which a reply is given, punctuation aside
_SENTENCE = re.compile(r"[^.?!…]+(?:[.?!…]|$)")
_SILENCE: list[str] = []  # a turn without words, which `dialogue.split` pairs with nothing
Exchange = tuple[str, str]


def build() -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    """Build the rows of each split and count what is left out; 500 for test and for validation, one a conversation."""
    return split(dialogue.conversations())


def split(talks: Mapping[str, Sequence[Sequence[str]]]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    """Build the rows of each split out of {conversation id: turns}, and count what is left out.

    The last sentence of a turn, of 4-16 words, and the first of the next turn, of 3-16 words, where at least three
    conversations have that reply. Splits as in `dialogue.split`.
    """
    found = {identity: list(_exchanges(turns)) for identity, turns in talks.items()}
    given = defaultdict(set)
    for identity, exchanges in found.items():
        for _, reply in exchanges:
            given[_words(reply)].add(identity)
    kept = {i: [one for one in exchanges if len(given[_words(one[1])]) >= SAID] for i, exchanges in found.items()}
    rows, dropped = dialogue.split({identity: _apart(exchanges) for identity, exchanges in kept.items()})
    rare = sum(len(found[identity]) - len(exchanges) for identity, exchanges in kept.items())
    repeated = ("repeated_pair", "pair_of_a_held_out_conversation")
    return rows, {"rare_reply": rare, **{reason: dropped[reason] for reason in repeated}}


def _exchanges(turns: Sequence[Sequence[str]]) -> Iterator[Exchange]:
    for said, answered in pairwise([_SENTENCE.findall(dialogue.turn(messages)) for messages in turns]):
        if said and answered:
            source, reply = said[-1].strip(), answered[0].strip()
            lengths = len(source.split()), len(reply.split())
            if SHORTEST_SOURCE <= lengths[0] <= LONGEST and SHORTEST_REPLY <= lengths[1] <= LONGEST:
                yield source, reply


def _apart(exchanges: Iterable[Exchange]) -> list[list[str]]:
    """Return exchanges as the turns of one conversation, with silence between them, so that only they are pairs."""
    return [turn for source, reply in exchanges for turn in ([source], [reply], _SILENCE)]


def _words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text))


REPLIES = Recipe("replies", build, lambda: [dialogue.source()], dialogue.LICENCE)
