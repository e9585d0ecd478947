"""Every claim of the four papers with its verdict, read from what the notebooks' claims left under figures/."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from lib import paths
from lib.errors import UserError
from lib.intervals import Interval
from lib.reporting import claims, provenance, tables
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

    Added: `paper`, and `path` of the notebook under notebooks/. Those of `unjudged` are left out. Raises `UserError`
    naming the notebook to run where another verdict is missing, is no JSON, or stems from another profile.
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
    return found | {"paper": PAPERS[stem.split("/")[0]], "path": promise.name}


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
