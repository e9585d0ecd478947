"""The cases of the distillation series at a profile's size: teacher, its cache, main table, ablations, pairs, cost."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel

from lib import profiles, records
from lib.distillation.decoding import DecodingConfig
from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.training import TrainingConfig
from lib.records import digests
from lib.series.distillation import frames, run, slices
from lib.series.distillation.arms import RunConfig, StudentConfig
from lib.series.distillation.rows import ABLATIONS, METHODS, OWN_TOKENIZER, Method
from lib.series.distillation.run import CostConfig, KeepConfig
from lib.series.distillation.slices import SliceConfig
from lib.series.distillation.world import DataConfig, TeacherConfig
from lib.text import suites

SERIES = "4_hetero_kd"

COMPARED = ("sft", "forward_kl", "ours")  # of every heterogeneous pair, and with more steps
ON_SLICES = ("teacher", *COMPARED)
COSTED = ("sft", "forward_kl", "ours", "gkd")
PARTS = 2  # of a step: neighbours are of similar length, so less is padded
TIMED = 20  # steps of each: of so many about a quarter are on-policy in GKD, as in a whole training
SIMILARITY = tuple(f"main/{method}/seed0" for method in ("sft", "forward_kl", "ours"))  # layers compared in 4.1


def instructions_digest(suite: suites.Name) -> str:
    """Return the digest of all rows of all sets, taken anew in each process of files that are the user's own."""
    return digests.of_own(_digest, suite) if suites.SUITES[suite].own_files else _digest(suite)


@lru_cache(maxsize=4)
def _digest(suite: suites.Name) -> str:
    return suites.digest(suite) if suites.SUITES[suite].own_files else digests.kept(suites.digest, suite)


def data_config(profile: str) -> DataConfig:
    """Return how much of each set is read."""
    sizes = profiles.profile(profile).distillation
    return DataConfig(
        suite=sizes.suite, examples=sizes.examples, validation=sizes.validation, test=sizes.test, longest=sizes.longest
    )


def decoding_config(profile: str) -> DecodingConfig:
    """Return how responses are drawn: T = 1, nothing forbidden."""
    return DecodingConfig(tokens=profiles.profile(profile).distillation.longest[1])


def teacher_config(profile: str) -> TeacherConfig:
    """Return the teacher of a profile."""
    chosen = profiles.profile(profile)
    sizes = chosen.distillation
    return TeacherConfig(
        backbone=chosen.backbone,
        layers=chosen.backbone_layers,
        layer=sizes.teacher_layer,
        data=data_config(profile),
        training=TrainingConfig(
            steps=sizes.teacher_steps,
            batch=sizes.teacher_batch,
            rate=sizes.teacher_rate,
            warm_up=sizes.warm_up,
            micro_batches=sizes.teacher_parts,
            checkpointing=sizes.checkpointing,
        ),
        frozen=sizes.teacher_frozen,
        decoding=decoding_config(profile),
        decoding_seeds=sizes.decoding_seeds,
    )


def teacher(profile: str) -> records.Case:
    """Return the case that adapts the teacher; its weights are kept in the cache, in bf16."""
    config = teacher_config(profile)
    return records.Case(
        name=f"{SERIES}/teacher/adapted",
        profile=profile,
        config=config,
        data={"instructions": instructions_digest(config.data.suite)},
        seed=0,
        compute=run.adapted_teacher,
        frames=frames.TRAINED,
    )


def kept(profile: str) -> records.Case:
    """Return the case that writes the teacher's cache for the core rows, and measures what the vocabulary loses."""
    sizes = profiles.profile(profile).distillation
    core = [METHODS["ours"], *(row for row in ABLATIONS.values() if row.core)]
    config = KeepConfig(
        rules=tuple(sorted({row.objective.get("rule", "uniform") for row in core})),
        student=sizes.student[1],
        top_k=sizes.top_k,
        cache_gib=sizes.cache_gib,
    )
    return _case("teacher/cache", config, 0, profile, run.kept_teacher, core=True)


def main(method: str, seed: int, profile: str) -> records.Case:
    """Return the case of a method of the main table (4.2)."""
    row = METHODS[method]
    return _arm(f"main/{method}/seed{seed}", row, seed, profile, core=row.core)


def seeds(method: str, profile: str) -> tuple[int, ...]:
    """Return the training seeds of a method of the main table."""
    every = profiles.profile(profile).distillation.seeds
    return every if METHODS[method].every_seed else every[:1]


def longer(method: str, seed: int, profile: str) -> records.Case:
    """Return the case of a method of the main table with more steps, so many times as many as the profile says."""
    sizes = profiles.profile(profile).distillation
    return _arm(f"longer/{method}/seed{seed}", METHODS[method], seed, profile, False, sizes.longer * sizes.steps)


def ablation(name: str, profile: str) -> records.Case:
    """Return the case of our method with one thing changed (4.3)."""
    return _arm(f"ablation/{name}/seed0", ABLATIONS[name], 0, profile, core=ABLATIONS[name].core)


