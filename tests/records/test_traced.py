"""No computation enters a function of the package that its stamp does not cover: tiny cases of every kind, traced."""

import sys
from pathlib import Path
from typing import Any

import pytest

from lib import paths, records
from lib.running import catalogue
from lib.statements.names import Class
from lib.statements.reach import ASIDE, PACKAGE, code_now, entry_of, reach

# Beside one case of each kind, all that a registry tells apart: a method is called through its row.
ROWS = ("3_lemoe/main/", "2_beacons/grid/", "4_hetero_kd/pairs/own_tokenizer/", "1_infodiffusion/question_generation/")
# Where to compute, and which model it is: what the store asks while a computation reads another case's record.
# The validator of a config's field counts by the value that it leaves.
ASKED_BY_THE_STORE = {
    ("lib.profiles", "profile"),
    ("lib.causal_lm.backbones", "identity"),
    ("lib.seq2seq.counts", "_at_least_one"),
}
SLOW = (
    "3_lemoe/steps",
    "3_lemoe/drawn/columns/validated",
    "3_lemoe/main/lora",
    "3_lemoe/main/memit_",
    "3_lemoe/batch/memit",
    "1_infodiffusion/question_generation/gpt2_large",
)


def chosen() -> list[Any]:
    """The first case of each kind, and, marked as thorough, those of `ROWS`."""
    found: dict[str, records.Case] = {}
    for case in catalogue.find([], "smoke"):
        kind = entry_of(case.compute) + ("" if case.name.startswith("1_") else case.name.split("/")[1])
        wanted = case.name if case.name.startswith(ROWS) and "/T1/" not in case.name else kind
        if not case.name.startswith(SLOW) and "_long/" not in case.name:
            found.setdefault(wanted, case)
    return [
        pytest.param(case, id=case.name, marks=[pytest.mark.thorough] if wanted == case.name else [])
        for wanted, case in found.items()
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """An empty place for records, but for the texts that are made once."""
    folder = tmp_path_factory.mktemp("traced")
    (folder / "cache").mkdir()
    texts = paths.DATA / "cache" / "datasets"
    texts.mkdir(parents=True, exist_ok=True)
    (folder / "cache" / "datasets").symlink_to(texts)
    return folder


def entered(run) -> set[tuple[str, str]]:
    """Module and qualified name of every function of the package that `run` enters."""
    seen, package = set(), str(PACKAGE)

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(package):
            seen.add(frame.f_code)

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    found = set()
    for code in seen:
        parts = Path(code.co_filename).relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.add((module, code.co_qualname.split(".<locals>")[0]))
    return found


def covered(module: str, name: str, statements: set[tuple[str, str]], modules: set[str]) -> bool:
    """Whether a function is a reached statement, or a part of one: of a class's skeleton, of a row."""
    if module.startswith("lib.reporting.") or any(module == room or module.startswith(f"{room}.") for room in ASIDE):
        return True
    if (module, name) in ASKED_BY_THE_STORE:
        return True
    if name.startswith("<"):  # a lambda or comprehension at the top level, or the module as it is imported
        return name == "<module>" or module in modules
    owner, _, method = name.partition(".")
    if method:
        definition = code_now().source(module).definition(owner)
        part = isinstance(definition, Class) and method.split(".")[0] not in definition.methods
        return (module, owner) in statements if part else (module, name) in statements
    return (module, name) in statements


@pytest.mark.xdist_group("traced")
@pytest.mark.parametrize("case", chosen())
def test_a_computation_enters_nothing_outside_its_stamp(case, root, monkeypatch):
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(root))
    monkeypatch.setenv("REPRODUCTION_RECORDS", "compute")
    for one in case.inputs.values():
        records.get(one)
    statements = reach(entry_of(case.compute), case.config)[1].statements
    names, modules = {(one.module, one.name) for one in statements}, {one.module for one in statements}
    outside = {
        f"{module}.{name}"
        for module, name in entered(lambda: case.compute(case))
        if not covered(module, name, names, modules)
    }
    assert not outside
