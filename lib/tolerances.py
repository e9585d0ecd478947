"""Where new numbers leave the tolerance of the old ones: JSON of figures, tables and verdicts, number by number.

Usage: python -m lib.tolerances OLD_DIR NEW_DIR [--across-machines]; one line per difference, exit 1 if any.

Tolerances (our choice). The same environment (lock, threads, processor) computes the same bits, and the files keep 10
significant digits: 1e-6 of the value leaves room for the last digits of a sum in another order, 1e-9 for values that
are zero up to rounding. Across machines other instructions round otherwise, and training carries that on: two runs of
one seed can then differ like two seeds. So scores between 0 and 1 may move by 0.02 and anything by 5 %; curves that are
formulas still agree far better.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.errors import UserError, command


@dataclass(frozen=True)
class Tolerance:
    """Numbers agree when they differ by at most `atol` plus `rtol` times the larger of the two."""

    rtol: float
    atol: float

    def holds(self, old: float, new: float) -> bool:
        """Whether two finite numbers agree."""
        return abs(old - new) <= self.atol + self.rtol * max(abs(old), abs(new))


SAME_ENVIRONMENT = Tolerance(rtol=1e-6, atol=1e-9)
ACROSS_MACHINES = Tolerance(rtol=0.05, atol=0.02)

# Measured anew in every run, so never compared; names as in the files, small letters, blanks as underscores.
MEASURED = frozenset(
    {"provenance", "machine", "versions", "commit", "seconds", "minutes", "hours", "peak_memory", "memory"}
    | {"tokens_per_second", "tokens_a_second", "sentences_per_second", "seconds_per_step", "matrix_product_share"}
)


@dataclass(frozen=True)
class Difference:
    """A place in a JSON tree, such as "series.school.abar[3]", with its old and new value."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.path or 'top level'}: {_short(self.old)} -> {_short(self.new)}"


class Absent:
    """Stands for a value that one of the two trees does not have."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()


def differences(
    old: Any, new: Any, rtol: float = SAME_ENVIRONMENT.rtol, atol: float = SAME_ENVIRONMENT.atol
) -> list[Difference]:
    """Every place where two JSON trees disagree: numbers beyond the tolerance, other texts, missing and extra entries.

    Entries named in `MEASURED` are left out. Booleans, texts and null compare exactly; 1 and 1.0 agree; NaN never
    agrees.
    """
    return list(_walk(old, new, "", Tolerance(rtol, atol)))


def compare_folders(old: Path, new: Path, tolerance: Tolerance = SAME_ENVIRONMENT) -> list[str]:
    """One line per difference between the JSON files under two folders, and per file that only one of them has.

    Raises `UserError` for a folder without JSON files and for a file that is not JSON.
    """
    files = {folder: _files(folder) for folder in (old, new)}
    lines = []
    for name in sorted(files[old].keys() | files[new].keys()):
        if name not in files[new]:
            lines.append(f"{name}: missing in {new}")
        elif name not in files[old]:
            lines.append(f"{name}: extra in {new}")
        else:
            pair = _read(files[old][name]), _read(files[new][name])
            lines += [f"{name}: {found}" for found in differences(*pair, tolerance.rtol, tolerance.atol)]
    return lines


def main() -> int:
    """Compare two folders named on the command line; 1 when any number leaves its tolerance."""
    parser = argparse.ArgumentParser(prog="python -m lib.tolerances", description="Compare the numbers of two runs.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rtol", type=float, help=f"relative tolerance, default {SAME_ENVIRONMENT.rtol:g}")
    parser.add_argument("--atol", type=float, help=f"absolute tolerance, default {SAME_ENVIRONMENT.atol:g}")
    parser.add_argument("--across-machines", action="store_true", help="the looser tolerances for another machine")
    arguments = parser.parse_args()
    preset = ACROSS_MACHINES if arguments.across_machines else SAME_ENVIRONMENT
    tolerance = Tolerance(
        rtol=preset.rtol if arguments.rtol is None else arguments.rtol,
        atol=preset.atol if arguments.atol is None else arguments.atol,
    )
    lines = compare_folders(arguments.old, arguments.new, tolerance)
    print("\n".join(lines) or "no number leaves its tolerance", f"(rtol {tolerance.rtol:g}, atol {tolerance.atol:g})")
    return 1 if lines else 0


def _walk(old: Any, new: Any, path: str, tolerance: Tolerance) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key.lower().replace(" ", "_") not in MEASURED:
                place = f"{path}.{key}" if path else key
                yield from _walk(old.get(key, ABSENT), new.get(key, ABSENT), place, tolerance)
    elif isinstance(old, list) and isinstance(new, list):
        for position in range(max(len(old), len(new))):
            pair = (values[position] if position < len(values) else ABSENT for values in (old, new))
            yield from _walk(*pair, f"{path}[{position}]", tolerance)
    elif _is_number(old) and _is_number(new):
        if not tolerance.holds(old, new):
            yield Difference(path, old, new)
    elif type(old) is not type(new) or old != new:
        yield Difference(path, old, new)


def _is_number(value: Any) -> bool:
    # In Python a bool is an int; in JSON true is no number.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, Absent) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _files(folder: Path) -> dict[str, Path]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.json")}
    if not files:
        raise UserError(f"{folder}: no JSON files there; give the folder of a run, such as figures/")
    return files


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); write it again by running its notebook") from error


if __name__ == "__main__":
    command(main)
