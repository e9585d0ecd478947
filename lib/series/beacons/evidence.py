"""What the claims of `hypotheses` are judged on: from records to the two sides of each comparison, and the verdicts.

Every function takes records, a list of one for each seed, so that `power` can read those of July by the same rules.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from numpy.typing import ArrayLike

from lib import records
from lib.intervals import Side
from lib.records import Case, Record
from lib.reporting.claims import Claim, Verdict, judge
from lib.reporting.sentences import tell
from lib.series.beacons import drawn_cases, evaluation, gates, hypotheses, pushing, telling
from lib.series.beacons.building import sizes_of
from lib.series.beacons.rows import FILTERS

Runs = Sequence[Record]
Pair = tuple[Side, Side | float]
Rows = Mapping[str, Runs]  # by name, the same seeds in the same order


@dataclass(frozen=True)
class Tested:
    """A claim, the sides of its comparisons, and the numbers of its gate, one a seed."""

    claim: Claim
    data: Mapping[str, Pair | None]
    gate: ArrayLike

    def verdict(self) -> Verdict:
        """Return the verdict; raises as `judge`."""
        return judge(self.claim, self.data, self.gate)


def pushed(rows: Rows) -> list[Tested]:
    """Return claim 1 from the rows "real" and "shuffled": facts alone, and the control."""
    paths = {name: [pushing.trajectories(run) for run in runs] for name, runs in rows.items()}
    facts = {name: [pushing.by_fact(frame) for frame in frames] for name, frames in paths.items()}
    edges = pushing.thirds([frame["start"] for frames in facts.values() for frame in frames])
    ever, last = ([frame[name].astype(float) for frame in facts["real"]] for name in ("ever", "finally"))
    beyond = [pushing.excess(*pair, edges) for pair in zip(facts["real"], facts["shuffled"], strict=True)]
    learnt = gates.learnt(paths["real"])
    on_the_way, in_the_end = hypotheses.pushed(), hypotheses.pushed_last()
    first, second = (comparison.name for comparison in on_the_way.comparisons)
    return [
        Tested(on_the_way, {first: (ever, 0.0), second: (beyond, 0.0)}, learnt),
        Tested(in_the_end, {in_the_end.comparisons[0].name: (last, 0.0)}, learnt),
    ]


def interference(rows: Rows) -> list[Tested]:
    """Return claim 2 from the rows "alone", "per_fact" and "total"."""
    alone = rows["alone"]
    learning = {name: evaluation.paired(alone, rows[budget], "right") for name, budget in hypotheses.LEARNING.items()}
    whole, learnt = hypotheses.EXPRESSION
    paraphrased = evaluation.paired(alone, rows["per_fact"], "paraphrase")
    expression = {whole: paraphrased, learnt: _of_learnt(alone, rows["per_fact"], paraphrased)}
    return [
        Tested(hypotheses.learning(), learning, gates.alone(alone, "right")),
        Tested(hypotheses.expression(), expression, gates.alone(alone, "paraphrase")),
    ]


def _of_learnt(alone: Runs, together: Runs, sides: tuple[list[pd.Series], list[pd.Series]]) -> Pair | None:
    """Return both sides for the facts whose prompt both trainings answer; None where a seed has none."""
    ones, others = evaluation.paired(alone, together, "right")
    kept = [one.index[(one == 1) & (other == 1)] for one, other in zip(ones, others, strict=True)]
    cut = [[part[part.index.isin(index)] for part, index in zip(side, kept, strict=True)] for side in sides]
    return (cut[0], cut[1]) if all(map(len, cut[0])) else None


def filters(rows: Rows) -> list[Tested]:
    """Return claim 3 in both readings, and the direction of A, from the arms of `FILTERS`."""
    room = gates.room(rows["all"])

    def against(arm: str, others: Mapping[str, str]) -> dict[str, Pair | None]:
        return {
            f"full set, minus {name}": evaluation.paired(rows[arm], rows[other], "right")
            for name, other in others.items()
        }

    readings = [Tested(hypotheses.filtering(arm, arm.upper()), against(arm, hypotheses.PLAINER), room) for arm in "ab"]
    return [*readings, Tested(hypotheses.filter_direction(), against("a", {"reversed": "reversed"}), room)]


def weighings(rows: Rows) -> list[Tested]:
    """Return claim 4, and the direction of the weights, from the arms of `WEIGHINGS`."""
    room = gates.room(rows["plain"])

    def against(others: Mapping[str, str]) -> dict[str, Pair | None]:
        return {
            f"right, minus {name}": evaluation.paired(rows["distance"], rows[other], "right")
            for name, other in others.items()
        }

    whole = Tested(hypotheses.reweighting(), against(hypotheses.WEIGHED), room)
    return [whole, Tested(hypotheses.weight_direction(), against({"sign flipped": "flipped"}), room)]


# By notebook: which rows over the draws it needs, and what they are judged by.
NEEDED: dict[str, tuple[tuple[str, ...], Callable[[Rows], list[Tested]]]] = {
    "2.2": (("real", "shuffled"), pushed),
    "2.3": (("alone", "per_fact", "total"), interference),
    "2.4": (("all", "random", "a", "b", "reversed"), filters),
    "2.5": (("plain", "permuted", "distance", "flipped"), weighings),
}


def case(notebook: str, row: str, seed: int, profile: str) -> Case:
    """Return the case of a row of `NEEDED` with one seed."""
    makes: dict[str, Callable[..., Case]] = {
        "2.2": drawn_cases.alone,
        "2.3": drawn_cases.many,
        "2.4": drawn_cases.filtered,
        "2.5": drawn_cases.reweighted,
    }
    return drawn_cases.alone("real", seed, profile) if row == "alone" else makes[notebook](row, seed, profile)


def seeds_of(notebook: str, profile: str) -> tuple[int, ...]:
    """Return the seeds of the claims of a notebook."""
    return drawn_cases.learnt_seeds(profile) if notebook in ("2.2", "2.3") else sizes_of(profile).draws


@dataclass(frozen=True)
class Read:
    """The rows of a notebook's claims, of the seeds that all of them have, and which are still to be computed."""

    notebook: str
    runs: dict[str, list[Record]]
    pending: tuple[str, ...]
    planned: int  # seeds

    @property
    def seeds(self) -> int:
        """Return the number of seeds that all rows have."""
        return min(map(len, self.runs.values()))

    def verdicts(self) -> list[Verdict]:
        """Return the verdicts on what is there; none where no seed is whole."""
        return [one.verdict() for one in NEEDED[self.notebook][1](self.runs)] if self.seeds else []

    def told(self) -> str:
        """Return one sentence: how many seeds are judged, of how many, and how many rows are pending."""
        left = f"; {len(self.pending)} rows are pending, from {self.pending[0]} on" if self.pending else ""
        return f"Facts drawn anew by every seed: {self.seeds} of {self.planned} seeds are recorded{left}."

    def show(self) -> None:
        """Display each verdict in a notebook and say what is in it; nothing where no seed is whole."""
        for verdict in self.verdicts():
            verdict.show()
            tell(telling.judged(verdict))


