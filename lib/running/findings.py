"""What was found, in six lines for the README: numbers and wording follow what the notebooks left under figures/.

Where a series will judge its claims anew, on rows that are not all recorded yet, the new verdict comes first and the
old one stands in until it is there.
"""

import json
from collections.abc import Mapping
from typing import Any

from lib import intervals, paths
from lib.errors import UserError
from lib.intervals import Interval
from lib.reporting.sentences import by_side, listed, number, spread

Place = tuple[str, str]  # stem under figures/, and comparison


def rows(stem: str) -> list[dict[str, Any]]:
    """Return the rows of a published table; `UserError` naming the file where it is missing or damaged."""
    path = paths.FIGURES / f"{stem}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{paths.relative(path)}: missing or damaged: run the notebook that writes it") from error
    return list(found)


def row(stem: str, **where: str) -> dict[str, Any]:
    """Return the first row of a published table with these cells; `UserError` naming the file where there is none."""
    for found in rows(stem):
        if where.items() <= found.items():
            return found
    named = ", ".join(f"{column} {value!r}" for column, value in where.items())
    place = paths.relative(paths.FIGURES / f"{stem}.json")
    raise UserError(f"{place}: no row with {named}: mend lib/running/findings.py or answers.py, which read it")


def compared(*places: Place) -> dict[str, Any]:
    """Return the row of the first of these comparisons whose verdict is published; `UserError` where none is."""
    *others, last = places
    for stem, name in others:
        if (paths.FIGURES / f"{stem}.json").exists():
            return row(stem, comparison=name)
    return row(last[0], comparison=last[1])


def difference(found: Mapping[str, Any]) -> Interval | None:
    """Return the interval of a comparison, or None where nothing is recorded or nothing spreads."""
    return Interval(**found["difference"]) if isinstance(found["difference"], dict) else None


def told(found: Mapping[str, Any], digits: int = 3) -> str:
    """Return a comparison's interval as text, or that it is not recorded yet."""
    interval = difference(found)
    return spread(interval, digits) if interval else "not recorded yet"


def few(*found: Mapping[str, Any]) -> str:
    """Return ` (one seed)` where a comparison rests on too few training seeds to be judged, else nothing."""
    counts = [count for one in found if (count := _count(one["over"]))]
    return f" ({number(min(counts), 'seed')})" if counts and min(counts) < intervals.MINIMUM_SEEDS else ""


def _count(over: str) -> int:
    """Return the number of seeds that `3 seeds (no items, so no floor)` or `500 items of one seed` tells; 0 of none."""
    words = over.replace(",", "").split("(")[0].split()
    place = next((place for place, word in enumerate(words) if word.startswith("seed")), 0)
    count = words[place - 1] if place else "0"
    return int(count) if count.isdigit() else {"one": 1, "two": 2}.get(count, 0)


def side(found: Mapping[str, Any], above: str, below: str, open_: str) -> str:
    """Return the wording for where a comparison's interval lies beside its margin; `open_` where there is none."""
    interval = difference(found)
    margin = float(found["claimed"].split()[-1])
    return by_side(interval, above, below, open_, margin) if interval else open_


def order() -> str:
    """InfoDiffusion beside DiffuSeq: when nouns settle, and the quality of what is written where it can be tested."""
    nouns = compared(("1_infodiffusion/claim_order", "nouns earlier than in DiffuSeq"))
    quality = compared(("1_infodiffusion/claim_quality", "Question Generation: BLEU"))
    when = side(nouns, "later", "earlier", "about as early")
    well = side(quality, "better", "worse", "no better and no worse for certain")
    return (
        f"**InfoDiffusion** beside DiffuSeq, which treats all words alike: its nouns are settled {when}, by "
        f"{told(nouns)} of all sampling steps{few(nouns)}; the questions that it writes are {well}, "
        f"BLEU {told(quality)}{few(quality)}."
    )


def together() -> str:
    """Facts learnt together beside each alone: in other words, and on the trained prompt."""
    name = "paraphrase, equal updates per fact"
    expressed = compared(("2_beacons/claim_expression", name), ("2_beacons/claim_interference", name))
    name = "prompt, equal updates per fact"
    prompt = compared(("2_beacons/claim_learning", name), ("2_beacons/claim_interference", name))
    lost = side(expressed, "", ", hardly anything", ", not for certain")
    kept = side(prompt, "", ", hardly anything", ", not for certain")
    return (
        "**Facts learnt together**, not each alone: the share of them that is right, asked in other words, falls by "
        f"{told(expressed)}{lost}; asked as trained by {told(prompt)}{kept}{few(expressed, prompt)}."
    )


