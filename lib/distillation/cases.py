"""The cases of the distillation series at a profile's size: teacher, its cache, main table, ablations, pairs, cost."""

import dataclasses
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel

from lib import paths, profiles, records
from lib.distillation import experiment, slices
from lib.distillation.decoding import DecodingConfig
from lib.distillation.experiment import RunConfig, StudentConfig
from lib.distillation.methods import ABLATIONS, METHODS, OWN_TOKENIZER, Method
from lib.distillation.objectives import ObjectiveConfig
from lib.distillation.training import TrainingConfig
from lib.distillation.world import DataConfig, TeacherConfig, World
from lib.text import instructions, suites

SERIES = "4_hetero_kd"
CODE = ("lib.distillation.experiment",)


COMPARED = ("sft", "forward_kl", "ours")  # of every heterogeneous pair, and with more steps
ON_SLICES = ("teacher", *COMPARED)
COSTED = ("sft", "forward_kl", "ours", "gkd")
PARTS = 2  # of a step: neighbours are of similar length, so less is padded
TIMED = 20  # steps of each: of so many about a quarter are on-policy in GKD, as in a whole training
SIMILARITY = tuple(f"main/{method}/seed0" for method in ("sft", "forward_kl", "ours"))  # Figure K1


@lru_cache(maxsize=4)
def _instructions(suite: suites.Name) -> str:
    """Return the digest of all rows of all sets: data and vocabulary follow from them."""
    return instructions.content_hash(suites.SUITES[suite].every())


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
            steps=sizes.teacher_steps, batch=sizes.teacher_batch, rate=sizes.teacher_rate, micro_batches=PARTS
        ),
        decoding=decoding_config(profile),
        decoding_seeds=sizes.decoding_seeds,
    )


def teacher(profile: str) -> records.Case:
    """Return the case that adapts the teacher; its weights are kept in the cache, in bf16."""
    config = teacher_config(profile)

    def compute() -> records.Outcome:
        world = World(config, profiles.profile(profile).device, dict, paths.cache(), "")
        weights, curve = experiment.adapt(world, 0, records.workspace(case))
        adapted = World(config, world.device, lambda: weights, paths.cache(), "")
        outputs = experiment.answers(
            adapted.teacher.model, adapted, config, adapted.splits.test, "test", config.decoding_seeds, len(curve)
        )
        return records.Outcome(values={}, frames={"curve": curve, "outputs": outputs}, weights={"adapted": weights})

    case = records.Case(
        name=f"{SERIES}/teacher/adapted",
        profile=profile,
        config=config,
        data={"instructions": _instructions(data_config(profile).suite)},
        code=CODE,
        seed=0,
        compute=compute,
    )
    return case


@lru_cache(maxsize=2)
def world(profile: str) -> World:
    """Return what all arms of a profile share, made once in a process; adapts the teacher where that is not done."""
    case = teacher(profile)
    identity = records.get(case).weight_digests["adapted"]
    return World(
        teacher_config(profile),
        profiles.profile(profile).device,
        lambda: records.trained_weights(case, "adapted"),
        paths.cache() / "distillation" / profile,
        identity,
    )


def kept(profile: str) -> records.Case:
    """Return the case that writes the teacher's cache for the core rows, and measures what the vocabulary loses."""
    sizes = profiles.profile(profile).distillation
    core = [METHODS["ours"], *(row for row in ABLATIONS.values() if row.core)]
    rules = sorted({row.objective.get("rule", "uniform") for row in core})

    def compute() -> records.Outcome:
        began = time.perf_counter()
        values = experiment.keep(world(profile), rules, sizes.student[1], sizes.top_k, sizes.cache_gib)
        return records.Outcome(values=values, cost={"seconds": round(time.perf_counter() - began, 1)})

    config = {"rules": rules, "student": sizes.student[1], "top_k": sizes.top_k, "cache_gib": sizes.cache_gib}
    return _case("teacher/cache", config, 0, profile, compute, core=True)


def main(method: str, seed: int, profile: str) -> records.Case:
    """Return the case of a method of the main table (Table K1)."""
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
    """Return the case of our method with one thing changed (Table K2)."""
    return _arm(f"ablation/{name}/seed0", ABLATIONS[name], 0, profile, core=ABLATIONS[name].core)