def read(notebook: str, profile: str) -> Read:
    """Return what is recorded over the draws for the claims of a notebook, "2.2" to "2.5"."""
    seeds, (rows, _) = seeds_of(notebook, profile), NEEDED[notebook]
    found = {row: [records.available(case(notebook, row, seed, profile)) for seed in seeds] for row in rows}
    missing = [
        case(notebook, row, seed, profile).name
        for row in rows
        for seed, run in zip(seeds, found[row], strict=True)
        if run is None
    ]
    whole = [place for place in range(len(seeds)) if all(found[row][place] for row in rows)]
    runs = {row: [run for place in whole if (run := found[row][place]) is not None] for row in rows}
    return Read(notebook, runs, tuple(dict.fromkeys(missing)), len(seeds))


def readings(profile: str) -> tuple[pd.DataFrame, int]:
    """Return the table of other readings of distance on the tuning pool, and how many of its rows are pending.

    A row for each reading of which something is recorded: right on the full set after training on what filter A keeps
    by it, on what its reverse keeps, and A minus random of the same share; means over seeds, from three on intervals.
    """
    found, pending = {}, 0
    for name, row in drawn_cases.READINGS.items():
        for arm in row.arms:
            listed = [drawn_cases.reading(name, arm, seed, profile) for seed in drawn_cases.reading_seeds(profile)]
            runs = [run for one in listed if (run := records.available(one)) is not None]
            pending += len(listed) - len(runs)
            if len(runs) == len(listed):
                found[name, arm] = runs
    rows = []
    for name, row in drawn_cases.READINGS.items():
        if not any((name, arm) in found for arm in row.arms):
            continue
        chance = found.get((name, "random")) or (None if row.kept else found.get(("random", "random")))
        told: dict[str, object] = {"reading": row.title}
        for arm in ("all", "random", "a", "reversed"):
            runs = found.get((name, arm))
            told[FILTERS[arm].title] = evaluation.over_seeds(runs, "right") if runs else None
        others = {"random": chance, "reversed": found.get((name, "reversed"))}
        for other, runs in others.items():
            told[f"A minus {other}"] = evaluation.gap(found.get((name, "a"), []), runs or [], "right")
        rows.append(told)
    return pd.DataFrame(rows, dtype=object), pending


def passing(runs: Runs) -> pd.DataFrame:
    """Return how long facts alone are pushed away, a row for each number of readings at which they were, from 1 on.

    Columns: readings (after which a fact was pushed), facts (their share, mean over seeds), right (of them, at the
    end), back by (mean number of updates until the first reading after the last push).
    """
    rows = []
    for run in runs:
        frame = pushing.trajectories(run)
        later = frame[frame["step"] > 0]
        pushes = later.groupby("identity")["pushed"].sum()
        last = later[later["pushed"]].groupby("identity")["step"].max()
        steps = sorted(later["step"].unique())
        after = {step: next((one for one in steps if one > step), float("nan")) for step in steps}
        right = later[later["step"] == steps[-1]].set_index("identity")["right"].astype(float)
        told = pd.DataFrame({"readings": pushes, "back": last.map(after), "right": right})
        told = told[told["readings"] > 0]
        rows.append(told.assign(share=1 / len(pushes), run=len(rows)))
    every = pd.concat(rows)
    grouped = every.groupby("readings")
    return pd.DataFrame(
        {
            "facts": grouped["share"].sum() / max(1, len(runs)),
            "right at the end": grouped["right"].mean(),
            "back by update": grouped["back"].mean(),
        }
    ).reset_index()
