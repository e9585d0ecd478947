"""Tables of the language sets for a notebook: what is recorded, and in words what is pending."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lib import intervals
from lib.intervals import Interval
from lib.series.distillation import evaluation, language_cases, language_scores
from lib.series.distillation.answered import TOLD
from lib.series.distillation.language_cases import OURS, OUTPUT, ROWS
from lib.series.distillation.verdicts import Known, Runs, distances, pair
from lib.series.distillation.world import Splits

LOSS, SAMPLED = "held-out loss", "ROUGE-L, sampled"
_TITLES = {"rouge": "ROUGE-L, greedy", "edits": "edits, greedy", "exact": "exact, greedy (%)"}


def main_table(known: Known, student: str = "gpt2") -> pd.DataFrame:
    """Return a row a method with all its seeds recorded, after the teacher and the rows without a model.

    Columns: seeds, held-out loss (nats a token), greedy ROUGE-L, edits and exact answers, sampled ROUGE-L.
    """
    rows: list[dict[str, Any]] = []
    data = Splits.load(language_cases.data_config(known.profile))
    for title, frame in language_scores.without_a_model(data.train, data.test).items():
        rows.append({"method": title, **_scores([frame])})
    if known.teacher is not None:
        losses = [language_scores.losses_of(known.teacher)]
        greedy = [language_scores.greedy(known.teacher, known.items)]
        drawn = language_scores.sampled(known.teacher, known.items)
        rows.append({"method": "teacher", LOSS: _mean(losses, "loss"), **_scores(greedy), **_drawn([drawn])})
    for method in [name for one, name in language_cases.arms(known.profile) if one == student]:
        losses, answers, found = (read(student, method) for read in (known.losses, known.answers, known.of))
        if losses is not None and answers is not None and found is not None:
            drawn_runs = [language_scores.sampled(record, known.items) for record in found]
            row = {"method": TOLD.get(method, ROWS[method].title), "seeds": len(losses), LOSS: _mean(losses, "loss")}
            rows.append(row | _scores(answers) | _drawn(drawn_runs))
    columns = ["method", "seeds", LOSS, *_TITLES.values(), SAMPLED]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def ladder(known: Known) -> pd.DataFrame:
    """Return a row a student by its distance from the teacher's build: what the middle loss gives it, in nats a token.

    Positive where ours has the lower held-out loss; None where a row is not recorded.
    """
    rows = []
    for student, apart in sorted(distances(known.profile).items(), key=lambda entry: entry[1]):
        found = pair(*(known.losses(student, method, few=True) for method in (OUTPUT, OURS)))
        gain = None if found is None else intervals.Sample.of(*found).interval(0.95)
        rows.append({"student": student, "distance": apart, "what the middle loss gives": gain})
    return pd.DataFrame(rows, dtype=object)


def told_pending(known: Known) -> str:
    """Return in one line how many language cases are not recorded, and of which rows; empty where all are."""
    pending = known.pending()
    rows = list(dict.fromkeys("/".join(name.split("/")[2:4]) for name in pending))
    more = f" and {len(rows) - 6} more" if len(rows) > 6 else ""
    return f"{len(pending)} records are pending: {', '.join(rows[:6])}{more}" if pending else ""


def _scores(runs: Runs) -> dict[str, Interval]:
    return {title: _mean(runs, metric) for metric, title in _TITLES.items()}


def _drawn(runs: Sequence[pd.DataFrame | None]) -> dict[str, Interval]:
    drawn = [run for run in runs if run is not None]
    return {SAMPLED: _mean(drawn, "rouge")} if drawn else {}


def _mean(runs: Runs, metric: str) -> Interval:
    """Return the mean over sets, each counting alike, with an interval over seeds, of fewer than three over items."""
    return evaluation.cell(runs, "", metric)
