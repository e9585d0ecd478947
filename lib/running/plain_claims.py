"""Each claim and its verdict in a few plain words, for the README; a claim without a line here has its own words."""

from pathlib import Path
from typing import Any

from lib import paths
from lib.intervals import Interval
from lib.reporting import claims, sentences, tables
from lib.running import scorecard

PLAIN = {claims.NOT_TESTABLE: "not testable here"}

SHORT = {
    "1_infodiffusion/claim_paraphrase": "InfoDiffusion paraphrases better than DiffuSeq",
    "1_infodiffusion/claim_paraphrase_one": "InfoDiffusion paraphrases better than DiffuSeq, with one candidate",
    "1_infodiffusion/claim_quality": "It writes better on every task",
    "1_infodiffusion/claim_diversity": "Diffusion models write more diversely than other models",
    "1_infodiffusion/claim_ablation": "Schedule and self-conditioning help, the schedule more",
    "1_infodiffusion/claim_information": "It is the words' information that helps, not unequal noise alone",
    "1_infodiffusion/claim_order": "Content words settle before function words, and earlier than in DiffuSeq",
    "1_infodiffusion/claim_steps": "It needs clearly fewer sampling steps",
    "2_beacons/claim_pushed": "Fine-tuning often pushes a model away from the fact it learns",
    "2_beacons/claim_pushed_last": "It leaves a notable share of facts pushed away",
    "2_beacons/claim_interference": "Facts learnt together interfere",
    "2_beacons/claim_learning": "Facts learnt together suppress each other's learning",
    "2_beacons/claim_expression": "Facts learnt together suppress each other's expression",
    "2_beacons/claim_filter_a": "Leaving out harmful facts helps (reading A)",
    "2_beacons/claim_filter_b": "Leaving out harmful facts helps (reading B)",
    "2_beacons/claim_filter_direction": "Filter A beats its reverse",
    "2_beacons/claim_reweighting": "Weighting the loss by distance helps",
    "2_beacons/claim_weight_direction": "Far facts should weigh more, not near ones",
    "3_lemoe/claim_factors": "A conventional adaptor forgets, reroutes and depends on order",
    "3_lemoe/claim_lifelong": "LEMoE has the best average, with locality 1",
    "3_lemoe/claim_scaling": "It forgets its first batch least",
    "3_lemoe/claim_batch": "With all edits at once it stays close to MEMoE",
    "3_lemoe/claim_routing": "Anchor routing helps (frozen projection: ours)",
    "3_lemoe/claim_routing_trained": "Anchor routing helps (trained projection: the paper's)",
    "3_lemoe/claim_order": "Clustered order beats random order",
    "4_hetero_kd/claim_middle": "The middle-layer loss helps",
    "4_hetero_kd/claim_middle_answers": "Its answers are better",
    "4_hetero_kd/claim_controls": "Mapping rule and alignment module matter",
}


def markdown(folder: Path) -> str:
    """Return the scorecard of all notebooks as one plain sentence a claim, with links from a folder above them."""
    lines: list[str] = []
    found = scorecard.verdicts("cpu")
    for paper in dict.fromkeys(verdict["paper"] for verdict in found):
        lines += [*([""] if lines else []), f"**{paper}**", ""]
        for verdict in (one for one in found if one["paper"] == paper):
            notebook = paths.NOTEBOOKS / f"{verdict['path']}.ipynb"
            link = f"[{notebook.stem.split('_')[0]}]({notebook.relative_to(folder).as_posix()})"
            claim = SHORT.get(verdict["stem"], verdict["text"].rstrip("."))
            lines.append(f"- {tables.escape_markdown(claim)}: {_came_out(verdict)} ({link}).")
    return "\n".join(lines)


def kind(verdict: dict[str, Any]) -> str:
    """Return a verdict without its reasons."""
    return str(verdict["verdict"]).partition(" (")[0].partition(":")[0]


def _came_out(verdict: dict[str, Any]) -> str:
    """Return the verdict in bold with the interval of its comparison, or where the intervals of several lie."""
    found, told = kind(verdict), ""
    rows = [row for row in verdict["rows"] if row["outcome"] in scorecard.WEIGHT]
    if found != claims.NOT_TESTABLE:
        if all(row["over"] == claims.NOT_RECORDED for row in rows):
            told = ", not recorded yet"
        elif len(rows) == 1 and isinstance(rows[0]["difference"], dict):
            told = f", {sentences.spread(Interval(**rows[0]['difference']), 3)}"
        else:
            told = _counted(scorecard.sides(verdict))
    return f"**{PLAIN.get(found, found)}**{told}"


def _counted(own: list[str]) -> str:
    """Return how many of several comparisons lie on a claim's side, and how many on the other, where any does."""
    counts = {"for it": own.count(claims.SUPPORTED), "against it": own.count(claims.NOT_SUPPORTED)}
    told = [f"{count} {where}" for where, count in counts.items() if count]
    return f", of {len(own)} comparisons " + ", ".join(told) if told else ""
