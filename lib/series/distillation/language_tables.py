"""Tables of the language sets for a notebook: what is recorded, and in words what is pending."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lib import intervals
from lib.intervals import Interval
from lib.reporting.sentences import extremes, listed, number, spread
from lib.series.distillation import evaluation, hypotheses, language_cases, language_scores
from lib.series.distillation.answered import SHORT, TITLES, TOLD
from lib.series.distillation.language_cases import MAIN, MANY_SEEDS, OURS, OUTPUT, ROWS
from lib.series.distillation.verdicts import Known, Runs, distances, pair
from lib.series.distillation.world import Splits
from lib.text import suites

LOSS, SAMPLED = "held-out loss", "ROUGE-L, sampled"
NO_SETS = "This profile reads the field's own files and has none of these sets."
# What each set asks for, in the reader's words.
ASKED = {
    "modern": "a King James clause, to be put into today's English",
    "ask": "a statement, to be made a question",
    "state": "a question, to be made a statement",
    "shorter": "a clause, to be said without what only describes",
    "simple": "a clause of the World English Bible, to be put into simple words; learnt by nobody",
}
_TITLES = {"rouge": "ROUGE-L, greedy", "edits": "edits, greedy", "exact": "exact, greedy (%)"}


def main_table(known: Known, student: str = "gpt2") -> pd.DataFrame:
    """Return a row a method with its seeds, after the teacher and the rows without a model.

    Until all planned seeds of a row are recorded it has the few that every row has, if these are. Columns: seeds,
    held-out loss (nats a token), greedy ROUGE-L, edits and exact answers, sampled ROUGE-L. Empty where the profile has
    no such sets.
    """
    columns = ["method", "seeds", LOSS, *_TITLES.values(), SAMPLED]
    if not language_cases.has_sets(known.profile):
        return pd.DataFrame(columns=columns, dtype=object)
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
        if found := known.of(student, method) or known.of(student, method, few=True):
            row = {"method": TOLD.get(method, ROWS[method].title), "seeds": len(found)}
            row[LOSS] = _mean([language_scores.losses_of(one) for one in found], "loss")
            row |= _scores([language_scores.greedy(one, known.items) for one in found])
            rows.append(row | _drawn([language_scores.sampled(one, known.items) for one in found]))
    return pd.DataFrame(rows, columns=columns, dtype=object)


def told(frame: pd.DataFrame) -> str:
    """Return what the main table says of the losses and of greedy answers, in three sentences."""
    students = frame[frame["seeds"].notna()].set_index("method")
    if students.empty:
        return "No student is recorded at this size."
    others, rouge = frame[frame["seeds"].isna()].set_index("method"), _TITLES["rouge"]
    losses = {name: one.estimate for name, one in students[LOSS].items()}
    best, worst = extremes(losses)
    loss = {name: spread(one, 3) for name, one in students[LOSS].items()}
    greedy = {name: one.estimate for name, one in students[rouge].items()}
    _, highest = extremes(greedy)
    taught = f" The teacher has {spread(others[LOSS]['teacher'], 3)}." if "teacher" in others.index else ""
    return (
        f"The lowest held-out loss of a student is that of *{best}*, {loss[best]}, the highest that of *{worst}*, "
        f"{loss[worst]}.{taught} In greedy ROUGE-L *{highest}* is highest of the students with {greedy[highest]:.1f}; "
        f"copying the input scores {others[rouge]['copy the input'].estimate:.1f}."
    )


def examples(known: Known) -> str:
    """Return a Markdown list with what each set asks for and its first test row."""
    if not language_cases.has_sets(known.profile):
        return NO_SETS
    first = {item.name: item for item in reversed(list(known.items.values()))}
    return "\n".join(
        f"- `{name}`, {asked}: “{first[name].input}” → “{first[name].output}”"
        for name, asked in ASKED.items()
        if name in first
    )


def sets() -> pd.DataFrame:
    """Return a row a set: rows of each split, and mean words of what is given and of what is wanted."""
    rows = []
    for name in ASKED:
        loaded = suites.SUITES[language_cases.SUITE].load(name)
        every = [item for split in loaded.values() for item in split]
        words = {"words given": [item.input for item in every], "words wanted": [item.output for item in every]}
        means = {title: sum(len(text.split()) for text in texts) / len(texts) for title, texts in words.items()}
        rows.append({"set": name, **{split: len(items) for split, items in loaded.items()}, **means})
    return pd.DataFrame(rows)


def remembered(known: Known) -> dict[str, float]:
    """Return by set the share of test rows whose wanted text is the wanted text of some training row."""
    if not language_cases.has_sets(known.profile):
        return {}
    data = Splits.load(language_cases.data_config(known.profile))
    return evaluation.remembered(data.train, data.test)


def setting(known: Known) -> str:
    """Return what teacher and students learn, with the numbers of the profile and of the teacher's record."""
    if not language_cases.has_sets(known.profile):
        return NO_SETS
    sizes, language = language_cases.sizes_of(known.profile)
    width, layers, heads = sizes.student
    told = (
        f"The teacher learns {language.own} rows of each set that is learnt, and answers {language.further} further "
        f"prompts of each. A student draws {language.student_own} of these rows and {language.student_further} of "
        f"these prompts, and learns for {number(language.steps, 'step')} of {number(sizes.batch, 'row')}. Both "
        f"students have {number(layers, 'block')} of width {width} with {number(heads, 'head')}."
    )
    if known.teacher is None:
        return f"{told} The teacher is not recorded yet."
    values = known.teacher.values
    losses = listed([f"{loss:.3f} after {step}" for step, loss in values["validation"].items()])
    return f"{told} The teacher's validation loss, in nats a token: {losses} steps; it stays as after {values['step']}."


