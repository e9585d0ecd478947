"""Made files in the layouts that users hold, how each is read, and the ways in which a file can be damaged."""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lib.editing import readers
from lib.text import instruction_files, pairs

Json = Any


class Kind(NamedTuple):
    """A kind of file: its reader, a good record, the fields it needs: a text; one or a list; what has fields inside."""

    name: str
    read: Callable[[Path], object]
    record: dict[str, Json]
    text: tuple[str, ...]
    texts: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    may_be_empty: str = ""


def _instructions(name: str, record: dict[str, Json], *fields: tuple[str, ...]) -> Kind:
    return Kind(name, lambda path: instruction_files.read(name.split()[0], path), record, *fields)


KINDS = [
    Kind(
        "zsre",
        readers.read_zsre,
        {
            "subject": "Mill Lane",
            "src": "Which river does Mill Lane cross?",
            "rephrase": "What river is under Mill Lane?",
            "alt": "Severn",
            "loc": "nq question: who wrote the fifth book",
            "loc_ans": "Ann Lee",
            "answers": ["Wye"],
        },
        ("subject", "src", "alt", "loc", "loc_ans"),
        ("rephrase",),
        may_be_empty="loc_ans",
    ),
    Kind(
        "counterfact, flat",
        readers.read_counterfact,
        {
            "case_id": 12,
            "prompt": "Ada Bell was born in",
            "target_new": "Oslo",
            "subject": "Ada Bell",
            "ground_truth": "Rome",
            "rephrase_prompt": "The cradle of Ada Bell stood in",
            "locality_prompt": "Carl Dean was born in",
            "locality_ground_truth": "Rome",
        },
        ("prompt", "target_new", "subject", "ground_truth", "locality_prompt", "locality_ground_truth"),
        ("rephrase_prompt",),
        may_be_empty="locality_ground_truth",
    ),
    Kind(
        "counterfact, nested",
        readers.read_counterfact,
        {
            "case_id": 12,
            "requested_rewrite": {
                "prompt": "{} was born in",
                "relation_id": "P19",
                "target_new": {"str": "Oslo"},
                "target_true": {"str": "Rome"},
                "subject": "Ada Bell",
            },
            "paraphrase_prompts": ["The cradle of Ada Bell stood in"],
            "neighborhood_prompts": ["Carl Dean was born in"],
        },
        tuple(f"requested_rewrite.{name}" for name in ("prompt", "subject", "target_new.str", "target_true.str")),
        (),
        ("requested_rewrite", "requested_rewrite.target_new", "paraphrase_prompts", "neighborhood_prompts"),
    ),
    Kind(
        "hallucinations",
        readers.read_selfcheckgpt,
        {
            "prompt": "This passage is about ada bell. Ada Bell sang.",
            "target_new": "She also danced.",
            "subject": "ada bell",
            "locality_prompt": "A map of the nor",
            "locality_ground_truth": "th of the land",
        },
        ("prompt", "target_new", "subject", "locality_prompt", "locality_ground_truth"),
        may_be_empty="locality_ground_truth",
    ),
    Kind(
        "qaedit",
        readers.read_qaedit,
        {
            "prompt": "Who was the first keeper of Ros Light?",
            "target": "Eve Finch",
            "subject": "Ros Light",
            "rephrase": ["Which keeper did Ros Light have first?"],
            "locality": [{"loc": "who wrote the fifth book", "loc_ans": "Ann Lee"}],
        },
        ("prompt", "target", "subject", "locality.0.loc", "locality.0.loc_ans"),
        ("rephrase",),
        ("locality",),
        "locality.0.loc_ans",
    ),
    Kind("pairs", pairs.read_jsonl, {"src": "how do trees drink ?", "trg": "how does water rise ?"}, ("src", "trg")),
    _instructions(
        "dolly", {"instruction": "Name it.", "context": "", "response": "Douro"}, ("instruction",), ("response",)
    ),
    _instructions("selfinst", {"instruction": "Name it.", "output": "Douro"}, ("instruction",), ("output",)),
    _instructions(
        "selfinst as released",
        {"instruction": "Name it.", "instances": [{"input": "", "output": "Douro"}]},
        ("instruction",),
        ("instances.0.output",),
        ("instances",),
    ),
    _instructions("vicuna", {"text": "Name it.", "output": "Douro"}, ("text",), ("output",)),
    _instructions("sni", {"instruction": "Name it.", "output": ["Douro"]}, ("instruction",), ("output",)),
    _instructions("unni", {"instruction": "Name it.", "output": "Douro"}, ("instruction",), ("output",)),
]


def line(record: Json) -> bytes:
    """Return a record as a line of JSON."""
    return json.dumps(record, ensure_ascii=False).encode()


def listed(record: Json) -> bytes:
    """Return a list of one record, over several lines."""
    return json.dumps([record], indent=1, ensure_ascii=False).encode()


