"""The cases on the language sets: a teacher, its cache, and students of several builds, each arm with several seeds.

Core is one seed of what the main claims compare, on both students, with their teacher (`hypotheses`); in `smoke`, all
seeds of these rows.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel

from lib import profiles, records
from lib.profiles.sizes import DistillationSizes, LanguageSizes
from lib.series.distillation import cases, frames, hypotheses, language_run
from lib.series.distillation.language_run import LanguageConfig, LanguageKeepConfig
from lib.series.distillation.language_world import LanguageData, LanguageTeacherConfig
from lib.series.distillation.rows import ABLATIONS, METHODS, OWN_TOKENIZER, Method
from lib.text import suites

SERIES = f"{cases.SERIES}/language"
SUITE: suites.Name = "language"

# "sft" learns the rows with their own answers alone: what a student reaches without a teacher. All others learn the
# teacher's answers, too, at equal steps; "sequence" these by cross-entropy alone.
GOLD_ONLY, OUTPUT, OURS = "sft", "forward_kl", "ours"
CONTROLS = tuple(hypotheses.CONTROLS)
MANY_SEEDS = (GOLD_ONLY, OUTPUT, OURS, *CONTROLS)  # with the seeds of the main claims, on the students of `MAIN`
PROPORTIONS = tuple(name for name, row in ABLATIONS.items() if row.objective.get("proportions"))
COMPARED = (GOLD_ONLY, OUTPUT, OURS)  # of every other student
TEACHER = (30, 576)  # layers and width of SmolLM2-135M, whose blocks are of Llama's style
LADDER_FIRST = "llama_8x192"  # the student that is nearest to the teacher
ROWS = METHODS | ABLATIONS


def sizes_of(profile: str) -> tuple[DistillationSizes, LanguageSizes]:
    """Return the sizes of a profile that has these sets; `ValueError` for another."""
    sizes = profiles.profile(profile).distillation
    if sizes.language is None:
        raise ValueError(f"profile {profile} has no language sets")
    return sizes, sizes.language


def has_sets(profile: str) -> bool:
    """Whether a profile has these sets; one that reads the field's own files has not."""
    return profiles.profile(profile).distillation.language is not None


def judges(profile: str) -> bool:
    """Whether a profile has these sets and all rows of the main claims, so that its claims are judged on them."""
    return has_sets(profile) and all(arm(*row, profile).path.is_file() for row in main_rows(profile))


def main_rows(profile: str) -> Iterator[tuple[str, str, int]]:
    """Yield student, method and seed of every row that the main claims rest on."""
    for student in MAIN:
        for method in MANY_SEEDS:
            yield from ((student, method, seed) for seed in seeds(student, method, profile))


def students(profile: str) -> dict[str, dict[str, Any]]:
    """Return the students by name: changes to the profile's, whose style and shape the first two share but for blocks.

    The others make the ladder of `hypotheses.heterogeneous`.
    """
    sizes = profiles.profile(profile).distillation
    width, layers, _ = sizes.student
    found: dict[str, dict[str, Any]] = {"gpt2": {"style": "gpt2"}, "llama": {"style": "llama"}}
    found[LADDER_FIRST] = {"style": "llama", "layers": 2 * layers, "width": width}
    for deep, wide in sizes.ratios:
        found[f"gpt2_{deep}x{wide}"] = {"style": "gpt2", "layers": deep, "width": wide}
    return found


MAIN = ("gpt2", "llama")  # the students of the main claims


def data_config(profile: str) -> LanguageData:
    """Return how much of each set is read."""
    sizes, language = sizes_of(profile)
    return LanguageData(
        suite=SUITE,
        examples=language.own,
        further=language.further,
        validation=language.validation,
        test=language.test,
        longest=sizes.longest,
    )


def teacher_config(profile: str) -> LanguageTeacherConfig:
    """Return the teacher: as that of the other sets, but trained for some epochs of the rows with their own answers."""
    sizes, language = sizes_of(profile)
    usual = cases.teacher_config(profile)
    rows = language.own * len(suites.SUITES[SUITE].trained)
    ends = tuple(math.ceil(epochs * rows / sizes.teacher_batch) for epochs in language.teacher_epochs)
    settings = dict(usual) | {
        "data": data_config(profile),
        "training": usual.training.model_copy(update={"steps": ends[-1]}),
        "watch_at": ends,
    }
    return LanguageTeacherConfig(**settings)


