"""Every notebook as a question and its answer, for the README.

A notebook that judges claims answers as its verdicts do. Others answer from a table that they wrote, or in words where
no record decides. A notebook without a row here asks by its title.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lib.intervals import Interval
from lib.reporting import claims
from lib.reporting.sentences import by_side, spread
from lib.running import contract, findings, plain_claims, scorecard

NOBODY = "Not recorded yet."
WORDS = {claims.SUPPORTED: "Yes", claims.NOT_SUPPORTED: "No", claims.NOT_TESTABLE: "Not testable here"}
OPEN = "Undecided"


class Asked(NamedTuple):
    """A question, and its answer where no verdict gives it."""

    question: str
    answer: str | Callable[[], str] = ""


def own_target() -> str:
    """Whether wrong answers lie nearer to their own target than to another of its kind."""
    found = Interval(**findings.row("2_beacons/own_target", ruler="raw", kind="all")["own minus other"])
    return f"{by_side(found, 'No', 'Yes', OPEN)}, {spread(found, 3)} in cosine distance."


def grid() -> str:
    """The share right of LoRA beside the range of the other methods, at a hundred facts."""
    rows = [found for found in findings.rows("2_beacons/grid") if found["N = 100"]]
    shares = {found["method"]: found["N = 100"]["estimate"] for found in rows}
    lora = shares.pop("LoRA", None)
    if lora is None or not shares:
        return NOBODY
    return f"Of 100 facts it gets {lora:.2f} right, others {min(shares.values()):.2f} to {max(shares.values()):.2f}."


def leaks() -> str:
    """How many edits change the answer to an unrelated question."""
    found = findings.row("3_lemoe/kinds", kind="leak")
    total = findings.row("3_lemoe/kinds", kind="all")
    return f"{found['edits']} of {total['edits']} edits change the answer to an unrelated question."


def alike() -> str:
    """How alike the paired layers are before training and after it, with the middle loss."""
    found = findings.row("4_hetero_kd/maps", rule="uniform (ours)")
    before, after = found["before training"], found["after, with middle loss too"]
    return NOBODY if before is None or after is None else f"Yes: CKA {before:.2f} before training, {after:.2f} after."


def unlike() -> str:
    """Of how many unlike students the middle loss is seen to help, and to harm."""
    found = [one["both losses minus output loss"] for one in findings.rows("4_hetero_kd/pairs")]
    known = [Interval(**one) for one in found if isinstance(one, dict)]
    helped, harmed = sum(one.low > 0 for one in known), sum(one.high < 0 for one in known)
    return f"No: the loss helps {helped} of {len(known)} students, harms {harmed}."


def seconds() -> str:
    """Seconds of a step with the teacher's outputs kept, and with the teacher beside, against plain training."""
    names = ("SFT: cross-entropy alone", "both losses, cached", "both losses, teacher live")
    plain, cached, live = (findings.row("4_hetero_kd/cost", method=name)["seconds a step"] for name in names)
    return f"{plain:.2f} s plain, {cached:.2f} distilled, {live:.2f} with the teacher live."


def tally() -> str:
    """How many claims came to which verdict."""
    kinds = [plain_claims.kind(verdict) for verdict in scorecard.verdicts("cpu")]
    others = (claims.NOT_SUPPORTED, claims.INCONCLUSIVE, claims.NOT_TESTABLE, claims.NOT_JUDGED)
    told = [f"{kinds.count(one)} {plain_claims.PLAIN.get(one, one)}" for one in others if one in kinds]
    return f"{', '.join([f'{kinds.count(claims.SUPPORTED)} of {len(kinds)} supported', *told])}."


