"""What the language rows cost on one thread: minutes of every kind of case, and the queue in its order.

Run as `python -m lib.series.distillation.budget [--queue FILE]`: it prints a table, and writes the names of the cases
as `python -m lib.running.catalogue run --queue FILE` reads them. If the hours do not suffice, its end is left out.
Seconds are those that records say of themselves.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib import errors, records
from lib.records import files as record_files
from lib.reporting import budgets
from lib.series.distillation import cases, language_cases
from lib.series.distillation.language_cases import MAIN, MANY_SEEDS, OURS, PROPORTIONS
from lib.series.distillation.language_run import LanguageConfig
from lib.series.distillation.language_world import LanguageTeacherConfig

PROFILE = "cpu"
LONGEST, ALL, CORE = 30.0, 360.0, 25.0  # minutes: of a case, of all on one thread, and from scratch on two cores
TWO_CORES = 1.65  # times as fast is a training on two threads: the same rows, computed on one and on two
# A row's step is that of a recorded row of the same kind, on one thread: students by shape, and what an arm adds.
STEPS = {
    "gpt2": "ablation/distance_cosine",
    "llama": "pairs/llama_4x192/ours",
    "own_tokenizer": "pairs/own_tokenizer/ours",
    "gpt2_2x192": "pairs/gpt2_2x192/ours",
    "gpt2_4x128": "pairs/gpt2_4x128/ours",
    "gpt2_8x192": "pairs/gpt2_8x192/ours",
    "gpt2_4x320": "pairs/gpt2_4x320/ours",
    "llama_8x192": "pairs/gpt2_8x192/ours",
}
DEARER = {"proportions_gradnorm": "ablation/proportions_gradnorm", "module_mlp": "ablation/module_mlp"}
DEARER |= {"rule_cka": "ablation/rule_cka"}
GKD = 3.5  # times a step of the others: a live teacher, and answers that the student draws (cost/step)
# Seconds on one thread. Of a student: 2,760 answers took 5.5 s (ablation/distance_cosine), a row read is a third of one
# trained. Of the teacher: 208 s on two threads were 120 steps and 1,800 answers, 1,200 answers 47 s on one (slices).
READ, WRITTEN = 0.0032, 0.0021
TEACHER_STEP, TEACHER_READ, TEACHER_WRITTEN = 2.3, 0.035, 0.04


def minutes(case: records.Case) -> float:
    """Return the minutes that a case takes on one thread: training, held-out losses, answers."""
    config, sets = case.config, 5
    if isinstance(config, LanguageTeacherConfig):
        data, trained = config.data, sets - 1
        answers = data.test * sets * (1 + len(config.decoding_seeds)) + data.further * trained
        looked = len(config.watch_at) * data.validation * trained + data.test * sets
        return (config.training.steps * TEACHER_STEP + answers * TEACHER_WRITTEN + looked * TEACHER_READ) / 60
    if not isinstance(config, LanguageConfig):
        data = language_cases.data_config(case.profile)
        return (data.examples + data.further) * (sets - 1) * TEACHER_READ / 60
    student, method = case.name.split("/")[2:4]
    step = seconds_a_step(DEARER.get(method, STEPS[student])) * (GKD if method == "gkd" else 1.0)
    warm_up = config.objective.compared_after if config.objective.rule == "cka_monotone" else 0.0
    answers = config.data.test * sets * (1 + len(config.decoding_seeds))
    looked = len(config.watch_at) * config.data.validation * (sets - 1) + 2 * config.data.test * sets
    return (config.training.steps * (1 + warm_up) * step + answers * WRITTEN + looked * READ) / 60


def seconds_a_step(name: str, profile: str = PROFILE) -> float:
    """Return the seconds of a training step that a record says of itself."""
    path = cases.main(OURS, 0, profile).path.parents[2] / name / "seed0.json"
    return float(record_files.read(path)["provenance"]["cost"]["a_step"])


KINDS = (
    "teacher and its cache",
    "core from scratch: what is compared, one seed, both students",
    "gold-only, output only, ours and controls, first six seeds",
    "the same, the other seeds",
    "proportions, three seeds",
    "heterogeneous pairs, three seeds",
    "other output losses, sequence, middle only, on-policy",
    "other ablations",
    "another tokenizer",
)


def queue(profile: str = PROFILE) -> dict[str, list[records.Case]]:
    """Return all cases by kind, in the order in which they are computed: what is dropped first stands last."""
    kinds: dict[str, list[records.Case]] = {kind: [] for kind in KINDS}
    for case in language_cases.listed(profile):
        kinds[_kind(case)].append(case)
    for listed in kinds.values():
        listed.sort(key=lambda case: case.seed)  # all rows of a seed before the next: whole pairs, wherever it ends
    return kinds


def _kind(case: records.Case) -> str:
    student, method = case.name.split("/")[2:4]
    if student == "teacher":
        return KINDS[0]
    if student == "own_tokenizer":
        return KINDS[8]
    if student in MAIN and method in MANY_SEEDS:
        return KINDS[1 if case.seed == 0 else 2 if case.seed < 6 else 3]
    if student not in MAIN:
        return KINDS[5]
    if method in PROPORTIONS or method.startswith("weight_"):
        return KINDS[4]
    return KINDS[6 if method in language_cases.METHODS else 7]


def from_scratch(kinds: Mapping[str, Sequence[records.Case]]) -> float:
    """Return the minutes of the core rows on two idle cores: the teacher on both, then two cases side by side."""
    once, core = ([minutes(case) for case in kinds[kind]] for kind in KINDS[:2])
    return sum(once) / TWO_CORES + sum(core) / 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write the queue; returns 1 where a case, the queue or the core is too long."""
    parser = argparse.ArgumentParser(prog="python -m lib.series.distillation.budget", description=__doc__)
    parser.add_argument("--queue", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    kinds = queue()
    told, core = budgets.table(kinds, minutes), from_scratch(kinds)
    print(told.to_string(index=False, float_format="{:.1f}".format))
    total, longest = (float(told[column].iloc[-1]) for column in ("minutes", "longest"))
    print(f"{total / 60:.1f} hours of one thread, of {ALL / 60:g}; the longest case may take {LONGEST:g} minutes")
    print(f"{core:.0f} minutes from scratch on two idle cores, of {CORE:g}")
    if given.queue:
        budgets.write_queue(given.queue, kinds)
    return 1 if longest > LONGEST or total > ALL or core > CORE else 0


if __name__ == "__main__":
    errors.command(main)
