"""The files of the user that a profile's tables read, and their digests: of the files, else of the records."""

import json
from collections import Counter
from functools import lru_cache
from pathlib import Path

from lib import paths, profiles
from lib.records import digests
from lib.sources import own_files
from lib.sources.own_files import EDIT_FILES

SERIES = "3_lemoe"
UNREAD = "0" * 64  # stands for the digest of a file that is not there, where cases are only listed
SLICES = ("zsre", "counterfact", "selfcheckgpt")  # whose first edits `cpu` reports on


def wanted(profile: str) -> tuple[str, ...]:
    """Return the names of all files that a profile's tables are made of, and of those that methods learn on."""
    sizes = profiles.profile(profile).editing
    edited = [name for name in (*sizes.sets, sizes.long_set) if name in EDIT_FILES]
    return (*edited, *(EDIT_FILES[name].training for name in edited if EDIT_FILES[name].training))


def require(profile: str) -> None:
    """Raise `UserError` naming all files that a profile's tables lack, where no record tells which they were.

    Where cases are only listed (`digests.unread`) nothing is lacking.
    """
    if digests.is_unread():
        return
    lacking = [EDIT_FILES[name] for name in wanted(profile) if _known(name, profile) is None]
    if lacking:
        raise own_files.missing(lacking)


def digest(name: str, profile: str) -> str:
    """Return the SHA-256 of a file: of the one under BENCHMARK_DIR, else of the one that most records are of.

    Without either, of the sample that committed records are of. Raises `UserError` naming all files that the profile's
    tables lack.
    """
    known = _known(name, profile)
    if known is None:
        require(profile)
        known = EDIT_FILES[name].sample
    if not known and digests.is_unread():
        return UNREAD
    if not known:
        raise own_files.missing([EDIT_FILES[name]])
    return known


def label(name: str, digest: str | None) -> str:
    """Return what the names of cases call a file: its set, with the beginning of its digest unless it is the sample."""
    return name if digest == EDIT_FILES[name].sample else f"{name}-{(digest or '')[:12]}"


def _known(name: str, profile: str) -> str | None:
    place = EDIT_FILES[name].found()
    return own_files.digest(place) if place else _recorded(paths.results(profile) / SERIES).get(name)


@lru_cache(maxsize=4)
def _recorded(folder: Path) -> dict[str, str]:
    """Return, by the name of a file, the SHA-256 that most records of a folder have of it."""
    found: dict[str, Counter[str]] = {}
    for path in sorted(folder.rglob("*.json")):
        try:
            config = json.loads(path.read_text(encoding="utf-8"))["config"]
            run = config.get("run", config)
            bench = run.get("bench", {})
            pairs = [(run.get("edits"), run.get("digest")), (bench.get("training_set"), bench.get("training_digest"))]
        except (OSError, ValueError, KeyError, AttributeError):
            continue  # a damaged record is told where it is read
        for name, content in pairs:
            if isinstance(name, str) and isinstance(content, str):
                found.setdefault(name, Counter())[content] += 1
    return {name: counted.most_common(1)[0][0] for name, counted in found.items()}