def minus(known: Known, other: str) -> dict[str, dict[str, Interval]]:
    """Return by student what each main row has more of held-out loss than another, in nats a token: below 0 is better.

    Over the seeds of the main claims, or the few that every row has until all are recorded; each set counts alike. A
    student without these is left out.
    """
    found: dict[str, dict[str, Interval]] = {}
    for student in MAIN if language_cases.has_sets(known.profile) else ():
        whole_rows = all(known.of(student, name) for name in MANY_SEEDS)
        rows = {name: known.losses(student, name, few=not whole_rows) for name in MANY_SEEDS}
        base = rows.pop(other)
        sides = {SHORT[name]: pair(runs, base) for name, runs in rows.items()}
        whole = {name: one for name, one in sides.items() if one is not None}
        if len(whole) == len(sides):
            told = {name: intervals.Sample.of(*one).interval(0.95) for name, one in whole.items()}
            found[hypotheses.TITLES[student]] = told
    return found


def side_by_side(known: Known, names: Sequence[str], count: int, student: str = "gpt2") -> pd.DataFrame:
    """Return greedy answers to the first test rows of each set, of the teacher and of a student's rows at seed 0.

    Columns: set, given, wanted, then a column a row of the main table that is recorded. Empty where there are no sets.
    """
    if not language_cases.has_sets(known.profile):
        return pd.DataFrame(columns=["set", "given", "wanted"])
    rows = [item for name in ASKED for item in [one for one in known.items.values() if one.name == name][:count]]
    frame = pd.DataFrame(
        {
            "set": [item.name for item in rows],
            "given": [item.input for item in rows],
            "wanted": [item.output for item in rows],
        }
    )
    first = language_cases.sizes_of(known.profile)[1].seeds[0]
    answered = {"teacher": known.teacher} | {TITLES[name]: known.record(student, name, first) for name in names}
    for title, record in answered.items():
        if record is not None:
            outputs = record.frames["outputs"]
            greedy = outputs[(outputs["split"] == "test") & (outputs["seed"] == evaluation.GREEDY)]
            frame[title] = [greedy.set_index("identity")["text"][item.identity] for item in rows]
    return frame


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


def standing(known: Known) -> str:
    """Return how many rows of the main claims are recorded, and that the older sets stand in; empty where all are."""
    if not language_cases.has_sets(known.profile):
        return NO_SETS
    planned = list(language_cases.main_rows(known.profile))
    there = sum(known.record(*row) is not None for row in planned)
    if there == len(planned):
        return ""
    return (
        f"Of {len(planned)} rows that the claim on the language sets rests on {there} are recorded; it is judged when "
        "all are. Until then what stands here is the verdict on the older sets."
    )


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
