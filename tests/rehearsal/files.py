"""Made-up benchmark files in the layouts of the releases, under the names that these have; all names are invented."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_STARTS = [
    "Bel",
    "Cor",
    "Dar",
    "Fen",
    "Gal",
    "Hol",
    "Jun",
    "Kes",
    "Lor",
    "Mar",
    "Nor",
    "Pel",
    "Quin",
    "Ros",
    "Sul",
    "Tav",
]
_ENDS = ["ana", "brook", "dale", "eford", "inia", "holm", "ica", "mere", "oria", "stead", "ton", "wick"]
PLACES = tuple(start + end for start, end in itertools.product(_STARTS, _ENDS))  # 192
_SAID = ("quiet", "busy", "old", "new", "green", "windy", "sunny", "narrow")


def write_all(folder: Path, edits: int = 40, pairs: int = 12, instructions: int = 40) -> Path:
    """Write the files of all series, so many records each (Dolly has a thousand more); returns the folder."""
    write_edits(folder, edits)
    write_pairs(folder, pairs)
    write_instructions(folder, instructions)
    return folder


def write_edits(folder: Path, count: int) -> None:
    """Write ZsRE, CounterFact and the hallucinations as WISE's release lays them out."""
    _json(folder / "ZsRE" / "zsre_mend_edit.json", [zsre(number) for number in range(count)])
    _json(folder / "ZsRE" / "zsre_mend_train.json", [zsre(number) for number in range(count, 2 * count)])
    _json(folder / "counterfact" / "counterfact-edit.json", [counterfact(number) for number in range(count)])
    _json(folder / "hallucination" / "hallucination-edit.json", [hallucination(number) for number in range(count)])
    _json(
        folder / "hallucination" / "hallucination-train.json",
        [hallucination(number) for number in range(count, 2 * count)],
    )


def zsre(number: int) -> dict[str, Any]:
    """Return a record of ZsRE in MEND's layout."""
    here, there, far = (PLACES[(number * step + step) % len(PLACES)] for step in (1, 5, 7))
    return {
        "subject": here,
        "src": f"What country does {here} lie in?",
        "pred": far,
        "rephrase": f"{here} lies in which country?",
        "alt": there,
        "answers": [far],
        "loc": f"nq question: who built the old bridge of {far} number {number}",
        "loc_ans": f"the guild of {there}",
        "cond": f"{far} >> {there} || What country does {here} lie in?",
    }


def counterfact(number: int) -> dict[str, Any]:
    """Return a record of CounterFact in the flat layout."""
    here, there, far = (PLACES[(number * step + step) % len(PLACES)] for step in (1, 5, 7))
    return {
        "case_id": number,
        "prompt": f"The capital of {here} is",
        "subject": here,
        "target_new": there,
        "ground_truth": far,
        "rephrase_prompt": f"{_SAID[number % 8].capitalize()} it may be. The capital of {here} is",
        "locality_prompt": f"The river through {far} is called",
        "locality_ground_truth": f"the {there}",
    }


def nested_counterfact(number: int) -> dict[str, Any]:
    """Return a record of CounterFact in ROME's layout."""
    flat = counterfact(number)
    return {
        "case_id": number,
        "pararel_idx": number,
        "requested_rewrite": {
            "prompt": "The capital of {} is",
            "relation_id": "P36",
            "target_new": {"str": flat["target_new"], "id": "Q1"},
            "target_true": {"str": flat["ground_truth"], "id": "Q2"},
            "subject": flat["subject"],
        },
        "paraphrase_prompts": [flat["rephrase_prompt"]],
        "neighborhood_prompts": [flat["locality_prompt"]],
        "attribute_prompts": [],
        "generation_prompts": [],
    }


def hallucination(number: int) -> dict[str, Any]:
    """Return a record of WISE's hallucinations."""
    here, there, far = (PLACES[(number * step + step) % len(PLACES)] for step in (1, 5, 7))
    return {
        "prompt": f"This is a Wikipedia passage about {here}. {here} is a {_SAID[number % 8]} town. ",
        "subject": here,
        "target_new": f"It was founded by settlers from {there}, and its market is known beyond {far}.",
        "locality_prompt": f"The harbour of {far} was dredged in the year {1800 + number} so that",
        "locality_ground_truth": f"ships from {there} could land.",
    }


def write_pairs(folder: Path, count: int) -> None:
    """Write the four sets of pairs; one sentence of each is longer than any model's places."""
    for name, place in (
        ("QQP", "street"),
        ("Wiki-Auto", "village"),
        ("CommonsenseConversation", "harbour"),
        ("Quasar-T", "bridge"),
    ):
        for start, split in enumerate(("train", "valid", "test")):
            rows = [pair(place, number) for number in range(start * count, (start + 1) * count)]
            rows[1]["src"] = " ".join(f"{word} {place}" for word in itertools.islice(itertools.cycle(_SAID), 80))
            _lines(folder / name / f"{split}.jsonl", rows)


def pair(place: str, number: int) -> dict[str, str]:
    """Return a pair of sentences that say the same."""
    one, other = _SAID[number % 8], _SAID[(number // 8) % 8]
    return {
        "src": f"is the {place} number {number % 50} in the {one} town as {other} as they say",
        "trg": f"how {other} is the {place} number {number % 50} in the {one} town",
    }


def write_instructions(folder: Path, count: int) -> None:
    """Write the MiniLLM suite as its release names the files; the first thousand rows of Dolly are for validation."""
    _lines(folder / "dolly" / "raw.jsonl", [instruction(number) for number in range(1000 + count)])
    for number, name in enumerate(("dolly", "self-inst", "vicuna", "sinst/11_", "uinst/11_"), 2):
        rows = [instruction(number * 1000 + place) for place in range(count)]
        _lines(folder / name / "valid.jsonl", rows)


def instruction(number: int) -> dict[str, Any]:
    """Return an instruction with input and output."""
    place, said = PLACES[number % len(PLACES)], _SAID[(number // 3) % 8]
    return {
        "instruction": f"Say in one sentence what {place} is like.",
        "input": f"{place} is {said}." if number % 2 else "",
        "output": f"{place} is a {said} place.",
    }


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
