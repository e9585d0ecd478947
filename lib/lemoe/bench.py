"""What editing costs: LEMoE's training step with and without cached prefix, every method's edit and forward pass.

Run as `python -m lib.lemoe.bench [--quick]`: it prints two tables and writes `build/bench_editing.json`. A benchmark,
never a test; its numbers hold for the machine that it ran on.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

from lib import benchmark, errors, profiles
from lib.lemoe import cases, experiment
from lib.lemoe.adaptor import Adaptor
from lib.lemoe.methods import METHODS, Workbench, lemoe_config

EDITS, STEPS, PAIRS, PASSES = 10, 3, 5, 7


def steps(bench: Workbench, pairs: int) -> dict[str, Any]:
    """Time LEMoE's training steps with and without the cached prefix, turn about; the prefix itself counts.

    With l of N layers cached a step can gain at most (2 N - l) / (2 (N - l)): a forward pass of N layers and a backward
    pass of N - l, against both passes of N - l alone.
    """
    edits = cases.edit_set("tuning").edits[:EDITS]
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(pairs):
        for cached in (True, False):
            adaptor = Adaptor.attach(bench.model, lemoe_config(bench.sizes, steps=STEPS, cached=cached))
            began = time.perf_counter()
            adaptor.edit(bench.tokenizer, edits)
            seconds[cached].append((time.perf_counter() - began) / STEPS)
            adaptor.detach()
    layers, cut = bench.model.config.num_hidden_layers, bench.sizes.layer
    ratios = [plain / quick for quick, plain in zip(seconds[True], seconds[False], strict=True)]
    return {
        "layer": cut,
        "layers": layers,
        "cached_seconds": statistics.median(seconds[True]),
        "full_seconds": statistics.median(seconds[False]),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "bound": (2 * layers - cut) / (2 * (layers - cut)),
        "pairs": pairs,
    }


def methods(bench: Workbench, names: Sequence[str], passes: int) -> list[dict[str, Any]]:
    """Time an edit of every method, of ten in one batch, and what it adds to a forward pass, in seconds."""
    edits = cases.edit_set("tuning").edits[:EDITS]
    rows = []

    def forward() -> float:
        """Return the median seconds of a forward pass of the model as it is now, without another adaptor."""
        return experiment.seconds_by_experts(bench, lemoe_config(bench.sizes), (0,), edits, passes)["0"]

    for name in names:
        row = METHODS[name]
        before = forward()
        editor = row.build(bench, row.configure(bench.sizes))
        try:
            began = time.perf_counter()
            editor.edit(edits)
            spent = (time.perf_counter() - began) / len(edits)
            after = forward()
        finally:
            editor.restore()
        rows.append({"method": row.title, "seconds_an_edit": spent, "before": before, "added": after - before})
    return rows


def report(found: dict[str, Any]) -> str:
    """Return what was measured as plain tables."""
    told, machine = found["steps"], found["environment"]
    lines = [
        f"profile {found['profile']}, {machine['cpu']}, threads: {machine['threads']}",
        f"LEMoE, a training step at layer {told['layer']} of {told['layers']}, {EDITS} edits: "
        f"{told['cached_seconds']:.3f} s with the cached prefix, {told['full_seconds']:.3f} s without",
        f"ratio {told['ratio']:.2f} ({told['lowest']:.2f} to {told['highest']:.2f}, {told['pairs']} pairs), bound "
        f"{told['bound']:.2f}: {told['ratio'] / told['bound']:.0%} of it",
        "",
        f"{'':32}{'s an edit':>10}{'forward, ms':>13}{'added, ms':>11}",
    ]
    lines += [
        f"{row['method']:32}{row['seconds_an_edit']:10.2f}{1000 * row['before']:13.1f}{1000 * row['added']:11.1f}"
        for row in found["methods"]
    ]
    return "\n".join(lines)


def measure(profile: str) -> dict[str, Any]:
    """Measure everything at a profile's size; few methods, once each, in smoke."""
    chosen, quick = profiles.profile(profile), profile == "smoke"
    bench = Workbench(chosen.backbone, chosen.backbone_layers, chosen.device, chosen.editing)
    names = ("ft", "grace", "lemoe") if quick else [name for name in METHODS if name != "mend"]  # MEND is trained first
    return {"steps": steps(bench, 1 if quick else PAIRS), "methods": methods(bench, names, 1 if quick else PASSES)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return benchmark.run("lib.lemoe.bench", __doc__.splitlines()[0], "bench_editing", measure, report, arguments)


if __name__ == "__main__":
    errors.command(main)
