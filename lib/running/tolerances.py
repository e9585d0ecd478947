"""Where new numbers leave the tolerance of the old ones: JSON of figures, tables and verdicts, number by number.

Usage: python -m lib.running.tolerances OLD_DIR NEW_DIR [--across-machines] [--part]; one line per difference, exit 1 if
any.

Rows of a table are matched by its key columns, which its JSON names, wherever they stand: a run of the core rows has
fewer than the published table, and `--part` does not list what only the published one has, or what the new one says is
not recorded. Which records were read is told, and no number: it is not compared.

Tolerances (our choice). The same environment (lock, threads, processor) computes the same bits, and the files keep 10
significant digits: 1e-6 of the value leaves room for the last digits of a sum in another order, 1e-9 for values that
are zero up to rounding. From the same records another processor rounds what is not recorded otherwise (the encodings of
BERTScore, in float32): 1e-5, a tenth of the last digit that a table shows. Across machines training carries that on:
two runs of one seed can then differ like two seeds. So scores between 0 and 1 may move by 0.02 and anything by 5 %;
curves that are formulas still agree far better.
"""

import argparse
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.errors import UserError, command


@dataclass(frozen=True)
class Tolerance:
    """Numbers agree when they differ by at most `atol` plus `rtol` times the larger of the two.

    Raises `ValueError` for a negative, infinite or NaN one: every number would agree with every other, or with none.
    """

    rtol: float
    atol: float

    def __post_init__(self) -> None:
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} = {value}: give a finite number, 0 or more")

    def __str__(self) -> str:
        return f"rtol {self.rtol:g}, atol {self.atol:g}"

    def holds(self, old: float, new: float) -> bool:
        """Whether two numbers agree; NaN and infinity agree with nothing, and whole numbers beyond floats if equal."""
        try:
            finite = math.isfinite(old) and math.isfinite(new)
        except OverflowError:
            return old == new
        return finite and abs(old - new) <= self.atol + self.rtol * max(abs(old), abs(new))


SAME_ENVIRONMENT = Tolerance(rtol=1e-6, atol=1e-9)
SAME_RECORDS = Tolerance(rtol=1e-5, atol=1e-5)
ACROSS_MACHINES = Tolerance(rtol=0.05, atol=0.02)

# Measured anew in every run, so never compared: whole names as in the files (small letters, blanks as underscores), and
# units, which make any name measured in which they stand as a word, that of a file too.
MEASURED = frozenset(
    {"provenance", "machine", "versions", "commit", "seconds", "minutes", "hours", "peak_memory", "memory"}
    | {"tokens_per_second", "tokens_a_second", "sentences_per_second", "seconds_per_step", "matrix_product_share"}
)
# How tables and verdicts name what a run has no record of.
UNRECORDED = frozenset({"not recorded", "none recorded"})
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# Entries of a file that tell of its numbers: the records they come from, the columns by which rows are matched.
TELLING = frozenset({"records", "keys"})
UNITS = frozenset({"seconds", "milliseconds", "minutes", "latency"})


@dataclass(frozen=True)
class Difference:
    """A place in a JSON tree, such as "series.school.abar[3]" or "rows[LoRA].right", with its old and new value."""

    path: str
    old: Any
    new: Any

    @property
    def left_out(self) -> bool:
        """Whether the new tree has nothing where the old one has something."""
        return self.new is ABSENT or self.new is None

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

    What is `measured` is left out. Booleans, null and texts, but for the numbers in them, compare exactly; 1 and 1.0
    agree; NaN and infinity never agree. Raises `ValueError` for a tolerance that is none.
    """
    return list(_walk(old, new, "", Tolerance(rtol, atol)))


def compare_folders(
    old: Path,
    new: Path,
    tolerance: Tolerance = SAME_ENVIRONMENT,
    only: Collection[str] | None = None,
    part: bool = False,
) -> list[str]:
    """One line per difference between the JSON files under two folders, and per file that only one of them has.

    `only` names the files to compare, by their paths under the folders. With `part` the new run computed some of the
    rows, and what only the old files hold is no difference. Raises `UserError` for a folder without JSON files and for
    a file that is not JSON.
    """
    files = {folder: _files(folder) for folder in (old, new)}
    names = files[old].keys() | files[new].keys()
    lines = []
    for name in sorted(names if only is None else names & set(only)):
        if name not in files[new]:
            lines.append(f"{name}: missing in {new}")
        elif name not in files[old]:
            lines.append(f"{name}: extra in {new}")
        elif not measured(Path(name).stem):
            before, after = _read(files[old][name]), _read(files[new][name])
            try:
                found = differences(before, _recorded(after) if part else after, tolerance.rtol, tolerance.atol)
            except RecursionError as error:
                raise UserError(f"{files[new][name]}: nested too deeply to be one of ours: restore it") from error
            lines += [f"{name}: {difference}" for difference in found if not (part and difference.left_out)]
    return lines


def measured(name: str) -> bool:
    """Whether an entry or a file of that name holds what is measured anew in every run."""
    plain = name.lower().replace(" ", "_")
    return plain in MEASURED or not UNITS.isdisjoint(plain.split("_"))


def main() -> int:
    """Compare two folders named on the command line; 1 when any number leaves its tolerance."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.running.tolerances", description="Compare the numbers of two runs."
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rtol", type=float, help=f"relative tolerance, default {SAME_ENVIRONMENT.rtol:g}")
    parser.add_argument("--atol", type=float, help=f"absolute tolerance, default {SAME_ENVIRONMENT.atol:g}")
    parser.add_argument("--across-machines", action="store_true", help="the looser tolerances for another machine")
    parser.add_argument("--part", action="store_true", help="the new run computed only some of the rows")
    arguments = parser.parse_args()
    preset = ACROSS_MACHINES if arguments.across_machines else SAME_ENVIRONMENT
    try:
        tolerance = Tolerance(
            rtol=preset.rtol if arguments.rtol is None else arguments.rtol,
            atol=preset.atol if arguments.atol is None else arguments.atol,
        )
    except ValueError as error:
        raise UserError(f"--rtol and --atol: {error}") from error
    lines = compare_folders(arguments.old, arguments.new, tolerance, part=arguments.part)
    print(summary(lines, tolerance))
    return 1 if lines else 0