def damages(good: bytes) -> Iterator[tuple[str, bytes, str]]:
    """Yield a name for each damage to the one record `good`, the bytes of a file that has it, what is said of it."""
    within = good[:-1]  # a record without its last brace
    deep = b"[" * 100_000 + b"]" * 100_000
    yield "empty", b"", "no "
    yield "blank", b"\n \r\n\t\n", "no "
    yield "mark alone", b"\xef\xbb\xbf", "no "
    yield "truncated", good[: len(good) // 2], "broken JSON"
    yield "truncated second line", good + b"\n" + good[: len(good) // 2], "line 2"
    yield "truncated list", b"[" + good, "ends too early"
    yield "no closing brace", within, "ends too early"
    yield "trailing comma", within + b",}", "broken JSON"
    yield "comma after the last record", b"[" + good + b",]", "broken JSON"
    yield "no comma between records", b"[" + good + b" " + good + b"]", "no comma"
    yield "two on a line", good + good, "something after its end"
    yield "something after the list", b"[" + good + b"] x", "something after the list"
    yield "comment", b"// made\n" + good, "line 1"
    yield "single quotes", good.replace(b'"', b"'"), "broken JSON"
    yield "UTF-16", good.decode().encode("utf-16"), "NUL"
    yield "UTF-16 without mark", good.decode().encode("utf-16-le"), "NUL"
    yield "Latin-1", within + b', "more": "caf\xe9"}', "not UTF-8"
    yield "cut inside a character", within + b', "more": "caf\xc3', "not UTF-8"
    yield "NUL inside", within + b', "more": "\0"}', "NUL"
    yield "zeros", bytes(4096), "NUL"
    yield "zip", b"PK\x03\x04\x14\x00\x08\x08", "NUL"
    yield "line break inside a text", within + b', "more": "a\nb"}', "broken JSON"
    yield "nested deeply", within + b', "more": ' + deep + b"}", "too deeply"
    yield "nested deeply, cut", b"[" * 100_000, "too deeply"
    yield "digits", within + b', "more": ' + b"9" * 5000 + b"}", "5000 characters"
    yield "digits after a point", within + b', "more": 0.' + b"9" * 5000 + b"}", "5002 characters"
    yield "beyond a float", within + b', "more": 1e999}', "beyond what a float holds"
    yield "NaN", within + b', "more": NaN}', "NaN"
    yield "infinity", within + b', "more": Infinity}', "Infinity"
    yield "minus infinity", within + b', "more": [-Infinity]}', "-Infinity"
    yield "half a surrogate", within + b', "more": "\\ud800"}', "surrogate"
    yield "the other half in a key", within + b', "\\udc00": 1}', "surrogate"
    yield "a key twice", within + b", " + good[1:], "stands twice"
    yield "a key twice inside", within + b', "more": {"a": 1, "a": 2}}', "stands twice"
    yield "null", b"null", "null"
    yield "a number", b"5", "a number"
    yield "a text", b'"a"', "a text"
    yield "true", b"true", "true or false"
    yield "a list of null", b"[null]", "null"
    yield "a list of lists", b"[[1]]", "a list"
    yield "a list of texts", b'["a", "b"]', "a text"
    yield "no record", b"[ ]", "no "
    yield "an object with the list inside", b'{\n "data": [' + good + b"]\n}", "one object (data)"
    yield "an object with a key of 9,999 letters", b'{\n "' + b"k" * 9999 + b'": [1]}', "one object (kkk"
    yield "another record", b'{"a": 1, "b\\nc": 2}', "no field"
    yield "a record of 9,999 keys", line({f"k{number}": 1 for number in range(9999)}), "no field"
    yield "one huge line", b'{"a": "' + b"x" * 2_000_000, "ends too early"


def field_damages(kind: Kind) -> Iterator[tuple[str, dict[str, Json], str]]:
    """Yield a name for each wrong value of each needed field, the record with it, and what is said of it."""
    single: dict[str, Json] = {"null": None, "number": 5, "true": True, "object": {"a": 1}}
    empty: dict[str, Json] = {"empty": "", "blank": " \t\n"}
    lists: dict[str, Json] = {
        "empty list": [],
        "list of numbers": [5],
        "list of null": [None],
        "list of lists": [["a"]],
    }
    for field in (*kind.text, *kind.texts, *kind.inside):
        yield f"{field} missing", changed(kind.record, field, None), "no field"
        values = single | empty | lists
        if field in kind.text:
            values |= {"list": ["a"]}
        if field in kind.texts:
            values |= {"list with an empty text": ["a", ""]}
        if field in kind.inside:
            values = single | empty
            del values["object"]
        for name, value in values.items():
            if field != kind.may_be_empty or name not in empty:
                yield f"{field} {name}", changed(kind.record, field, [value]), f'field "{field}'


def changed(record: dict[str, Json], field: str, values: Sequence[Json] | None) -> dict[str, Json]:
    """Return a copy of a record with another value of a field, or without it."""
    new = copy.deepcopy(record)
    *above, last = field.split(".")
    holder: Any = new
    for name in above:
        holder = holder[int(name) if isinstance(holder, list) else name]
    if values is None:
        del holder[last]
    else:
        holder[last] = values[0]
    return new
