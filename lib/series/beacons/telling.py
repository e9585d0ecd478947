"""Sentences about facts alone and together, written from records: their wording follows where the intervals lie."""

from collections.abc import Mapping, Sequence

import pandas as pd

from lib.intervals import DIFFERENCE, Interval, over_seeds_or_alone
from lib.records import Record
from lib.reporting.claims import INCONCLUSIVE, Verdict
from lib.reporting.sentences import by_side, difference, listed, number, spread, ties
from lib.series.beacons import evaluation, pushing

Found = Interval | float | None
SCORED = {"trained prompt": "right", "paraphrase": "paraphrase"}


def amount(found: Found, digits: int = 2, signed: bool = False) -> str:
    """Return a number with its interval where it has one: `0.40 [0.13, 0.67]`, `0.40`, or `not recorded`."""
    if found is None:
        return "not recorded"
    if isinstance(found, Interval):
        return spread(found, digits, signed)
    return difference(found, digits) if signed else f"{found:z.{digits}f}"


def lies(found: Found, above: str, below: str, open_: str, margin: float = 0.0) -> str:
    """Return the wording for where a number lies; one without an interval leaves everything open."""
    return by_side(found, above, below, open_, margin) if isinstance(found, Interval) else open_


def judged(verdict: Verdict) -> str:
    """Return what a verdict says: its label, then each comparison with its number and what was claimed of it.

    An open verdict is told by its outcome alone: the intervals that follow say what is ruled out.
    """
    told = [f"Verdict: **{verdict.outcome if verdict.outcome == INCONCLUSIVE else verdict.label}**."]
    for finding in verdict.findings:
        one = finding.comparison
        level = "" if finding.level is None else f" ({100 * finding.level:.4g} % interval)"
        side = "above" if one.direction == ">" else "below"
        told.append(
            f"*{one.name[:1].upper()}{one.name[1:]}*: {amount(finding.interval, 3)}{level}, claimed {side} "
            f"{one.margin:g}: {finding.outcome}."
        )
    return " ".join(told)


def falling(paths: Mapping[str, Sequence[pd.DataFrame]], edges: Sequence[float], step: int = 2) -> str:
    """Return where the far third of the facts is after some updates and after the last, by what is taught."""
    told = []
    first = _first_update(paths, edges)
    for name in ("own target", "shuffled target"):
        if parts := pushing.started(paths[name], "far", edges):
            rate = pushing.rate(parts, "d").set_index("step")
            last = rate.index[-1]
            told.append(
                f"with the {name} from {rate['mean'].iloc[0]:.2f} to {spread(rate.loc[step])} after "
                f"{number(step, 'update')} and to {spread(rate.loc[last])} after {number(int(last), 'update')}"
            )
    return (
        f"The mean distance of the far third goes {'; '.join(told)}. {first}" if told else "No fact started far away."
    )


def _first_update(paths: Mapping[str, Sequence[pd.DataFrame]], edges: Sequence[float]) -> str:
    """Return where the thirds of the facts stand after the first update from their own target, far ones first."""
    thirds = {third: pushing.started(paths["own target"], third, edges) for third in reversed(pushing.STARTS)}
    means = {third: float(pushing.rate(parts, "d")["mean"].iloc[1]) for third, parts in thirds.items() if parts}
    numbers = listed([f"{mean:.2f} ({third})" for third, mean in means.items()])
    kept = list(means.values()) == sorted(means.values(), reverse=True)
    return (
        f"After the first update towards the own target the means are {numbers}: the order of the thirds "
        f"{'lasts, so it is not chance alone' if kept else 'is lost'}."
    )


