"""The claims judged on the records that there are. Run as `python -m lib.series.distillation.verdicts [PROFILE]`.

A comparison is judged when all its planned seeds are recorded, never before: looking while seeds come in and stopping
when it suits would be no test. What is pending is counted.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import cached_property

import pandas as pd

from lib import errors, profiles, records
from lib.reporting.claims import Verdict, judge
from lib.series.distillation import evaluation, gates, hypotheses, language_cases, language_scores
from lib.series.distillation.language_cases import CONTROLS, GOLD_ONLY, MAIN, OURS, OUTPUT
from lib.series.distillation.world import Splits
from lib.text.instructions import Instruction

Runs = list[pd.DataFrame]  # one a training seed


class Known:
    """The records of a profile on the language sets, as far as they are there."""

    def __init__(self, profile: str) -> None:
        """Name the profile; nothing is read before it is asked for."""
        self.profile = profile
        self._records: dict[tuple[str, str, int], records.Record | None] = {}

    @cached_property
    def items(self) -> Mapping[str, Instruction]:
        """Return the test rows by identity."""
        return {item.identity: item for item in Splits.load(language_cases.data_config(self.profile)).test}

    @cached_property
    def teacher(self) -> records.Record | None:
        """Return the teacher's record."""
        return records.available(language_cases.teacher(self.profile))

    def record(self, student: str, method: str, seed: int) -> records.Record | None:
        """Return the record of an arm, or None."""
        key = (student, method, seed)
        if key not in self._records:
            self._records[key] = records.available(language_cases.arm(student, method, seed, self.profile))
        return self._records[key]

    def of(self, student: str, method: str, few: bool = False) -> list[records.Record] | None:
        """Return the records of all planned seeds of an arm, or of the few that every row has; None unless all are."""
        planned = language_cases.seeds(student, method, self.profile)
        if few:
            planned = language_cases.sizes_of(self.profile)[1].few_seeds
        found = [self.record(student, method, seed) for seed in planned]
        return None if any(one is None for one in found) else [one for one in found if one is not None]

    def losses(self, student: str, method: str, few: bool = False, best: bool = False) -> Runs | None:
        """Return the held-out losses of an arm, as `language_scores.losses_of`; None unless all are recorded."""
        found = self.of(student, method, few)
        return None if found is None else [language_scores.losses_of(one, best) for one in found]

    def answers(self, student: str, method: str) -> Runs | None:
        """Return the scores of an arm's greedy answers; None unless all are recorded."""
        found = self.of(student, method)
        return None if found is None else [language_scores.greedy(one, self.items) for one in found]

    def gate(self, students: Sequence[str], few: bool = False) -> gates.Taught | None:
        """Return the gate of a student, or of the mean of several; None where a row, or a third seed, is not there."""
        alone = together([self.losses(student, GOLD_ONLY, few, best=True) for student in students])
        output = together([self.losses(student, OUTPUT, few) for student in students])
        if self.teacher is None or alone is None or output is None or len(alone) < 3:
            return None
        return gates.judged(alone, language_scores.losses_of(self.teacher), output)

    def pending(self) -> list[str]:
        """Return the names of the cases that have no record that can be read."""
        return [case.name for case in language_cases.listed(self.profile) if records.stored(case) is None]


def together(students: Sequence[Runs | None]) -> Runs | None:
    """Return the mean of several students' losses, seed by seed and row by row; None where one is not there."""
    there = [runs for runs in students if runs is not None]
    if not there or len(there) < len(students):
        return None
    return [sum(frames[1:], frames[0]) / len(frames) for frames in zip(*there, strict=True)]


def pair(one: Runs | None, other: Runs | None, metric: str = "loss") -> tuple | None:
    """Return two arms' scores on the rows of all sets, aligned, as `claims.judge` takes them; None where one lacks."""
    if one is None or other is None:
        return None
    return evaluation.paired(one, other, one[0].index.unique("set"), metric)


