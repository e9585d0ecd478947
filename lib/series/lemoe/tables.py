"""Tables of the series that several notebooks show, from records to rows."""

import dataclasses
from collections.abc import Mapping, Sequence

import pandas as pd

from lib import profiles, records
from lib.intervals import SHARE
from lib.records import Record
from lib.reporting.claims import Verdict
from lib.reporting.tables import Table
from lib.series.lemoe import cases, evaluation, titles


def verdict(found: Verdict) -> Table:
    """Return a verdict's table as notebooks show it: a mean that is compared with a number is called one."""
    table = found.table()
    means = {one.name for one in found.claim.comparisons if one.bounds == SHARE}
    frame = table.frame.copy()
    if "claimed" in frame and "difference" in frame:
        told = frame["claimed"].str.replace("difference", "mean")
        frame["claimed"] = told.where(frame["comparison"].isin(means), frame["claimed"])
        head = "difference or mean"
        formats = {head if name == "difference" else name: spec for name, spec in table.formats.items()}
        table = dataclasses.replace(table, frame=frame.rename(columns={"difference": head}), formats=formats)
    return table


def others(profile: str) -> list[Table]:
    """Return Avg by row and T on the profile's other sets and models, and what passages give on its other models."""
    found = []
    for edits, backbone in cases.others(profile):
        rows = []
        for method, row in cases.methods(profile).items():
            made = {t: cases.main(method, t, profile, edits, backbone) for t in cases.counts(row, profile)}
            runs = {f"T = {t}": run for t, case in made.items() if (run := records.available(case))}
            rows.append({"method": row.title} | {t: evaluation.cells(run)["avg"] for t, run in runs.items()})
        caption = f"Avg after T edits, {titles.told(profile, edits, backbone)}."
        found.append(Table(pd.DataFrame(rows, dtype=object), caption, "3_lemoe/others"))
    for backbone in cases.backbones(profile)[1:]:
        rows = [
            {
                "method": cases.METHODS[m].title,
                "perplexity": run.values["perplexity"],
                "Loc": evaluation.cells(run)["loc"],
            }
            for m in cases.passage_methods(profile)
            if (run := records.available(cases.passages(m, profile, backbone)))
        ]
        caption = f"Passages, {titles.told(profile, profiles.profile(profile).editing.long_set, backbone)}."
        found.append(Table(pd.DataFrame(rows, dtype=object), caption, "3_lemoe/others"))
    return found


def others_at_once(profile: str) -> list[Table]:
    """Return the scores of batch editing on the profile's other sets and models."""
    found = []
    for edits, backbone in cases.others(profile):
        runs = {m: records.available(cases.at_once(m, profile, edits, backbone)) for m in cases.BATCH}
        frame = evaluation.summary({cases.METHODS[m].title: run for m, run in runs.items() if run})
        found.append(Table(frame, f"{titles.told(profile, edits, backbone)}.", "3_lemoe/batch_others"))
    return found


def with_routes(titled: Mapping[str, Record]) -> pd.DataFrame:
    """Return the scores of records by title, and where edits, rephrases and unrelated questions are served."""
    frame = evaluation.summary(titled)
    routes = pd.DataFrame([evaluation.consistency(run) for run in titled.values()])
    names = {"edits": "own expert", "rephrases": "rephrases, own expert", "unrelated": "unrelated, no expert"}
    return frame.assign(**{title: routes[name].tolist() for name, title in names.items()}).astype(object)


def learnt_and_kept(titled: Mapping[str, Record]) -> pd.DataFrame:
    """Return Rel of every batch just after it was learnt and after the last one, means over batches, and the routes."""
    rows = []
    for title, run in titled.items():
        over = evaluation.over_time(run).to_numpy()
        row = {"method": title, "learnt": float(over.diagonal().mean()), "kept": float(over[:, -1].mean())}
        rows.append(row | {"own expert": evaluation.consistency(run)["edits"]})
    return pd.DataFrame(rows or [{"method": "none recorded"}], dtype=object)


def by_title(frame: pd.DataFrame, column: str, index: str = "row") -> dict[str, float]:
    """Return a column of numbers by the titles of the rows, without rows that have none."""
    return {str(row[index]): float(row[column]) for _, row in frame.iterrows() if pd.notna(row[column])}


def only(table: Table, columns: Sequence[str]) -> Table:
    """Return a table with some of its columns."""
    formats = {name: spec for name, spec in table.formats.items() if name in columns}
    return dataclasses.replace(table, frame=table.frame[list(columns)], formats=formats)
