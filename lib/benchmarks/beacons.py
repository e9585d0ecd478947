"""What facts alone cost: many adapters at once against one after another, with and without the cached prefix.

Run as `python -m lib.benchmarks.beacons [--quick]`: it prints a table and writes `build/bench_beacons.json`. A
benchmark, never a test; its numbers hold for the machine that it ran on.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lib import errors, profiles
from lib.beacons.batched_lora import GROUP, train_alone
from lib.beacons.facts import BeaconFact
from lib.beacons.methods import AdapterConfig, attach
from lib.beacons.training import train
from lib.benchmarks import command
from lib.causal_lm.encoding import encode
from lib.series.beacons.workbench import Workbench

AIMS = {"batched": 2.5, "batched, cached prefix": 8.0}  # times faster than one by one on the whole model
FACTS, STEPS, PAIRS, SINGLE = GROUP, 10, 3, 5
RATE, SEED = 1e-3, 0


def one_by_one(bench: Workbench, adapter: AdapterConfig, facts: Sequence[BeaconFact], steps: int) -> None:
    """Train an adapter of the peft library for each fact in turn, on the whole model: what anybody would write first.

    Only the loss is spared what ours spares itself: logits are computed from the last prompt token on.
    """
    for fact in facts:
        with attach(bench.model, "lora", adapter, steps, SEED) as handle:
            encoded = encode(bench.model, bench.tokenizer, [(fact.prompt, fact.taught)])
            # Logits kept: of the target and what precedes it.
            after = encoded.ids.shape[1] - int(encoded.last_prompt[0])
            optimiser = torch.optim.AdamW(handle.parameters(), RATE, weight_decay=0.0)
            for _ in range(steps):
                optimiser.zero_grad()
                logits = bench.model(encoded.ids, use_cache=False, logits_to_keep=after).logits[0, :-1]
                torch.nn.functional.cross_entropy(logits, encoded.ids[0, 1 - after :]).backward()
                optimiser.step()


def one_by_one_cached(bench: Workbench, adapter: AdapterConfig, facts: Sequence[BeaconFact], steps: int) -> None:
    """Train an adapter for each fact in turn above the cached prefix."""
    for fact in facts:
        with attach(bench.model, "lora", adapter, steps, SEED) as handle:
            train(handle, bench.tokenizer, [fact], steps, 1, RATE, SEED)


def seconds(work: Callable[[int], object], steps: int) -> float:
    """Return the seconds that an update takes over `steps` of them: putting adapters on, and the prefix, count."""
    began = time.perf_counter()
    work(steps)
    return (time.perf_counter() - began) / steps


def alone(
    bench: Workbench, adapter: AdapterConfig, chosen: Sequence[BeaconFact], single: int, steps: int, pairs: int
) -> dict[str, Any]:
    """Time an update of one fact, in seconds, in four ways turn about; ratios are medians of those of each turn.

    One by one on the first `single` facts by length in even steps, so that their mean length is that of all.
    """
    ordered = sorted(chosen, key=lambda fact: len(fact.prompt) + len(fact.target))
    few = ordered[len(ordered) // (2 * single) :: max(1, len(ordered) // single)][:single]

    def together(cached: bool, steps: int) -> None:
        train_alone(bench.model, bench.tokenizer, chosen, steps, RATE, adapter, SEED, cached=cached)

    ways: dict[str, Callable[[], float]] = {
        "one by one": lambda: seconds(lambda n: one_by_one(bench, adapter, few, n), steps) / len(few),
        "one by one, cached prefix": lambda: (
            seconds(lambda n: one_by_one_cached(bench, adapter, few, n), steps) / len(few)
        ),
        "batched": lambda: seconds(lambda n: together(False, n), steps) / len(chosen),
        "batched, cached prefix": lambda: seconds(lambda n: together(True, n), steps) / len(chosen),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(pairs):
        for name, way in ways.items():
            found[name].append(way())
    rows = []
    for name, ours in found.items():
        ratios = [plain / quick for plain, quick in zip(found["one by one"], ours, strict=True)]
        row = {"way": name, "seconds": statistics.median(ours), "ratio": statistics.median(ratios)}
        rows.append(row | {"lowest": min(ratios), "highest": max(ratios), "aim": AIMS.get(name)})
    return {"facts": len(chosen), "single": len(few), "steps": steps, "pairs": pairs, "rows": rows}


def together(
    bench: Workbench,
    adapter: AdapterConfig,
    facts: Sequence[BeaconFact],
    batch: int,
    methods: Sequence[str],
    steps: int,
) -> list[dict[str, Any]]:
    """Time an update on `batch` of the facts by one adapter for all, in seconds, for some methods."""
    rows = []
    for method in methods:

        def work(count: int, method: str = method) -> None:
            with attach(bench.model, method, adapter, count, SEED) as handle:
                train(handle, bench.tokenizer, facts, count, batch, RATE, SEED)

        rows.append({"method": method, "facts": batch, "seconds": seconds(work, steps)})
    return rows


def report(found: dict[str, Any]) -> str:
    """Return what was measured as plain tables."""
    timed, machine = found["alone"], found["environment"]
    lines = [
        f"profile {found['profile']}, {machine['cpu']}, threads: {machine['threads']}",
        f"{timed['facts']} facts alone, LoRA, seconds an update of one fact ({timed['single']} of them one by one):",
        f"{'':28}{'seconds':>10}{'ratio':>8}{'aim':>6}  lowest to highest of {timed['pairs']} turns",
    ]
    for row in timed["rows"]:
        aim = f"{row['aim']:.1f}" if row["aim"] else ""
        spread = f"{row['lowest']:.2f} to {row['highest']:.2f}"
        lines.append(f"{row['way']:28}{row['seconds']:10.4f}{row['ratio']:8.2f}{aim:>6}  {spread}")
    lines += ["", f"{'one adapter for all':28}{'seconds':>10}  an update"]
    lines += [f"{row['method']:28}{row['seconds']:10.4f}  of {row['facts']} facts" for row in found["together"]]
    return "\n".join(lines)


def measure(profile: str) -> dict[str, Any]:
    """Measure everything at a profile's size; few facts and one method in smoke."""
    chosen, quick = profiles.profile(profile), profile == "smoke"
    sizes = chosen.beacons
    bench = Workbench(chosen.backbone, chosen.backbone_layers, sizes.dtype, chosen.device)
    adapter, facts = AdapterConfig(sizes.first_layer, sizes.rank), bench.facts("tuning", sizes.answer_tokens)
    few, single, steps, pairs = (facts[:4], 2, 1, 1) if quick else (facts[:FACTS], SINGLE, STEPS, PAIRS)
    methods = ("lora",) if quick else ("lora", "dora", "prefix", "full")
    return {
        "alone": alone(bench, adapter, few, single, steps, pairs),
        "together": together(bench, adapter, facts[: sizes.tuning], sizes.batch, methods, steps),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return command.run("lib.benchmarks.beacons", __doc__, "bench_beacons", measure, report, arguments)


if __name__ == "__main__":
    errors.command(main)