def summary(lines: Sequence[str], tolerance: Tolerance) -> str:
    """Return what `compare_folders` found as a text, with the tolerance."""
    return "\n".join([*lines, f"{len(lines) or 'none'} beyond the tolerance ({tolerance})"])


def _recorded(tree: Any) -> Any:
    """Return a file's content without the rows that it says are not recorded, and without a verdict on the rest."""
    if not isinstance(tree, dict) or not isinstance(tree.get("rows"), list):
        return tree
    rows = [row for row in tree["rows"] if not (isinstance(row, dict) and UNRECORDED & set(_texts(row.values())))]
    told = {"verdict", "caption"} if len(rows) < len(tree["rows"]) and "verdict" in tree else set()
    return {key: value for key, value in tree.items() if key not in told} | {"rows": rows}


def _texts(values: Iterable[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _walk(old: Any, new: Any, path: str, tolerance: Tolerance) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        if rows := _transposed(old, new):
            labels = [row[""] for row in rows[0]], [row[""] for row in rows[1]]
            yield from _walk_lists(*rows, path, tolerance, labels)
            return
        keys = None if path else old.get("keys") or new.get("keys")
        for key in [*old, *(key for key in new if key not in old)]:
            place = f"{path}.{key}" if path else key
            pair = old.get(key, ABSENT), new.get(key, ABSENT)
            if place == "rows" and keys and all(isinstance(rows, list) for rows in pair):
                yield from _walk_lists(*pair, place, tolerance, _labels_by(keys, *pair))
            elif not measured(key) and place not in TELLING:
                yield from _walk(*pair, place, tolerance)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _walk_lists(old, new, path, tolerance, _labels(old, new) if len(old) != len(new) else None)
    elif _is_number(old) and _is_number(new):
        if not tolerance.holds(old, new):
            yield Difference(path, old, new)
    elif isinstance(old, str) and isinstance(new, str):
        if old != new and not _same_text(old, new, tolerance):
            yield Difference(path, old, new)
    elif type(old) is not type(new) or old != new:
        yield Difference(path, old, new)


def _same_text(old: str, new: str, tolerance: Tolerance) -> bool:
    """Whether two texts are equal but for numbers that agree, as in "0.057 [-0.049, 0.164]"."""
    if NUMBER.split(old) != NUMBER.split(new):
        return False
    numbers = zip(map(float, NUMBER.findall(old)), map(float, NUMBER.findall(new)), strict=True)
    return all(tolerance.holds(before, after) for before, after in numbers)


def _walk_lists(
    old: list, new: list, path: str, tolerance: Tolerance, labels: tuple[list[str], list[str]] | None
) -> Iterator[Difference]:
    """Compare two lists by labels that tell the items of each apart, else by place."""
    told = labels is not None and all(len(set(half)) == len(half) for half in labels)
    names: tuple[Sequence[Any], Sequence[Any]] = (range(len(old)), range(len(new)))
    if labels is not None and told:
        names = labels
    before, after = dict(zip(names[0], old, strict=True)), dict(zip(names[1], new, strict=True))
    for label in [*before, *(label for label in after if label not in before)]:
        yield from _walk(before.get(label, ABSENT), after.get(label, ABSENT), f"{path}[{label}]", tolerance)


def _labels_by(keys: list[str], old: list, new: list) -> tuple[list[str], list[str]] | None:
    """Return the cells of the key columns as labels of the rows; None where a row lacks one of them."""
    if not all(isinstance(row, dict) and row.keys() >= set(keys) for row in [*old, *new]):
        return None
    old_labels, new_labels = ([", ".join(str(row[key]) for key in keys) for row in rows] for rows in (old, new))
    return old_labels, new_labels


def _labels(old: list, new: list) -> tuple[list[str], list[str]] | None:
    """Return the labels of two series of a figure: texts are their own, points [x, y] have their x; None for others."""
    if all(isinstance(item, list) and item and _is_number(item[0]) for item in [*old, *new]):
        return [f"{item[0]:g}" for item in old], [f"{item[0]:g}" for item in new]
    return (old, new) if all(isinstance(item, str) for item in [*old, *new]) else None


def _transposed(old: dict, new: dict) -> tuple[list[dict], list[dict]] | None:
    """Return two tables of columns, such as {"T": [1, 10], "avg": [...]}, as rows labelled by the first column.

    None where they are no such tables, or equally long: then place by place says the same.
    """
    lengths = []
    for tree in (old, new):
        if list(tree) != list(old) or not all(isinstance(column, list) for column in tree.values()):
            return None
        lengths.append({len(column) for column in tree.values()})
    if any(len(length) != 1 for length in lengths) or lengths[0] == lengths[1] or {0} in lengths or len(old) < 2:
        return None
    first = next(iter(old))
    before, after = (
        [{"": f"{first} = {row[0]}", **dict(zip(tree, row, strict=True))} for row in zip(*tree.values(), strict=True)]
        for tree in (old, new)
    )
    return before, after


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
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); write it again by running its notebook") from error


if __name__ == "__main__":
    command(main)