def students(profile: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the students of Table K3 besides the main one: title and changes to its build, by name."""
    sizes = profiles.profile(profile).distillation
    found = {
        f"gpt2_{layers}x{width}": (f"GPT-2 style, {layers} x {width}", {"layers": layers, "width": width})
        for layers, width in sizes.ratios
    }
    width, layers, _ = sizes.student
    return found | {f"llama_{layers}x{width}": (f"Llama style, {layers} x {width}", {"style": "llama"})}


def pair(student: str, method: str, profile: str) -> records.Case:
    """Return the case of a method on another student (Table K3), at the first seed."""
    row = dataclasses.replace(METHODS[method], student=students(profile)[student][1])
    return _arm(f"pairs/{student}/{method}/seed0", row, 0, profile, core=False)


def own_tokenizer(method: str, profile: str) -> records.Case:
    """Return the case of a student with a tokenizer of its own (Table K3), at the first seed."""
    return _arm(f"pairs/own_tokenizer/{method}/seed0", OWN_TOKENIZER[method], 0, profile, core=False)


def on_slice(name: str, who: str, profile: str) -> records.Case:
    """Return the case of the teacher, or a method's student, on a benchmark's file; its record holds no text of it."""
    first = profiles.profile(profile).distillation.seeds[0]
    row = METHODS["sft" if who == "teacher" else who]
    config = arm_config(row, profile)
    learnt = teacher(profile) if who == "teacher" else main(who, first, profile)

    def compute() -> records.Outcome:
        items, shared = slices.read(name), world(profile)
        if who == "teacher":
            model = shared.teacher.model
        else:
            weights = records.trained_weights(learnt, "student")
            model = slices.trained(experiment.fresh_student(config.student, shared, first), weights)
        values = {**slices.asked(items, shared), "copy": slices.copied(items), "rows": len(items)}
        return records.Outcome(values=values, frames={"scores": slices.scores(model, shared, config, items)})

    return records.Case(
        name=f"{SERIES}/slices/{name}/{who}",
        profile=profile,
        config=config,
        data={"slice": slices.SLICES[name].sha256, "learnt": learnt.fingerprint()["total"]},
        code=(*CODE, "lib.distillation.slices"),
        seed=first,
        compute=compute,
        row="extended",
    )


def costed() -> list[tuple[str, str]]:
    """Return the methods that are timed, those with a teacher once cached and once live."""
    return [(m, signals) for m in COSTED for signals in (("cached", "live") if METHODS[m].objective else ("cached",))]


def cost(profile: str) -> records.Case:
    """Return the case that times a training step of some methods, the teacher live or cached (Figure K4)."""
    rows = {
        f"{method}/{signals}": arm_config(METHODS[method], profile, {"signals": signals})
        for method, signals in costed()
    }
    steps = min(TIMED, profiles.profile(profile).distillation.steps)

    def compute() -> records.Outcome:
        found = {name: experiment.cost(config, world(profile), steps) for name, config in rows.items()}
        return records.Outcome(values={"rows": list(rows), "steps": steps}, cost=found)

    config = {name: row.model_dump(mode="json") for name, row in rows.items()}
    return _case("cost/step", {"rows": config, "steps": steps}, 0, profile, compute, core=True)


def cases(profile: str) -> list[records.Case]:
    """Return every case of the series at a profile's size."""
    found = [teacher(profile), kept(profile)]
    found += [main(method, seed, profile) for method in METHODS for seed in seeds(method, profile)]
    found += [longer(method, seed, profile) for method in COMPARED for seed in seeds(method, profile)]
    found += [ablation(name, profile) for name in ABLATIONS]
    found += [pair(student, method, profile) for student in students(profile) for method in COMPARED]
    found += [own_tokenizer(method, profile) for method in OWN_TOKENIZER]
    if profile != "smoke":  # which runs without files of the user's
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
        student=StudentConfig(**{"width": width, "layers": layers, "heads": heads, **row.student}),
        data=data_config(profile),
        training=TrainingConfig(steps=steps, batch=sizes.batch, rate=sizes.rate, optimiser="muon", micro_batches=PARTS),
        decoding=decoding_config(profile),
        decoding_seeds=sizes.decoding_seeds,
        watch_at=tuple(sorted({max(1, steps * quarter // 4) for quarter in range(1, 5)})),
        top_k=sizes.top_k,
        cache_gib=sizes.cache_gib,
        **{**row.run, **(changes or {})},
    )


def _arm(name: str, row: Method, seed: int, profile: str, core: bool, steps: int | None = None) -> records.Case:
    shown = name in SIMILARITY and seed == profiles.profile(profile).distillation.seeds[0]
    config = arm_config(row, profile, {"similarity": shown}, steps)

    def compute() -> records.Outcome:
        found = experiment.run(config, world(profile), seed, records.workspace(case))
        return records.Outcome(
            values=found.values,
            frames={"outputs": found.outputs, "curve": found.curve},
            weights={"student": found.weights},
            cost=found.seconds,
        )

    case = _case(name, config, seed, profile, compute, core)
    return case


def _case(
    name: str,
    config: BaseModel | dict[str, Any],
    seed: int,
    profile: str,
    compute: Callable[[], records.Outcome],
    core: bool,
) -> records.Case:
    kind: Literal["core", "extended"] = "core" if core or profile == "smoke" else "extended"
    return records.Case(
        name=f"{SERIES}/{name}",
        profile=profile,
        config=config,
        data={
            "instructions": _instructions(data_config(profile).suite),
            "teacher": teacher(profile).fingerprint()["total"],
        },
        code=CODE,
        seed=seed,
        compute=compute,
        row=kind,
    )
