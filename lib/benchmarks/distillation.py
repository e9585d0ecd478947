"""What distilling costs: a training step of each method, the teacher live or cached, and the teacher's one pass.

Run as `python -m lib.benchmarks.distillation [--quick]`: it prints a table and writes `build/bench_distillation.json`.
A benchmark, never a test; its numbers hold for the machine that it ran on. The teacher is not adapted: it costs the
same.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib import errors, profiles
from lib.benchmarks import command
from lib.distillation.teacher import Adaptation
from lib.series.distillation import cases, run
from lib.series.distillation.rows import METHODS
from lib.series.distillation.world import World

ROWS = 100  # training rows of a set: enough for the batches that are timed
STEPS = 20


def pretrained_world(profile: str, rows: int, folder: Path) -> World:
    """Return what arms share, with the backbone as it was pretrained for a teacher and few training rows."""
    config = cases.teacher_config(profile)
    config = config.model_copy(update={"data": config.data.model_copy(update={"examples": rows})})
    found = World(config, profiles.profile(profile).device, lambda: weights, folder, "pretrained")
    weights = Adaptation(
        found.fresh_backbone(), found.vocabulary.kept, config.layer, (), found.vocabulary.pad
    ).weights()
    return found


def measure(profile: str, rows: int, steps: int, folder: Path) -> dict[str, Any]:
    """Time the teacher's pass over the rows, and a step of each row of the cost figure."""
    world = pretrained_world(profile, rows, folder)
    sizes = profiles.profile(profile).distillation
    began = time.perf_counter()
    kept = run.keep(world, ["uniform"], sizes.student[1], sizes.top_k, sizes.cache_gib)
    read = time.perf_counter() - began
    found = {}
    for method, signals in cases.costed():
        config = cases.arm_config(METHODS[method], profile, {"signals": signals})
        config = config.model_copy(update={"data": world.config.data})
        found[f"{METHODS[method].title}, {signals}"] = run.cost(config, world, steps)
    return {"rows": kept["rows"], "pass_seconds": round(read, 1), "cache_mib": kept["mib"], "steps": found}


def report(found: dict[str, Any]) -> str:
    """Return what was measured as a plain table."""
    machine = found["environment"]
    lines = [
        f"profile {found['profile']}, {machine['cpu']}, threads: {machine['threads']}",
        f"one pass of the teacher over {found['rows']} rows: {found['pass_seconds']} s, {found['cache_mib']} MiB kept",
        "",
        f"{'':48}{'s a step':>10}{'MiB held':>10}",
    ]
    lines += [f"{name:48}{row['seconds']:10.3f}{row['mib']:10.0f}" for name, row in found["steps"].items()]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""

    def measured(profile: str) -> dict[str, Any]:
        quick = profile == "smoke"
        with tempfile.TemporaryDirectory() as folder:
            return measure(profile, 8 if quick else ROWS, 2 if quick else STEPS, Path(folder))

    return command.run("lib.benchmarks.distillation", __doc__, "bench_distillation", measured, report, arguments)


if __name__ == "__main__":
    errors.command(main)
