"""What the notebooks say of the records, as sentences: who is ahead, by how much, over how many seeds."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib.intervals import Interval
from lib.reporting import sentences, tables
from lib.reporting.claims import HOLDS, INCONCLUSIVE, NOT_RECORDED, NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, Verdict
from lib.series.infodiffusion import gates
from lib.text import scores

CONDITIONS = {
    "steps": "more sampling steps help",
    "reach": "a model reaches what copying or the Transformer sets",
    "trained": "training has settled",
}

MOST_TOLD = 6  # differences in one sentence


def ahead(first: str, second: str, found: Interval, measure: str, over: str, digits: int = 3) -> str:
    """Return which of two rows is ahead by `found`, the first minus the second, where more is better."""
    estimate, low, high = found
    turned = Interval(-estimate, -high, -low)
    return sentences.by_side(
        found,
        f"{first} is ahead of {second} by {sentences.spread(found, digits)} {measure} ({over}).",
        f"{first} is behind {second} by {sentences.spread(turned, digits)} {measure} ({over}).",
        f"{first} and {second} are not told apart: their difference is {sentences.spread(found, digits, signed=True)} "
        f"{measure} ({over}).",
    )


def judged(verdict: Verdict, digits: int = 3) -> str:
    """Return the verdict of a claim, its differences, and what its gate says, in plain sentences."""
    told = [
        f"{finding.comparison.name} {sentences.spread(finding.interval, digits, signed=True)}"
        for finding in verdict.findings
        if finding.interval
    ]
    over = _over([finding.sample for finding in verdict.findings if finding.interval])
    outcome = verdict.outcome if verdict.outcome == NOT_TESTABLE else verdict.label
    said = [f"The claim is **{outcome}**."]
    if len(told) > MOST_TOLD:
        sides = [finding.comparison.outcome(finding.interval) for finding in verdict.findings if finding.interval]
        yes, no, either = (sides.count(one) for one in (SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE))
        said.append(
            f"Of {len(told)} differences {yes} lie on the claimed side with their whole interval, {no} on the other, "
            f"and {either} on both."
        )
    elif told:
        said.append(f"Measured, over {over}: {sentences.listed(told)}.")
    missing = [finding.comparison.name for finding in verdict.findings if not finding.interval]
    if missing:
        said.append(f"Not recorded yet: {sentences.listed(missing)}.")
    if verdict.gate_outcome != HOLDS:
        gate = "is not recorded yet" if verdict.gate_outcome == NOT_RECORDED else "fails"
        said.append(f"The gate {gate}, so these differences decide nothing.")
    return " ".join(said)


def gated(margins: Mapping[str, gates.Task | None]) -> str:
    """Return which tasks can test a claim about diffusion, by their titles, and where the others fail."""
    missing = [title for title, gate in margins.items() if gate is None]
    said = [f"The gate is not recorded yet for {sentences.listed(missing)}."] if missing else []
    if len(missing) < len(margins):
        passing = [title for title, gate in margins.items() if gate and gate.passes]
        said.insert(0, f"Tasks that count: {sentences.listed(passing)}.")
    for title, gate in margins.items():
        if gate and gate.passes:
            said.append(f"{title} counts, as all three conditions hold: {_margins(gate)}.")
        elif gate:
            failed = [text for name, text in CONDITIONS.items() if not gates.GATE.holds(getattr(gate, name))]
            said.append(
                f"{title} does not count, as this does not hold: {sentences.listed(failed)} ({_margins(gate)})."
            )
    return " ".join(said)


def decides(gate: gates.Task | None) -> str:
    """Return whether differences on a task can decide a claim about diffusion; nothing where they can."""
    if gate is None:
        return "Whether the task can test a claim is not recorded yet."
    return "" if gate.passes else "The task's gate fails, so neither difference decides a claim."


def _margins(gate: gates.Task) -> str:
    """Return what a gate measured, beside what it asks."""
    gained = gates.STILL_GAINING - gate.trained
    side = "above" if gate.reach >= 0 else "below"
    return (
        f"all sampling steps against one: {gate.steps:+.3f} BLEU, at least 0 is asked; the better model: "
        f"{abs(gate.reach):.3f} {side} what it has to reach; BLEU gained in the last quarter of training: "
        f"{gained:.3f}, at most {gates.STILL_GAINING:g} is allowed"
    )


def turns(ten: Interval, one: Interval) -> str:
    """Return what the best of ten and one candidate say together of the first row against the second."""
    sides = [sentences.by_side(found, "ahead", "behind", "") for found in (ten, one)]
    if set(sides) == {"ahead", "behind"}:
        answers = [{"ahead": "yes", "behind": "no"}[side] for side in sides]
        return (
            f"The sign turns with the number of candidates: {sides[1]} with one, {sides[0]} with ten. By the paper's "
            f"measure, the best of ten, the answer is {answers[0]}; for a single sentence it is {answers[1]}."
        )
    if sides[0] == sides[1]:
        return f"Both ways of decoding say the same: {sides[0] or 'the two are not told apart'}."
    told = "ten candidates" if sides[0] else "one candidate"
    aside = "" if sides[0] else " By the paper's measure, the best of ten, neither is shown to be better."
    return f"Only {told} can tell the two apart ({sides[0] or sides[1]}).{aside}"


def answer(first: str, second: str, found: Mapping[str, tuple[Interval, str]], measure: str = "BLEU") -> str:
    """Return who is ahead with ten candidates and with one, and what both say together.

    `found` has the differences of the best of ten and of one candidate, in this order, each with what it is over.
    """
    told = [ahead(first, second, one, f"{measure}, {way}", over) for way, (one, over) in found.items()]
    return " ".join([*told, turns(*(one for one, _ in found.values()))])


def highest(levels: Mapping[str, Interval], digits: int = 3) -> str:
    """Return who has the highest estimate, all of those whose rounded value is the same, with their intervals."""
    best = sentences.ties({name: one.estimate for name, one in levels.items()}, digits)
    return sentences.listed([f"{name} {sentences.spread(levels[name], digits)}" for name in best])


def settled(title: str, words: Sequence[str], steps: ArrayLike, information: ArrayLike) -> str:
    """Return when the words of a sentence stand, and whether those with more information stand earlier; (words,)."""
    if not len(words):
        return f"{title} writes no word."
    steps, nats = np.asarray(steps), np.asarray(information)
    last = int(steps.argmax())
    said = (
        f"{title}: {int((steps == 1).sum())} of {sentences.number(len(words), 'word')} stand after the first step for "
        f'good; the last to settle is "{words[last]}", at step {steps[last]}.'
    )
    half = len(words) // 2
    if not half:
        return said
    order = np.argsort(-nats, kind="stable")
    more, less = steps[order[:half]].mean(), steps[order[half:]].mean()
    told = (
        f"The half of the words with more information settles at step {more:.1f} on average, the other at {less:.1f}."
    )
    return f"{said} {told}"


def clear(frame: pd.DataFrame, best: Mapping[str, tables.Best], aside: Collection[str] = ()) -> dict[str, tables.Best]:
    """Return the columns of `best` in which the interval of the best row overlaps no other row's: only they get bold.

    Rows whose first cell is in `aside` do not compete.
    """
    rows = frame[~frame.iloc[:, 0].isin(list(aside))]
    kept: dict[str, tables.Best] = {}
    for column, way in best.items():
        sign = 1 if way == "highest" else -1
        found = [sorted((sign * one.low, sign * one.high)) for one in rows[column] if isinstance(one, Interval)]
        found.sort(key=lambda ends: -sum(ends))
        if len(found) > 1 and found[0][0] > max(high for _, high in found[1:]):
            kept[column] = way
    return kept


def bold(table: tables.Table, aside: Collection[str] = ()) -> tables.Table:
    """Return a table of `tables.beside_paper` that is bold where a row is clearly the best of those measured here."""
    sides = {f"{scores.SHORT[metric]}, here": way for metric, way in scores.BETTER.items()}
    best = clear(table.frame, {name: way for name, way in sides.items() if name in table.frame}, aside)
    return replace(table, best=best, aside=tuple(aside))


def recorded(found: int, planned: Sequence[int]) -> str:
    """Return of how many training seeds the records are there."""
    have = sentences.number(found, "training seed")
    if found >= len(planned):
        return f"All {sentences.number(len(planned), 'training seed')} are recorded."
    return f"Recorded so far: {have} of {len(planned)}; the others are not recorded yet."


def _over(samples: Sequence[str]) -> str:
    """Return what several comparisons are over; of different numbers of items the least and the greatest."""
    parts = [sample.partition(" items of ") for sample in samples]
    tails = {tail for _, _, tail in parts}
    counts = {int(count) for count, items, _ in parts if items}
    if len(tails) == 1 and len(counts) > 1 and all(items for _, items, _ in parts):
        return f"{min(counts)} to {max(counts)} items of {tails.pop()}"
    return sentences.listed(sorted(set(samples)))
