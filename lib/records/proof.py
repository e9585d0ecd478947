"""Stamping anew by proof: a change that is meant to change no number is shown to change none, at tiny sizes.

The old commit and the working tree compute the smoke twins of every record whose code alone changed, in one
environment. A record whose changed statements all run in twins that are equal to the bit takes the new stamp.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib import paths
from lib.errors import UserError
from lib.machine import threads
from lib.records import files, stamps, store
from lib.records.case import Case
from lib.statements.reach import entry_of, reach

Lines = Mapping[str, frozenset[str]]  # the statements of a case by its name, as `Reach.lines` gives them


@dataclass(frozen=True)
class Verdict:
    """What came of one record: the twins that prove it, or why it must be computed again."""

    case: Case
    twins: tuple[str, ...] = ()
    reason: str = ""


def lines(cases: Iterable[Case]) -> dict[str, list[str]]:
    """Return the statements that each case reaches, by its name."""
    return {case.name: reach(entry_of(case.compute), case.config)[1].lines() for case in cases}


def prove(commit: str, stale: Sequence[Case], twins: Sequence[Case], command: Sequence[str]) -> list[Verdict]:
    """Compare the twins of stale cases between a commit and the working tree; nothing is stamped here.

    `command` is that of this project: its `lines` prints the statements of cases, `run` computes. Raises `UserError`
    for a commit that is not there or whose cases cannot be listed.
    """
    tree, root = _checked_out(commit)
    profiles = sorted({case.profile for case in stale})
    before = {profile: _listed(tree, command, profile) for profile in [*profiles, "smoke"]}
    now = {case.name: frozenset(found) for case, found in zip(stale, lines(stale).values(), strict=True)}
    small = {name: frozenset(found) for name, found in lines(twins).items()}
    chosen: dict[str, tuple[str, ...]] = {}
    verdicts = []
    for case in stale:
        if case.name not in before[case.profile]:
            verdicts.append(Verdict(case, reason=f"commit {commit} has no such case"))
            continue
        removed = before[case.profile][case.name] - now[case.name]
        added = now[case.name] - before[case.profile][case.name]
        found = _covering(case, removed, added, before["smoke"], small)
        if found is None:
            verdicts.append(Verdict(case, reason="no tiny case runs all that changed"))
        else:
            chosen[case.name] = found
    wanted = sorted({name for found in chosen.values() for name in found})
    differ = _differing(tree, root, command, wanted)
    for case in stale:
        if case.name in chosen:
            wrong = [name for name in chosen[case.name] if name in differ]
            verdicts.append(Verdict(case, chosen[case.name], f"{wrong[0]} {differ[wrong[0]]}" if wrong else ""))
    return verdicts


def stamp(verdicts: Iterable[Verdict], commit: str, head: Mapping[str, object] | None) -> int:
    """Give every proven record its new stamp, with a note of the proof; return how many."""
    proven = [verdict for verdict in verdicts if not verdict.reason]
    for verdict in proven:
        old = files.read(verdict.case.path)["stamp"]["code"]
        new = stamps.stamp(verdict.case)["code"]
        note = {"against": commit, "commit": head, "from": old, "to": new, "twins": list(verdict.twins)}
        store.restamp(verdict.case, note)
    return len(proven)


def _covering(
    case: Case, removed: frozenset[str], added: frozenset[str], before: Lines, now: Lines
) -> tuple[str, ...] | None:
    """Return tiny cases of the same series that together ran all removed lines and run all added ones; None if none do.

    The case's own twin, of nearly the same name, comes first.
    """
    series, *rest = case.name.split("/")
    candidates = [name for name in now if name.startswith(f"{series}/") and name in before]
    candidates.sort(key=lambda name: -sum(one == other for one, other in zip(name.split("/")[1:], rest, strict=False)))
    found: list[str] = []
    left = removed | added
    for name in candidates:
        covered = left & ((before[name] & removed) | (now[name] & added))
        if covered or not found:
            found.append(name)
            left = left - covered
        if not left:
            return tuple(found)
    return None


def _checked_out(commit: str) -> tuple[Path, Path]:
    """Return a work tree of the commit with the fetched files, and the folder that the proof computes in."""
    git = ["git", "-C", str(paths.ROOT)]
    run = subprocess.run([*git, "rev-parse", "--short=12", f"{commit}^{{commit}}"], capture_output=True, text=True)
    if run.returncode:
        raise UserError(f"{commit}: no such commit in this repository")
    root = paths.BUILD.absolute() / "proof" / run.stdout.strip()
    tree = root / "tree"
    if not (tree / "lib").is_dir():
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run([*git, "worktree", "prune"], check=True)
        subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(tree), commit], check=True)
        (tree / "data" / "external").symlink_to(paths.EXTERNAL.absolute())
    return tree, root


def _environment(tree: Path, root: Path | None = None) -> dict[str, str]:
    changes = {"PYTHONPATH": str(tree), **threads.ONE}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REPRODUCTION_")}
    return kept | changes | ({"REPRODUCTION_WORK_ROOT": str(root)} if root else {})


def _listed(tree: Path, command: Sequence[str], profile: str) -> Lines:
    line = [sys.executable, *command, "lines", "--profile", profile, "--rows", "all"]
    run = subprocess.run(
        line, cwd=tree, env=_environment(tree), capture_output=True, encoding="utf-8", errors="replace"
    )
    if run.returncode:
        raise UserError(f"the cases of the old commit cannot be listed: {run.stderr.strip().splitlines()[-1]}")
    return {name: frozenset(found) for name, found in json.loads(run.stdout).items()}


def _differing(tree: Path, root: Path, command: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Compute tiny cases in both trees and return those that fail or whose outputs differ, each with what it does."""
    if not names:
        return {}
    shutil.rmtree(root / "new", ignore_errors=True)  # the old commit's stay: its code does not change
    for place, results in ((tree, root / "old"), (paths.ROOT, root / "new")):
        line = [sys.executable, *command, "run", "--profile", "smoke", "--rows", "all", "--only", *names]
        subprocess.run(line, cwd=place, env=_environment(place, results), check=False, stdout=sys.stderr)
    found = {}
    for name in names:
        old, new = (files.outputs_digest(root / side / "results" / "smoke" / f"{name}.json") for side in ("old", "new"))
        if "missing" in (old, new):
            found[name] = f"gave no record with the {'new' if new == 'missing' else 'old'} code: see why above"
        elif old != new:
            found[name] = "gives other bits"
    return found