def remedies() -> str:
    """The two filters of Beacons and its weighted loss beside plain training, the filters beside a random half too."""
    plain, half = "full set, minus plain", "full set, minus random"
    found = {f"filter {name}": compared((f"2_beacons/claim_filter_{name.lower()}", plain)) for name in "AB"}
    found["the weighted loss"] = compared(("2_beacons/claim_reweighting", "right, minus plain"))
    random = [told(compared((f"2_beacons/claim_filter_{name}", half))) for name in "ab"]
    numbers = ", ".join(f"{name} {told(one)}" for name, one in found.items())
    return (
        f"**Beacons' remedies**: {_which(found)}. Share right beside plain training: {numbers}. Beside a random half "
        f"of the facts the filters make {random[0]} and {random[1]}{few(*found.values())}."
    )


def _which(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return which of several comparisons with margin 0 are seen to help, and which to harm."""
    sides = {name: side(one, "helps", "harms", "undecided") for name, one in found.items()}
    verbs = ("helps", "harms", "undecided")
    groups = {verb: [name for name, where in sides.items() if where == verb] for verb in verbs}
    if not groups["helps"] and not groups["harms"]:
        return "none is seen to help"
    return "; ".join(f"{verb}: {listed(names)}" for verb, names in groups.items() if names)


def routing() -> str:
    """LEMoE's anchor routing beside conventional routing, with our frozen projection and as the paper words it."""
    frozen = ("3_lemoe/claim_drawn_routing", "3_lemoe/claim_routing")
    worded = ("3_lemoe/claim_drawn_routing_worded", "3_lemoe/claim_routing_trained")
    ours, theirs = (
        [compared(*((stem, name) for stem in stems)) for name in ("Rel", "agreement")] for stems in (frozen, worded)
    )
    return (
        f"**LEMoE's routing** beside a conventional router, with a frozen projection, our variant: {_changed(ours[0])} "
        f"of the edits kept, {_changed(ours[1])} of the routes as learnt; with a trained one, as in the paper: "
        f"{_changed(theirs[0])} and {_changed(theirs[1])}{few(*ours, *theirs)}."
    )


def _changed(found: Mapping[str, Any]) -> str:
    """Return a share's change with its sign, as `+0.58 [0.07, 1.00]`."""
    interval = difference(found)
    return f"{interval.estimate:+.2f} [{interval.low:.2f}, {interval.high:.2f}]" if interval else "not recorded yet"


def editor() -> str:
    """LEMoE as a whole: its average beside GRACE's, and how many of its edits change an unrelated answer."""
    name = "Avg above GRACE"
    grace = compared(("3_lemoe/claim_drawn_lifelong", name), ("3_lemoe/claim_lifelong", name))
    all_edits = row("3_lemoe/kinds", kind="all")
    best = side(grace, "is ahead of GRACE", "is behind GRACE", "is level with GRACE")
    return (
        f"**LEMoE as a whole** {best}, a memory of exact prompts, in the mean of its three scores, {told(grace)}"
        f"{few(grace)}; {all_edits['leaking']} of its {all_edits['edits']} edits change the answer to an unrelated "
        "question."
    )


def middle() -> str:
    """The middle-layer loss beside the output loss alone: by held-out loss, on older rows by points of ROUGE-L."""
    found = [one for one in rows("4_hetero_kd/claim_middle") if not one["comparison"].startswith("gate")]
    lower = "<" in found[0]["claimed"]
    words = ("harms", "helps") if lower else ("helps", "harms")
    does = dict.fromkeys(side(one, *words, "makes no visible difference") for one in found)
    unit, digits = ("held-out loss (nats a token, lower is better)", 3) if lower else ("points of ROUGE-L", 1)
    each = [f"{told(one, digits)}{_student(one)}{few(one)}" for one in found]
    return (
        f"**The middle-layer loss** of heterogeneous distillation, beside the output loss alone, {listed(list(does))}: "
        f"in {unit} {listed(each)}."
    )


def _student(found: Mapping[str, Any]) -> str:
    """Return ` (GPT-2 style student)` where a comparison names its student, else nothing."""
    name, colon, _ = found["comparison"].partition(": ")
    return f" ({name} student)" if colon else ""


def markdown() -> str:
    """Return the six lines as a numbered list."""
    lines = (order(), together(), remedies(), routing(), editor(), middle())
    return "\n".join(f"{place}. {line}" for place, line in enumerate(lines, 1))
