"""What the last runs left: how each notebook went, which records were read or computed, and the closing table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lib import files, paths
from lib.running.contract import Contract


@dataclass(frozen=True)
class Run:
    """How the last run of a notebook went; `changed` lists the committed files that it replaced."""

    notebook: str
    seconds: float
    error: str | None = None
    published: bool = False
    changed: tuple[str, ...] = ()


def file(profile: str, notebook: str) -> Path:
    """File that holds the `Run` of a notebook."""
    return paths.work(profile) / "runs" / f"{notebook}.json"


def tally(profile: str, name: str) -> Path:
    """File in which `lib.records` counts the records that a notebook or a case read or computed."""
    return paths.work(profile) / "tally" / f"{name}.jsonl"


def store(profile: str, run: Run) -> Run:
    """Write a run to its file and return it."""
    files.write_json(file(profile, run.notebook), asdict(run))
    return run


def records_used(profile: str) -> dict[str, str]:
    """Return how each record came: "computed" if any process of the last run computed it, else "read".

    A line that a killed process left half-written does not count.
    """
    how: dict[str, str] = {}
    for path in sorted((paths.work(profile) / "tally").rglob("*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                case, action = str(entry["case"]), str(entry["action"])
            except (ValueError, KeyError, TypeError):
                continue
            if how.get(case) != "computed":
                how[case] = action
    return how


def report(notebooks: Sequence[Contract], profile: str) -> str:
    """Return the closing table: notebook, paper item, seconds, files, changed or not; and the count of records."""
    lines = [("notebook", "paper item", "seconds", "files", "published")]
    lines += [_line(notebook, profile) for notebook in notebooks]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    table = [
        f"{name:{widths[0]}}  {item:{widths[1]}}  {seconds:>{widths[2]}}  {count:>{widths[3]}}  {state}"
        for name, item, seconds, count, state in lines
    ]
    actions = list(records_used(profile).values())
    return "\n".join([*table, "", f"records: {actions.count('read')} read, {actions.count('computed')} computed"])


def _read(path: Path) -> Run | None:
    """Return a run as it was stored; None where there is none, or no whole one."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        error = None if told["error"] is None else str(told["error"])
        return Run(told["notebook"], float(told["seconds"]), error, bool(told["published"]), tuple(told["changed"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _line(notebook: Contract, profile: str) -> tuple[str, str, str, str, str]:
    run = _read(file(profile, notebook.name))
    if run is None:
        return notebook.name, notebook.item, "-", "-", "did not run: see above"
    if run.error:
        return notebook.name, notebook.item, f"{run.seconds:.1f}", "-", f"FAILED {(run.error.splitlines() or [''])[0]}"
    state = f"{len(run.changed)} changed" if run.changed else "unchanged"
    return (
        notebook.name,
        notebook.item,
        f"{run.seconds:.1f}",
        str(len(notebook.files)),
        state if run.published else "no",
    )