def chosen_rule(known: Known) -> str | None:
    """Return the rule of learnt proportions whose validation loss is least at the end; None unless all are there."""
    found = {name: known.of("gpt2", name) for name in hypotheses.JOINT}
    last = str(language_cases.sizes_of(known.profile)[1].steps)
    ends = {name: [run.values["validation"][last] for run in runs] for name, runs in found.items() if runs}
    return min(ends, key=lambda name: sum(ends[name])) if len(ends) == len(found) else None


def distances(profile: str) -> dict[str, float]:
    """Return how far each student's build is from the teacher's, by name."""
    sizes = profiles.profile(profile).distillation
    width, layers, _ = sizes.student
    found = {}
    for name, changes in language_cases.students(profile).items():
        built = {"layers": layers, "width": width, **changes}
        found[name] = hypotheses.distance(built["style"], built["layers"], built["width"], language_cases.TEACHER)
    return found


def by_claim(profile: str) -> dict[str, Verdict]:
    """Return the verdicts of `every` by the id of their claim."""
    return {verdict.claim.id: verdict for verdict in every(profile)}


def every(profile: str) -> list[Verdict]:
    """Return the verdict on each claim; a comparison whose rows are not all recorded is left open.

    Where a profile has none of these sets, all are open.
    """
    if not language_cases.has_sets(profile):
        return [judge(claim, dict.fromkeys(one.name for one in claim.comparisons)) for claim in hypotheses.every()]
    known = Known(profile)
    taught = {student: known.gate([student]) for student in MAIN}
    passing = [student for student, one in taught.items() if one is not None and one.passes]
    # Where no gate holds, or none is recorded, all are told: not testable, or open.
    counted = passing or list(MAIN)
    margins = [one.margin for one in taught.values() if one is not None]
    gate = max(margins) if margins else None
    names = {student: hypotheses.of_student(student) for student in counted}
    loss = {(s, m): known.losses(s, m) for s in counted for m in (OURS, OUTPUT, *CONTROLS)}
    found = [
        judge(hypotheses.middle(counted), {names[s]: pair(loss[s, OURS], loss[s, OUTPUT]) for s in counted}, gate),
        judge(
            hypotheses.middle_answers(counted),
            {names[s]: pair(known.answers(s, OURS), known.answers(s, OUTPUT), "rouge") for s in counted},
            gate,
        ),
    ]
    against = {
        hypotheses.of_student(s, told): pair(loss[s, OURS], loss[s, name])
        for s in counted
        for name, told in hypotheses.CONTROLS.items()
    }
    found.append(judge(hypotheses.controls(counted), against, gate))
    found.append(_proportions(known, taught["gpt2"]))
    return [*found, _heterogeneous(known)]


def _proportions(known: Known, taught: gates.Taught | None) -> Verdict:
    rule = chosen_rule(known)
    learnt = None if rule is None else known.losses("gpt2", rule)
    data = {
        name: pair(learnt, known.losses("gpt2", other, few=True)) for other, name in hypotheses.LEARNT_MINUS.items()
    }
    return judge(hypotheses.proportions(), data, None if taught is None else taught.margin)


def _heterogeneous(known: Known) -> Verdict:
    claim, apart = hypotheses.heterogeneous(), distances(known.profile)
    data, margins = {}, []
    for comparison, students in zip(claim.comparisons, hypotheses.halves(apart).values(), strict=True):
        sides = [together([known.losses(s, method, few=True) for s in students]) for method in (OURS, OUTPUT)]
        data[comparison.name] = pair(*sides)
        taught = known.gate(students, few=True)
        margins += [] if taught is None else [taught.margin]
    return judge(claim, data, min(margins) if len(margins) == len(hypotheses.HALVES) else None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each verdict and what is pending; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m lib.series.distillation.verdicts", description=__doc__)
    parser.add_argument("profile", nargs="?", default="cpu")
    given = parser.parse_args(arguments)
    for verdict in every(given.profile):
        print(f"{verdict.claim.id}: {verdict.label}")
    pending = Known(given.profile).pending()
    print(f"{len(pending)} of {len(language_cases.listed(given.profile))} cases are pending")
    return 0


if __name__ == "__main__":
    errors.command(main)
