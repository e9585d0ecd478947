"""Pairs of a turn and the next turn of the other speaker, out of the Chit-Chat Challenge conversations.

A conversation is in one split only. A held-out conversation gives one pair, so that the test items are independent.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib import paths, sources
from lib.errors import UserError
from lib.ordering import hash_order, pick
from lib.text import bible
from lib.text.pairs import Recipe

LICENCE = "MIT (package chitchat-dataset)"
HELD_OUT = 500
SHORTEST_SOURCE, SHORTEST_REPLY, LONGEST = 4, 2, 16  # words, punctuation marks included
_LINK = re.compile(r"https?://|www\.", re.IGNORECASE)
_EMOTICON = re.compile(r"(?<!\w)[:;=8]+[-'^o]?(?:[()\[\]/\\|3*]+|[dpox]\b)|\bx+d+\b|\([;:]|\^_*\^|<3", re.IGNORECASE)
_ENDS = frozenset(".?!…")
Row = dict[str, Any]


def source() -> Path:
    """Return the carrier's file of conversations."""
    return sources.path("chitchat-dataset", "dataset.json")


def conversations() -> dict[str, list[list[str]]]:
    """Return {conversation id: turns}, a turn being the raw messages that one speaker sends in a row.

    Raises `UserError` for a file of another layout.
    """
    path = source()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        talks = {
            identity: [[message["text"] for message in turn] for turn in one["messages"]]
            for identity, one in content.items()
        }
        if not all(isinstance(text, str) for turns in talks.values() for turn in turns for text in turn):
            raise TypeError("a message that is no text")
        return talks
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{paths.relative(path)}: not a set of conversations ({error!r}); delete the file and fetch it again"
        ) from error


def normalise(text: str) -> str:
    """Return `text` as lower-case words and punctuation marks separated by single spaces (our choice).

    As in `bible.normalise`; besides, characters beyond ASCII letters, digits and marks (emoji) and emoticons go, points
    in a row become one mark, and any other mark is not repeated.
    """
    text = re.sub(r"[`‘’]", "'", text)
    text = re.sub(r"\.{2,}|…", " … ", _EMOTICON.sub(" ", text))
    text = re.sub(r"[^\x20-\x7e…]|[*_~^<>|\\]", " ", text)
    return bible.normalise(re.sub(r"([^\w\s])(?:\s*\1)+", r"\1", text))


def turn(messages: Sequence[str]) -> str:
    """Return the messages of one turn as one text, normalised, with a full stop between two where no mark stands."""
    said = [text for text in map(normalise, messages) if text]
    return " ".join([text if text[-1] in _ENDS else f"{text} ." for text in said[:-1]] + said[-1:])


def build() -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Build the rows of each split and count what is left out.

    4-16 words in a turn, 2-16 in the reply; a turn with a link is left out.
    """
    return split(conversations())


def split(talks: Mapping[str, Sequence[Sequence[str]]]) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Build the rows of each split out of {conversation id: turns}; no pair stands twice, in one split or in two."""
    dropped = {"link": 0, "length": 0, "repeated_pair": 0, "pair_of_a_held_out_conversation": 0}
    order = hash_order(talks)
    found = {identity: list(_pairs(identity, talks[identity], dropped)) for identity in order}
    seen: set[tuple[str, str]] = set()
    rows: dict[str, list[Row]] = {"train": [], "test": [], "validation": []}
    taken: set[str] = set()
    for name, candidates in (("test", order), ("validation", order[::-1])):
        for identity in candidates:
            fresh = [row for row in found[identity] if (row["src"], row["trg"]) not in seen]
            if len(rows[name]) == HELD_OUT or identity in taken or not fresh:
                continue
            row = pick(identity, fresh)
            rows[name].append(row)
            taken.add(identity)
            seen.add((row["src"], row["trg"]))
    held_out = set(seen)
    for identity in order:
        for row in found[identity] if identity not in taken else ():
            pair = row["src"], row["trg"]
            if pair in seen:
                dropped["pair_of_a_held_out_conversation" if pair in held_out else "repeated_pair"] += 1
            else:
                seen.add(pair)
                rows["train"].append(row)
    return rows, dropped


def _pairs(identity: str, turns: Sequence[Sequence[str]], dropped: dict[str, int]) -> Iterator[Row]:
    linked = [any(map(_LINK.search, messages)) for messages in turns]
    said = [turn(messages) for messages in turns]
    for place in range(len(turns) - 1):
        lengths = [len(text.split()) for text in said[place : place + 2]]
        if any(linked[place : place + 2]):
            dropped["link"] += 1
        elif min(lengths[0] - SHORTEST_SOURCE, lengths[1] - SHORTEST_REPLY, LONGEST - max(lengths)) < 0:
            dropped["length"] += 1
        else:
            yield {"src": said[place], "trg": said[place + 1], "group": identity}


TURNS = Recipe("dialogue", build, lambda: [source()], LICENCE)
