"""What editing costs: learning against plain code and its bound, experts, the cached prefix, every method's edit.

Run as `python -m lib.benchmarks.lemoe [--quick]`: it prints the tables and writes `build/bench_editing.json`. A
benchmark, never a test; its numbers hold for the machine that it ran on.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lib import errors, profiles
from lib.benchmarks import command, editing_speed
from lib.lemoe.adaptor import Adaptor
from lib.profiles import EditingSizes
from lib.series.lemoe import cases
from lib.series.lemoe.baseline import seconds_by_experts
from lib.series.lemoe.rows import METHODS
from lib.series.lemoe.workbench import Workbench

EDITS, STEPS, PAIRS, PASSES = 10, 3, 5, 7
LEARNING = {"grace": 10, "lemoe": 10, "wise": 2, "values": 2}  # edits at once: WISE has eleven texts of each, ROME six
LEARNING_STEPS, TURNS = 20, 3
MOST_EXPERTS, MOST_COST = 64, 1.05  # a forward pass with so many costs at most so many times one with a single expert


def steps(bench: Workbench, sizes: EditingSizes, pairs: int) -> dict[str, Any]:
    """Time LEMoE's training steps with and without the cached prefix, turn about; the prefix itself counts.

    With l of N layers cached a step can gain at most (2 N - l) / (2 (N - l)): a forward pass of N layers and a backward
    pass of N - l, against both passes of N - l alone.
    """
    edits = cases.edit_set("tuning").edits[:EDITS]
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(pairs):
        for cached in (True, False):
            config = METHODS["lemoe"].configure(sizes).model_copy(update={"steps": STEPS, "cached": cached})
            adaptor = Adaptor.attach(bench.model, config)
            began = time.perf_counter()
            adaptor.edit(bench.tokenizer, edits)
            seconds[cached].append((time.perf_counter() - began) / STEPS)
            adaptor.detach()
    layers, cut = bench.model.config.num_hidden_layers, sizes.layer
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


def learning(
    bench: Workbench, sizes: EditingSizes, counts: Mapping[str, int], steps: int, turns: int
) -> list[dict[str, Any]]:
    """Time learning against plain code, `counts` edits at once by method.

    Near the output and at the released layers in one batch on both sides, and where plain code learns one by one.
    """
    edits = cases.edit_set("tuning").edits[: max(counts.values())]
    irrelevant = [edit.locality[0] for edit in edits if edit.locality is not None]
    texts = editing_speed.Texts(bench.model, bench.tokenizer, edits, irrelevant, sizes.expert_width, steps)
    depth, rows = bench.model.config.num_hidden_layers, []
    for method, count in counts.items():
        released = min(int(editing_speed.RELEASED[method] * depth), depth - 1)
        for layer in dict.fromkeys((sizes.upper_layer, released)):
            rows.append(editing_speed.timed(texts.pair(method, layer, "equal", count), turns))
        rows.append(editing_speed.timed(texts.pair(method, sizes.upper_layer, "one by one", count), turns))
    rows.append(editing_speed.timed(texts.pair("grace", sizes.upper_layer, "equal", 1), turns))
    return rows


def experts(bench: Workbench, sizes: EditingSizes, pairs: int, passes: int) -> dict[str, Any]:
    """Time a forward pass with many experts against one with a single expert, turn about."""
    edits, config = cases.edit_set("tuning").edits[:EDITS], METHODS["lemoe"].configure(sizes)
    ratios = []
    for turn in range(pairs):
        held = (1, MOST_EXPERTS) if turn % 2 else (MOST_EXPERTS, 1)
        found = seconds_by_experts(bench, config, held, edits, passes)
        ratios.append(found[str(MOST_EXPERTS)] / found["1"])
    return {"held": MOST_EXPERTS, "ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def methods(bench: Workbench, sizes: EditingSizes, names: Sequence[str], passes: int) -> list[dict[str, Any]]:
    """Time an edit of every method, of ten in one batch, and what it adds to a forward pass, in seconds."""
    edits = cases.edit_set("tuning").edits[:EDITS]
    rows = []

    def forward() -> float:
        """Return the median seconds of a forward pass of the model as it is now, without another adaptor."""
        return seconds_by_experts(bench, METHODS["lemoe"].configure(sizes), (0,), edits, passes)["0"]

    for name in names:
        row = METHODS[name]
        before = forward()
        editor = row.build(bench, row.configure(sizes))
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
    step, machine = found["steps"], found["environment"]
    lines = [
        f"profile {found['profile']}, {machine['cpu']}, threads: {machine['threads']}",
        f"LEMoE, a training step at layer {step['layer']} of {step['layers']}, {EDITS} edits: "
        f"{step['cached_seconds']:.3f} s with the cached prefix, {step['full_seconds']:.3f} s without",
        f"ratio {step['ratio']:.2f} ({step['lowest']:.2f} to {step['highest']:.2f}, {step['pairs']} pairs), bound "
        f"{step['bound']:.2f}: {step['ratio'] / step['bound']:.0%} of it",
        "",
        *editing_speed.report(found["learning"], found["learning_steps"]),
        "",
        f"a forward pass with {found['experts']['held']} experts: {found['experts']['ratio']:.2f} times that with one "
        f"({found['experts']['lowest']:.2f} to {found['experts']['highest']:.2f}), aim: at most {MOST_COST}",
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
    sizes, quick, bench = profiles.profile(profile).editing, profile == "smoke", cases.workbench(profile)
    names = ("ft", "grace", "lemoe") if quick else [name for name in METHODS if name != "mend"]  # MEND is trained first
    count, turns = (1, 1) if quick else (LEARNING_STEPS, TURNS)
    return {
        "learning": learning(bench, sizes, dict.fromkeys(LEARNING, 1) if quick else LEARNING, count, turns),
        "learning_steps": count,
        "experts": experts(bench, sizes, 1 if quick else PAIRS, 1 if quick else PASSES),
        "steps": steps(bench, sizes, 1 if quick else PAIRS),
        "methods": methods(bench, sizes, names, 1 if quick else PASSES),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return command.run("lib.benchmarks.lemoe", __doc__, "bench_editing", measure, report, arguments)


if __name__ == "__main__":
    errors.command(main)
