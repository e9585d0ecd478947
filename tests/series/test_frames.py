"""The schemas of the frames of records: the committed ones fit, and a wrong one is refused by name."""

import json
from pathlib import Path

import pandas as pd
import pytest

from lib import paths
from lib.records.frames import Schemas, check
from lib.running import catalogue

CASES = catalogue.find([], "cpu")
RECORDS = sorted((paths.DATA / "results").glob("*/**/*.json"))


def kind(path: Path) -> str:
    """First two parts of the name of a record's case."""
    return "/".join(path.relative_to(paths.DATA / "results").parts[1:3]).removesuffix(".json")


def schemas(name: str) -> Schemas:
    """Of the cases of a kind, which all have the same."""
    return next(case.frames for case in CASES if "/".join(case.name.split("/")[:2]) == name)


def stored(path: Path) -> dict[str, pd.DataFrame]:
    entries = json.loads(path.read_text())["frames"]
    return {name: pd.read_parquet(path.with_name(entry["file"])) for name, entry in entries.items()}


@pytest.mark.parametrize("name", sorted({kind(path) for path in RECORDS}))
def test_frames_of_the_committed_records_fit_their_schemas(name):
    found = [path for path in RECORDS if kind(path) == name]
    for path in found[:: max(1, len(found) // 4)]:
        check(stored(path), schemas(name), path.stem)


def first(name: str) -> dict[str, pd.DataFrame]:
    return next(found for path in RECORDS if kind(path) == name and (found := stored(path)))


@pytest.mark.parametrize(
    ("name", "frame", "change", "fault"),
    [
        ("3_lemoe/main", "scores", lambda f: f.rename(columns={"rel": "reliability"}), "scores: .*rel"),
        ("3_lemoe/main", "scores", lambda f: f.assign(rel=1.2), r"scores: rel: less_than_or_equal_to\(1\): \[1.2"),
        ("3_lemoe/main", "scores", lambda f: f.assign(rel=f["rel"].astype("float32")), "scores: rel: dtype"),
        ("3_lemoe/main", "scores", lambda f: f.assign(rel=float("nan")), "scores: rel: not_nullable"),
        ("3_lemoe/main", "scores", lambda f: f.assign(run=-1), "scores: run: greater_than_or_equal_to"),
        ("3_lemoe/main", "scores", lambda f: pd.concat([f, f], ignore_index=True), "scores: run: multiple_fields_uniq"),
        ("2_beacons/alone", "readings", lambda f: f.drop(columns="raw"), "readings: .*raw"),
        ("2_beacons/known", "cosines", lambda f: f.assign(of="words"), "cosines: .*of: isin"),
        ("4_hetero_kd/main", "curve", lambda f: f.assign(extra=1.0), "curve: .*extra"),
        ("4_hetero_kd/slices", "scores", lambda f: f.assign(rouge=101.0), "scores: rouge"),
        ("1_infodiffusion/paraphrase", "outputs", lambda f: f.assign(candidate="0"), "outputs: .*candidate: dtype"),
    ],
)
def test_a_wrong_frame_is_refused_by_name(name, frame, change, fault):
    frames = first(name)
    check(frames, schemas(name), "s/a")
    with pytest.raises(ValueError, match=f"s/a: {fault}"):
        check(frames | {frame: change(frames[frame])}, schemas(name), "s/a")


def test_a_frame_without_a_schema_is_refused_and_one_that_is_not_there_is_not():
    with pytest.raises(ValueError, match="s/a: scores: no schema"):
        check({"scores": pd.DataFrame()}, {}, "s/a")
    check({}, schemas("3_lemoe/main"), "s/a")


def test_an_empty_frame_is_held_to_its_columns_alone():
    schema = {"scores": schemas("3_lemoe/main")["scores"]}
    columns = list(schema["scores"].to_schema().columns)
    check({"scores": pd.DataFrame(columns=columns)}, schema, "s/a")
    with pytest.raises(ValueError, match="s/a: scores: columns"):
        check({"scores": pd.DataFrame(columns=columns[1:])}, schema, "s/a")
