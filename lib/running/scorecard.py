"""Every claim of the four papers with its verdict, read from what the notebooks' claims left under figures/."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lib import paths
from lib.errors import UserError
from lib.intervals import Interval
from lib.reporting import claims, forest, provenance, sentences, tables
from lib.running import catalogue, contract
from lib.running.contract import Contract

PAPERS = {
    "1_infodiffusion": "InfoDiffusion",
    "2_beacons": "Semantic are Beacons",
    "3_lemoe": "LEMoE",
    "4_hetero_kd": "Heterogeneous distillation",
}
# What decides a verdict comes first: one comparison on the wrong side is enough.
WEIGHT = {claims.NOT_SUPPORTED: 0, claims.NOT_JUDGED: 1, claims.INCONCLUSIVE: 2, claims.SUPPORTED: 3}


def folder(profile: str) -> Path:
    """Return where the verdicts of a profile lie: published ones in an ordinary `cpu` run, else those of the run."""
    return paths.FIGURES if profile == "cpu" and paths.work_root() is None else paths.work_figures(profile)


def verdicts(profile: str) -> list[dict[str, Any]]:
    """Return the verdict of every claim that some notebook promises, in reading order, as its notebook wrote it.

    Added: `paper`, `stem` of its file, and `path` of the notebook under notebooks/. Those of `unjudged` are left out.
    Raises `UserError` naming the notebook to run where another verdict is missing, is no JSON, or stems from another
    profile.
    """
    left_out = unjudged(profile)
    promised = ((promise, stem) for promise in contract.all_notebooks() for stem in _claims(promise))
    return [_verdict(promise, stem, profile) for promise, stem in promised if stem not in left_out]


def unjudged(profile: str) -> list[str]:
    """Return the stems of the claims that no run can judge yet: they rest on extended rows, none of them recorded."""
    return [
        stem
        for promise in contract.all_notebooks()
        for stem in _claims(promise)
        if not _file(stem, profile).exists() and promise.cases and not catalogue.recorded(promise.cases, profile)
    ]


def table(profile: str, stem: str) -> tables.Table:
    """Return one row per claim: what was tested, the comparison that decides with its interval, and the verdict."""
    rows = []
    for verdict in verdicts(profile):
        decides = _decisive(verdict)
        rows.append(
            {
                "paper": verdict["paper"],
                "claim": verdict["text"],
                "verdict": verdict["verdict"],
                "comparisons": len(_compared(verdict)),
                "the one that decides": f"{decides['comparison']}, {decides['claimed']}",
                "measured": _measured(decides),
                "over": decides["over"],
                "notebook": Path(verdict["path"]).name,
            }
        )
    return tables.Table(
        frame=pd.DataFrame(rows, dtype=object),
        caption=f"Every claim of the four papers, profile {profile}. The comparison that decides is the first on the "
        "wrong side, else the first that is open, else the first; intervals are corrected for all of a claim (Holm). "
        "Over fewer than three seeds an interval is one over test items, and is not judged.",
        stem=stem,
        formats={"measured": ".3f"},
    )


def comparisons(profile: str, stem: str) -> tables.Table:
    """Return one row per comparison of every claim, and one per gate."""
    rows = [
        {
            "paper": verdict["paper"],
            "claim": verdict["claim"],
            "comparison": row["comparison"],
            "claimed": row["claimed"],
            "measured": _measured(row),
            "over": row["over"],
            "p": row["p"],
            "outcome": row["outcome"],
        }
        for verdict in verdicts(profile)
        for row in verdict["rows"]
    ]
    caption = f"All comparisons behind the verdicts, profile {profile}, with Holm-corrected intervals."
    formats = {"measured": ".3f", "p": tables.P_VALUE}
    return tables.Table(pd.DataFrame(rows, dtype=object), caption, stem, formats)


def forest_rows(profile: str) -> list[forest.Row]:
    """Return a row of the forest plot for every claim, in reading order, those of `unjudged` with nothing to draw."""
    judged = {(verdict["path"], verdict["stem"]): verdict for verdict in verdicts(profile)}
    rows = []
    for promise in contract.all_notebooks():
        for stem in _claims(promise):
            paper = PAPERS[stem.split("/")[0]]
            verdict = judged.get((promise.name, stem))
            rows.append(forest.Row(paper, promise.claim, claims.NOT_RECORDED, ()) if verdict is None else _row(verdict))
    return rows


def counts(rows: Sequence[forest.Row]) -> dict[str, int]:
    """Return how many rows of the forest plot have each verdict, without its reason, in the order of the rows."""
    return dict(Counter(row.verdict.partition(":")[0].partition(",")[0] for row in rows))


def told_by_paper(profile: str) -> dict[str, list[str]]:
    """Return what is `told` of the claims of each paper, in reading order."""
    found: dict[str, list[str]] = {}
    for verdict in verdicts(profile):
        found.setdefault(verdict["paper"], []).append(told(verdict))
    return found


def told(verdict: dict[str, Any]) -> str:
    """Return what a claim says and what was found, in a few plain words with the number that decides."""
    says, outcome = f"**{verdict['text'].rstrip('.')}.**", verdict["verdict"].partition(" (")[0].partition(":")[0]
    gate = next((row for row in verdict["rows"] if row["outcome"] == claims.FAILS), None)
    if outcome == claims.NOT_TESTABLE and gate is not None:
        fails = f"{gate['comparison'].removeprefix('gate: ')} is {gate['difference']:.3f}"
        _, sign, bound = gate["claimed"].split()
        needed = f"{bound} or more" if sign == ">=" else f"more than {bound}"
        return f"{says} It cannot be tested at this size: {fails}, and {needed} is needed."
    decides, compared = _decisive(verdict), _compared(verdict)
    if all(row["over"] == claims.NOT_RECORDED for row in compared):
        return f"{says} Not recorded yet."
    _, direction, margin = decides["claimed"].split()
    asked = f"claimed {'above' if direction == '>' else 'below'} {margin}"
    found = _measured(decides)
    number = sentences.spread(found, 3) if isinstance(found, Interval) else ""
    which = f"{decides['comparison']}, {asked}: {', '.join(part for part in (number, decides['over']) if part)}"
    held = sum(row["outcome"] == claims.SUPPORTED for row in compared)
    several = f" in {held} of {len(compared)} comparisons" if len(compared) > 1 else ""
    lead = {
        claims.SUPPORTED: f"So it is here{several}",
        claims.NOT_SUPPORTED: "Here it is not so",
        claims.NOT_JUDGED: "Not judged, since one seed says nothing about another",
        claims.INCONCLUSIVE: f"Open here, though it is so{several}" if held else "Open here",
    }
    return f"{says} {lead[outcome]} ({which})."


def markdown(folder: Path) -> str:
    """Return the scorecard of the notebooks below a folder, as published, with links from there: for its README."""
    lines = ["| Paper | Claim | Measured at our scale | Verdict | Profile | Notebook |", "|---|---|---|---|---|---|"]
    for verdict in verdicts("cpu"):
        notebook = paths.NOTEBOOKS / f"{verdict['path']}.ipynb"
        if not notebook.is_relative_to(folder):
            continue
        decides = _decisive(verdict)
        found = _measured(decides)
        measured = f"{tables.format_cell(found)} ({decides['claimed']} claimed, over {decides['over']})"
        told = f"{decides['comparison']}: {measured if found else decides['over']}"
        link = f"[{notebook.stem}]({notebook.relative_to(folder).as_posix()})"
        cells = [verdict["paper"], verdict["text"], told]
        escaped = [tables.escape_markdown(cell) for cell in cells]
        judged = tables.escape_markdown(verdict["verdict"])
        lines.append(f"| {' | '.join(escaped)} | **{judged}** | `{verdict['profile']}` | {link} |")
    return "\n".join(lines)


def sides(verdict: dict[str, Any]) -> list[str]:
    """Return what each comparison of a verdict says by itself, those over too few seeds to be judged too."""
    return [_alone(row) for row in _compared(verdict)]


def _claims(promise: Contract) -> list[str]:
    return [stem for stem in promise.writes if stem.rsplit("/", 1)[-1].startswith("claim_")]


def _verdict(promise: Contract, stem: str, profile: str) -> dict[str, Any]:
    path = _file(stem, profile)
    remedy = f"run notebooks/{promise.name}.ipynb in profile {profile} first"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{paths.relative(path)}: missing: {remedy}") from error
    except ValueError as error:
        raise UserError(f"{paths.relative(path)}: damaged: {remedy}") from error
    if found["profile"] != profile:
        raise UserError(f"{paths.relative(path)}: of profile {found['profile']}: {remedy}")
    provenance.read_through(found)
    return found | {"paper": PAPERS[stem.split("/")[0]], "path": promise.name, "stem": stem}


def _row(verdict: dict[str, Any]) -> forest.Row:
    compared = _compared(verdict)
    lying = []
    for row in compared:
        found, (_, direction, margin) = _measured(row), row["claimed"].split()
        interval = found if isinstance(found, Interval) else None
        lying.append(interval and forest.beyond(interval, direction, float(margin)))
    decides = compared.index(_decisive(verdict))
    unit = verdict.get("units", {}).get(compared[decides]["comparison"], claims.SHARE_UNIT)
    recorded = sum(row["over"] != claims.NOT_RECORDED for row in compared)
    some = f", {recorded} of {len(compared)} recorded" if recorded < len(compared) else ""
    label = verdict["verdict"].partition(" (")[0] + some if recorded else claims.NOT_RECORDED
    return forest.Row(verdict["paper"], verdict["text"], label, tuple(lying), decides, unit)


def _file(stem: str, profile: str) -> Path:
    return (folder(profile) / stem).with_suffix(".json")


def _measured(row: dict[str, Any]) -> Interval | float | None:
    """Return the interval of a comparison, or the number of a gate."""
    found = row["difference"]
    return Interval(**found) if isinstance(found, dict) else found


def _compared(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a verdict without that of its gate."""
    return [row for row in verdict["rows"] if row["outcome"] in WEIGHT]


def _decisive(verdict: dict[str, Any]) -> dict[str, Any]:
    return min(_compared(verdict), key=lambda row: (WEIGHT[row["outcome"]], WEIGHT[_alone(row)]))


def _alone(row: dict[str, Any]) -> str:
    """Return what the interval of a comparison says by itself, also where it is not judged."""
    found = _measured(row)
    if row["outcome"] != claims.NOT_JUDGED or not isinstance(found, Interval):
        return row["outcome"]
    _, direction, margin = row["claimed"].split()
    return claims.Comparison(row["comparison"], direction, float(margin)).outcome(found)
