"""What each notebook of the series found, in two or three sentences from the records; notebooks print them first.

Where a record is missing the sentence says so, and where intervals decide, its wording follows them.
"""

from collections.abc import Sequence

import numpy as np

from lib import intervals, profiles, records
from lib.profiles import EditingSizes
from lib.records import Record
from lib.reporting.sentences import by_side, listed, number, spread
from lib.series.lemoe import cases, evaluation

NOT_YET = "**In short.** Not recorded yet."
BESIDE = ("more than", "less than", "not to be told apart from")


def factors(profile: str) -> str:
    """Return what 3.1 found: forgetting, routes and order of the conventional adaptor."""
    random, clustered = (_over_seeds("conventional", order, profile) for order in ("random", "kmeans"))
    if random is None or clustered is None:
        return NOT_YET
    learnt = np.mean([evaluation.learnt(run) for run in random])
    end = np.mean([evaluation.over_time(run).iloc[:-1, -1].mean() for run in random])
    avg = [np.mean([_avg(run) for run in runs]) for runs in (random, clustered)]
    return _told(
        f"The conventional adaptor learns a batch to a Rel of {learnt:.2f}; at the end the earlier batches have",
        f"{end:.2f}. Of the tokens {_agreed(random):.2f} are still routed as in training; one expert that served",
        f"everything would have {_chance(profile):.2f}. Avg is {avg[0]:.2f} in random order and {avg[1]:.2f} in",
        "clustered order. Claim 1 below says which of the three differences are more than chance.",
    )


def main_table(profile: str) -> str:
    """Return what 3.3 found: LEMoE beside the unedited model, and what it loses."""
    count = _sizes(profile).ablation
    lemoe, idle = (records.available(cases.main(method, count, profile)) for method in ("lemoe", "no_edit"))
    if lemoe is None or idle is None:
        return NOT_YET
    gap = intervals.paired_bootstrap(*evaluation.paired(lemoe, idle, "avg"))
    score = evaluation.final(lemoe)[["rel", "loc", "avg"]].mean()
    return _told(
        f"After {count} edits LEMoE has an Avg of {score['avg']:.2f}. That is {by_side(gap, *BESIDE)} the",
        f"{_avg(idle):.2f} of a model that was never edited (LEMoE minus no edit: {spread(gap, signed=True)}).",
        f"LEMoE says its edits (Rel {score['rel']:.2f}), and it changes answers that have nothing to do with them",
        f"(Loc {score['loc']:.2f}; the paper has 1.00).",
    )


def scaling(profile: str) -> str:
    """Return what 3.4 found: Avg from the smallest to the largest T, and the time of a forward pass."""
    lemoe, idle = (_column(method, profile) for method in ("lemoe", "no_edit"))
    shared = sorted(set(lemoe) & set(idle))
    if not shared:
        return NOT_YET
    first, last = shared[0], shared[-1]
    told = [
        f"LEMoE's Avg is {_avg(lemoe[first]):.2f} after {number(first, 'edit')} and {_avg(lemoe[last]):.2f} after",
        f"{last:,}; a model that was never edited has {_avg(idle[last]):.2f} there.",
    ]
    if timed := records.available(cases.latency(profile)):
        ms = {int(count): 1000 * value for count, value in timed.provenance["cost"]["seconds_by_experts"].items()}
        told.append(f"A forward pass takes {ms[max(ms)]:.0f} ms with {max(ms)} experts and {ms[0]:.0f} ms with none.")
    return _told(*told)


def batch(profile: str) -> str:
    """Return what 3.5 found: LEMoE beside MEMoE and the unedited model, all edits at once."""
    lemoe, memoe = (records.available(cases.at_once(method, profile)) for method in ("lemoe", "memoe"))
    idle = records.available(cases.main("no_edit", _sizes(profile).ablation, profile))
    if lemoe is None or memoe is None or idle is None:
        return NOT_YET
    gap = intervals.paired_bootstrap(*evaluation.paired(lemoe, memoe, "avg"))
    below = [name for name, run in (("LEMoE", lemoe), ("MEMoE", memoe)) if _avg(run) < _avg(idle)]
    return _told(
        f"With all edits in one batch LEMoE has an Avg of {_avg(lemoe):.2f} and MEMoE {_avg(memoe):.2f}, a difference",
        f"of {spread(gap, signed=True)}. A model that was never edited has {_avg(idle):.2f};",
        f"below that: {listed(below)}.",
    )


def ablations(profile: str) -> str:
    """Return what 3.6 found: routes of the two readings and of the conventional router, and the order."""
    ours, rivals, random = (
        _over_seeds(method, order, profile)
        for method, order in (("lemoe", "kmeans"), ("conventional", "kmeans"), ("lemoe", "random"))
    )
    if ours is None or rivals is None or random is None:
        return NOT_YET
    trained = records.whole([cases.routed("routing/shared", seed, profile) for seed in _sizes(profile).seeds])
    worded = "not recorded yet" if trained is None else f"{_agreed(trained):.2f}"
    return _told(
        f"With a projection that is frozen at random (our reading) {_agreed(ours):.2f} of the edits are served at",
        "the end by the expert that learnt them; with one that every batch trains (the paper's wording):",
        f"{worded}. A conventional router sends {_agreed(rivals):.2f} of the tokens where they went in training;",
        f"one expert for everything would have {_chance(profile):.2f}. When the edits come in random order, not in",
        f"clusters, our reading has {_agreed(random):.2f}.",
    )


def single(profile: str) -> str:
    """Return what 3.7 found: how many edits are said, how many leak, and what a threshold does to that."""
    names, count = ("lemoe", "lemoe_threshold", "no_edit"), _sizes(profile).ablation
    plain, held, idle = (records.available(cases.main(name, count, profile)) for name in names)
    if plain is None or held is None or idle is None:
        return NOT_YET
    kinds, gen = evaluation.kinds(plain), [float(evaluation.final(run)["gen"].mean()) for run in (plain, held, idle)]
    said, right = int((~kinds["missed"] & ~kinds["wrong token"]).sum()), int(kinds["right"].sum())
    return _told(
        f"Of {len(kinds)} edits of LEMoE {said} are said right, and {int(kinds['leak'].sum())} leak: an answer to an",
        f"unrelated question is no longer the same. Right in everything: {number(right, 'edit')}. With a threshold",
        f"(ours) {int(evaluation.kinds(held)['leak'].sum())} leak; Gen goes from {gen[0]:.2f} to {gen[1]:.2f}, and a",
        f"model that was never edited has {gen[2]:.2f}.",
    )


def _told(*parts: str) -> str:
    return " ".join(["**In short.**", *parts])


def _chance(profile: str) -> float:
    """Return the share that is routed right where one expert serves everything, batches being of equal size."""
    return 1 / _sizes(profile).batches


def _sizes(profile: str) -> EditingSizes:
    return profiles.profile(profile).editing


def _over_seeds(method: str, order: str, profile: str) -> list[Record] | None:
    return records.whole([cases.ordered(method, order, seed, profile) for seed in _sizes(profile).seeds])


def _column(method: str, profile: str) -> dict[int, Record]:
    """Return the records of a row of the main table by T."""
    counts = cases.counts(cases.methods(profile)[method], profile)
    found = {count: records.available(cases.main(method, count, profile)) for count in counts}
    return {count: run for count, run in found.items() if run is not None}


def _agreed(runs: Sequence[Record]) -> float:
    return float(np.mean([evaluation.agreement(run) for run in runs]))


def _avg(run: Record) -> float:
    return float(evaluation.final(run)["avg"].mean())
