"""Sentences on what the records of the series show today; notebooks print them below tables and figures."""

from collections.abc import Mapping, Sequence

import pandas as pd

from lib import intervals
from lib.intervals import SHARE, Interval
from lib.records import Record
from lib.reporting.claims import Verdict
from lib.reporting.sentences import by_side, extremes, listed, number, spread, ties
from lib.series.lemoe import evaluation


def grouped(found: Mapping[str, Interval | None], words: tuple[str, str, str], margin: float = 0.0) -> str:
    """Return the names by where their intervals lie, above `margin`, below it or across, and which are not recorded.

    `words` begin the three parts; a part without names is left out.
    """
    parts: dict[str, list[str]] = {word: [] for word in (*words, "Not recorded yet")}
    for name, interval in found.items():
        if interval is None:
            parts["Not recorded yet"].append(name)
        else:
            parts[by_side(interval, *words, margin=margin)].append(f"{name} ({spread(interval, signed=True)})")
    return " ".join(f"{word}: {listed(names)}." for word, names in parts.items() if names)


def judged(verdict: Verdict) -> str:
    """Return what a verdict rests on: the gate, and the comparisons by where their intervals lie."""
    told = [f"**{verdict.label[0].upper()}{verdict.label[1:]}.**"]
    if verdict.claim.gate is not None and verdict.gate is not None:
        told.append(f"The gate {verdict.gate_outcome}: {verdict.claim.gate.name} is {verdict.gate.mean():.2f}.")
    sides: dict[str, list[str]] = {}
    levels: list[float | None] = []
    for finding in verdict.findings:
        compared = finding.comparison
        place, text = "Not recorded or without spread", compared.name
        if finding.interval is not None:
            above, below = "On the claimed side", "On the other side"
            words = (above, below) if compared.direction == ">" else (below, above)
            place = by_side(finding.interval, *words, "Open, with an interval across the margin", compared.margin)
            sign = "" if compared.bounds == SHARE else "+"
            margin = f", margin {compared.margin:{sign}g}" if compared.margin else ""
            levels.append(finding.level)
            shares = compared.bounds == SHARE  # a mean against a margin, no difference
            text += f" ({spread(finding.interval, signed=not shares)}{margin})"
        sides.setdefault(place, []).append(text)
    told += [f"{place}: {listed(names)}." for place, names in sides.items()]
    if any(level != verdict.claim.level for level in levels):
        told.append("The intervals are wider than 95 %, since several comparisons are judged at once (column level).")
    return " ".join(told)


def differences(runs: Mapping[str, Record], base: Record, metric: str) -> dict[str, Interval]:
    """Return a score of records minus that of another, paired by edit, with bootstrap intervals.

    Records that share no edit with the other are left out.
    """
    found = {}
    for name, run in runs.items():
        try:
            one, other = evaluation.paired(run, base, metric)
        except ValueError:  # other edits
            continue
        found[name] = intervals.paired_bootstrap(one, other)
    return found


def placed(avg: Mapping[str, Interval], name: str, score: str = "Avg") -> str:
    """Return which rows have the highest score, all that share it in two digits, and the place of one row among all."""
    ranks = sorted(avg, key=lambda one: -avg[one].estimate)
    top = avg[ranks[0]]
    best_ones = ties({one: avg[one].estimate for one in ranks})
    best = f"{ranks[0]} has the highest {score}, {spread(top)}"
    if len(best_ones) > 1:
        best = f"{listed(best_ones)} have the highest {score}, {top.estimate:.2f}"
    if name in best_ones:
        others = [one for one in ranks if one not in best_ones]
        return f"{best}; next is {others[0]} with {spread(avg[others[0]])}." if others else f"{best}."
    return f"{best}; {name} has {spread(avg[name])}, place {ranks.index(name) + 1} of {len(ranks)}."


def beside_idle(runs: Mapping[int, Record], idle: Mapping[int, Record], name: str) -> str:
    """Return a row's Avg beside that of the unedited model at every T, and whether the paired difference decides.

    Raises `ValueError` where a T has both and they share no edit.
    """
    words = ("above no edit", "below no edit", "not told apart from no edit")
    parts: dict[str, list[str]] = {}
    for count in sorted(set(runs) & set(idle)):
        gap = intervals.paired_bootstrap(*evaluation.paired(runs[count], idle[count], "avg"))
        mine, other = (evaluation.final(run)["avg"].mean() for run in (runs[count], idle[count]))
        told = f"T = {count:,} ({mine:.3f} against {other:.3f})"
        parts.setdefault(by_side(gap, *words), []).append(told)
    return " ".join(f"{name} is {word} in Avg at {listed(found)}." for word, found in parts.items())


def lower(cells: Mapping[str, Interval], name: str) -> list[str]:
    """Return the rows whose estimate is below that of one row, beyond the third digit; none where it is missing."""
    if name not in cells:
        return []
    limit = round(cells[name].estimate, 3)
    return [one for one, cell in cells.items() if one != name and round(cell.estimate, 3) < limit]