def teacher(profile: str) -> records.Case:
    """Return the case that adapts the teacher and lets it answer."""
    return _case("teacher/adapted", teacher_config(profile), 0, profile, language_run.adapted_teacher, (), core=True)


def kept(profile: str) -> records.Case:
    """Return the case that writes the teacher's cache for every arm of the series in one pass."""
    sizes, _ = sizes_of(profile)
    deep = sizes.student[1]
    rules = sorted({row.objective["rule"] for row in ROWS.values() if "rule" in row.objective} - {"cka_monotone"})
    depths = {change.get("layers", deep) for change in students(profile).values()}
    maps = [("uniform", deep), *((rule, deep) for rule in rules), *(("uniform", d) for d in sorted(depths - {deep}))]
    config = LanguageKeepConfig(maps=tuple(maps), top_k=sizes.top_k, cache_gib=sizes.cache_gib)
    return _case("teacher/cache", config, 0, profile, language_run.kept_teacher, core=True)


def arm(student: str, method: str, seed: int, profile: str) -> records.Case:
    """Return the case of a row of the main table or of the ablations, on one of the students."""
    return _arm(student, method, ROWS[method], students(profile)[student], seed, profile)


def own_tokenizer(method: str, seed: int, profile: str) -> records.Case:
    """Return the case of a student with a tokenizer of its own."""
    return _arm("own_tokenizer", method, OWN_TOKENIZER[method], {}, seed, profile)


def seeds(student: str, method: str, profile: str) -> tuple[int, ...]:
    """Return the training seeds of an arm."""
    _, language = sizes_of(profile)
    return language.seeds if student in MAIN and method in MANY_SEEDS else language.few_seeds


def arms(profile: str) -> Iterator[tuple[str, str]]:
    """Yield student and method of every arm that has the teacher's tokens."""
    for student in students(profile):
        chosen = tuple(ROWS) if student == "gpt2" else MANY_SEEDS if student in MAIN else COMPARED
        yield from ((student, method) for method in chosen)


def every(profile: str) -> list[records.Case]:
    """Return every case of the series at a profile's size."""
    return [*cases.cases(profile), *listed(profile)]


def listed(profile: str) -> list[records.Case]:
    """Return every case on the language sets, none where a profile has none."""
    if profiles.profile(profile).distillation.language is None:
        return []
    found = [teacher(profile), kept(profile)]
    found += [
        arm(student, method, seed, profile)
        for student, method in arms(profile)
        for seed in seeds(student, method, profile)
    ]
    few = sizes_of(profile)[1].few_seeds
    return found + [own_tokenizer(method, seed, profile) for method in OWN_TOKENIZER for seed in few]


def _arm(student: str, method: str, row: Method, changes: Mapping[str, Any], seed: int, profile: str) -> records.Case:
    """Return an arm; a seed beyond the first few keeps the text of some answers, and draws none."""
    sizes, language = sizes_of(profile)
    usual = cases.arm_config(row, profile, {"text": "data"}, language.steps)
    raw = seed < language.raw_seeds
    settings = dict(usual) | {
        "data": data_config(profile),
        "student": usual.student.model_copy(update={**changes, **row.student}),
        "watch_at": tuple(sorted({max(1, language.steps * sixth // 6) for sixth in range(1, 7)})),
        "decoding_seeds": sizes.decoding_seeds if raw else (),
        "own": language.student_own,
        "further": 0 if method == GOLD_ONLY else language.student_further,
        "texts": 0 if raw else language.texts,
    }
    name = f"{student}/{method}/seed{seed}"
    core = (
        student in MAIN and method in MANY_SEEDS and (seed == language.seeds[0] or profiles.origin(profile) == "smoke")
    )
    return _case(name, LanguageConfig(**settings), seed, profile, language_run.trained_student, core=core)


def _case(
    name: str,
    config: BaseModel,
    seed: int,
    profile: str,
    compute: Callable[[records.Case], records.Outcome],
    teachers: tuple[str, ...] = ("teacher",),
    core: bool = False,
) -> records.Case:
    kind: Literal["core", "extended"] = "core" if core else "extended"
    return records.Case(
        name=f"{SERIES}/{name}",
        profile=profile,
        config=config,
        data={"instructions": cases.instructions_digest(SUITE)},
        seed=seed,
        compute=compute,
        row=kind,
        frames=frames.LANGUAGE,
        inputs={one: teacher(profile) for one in teachers},
    )