def students(profile: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the students of 4.4 besides the main one: title and changes to its build, by name."""
    sizes = profiles.profile(profile).distillation
    found = {
        f"gpt2_{layers}x{width}": (
            f"GPT-2 style, {layers} x {width}",
            {"style": "gpt2", "layers": layers, "width": width},
        )
        for layers, width in sizes.ratios
    }
    width, layers, _ = sizes.student
    return found | {f"llama_{layers}x{width}": (f"Llama style, {layers} x {width}", {"style": "llama"})}


def pair(student: str, method: str, profile: str) -> records.Case:
    """Return the case of a method on another student (4.4), at the first seed."""
    row = dataclasses.replace(METHODS[method], student=students(profile)[student][1])
    return _arm(f"pairs/{student}/{method}/seed0", row, 0, profile, core=False)


def own_tokenizer(method: str, profile: str) -> records.Case:
    """Return the case of a student with a tokenizer of its own (4.4), at the first seed."""
    return _arm(f"pairs/own_tokenizer/{method}/seed0", OWN_TOKENIZER[method], 0, profile, core=False)


def on_slice(name: str, who: str, profile: str) -> records.Case:
    """Return the case of the teacher, or a method's student, on a benchmark's file; its record holds no text of it."""
    first = profiles.profile(profile).distillation.seeds[0]
    row = METHODS["sft" if who == "teacher" else who]
    config = SliceConfig(**dict(arm_config(row, profile)), slice=name, who="teacher" if who == "teacher" else "student")
    adapted = teacher(profile)
    return records.Case(
        name=f"{SERIES}/slices/{name}/{who}",
        profile=profile,
        config=config,
        data={"slice": slices.SLICES[name].sha256},
        seed=first,
        compute=slices.answered,
        row="extended",
        frames=frames.ON_SLICE,
        inputs={"teacher": adapted, "learnt": adapted if who == "teacher" else main(who, first, profile)},
    )


def costed() -> list[tuple[str, str]]:
    """Return the methods that are timed, those with a teacher once cached and once live."""
    return [(m, signals) for m in COSTED for signals in (("cached", "live") if METHODS[m].objective else ("cached",))]


def cost(profile: str) -> records.Case:
    """Return the case that times a training step of some methods, the teacher live or cached (4.5)."""
    rows = {
        f"{method}/{signals}": arm_config(METHODS[method], profile, {"signals": signals})
        for method, signals in costed()
    }
    config = CostConfig(rows=rows, steps=min(TIMED, profiles.profile(profile).distillation.steps))
    return _case("cost/step", config, 0, profile, run.timed_steps, core=True)


def cases(profile: str) -> list[records.Case]:
    """Return every case of the series at a profile's size."""
    found = [teacher(profile), kept(profile)]
    found += [main(method, seed, profile) for method in METHODS for seed in seeds(method, profile)]
    found += [longer(method, seed, profile) for method in COMPARED for seed in seeds(method, profile)]
    found += [ablation(name, profile) for name in ABLATIONS]
    found += [pair(student, method, profile) for student in students(profile) for method in COMPARED]
    found += [own_tokenizer(method, profile) for method in OWN_TOKENIZER]
    if profiles.origin(profile) != "smoke":  # which runs without files of the user's
        found += [on_slice(name, who, profile) for name in slices.SLICES for who in ON_SLICES]
    return [*found, cost(profile)]


def arm_config(row: Method, profile: str, changes: dict[str, Any] | None = None, steps: int | None = None) -> RunConfig:
    """Return the configuration of a row at a profile's size, or with other `steps`.

    The row's weights are in units of the profile's proportions.
    """
    sizes = profiles.profile(profile).distillation
    steps = steps or sizes.steps
    units = dict(zip(("ce", "output", "middle"), sizes.proportions, strict=True)) | {"on_policy": sizes.on_policy}
    told = {"ce": 1.0, **row.objective}
    told |= {name: told[name] * unit for name, unit in units.items() if name in told}
    width, layers, heads = sizes.student
    return RunConfig(
        objective=ObjectiveConfig(**told),
        student=StudentConfig(
            **{"style": sizes.style, "width": width, "layers": layers, "heads": heads, **row.student}
        ),
        data=data_config(profile),
        training=TrainingConfig(
            steps=steps,
            batch=sizes.batch,
            rate=sizes.rate,
            warm_up=sizes.warm_up,
            optimiser=sizes.optimiser,
            micro_batches=PARTS,
        ),
        decoding=decoding_config(profile),
        decoding_seeds=sizes.decoding_seeds,
        watch_at=tuple(sorted({max(1, steps * quarter // 4) for quarter in range(1, 5)})),
        top_k=sizes.top_k,
        cache_gib=sizes.cache_gib,
        **{**row.run, **(changes or {})},
    )


def _arm(name: str, row: Method, seed: int, profile: str, core: bool, steps: int | None = None) -> records.Case:
    # Where a profile has sets that need language, one seed of what is compared on these is core (`language_cases`).
    core = core and profiles.profile(profile).distillation.language is None
    shown = name in SIMILARITY and seed == profiles.profile(profile).distillation.seeds[0]
    config = arm_config(row, profile, {"similarity": shown}, steps)
    return _case(name, config, seed, profile, run.trained_student, core)


def _case(
    name: str,
    config: BaseModel,
    seed: int,
    profile: str,
    compute: Callable[[records.Case], records.Outcome],
    core: bool,
) -> records.Case:
    """Return a case of students of the profile's teacher."""
    kind: Literal["core", "extended"] = "core" if core or profiles.origin(profile) == "smoke" else "extended"
    return records.Case(
        name=f"{SERIES}/{name}",
        profile=profile,
        config=config,
        data={"instructions": instructions_digest(data_config(profile).suite)},
        seed=seed,
        compute=compute,
        row=kind,
        frames=frames.TRAINED,
        inputs={"teacher": teacher(profile)},
    )