def all_high(cells: Mapping[str, Mapping[str, Interval | None]], least: float = 0.5) -> str:
    """Return which rows have Rel, Gen and Loc above a number at once, else which one has the most Gen."""
    scores = ("rel", "gen", "loc")
    high = [n for n, found in cells.items() if all((cell := found[m]) and cell.estimate > least for m in scores)]
    if high:
        return f"Above {least:g} in Rel, Gen and Loc at once: {listed(high)}."
    gen = {name: cell.estimate for name, found in cells.items() if (cell := found["gen"]) is not None}
    told = f"No row is above {least:g} in Rel, Gen and Loc at once"
    return (
        f"{told}: the highest Gen is {max(gen.values()):.2f} ({max(gen, key=gen.__getitem__)})." if gen else f"{told}."
    )


def like(avg: Mapping[str, Interval], name: str) -> list[str]:
    """Return the rows whose estimate lies within the interval of one row."""
    _, low, high = avg[name]
    return [one for one, (estimate, _, _) in avg.items() if one != name and low <= estimate <= high]


def farther(near: Mapping[str, Interval], far: Mapping[str, Interval], names: Sequence[str]) -> str:
    """Return how Loc of some rows differs with farther questions, and how much of what it lacks to 1 they explain."""
    there = [name for name in names if name in near and name in far and near[name].estimate < 1]
    told = [f"{name} {near[name].estimate:.3f} and {far[name].estimate:.3f}" for name in there]
    shares = {n: (far[n].estimate - near[n].estimate) / (1 - near[n].estimate) for n in there}
    parts = [f"{share:.2f} of what {name} lacks to 1" for name, share in shares.items()]
    return f"{listed(told)}. So farther questions explain {listed(parts)}." if told else "not recorded yet."


def leaks(runs: Mapping[str, Record]) -> pd.DataFrame:
    """Return by row how many edits leak (a token of the unrelated answer changed), with Rel, Gen and Loc."""
    rows = []
    for name, run in runs.items():
        flags, cells = evaluation.kinds(run)["leak"], evaluation.cells(run)
        row = {"row": name, "leaks": int(flags.sum()), "edits": len(flags)}
        rows.append(row | {title: cells[metric] for metric, title in evaluation.METRICS.items() if metric != "avg"})
    return pd.DataFrame(rows, dtype=object)


def kept_bytes(hidden: int, inner: int, key: int, batches: int) -> tuple[int, str]:
    """Return the bytes of LEMoE's adaptor in float32, and how they are reckoned.

    An expert is two matrices of `hidden` by `inner` and their biases; there is a key for each and one projection.
    """
    expert = 2 * hidden * inner + inner + hidden
    total = 4 * (batches * (expert + key) + hidden * key + key * key)
    told = f"2 x {hidden} x {inner} + {inner} + {hidden} = {expert:,} numbers an expert."
    told += f" {batches} experts, {batches} keys of {key}"
    return total, f"{told} and the projection ({hidden} x {key} + {key} x {key}) make {total:,} bytes."


def by_hand(shares: Mapping[str, float], edits: int, batches: int) -> str:
    """Return the largest share routed right as a count of the edits, beside that of one expert for all."""
    if not shares:
        return "There is no share to count: no row is recorded of which an expert of its own can be told."
    best = extremes(shares)[1]
    right, own = round(shares[best] * edits), edits // batches
    return (
        f"*{best}*: {right} of {edits} edits end at the expert of their batch, {right} / {edits} = {shares[best]:.2f}. "
        f"With {batches} batches of {own}, an expert that took every prompt would be right for its own {own}: "
        f"{own} / {edits} = {1 / batches:.2f}."
    )


def routed(shares: Mapping[str, float], rel: Mapping[str, float], experts: int) -> str:
    """Return which rows route edits to their own expert as often as one expert that serves all would, and the best.

    `rel` is told of the rows of the fewest and of the most edits that are routed right.
    """
    if not shares:
        return "No row is recorded of which an expert of its own can be told."
    chance = 1 / experts
    at = [name for name, share in shares.items() if abs(share - chance) < 0.5 * chance]
    worst, best = extremes(shares)
    told = f"With {number(experts, 'expert')} of equal batches, one expert that served everything would be right for "
    told += f"{chance:.2f} of the edits. "
    near = listed([f"{name} ({shares[name]:.2f})" for name in at]) or "none"
    told += f"Between {0.5 * chance:.2f} and {1.5 * chance:.2f} {'lie' if len(at) > 1 else 'lies'}: {near}. "
    told += f"The most edits find their own expert with {best}: {shares[best]:.2f}. "
    return (
        told + f"Rel is {rel[worst]:.2f} where the fewest edits are routed right, {rel[best]:.2f} where the most are."
    )