ASKED: Mapping[str, Asked] = {
    "0_start_here": Asked("Where do I begin?", "Here: all four methods, live."),
    "1_infodiffusion/1.1_noise_schedule": Asked("Which words fade last?", "Those that say most."),
    "1_infodiffusion/1.2_keyinfo_first": Asked("Does InfoDiffusion paraphrase better?"),
    "1_infodiffusion/1.3_table_1": Asked("On every task, and more diversely?"),
    "1_infodiffusion/1.4_ablation": Asked("Do all its parts help?"),
    "1_infodiffusion/1.5_decoding_order": Asked("Do content words settle first?"),
    "1_infodiffusion/1.6_sampling_steps": Asked("Do fewer sampling steps do?"),
    "2_beacons/2.1_semantic_distance": Asked("Are wrong answers nearer to their target than to others?", own_target),
    "2_beacons/2.2_one_fact": Asked("Does fine-tuning push facts away?"),
    "2_beacons/2.3_many_facts": Asked("Do facts learnt together interfere?"),
    "2_beacons/2.4_filters": Asked("Do filters help?"),
    "2_beacons/2.5_reweighting": Asked("Do weights by distance help?"),
    "2_beacons/2.6_grid": Asked("Is LoRA typical?", grid),
    "3_lemoe/3.1_factors": Asked("Do adaptors forget, reroute, depend on order?"),
    "3_lemoe/3.2_method": Asked("How is an expert chosen?", "Once an input, by the nearest key."),
    "3_lemoe/3.3_main_table": Asked("Is LEMoE the best editor?"),
    "3_lemoe/3.4_scaling": Asked("Does it forget less?"),
    "3_lemoe/3.5_batch_editing": Asked("With all edits in one batch, does it match MEMoE?"),
    "3_lemoe/3.6_ablations": Asked("Does its routing help, frozen or trained, and the order of its edits?"),
    "3_lemoe/3.7_cases": Asked("What goes wrong?", leaks),
    "4_hetero_kd/4.1_layers": Asked("Can unlike layers be compared?", alike),
    "4_hetero_kd/4.2_main_table": Asked("Does the middle-layer loss help?"),
    "4_hetero_kd/4.3_ablations": Asked("Do mapping rule and module matter?"),
    "4_hetero_kd/4.4_heterogeneity": Asked("Must students resemble their teacher for the loss to help?", unlike),
    "4_hetero_kd/4.5_cost": Asked("What does a step cost?", seconds),
    "5_scorecard": Asked("What became of the claims?", tally),
}


def verdict_words(verdict: dict[str, Any]) -> str:
    """Return a verdict in a few words; of one that is not judged what its single seed says."""
    kind = plain_claims.kind(verdict)
    if kind != claims.NOT_JUDGED:
        return WORDS.get(kind, OPEN)
    alone = scorecard.sides(verdict)
    if claims.NOT_SUPPORTED in alone:
        return "One seed: no"
    return "One seed: yes" if set(alone) == {claims.SUPPORTED} else "One seed: undecided"


def answer(promise: contract.Contract, verdicts: list[dict[str, Any]]) -> str:
    """Return a notebook's answer: typed, of a table, or of its claims, where several differ one after another."""
    given = ASKED[promise.name].answer if promise.name in ASKED else ""
    if given:
        return given if isinstance(given, str) else given()
    words = [verdict_words(verdict) for verdict in verdicts if verdict["path"] == promise.name]
    if not words:
        return NOBODY if promise.name in ASKED else ""
    if len(set(words)) == 1:
        return f"{words[0]}."
    return f"{'; '.join([words[0], *(word.lower() for word in words[1:])])}."


def markdown(folder: Path) -> str:
    """Return the notebooks below a folder as a list, each with its question and answer, and a link from there."""
    verdicts = scorecard.verdicts("cpu")
    lines = []
    for promise in contract.all_notebooks():
        if promise.notebook.is_relative_to(folder):
            label = promise.notebook.stem.split("_")[0]
            question = ASKED[promise.name].question if promise.name in ASKED else f"{promise.title}."
            link = f"[{label}]({promise.notebook.relative_to(folder).as_posix()})"
            lines.append(f"- {link} {question} {answer(promise, verdicts)}".rstrip())
    return "\n".join(lines)