def peaks(paths: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Return when each push rate is highest, and what is left of it after the last update."""
    told, left = [], {}
    for name, several in paths.items():
        rate = pushing.rate(several).set_index("step")
        highest = rate.loc[rate["mean"].idxmax()]
        told.append(f"{name} {spread(highest)} after {number(int(highest.name), 'update')}")
        left[name] = rate.iloc[-1]
    some = [f"{name} {spread(one)}" for name, one in left.items() if one["mean"] > 0]
    steps = number(int(pushing.rate(next(iter(paths.values())))["step"].iloc[-1]), "update")
    end = f"After {steps} no fact is pushed away any more" if not some else f"After {steps} there remain {listed(some)}"
    return f"The push rate is highest early: {listed(told)}. {end}."


def pushes(frames: Sequence[pd.DataFrame]) -> dict[str, object]:
    """Return a row of the table of pushed facts from `pushing.trajectories`, a frame a seed: counts over all seeds.

    `pushes` are the readings at which a fact was pushed, and of how many of them the loss lay below its start.
    """
    facts = [pushing.by_fact(frame) for frame in frames]
    pushed = pd.concat(frames)[lambda frame: frame["pushed"]]
    return {
        "facts": sum(map(len, facts)),
        "ever pushed": sum(int(frame["ever"].sum()) for frame in facts),
        "share ever pushed": pushing.over_seeds([frame["ever"].astype(float) for frame in facts]),
        "pushed at the end": sum(int(frame["finally"].sum()) for frame in facts),
        "pushes with a lower loss": f"{int(pushed['lighter'].sum())} of {len(pushed)}",
        "share of readings right": pushing.over_seeds([frame["quick"] for frame in facts]),
    }


def ever(rows: Sequence[Mapping[str, object]]) -> str:
    """Return how many facts are ever and finally pushed, and what the loss did; `rows`: `pushes`, with `taught`."""
    counts = listed([f"{row['ever pushed']} of {row['facts']} ({row['taught']})" for row in rows])
    last = listed([str(row["pushed at the end"]) for row in rows])
    return (
        f"Ever pushed away are {counts}; after the last update, in the same order, {last}. From the own target, "
        f"{rows[0]['pushes with a lower loss']} pushes happened while the loss of the target lay below its start: the "
        "loss can fall while the answer moves away."
    )


def alone_in_short(real: Sequence[Record], shuffled: Sequence[Record]) -> str:
    """Return what facts learnt alone, from their own target and from another's, say of claim 1, in two sentences."""
    own, control = ([pushing.by_fact(pushing.trajectories(run)) for run in runs] for runs in (real, shuffled))
    return pushed_in_short(own, control)


def pushed_in_short(own: Sequence[pd.DataFrame], control: Sequence[pd.DataFrame]) -> str:
    """Return the same of frames of `pushing.by_fact`, one a seed."""
    edges = pushing.thirds([frame["start"] for frame in (*own, *control)])
    share = pushing.over_seeds([frame["ever"].astype(float) for frame in own])
    left = sum(int(frame["finally"].sum()) for frame in own)
    gaps = [pushing.excess(one, other, edges) for one, other in zip(own, control, strict=True)]
    gap = pushing.over_seeds(gaps, DIFFERENCE)
    words = (
        "more often than facts that are taught a wrong target, so the fact's own target plays a part",
        "less often than facts that are taught a wrong target, so it is no mark of the fact's own target",
        "no more and no less often for certain than facts that are taught a wrong target",
    )
    return (
        f"On the way, a share of {amount(share)} of the facts gives a wrong answer that is farther from the target "
        f"than before training; after the last update {left or 'none'} does. They are pushed {lies(gap, *words)}."
    )


def beyond(gaps: Mapping[str, Found]) -> str:
    """Return by ruler how the share ever pushed lies to the control's at equal d(0)."""
    words = ("is pushed more often than the control", "is pushed less often than the control")
    told = [f"under *{name}* {amount(gap, 3, True)}" for name, gap in gaps.items()]
    sides = {lies(gap, *words, "cannot be told from the control") for gap in gaps.values()}
    return f"Own target minus control at equal d(0): {listed(told)}. The own target {listed(sorted(sides))}."


def transient(runs: Sequence[Record], passing: pd.DataFrame, name: str) -> str:
    """Return at how many readings facts are pushed, and how many are right in the end, of `evidence.passing`."""
    if passing.empty:
        return f"No fact was pushed away from its {name}."
    counts = counted(runs, passing)
    pushed, once = counts.sum(), counts[passing["readings"] == 1].sum()
    right = round((counts * passing["right at the end"]).sum())
    return (
        f"Of {pushed} facts pushed from their {name}, {once} are so at a single reading, and {right} are right after "
        "the last update."
    )


def counted(runs: Sequence[Record], passing: pd.DataFrame) -> pd.Series:
    """Return the shares of facts of `evidence.passing` as counts over all seeds."""
    every = sum(len(run.frames["facts"]) for run in runs)
    return (passing["facts"] * every).round().astype(int)


def related(name: str, alone: Interval | None, given: Interval | None, what: str) -> str:
    """Return how a score goes with something by rank correlation, alone and given the loss and length of the target."""
    if alone is None or given is None:
        return f"*{name.capitalize()}* does not vary enough to be related to {what}."
    words = ("rises", "falls", "does not clearly change")
    return (
        f"*{name.capitalize()}* {by_side(alone, *words)} with {what} ({spread(alone, signed=True)}); given initial "
        f"loss and length it {by_side(given, *words)} with it ({spread(given, signed=True)})."
    )


def costs(alone: Sequence[Record], together: Sequence[Record], budget: str) -> str:
    """Return what learning together costs on the trained prompt and on a paraphrase, of one row of runs."""
    if not together:
        return f"Not recorded yet: {budget}."
    count = together[0].config["count"]
    pairs = list(zip(alone[: len(together)], together, strict=True))
    lost = {
        name: over_seeds_or_alone([evaluation.lost(*seed, score) for seed in pairs], DIFFERENCE)
        for name, score in SCORED.items()
    }
    words = ("a cost", "a gain", "open")
    told = [f"{amount(one, signed=True)} on the {name} ({lies(one, *words)})" for name, one in lost.items()]
    return f"At N = {count} and {budget}, alone minus together is {listed(told)}, over {number(len(pairs), 'seed')}."


def expression(alone: Sequence[Record], together: Sequence[Record]) -> str:
    """Return how much more learning together costs on a paraphrase than on the trained prompt, of the same facts."""
    pairs = list(zip(alone[: len(together)], together, strict=True))
    parts = [evaluation.lost(*seed, "paraphrase") - evaluation.lost(*seed, "right") for seed in pairs]
    gap = over_seeds_or_alone([part.dropna() for part in parts], (-2.0, 2.0))
    words = (
        "Learning together costs expression more than recall",
        "Learning together costs recall more than expression",
        "Whether learning together costs recall or expression is open",
    )
    return (
        f"{lies(gap, *words)}: the cost on a paraphrase minus that on the trained prompt is {amount(gap, signed=True)}."
    )


def compared(ours: Sequence[Record], others: Mapping[str, Sequence[Record]], what: str, score: str = "right") -> str:
    """Return how an arm lies to others on all facts, seed by seed and fact by fact."""
    told = []
    for name, theirs in others.items():
        gap = evaluation.gap(ours, theirs, score)
        if gap is None:
            told.append(f"than {name}: not recorded yet")
            continue
        words = ("better", "worse", "neither clearly better nor worse")
        told.append(f"{lies(gap, *words)} than {name} ({amount(gap, signed=True)})")
    return f"{what} is {listed(told)}."


def apart(runs: Mapping[str, Sequence[Record]], score: str) -> dict[str, Interval]:
    """Return by method the difference to LoRA, of those whose interval over three seeds or more leaves 0 out."""
    gaps = {name: evaluation.gap(several, runs["LoRA"], score) for name, several in runs.items()}
    return {name: gap for name, gap in gaps.items() if isinstance(gap, Interval) and (gap.low > 0 or gap.high < 0)}


def beside_lora(runs: Mapping[int, Mapping[str, Sequence[Record]]], score: str) -> str:
    """Return which methods differ from LoRA at some number of facts, ahead and behind, with those numbers."""
    found = {count: apart(several, score) for count, several in runs.items()}
    told = []
    for word, ahead in (("Ahead of", True), ("Behind", False)):
        where: dict[str, list[str]] = {}
        for count, gaps in found.items():
            for name, gap in gaps.items():
                if (gap.low > 0) is ahead:
                    where.setdefault(name, []).append(str(count))
        named = "; ".join(f"{name} (N = {listed(counts)})" for name, counts in where.items())
        told.append(f"{word} LoRA: {named or 'none at any N'}.")
    return " ".join(told)


def most(values: Mapping[str, float], digits: int = 2) -> str:
    """Return the names of all that share the highest value, rounded as it is told, and that value."""
    names = ties(values, digits)
    return f"{listed(names)} ({values[names[0]]:.{digits}f})"


def least(values: Mapping[str, float], digits: int = 2) -> str:
    """Return the names of all that share the lowest value, rounded as it is told, and that value."""
    names = ties(values, digits, lowest=True)
    return f"{listed(names)} ({values[names[0]]:.{digits}f})"


def against_lora(runs: Mapping[str, Sequence[Record]], count: int, score: str) -> str:
    """Return which methods are ahead of LoRA at a number of facts, and which behind."""
    found = apart(runs, score)
    if not found:
        return f"At N = {count} no method can be told from LoRA."
    ahead, behind = (
        [f"{name} ({spread(gap, signed=True)})" for name, gap in found.items() if (gap.low > 0) is side]
        for side in (True, False)
    )
    told = [f"{word} LoRA: {listed(names)}" for word, names in (("ahead of", ahead), ("behind", behind)) if names]
    return f"At N = {count}, {'; '.join(told)}."
