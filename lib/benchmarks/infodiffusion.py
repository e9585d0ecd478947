"""How much faster than plain code we are: training, sampling and the minimum Bayes risk choice, on the same sentences.

Run as `python -m lib.benchmarks.infodiffusion [--quick]`: it prints a table and writes `build/bench.json`. A benchmark,
never a test; its numbers hold for the machine that it ran on.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib import errors, progress, seeds
from lib.benchmarks import command
from lib.benchmarks.reference_denoiser import ReferenceModel, known
from lib.diffusion.denoiser import forward_flops
from lib.diffusion.model import DiffusionModel
from lib.machine import environment
from lib.seq2seq import batches, training
from lib.series.infodiffusion import cases
from lib.series.infodiffusion.run import Experiment
from lib.text import mbr, metrics

# Of the reference the first is the official code's precision, the second ours, which leaves the passes alone to differ.
PRECISIONS = {"ours": torch.bfloat16, "reference": torch.float32, "equal": torch.bfloat16}
WARM_UPS = 2
RATE_REPEATS = 9
SEED = 0
CANDIDATES = 10
DROPPED = 0.2  # share of the words that a made-up candidate loses
MBR_LIMIT = 20.0  # seconds
AIM = 0.6  # share of the matrix rate that a training step is to reach


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    pairs: int  # of steps, ours and the reference's
    sentences: int  # whose best candidate we choose
    plain_sentences: int  # the same by the plain loop
    matrix: int  # rows and columns of the matrices whose product is the yardstick


SIZES = {
    "cpu": Sizes(pairs=9, sentences=1000, plain_sentences=20, matrix=2048),
    "smoke": Sizes(pairs=1, sentences=20, plain_sentences=5, matrix=256),
}


@dataclass
class Measured:
    """Steps of one kind: the seconds of each, the words of its batch, and the passes through the network."""

    seconds: list[float] = field(default_factory=list)
    words: list[int] = field(default_factory=list)  # source and target words, without the padding of the reference
    passes: list[int] = field(default_factory=list)

    def words_a_second(self) -> float:
        """Return the words of all steps over their seconds."""
        return sum(self.words) / sum(self.seconds)

    def operations_a_second(self, flops: float) -> float:
        """Return the floating-point operations a second that were of use, for `flops` a word and pass."""
        return flops * sum(w * p for w, p in zip(self.words, self.passes, strict=True)) / sum(self.seconds)

    def bound(self, flops: float, rate: float) -> float:
        """Return the median seconds that the products of a step alone would take at a rate of operations a second."""
        return statistics.median(flops * w * p / rate for w, p in zip(self.words, self.passes, strict=True))


def now() -> float:
    """Return seconds of the one thread that computes, so that other programs do not count, or else the clock's."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def matrix_rate(dtype: torch.dtype, size: int) -> float:
    """Return the median operations a second, by `now`, of a product of matrices of `size` rows and columns."""
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(WARM_UPS + RATE_REPEATS):
        began = now()
        left @ right
        seconds.append(now() - began)
    return 2 * size**3 / statistics.median(seconds[WARM_UPS:])


class Side:
    """One of the two models, in training: it times its own steps."""

    def __init__(self, model: DiffusionModel | ReferenceModel, config: training.TrainingConfig) -> None:
        """Begin with fresh optimisers, whose time counts on both sides."""
        average = {name: value.detach().clone() for name, value in model.named_parameters()}
        self.state = training.State(model, average, training.optimisers(model, config))
        self.model, self.config, self.passes = model, config, 0
        self.kinds = {"training": Measured(), "sampling": Measured()}
        model.denoiser.register_forward_hook(self._count)

    def step(self, source: Tensor, target: Tensor, number: int, kept: bool = True) -> None:
        """Take one training step on a batch, then one sampling step for its sources; the times count if `kept`."""
        words = source.numel() + target.numel()
        draw = partial(self._draw, source, target.shape[1], number)
        advance = partial(training.advance, self.state, self.config, source, target, (SEED, number))
        actions: dict[str, Callable[[], object]] = {"training": advance, "sampling": draw}
        for kind, action in actions.items():
            self.passes, began = 0, now()
            action()
            seconds = now() - began
            if kept:
                found = self.kinds[kind]
                found.seconds.append(seconds)
                found.words.append(words)
                found.passes.append(self.passes)

    def _draw(self, source: Tensor, places: int, number: int) -> Tensor:
        how = self.model.config.sampling.model_copy(update={"steps": 1})
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            return self.model.reverse(source, places, seeds.generator("bench", number), how)

    def _count(self, *_: Any) -> None:
        self.passes += 3 if torch.is_grad_enabled() else 1  # a backward pass costs two forward passes


def compare(ours: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """Return the median seconds of both, the ratio of the medians (reference over ours), and its spread.

    `lowest` and `highest` are the extremes of the ratios pair by pair. Raises `ValueError` unless there are as many of
    both, and at least one.
    """
    ratios = [other / one for one, other in zip(ours, reference, strict=True)]
    if not ratios:
        raise ValueError("nothing was measured")
    one, other = statistics.median(ours), statistics.median(reference)
    return {
        "ours_seconds": one,
        "reference_seconds": other,
        "ratio": other / one,
        "lowest": min(ratios),
        "highest": max(ratios),
    }


def steps(run: Experiment, pairs: int, matrix: int) -> dict[str, Any]:
    """Measure `pairs` training and sampling steps of ours, alternately with the reference's on the same batch.

    All begin with equal weights, draw the same noise and have the same optimisers. The batches are the first of a
    training; the reference pads them to the longest, in float32 and ("equal") in the precision of ours. The peak of the
    process is read after the warm-up of each side, ours first. Shares are of the rate of a product of two matrices of
    `matrix` rows and columns in the side's own precision.
    """
    encoded, config = run.encode(), run.config.training
    longest = max(encoded.groups)
    places = longest, run.config.window.places(longest)
    torch.manual_seed(SEED)
    model = run.build()
    sides = {"ours": Side(model, config)}
    for name in list(PRECISIONS)[1:]:
        plain = ReferenceModel(model.config, model.values, places, run.data.vocabulary.pad)
        plain.load_state_dict(model.state_dict())
        precision = str(PRECISIONS[name]).removeprefix("torch.")
        sides[name] = Side(plain, config.model_copy(update={"precision": precision}))
    drawn = batches.order(encoded, config.tokens, SEED, 0)[: WARM_UPS + pairs]
    ids = [tuple(part[rows] for part in encoded.groups[length]) for length, rows in drawn]
    memory = {}
    for name, side in sides.items():
        for number in range(WARM_UPS):
            side.step(*ids[number], number, kept=False)
        memory[name] = environment.peak_memory()
    for number in progress.bar(range(WARM_UPS, len(ids)), "steps"):
        for side in sides.values():
            side.step(*ids[number], number)
    shape = model.config.shape
    flops = forward_flops(shape)
    if model.config.process.estimate == "expected":  # one more product over the words of the target
        flops += shape.embedding * shape.vocabulary
    by_dtype = {dtype: matrix_rate(dtype, matrix) for dtype in set(PRECISIONS.values())}
    rates = {name: by_dtype[dtype] for name, dtype in PRECISIONS.items()}
    found: dict[str, Any] = {
        "source_places": places[0],
        "target_places": places[1],
        "parameters": {name: sum(p.numel() for p in side.model.parameters()) for name, side in sides.items()},
        "matrix_rate": rates,
        "peak_memory_mib": memory | {"end": environment.peak_memory()},
    }
    for kind in ("training", "sampling"):
        ours, reference, equal = (side.kinds[kind] for side in sides.values())
        found[kind] = compare(ours.seconds, reference.seconds)
        found[kind]["equal_precision"] = compare(ours.seconds, equal.seconds)
        found[kind]["words"], found[kind]["pairs"] = ours.words, len(ours.words)
        for name, side in sides.items():
            measured = side.kinds[kind]
            found[kind][f"{name}_words_a_second"] = measured.words_a_second()
            found[kind][f"{name}_share_of_matrix_rate"] = measured.operations_a_second(flops) / rates[name]
            found[kind][f"{name}_bound_seconds"] = measured.bound(flops, rates[name])
    return found


def made_up(texts: Sequence[str], count: int, share: float) -> list[list[str]]:
    """Return `count` candidates for each text: the text with every word dropped with the probability `share`."""
    generator = np.random.default_rng(SEED)

    def thinned(text: str) -> str:
        words = text.split()
        return " ".join(w for w, drawn in zip(words, generator.random(len(words)), strict=True) if drawn >= share)

    return [[thinned(text) for _ in range(count)] for text in texts]


def plain_choice(texts: Sequence[str]) -> int:
    """Return what `mbr.choose` returns for one source, by nltk's sentence BLEU of every ordered pair."""
    totals = []
    for number, text in enumerate(texts):
        others = [other for place, other in enumerate(texts) if place != number]
        totals.append(round(float(metrics.bleu([text] * len(others), others).sum()), 12))
    return totals.index(max(totals))


def choice(texts: Sequence[str], plain_sentences: int) -> dict[str, Any]:
    """Measure the choice among 10 candidates of every text, and the plain loop on the first of them.

    Seconds are those of all texts for ours, and of one text for both in `..._a_sentence`; `same` tells whether both
    chose the same candidates where both did.
    """
    candidates = made_up(texts, CANDIDATES, DROPPED)
    began = time.perf_counter()
    chosen = mbr.choose(candidates)
    between = time.perf_counter()
    plain = [plain_choice(one) for one in candidates[:plain_sentences]]
    ended = time.perf_counter()
    ours, reference = (between - began) / len(texts), (ended - between) / len(plain)
    return {
        "sentences": len(texts),
        "plain_sentences": len(plain),
        "seconds": between - began,
        "limit_seconds": MBR_LIMIT,
        "within_limit": between - began <= MBR_LIMIT,
        "ours_seconds_a_sentence": ours,
        "reference_seconds_a_sentence": reference,
        "ratio": reference / ours,
        "same": chosen[: len(plain)] == plain,
    }


def measure(profile: str) -> dict[str, Any]:
    """Measure everything at the sizes of cpu or, quickly, of smoke."""
    sizes = SIZES[profile]
    run = cases.experiment("paraphrase", "infodiffusion", profile)
    run = replace(run, config=run.config.model_copy(update={"method": known(run.config.method)}))
    return {
        "steps": steps(run, sizes.pairs, sizes.matrix),
        "mbr": choice(run.data.splits["train"][1][: sizes.sentences], sizes.plain_sentences),
    }


def report(found: dict[str, Any]) -> str:
    """Return what was measured as a plain table."""
    told, chosen, machine = found["steps"], found["mbr"], found["environment"]
    memory, rates = told["peak_memory_mib"], told["matrix_rate"]
    lines = [
        f"profile {found['profile']}, {machine['cpu']}, threads: {machine['threads']}",
        f"reference: float32, padded to {told['source_places']} + {told['target_places']} places, attention by a mask",
        "",
        f"{'':22}{'ours':>12}{'reference':>12}{'ratio':>8}  lowest to highest of the pairs",
    ]
    for kind in ("training", "sampling"):
        one, equal = told[kind], told[kind]["equal_precision"]
        lines += [
            f"{kind + ' step, s':22}{one['ours_seconds']:12.4f}{one['reference_seconds']:12.4f}{one['ratio']:8.2f}"
            f"  {one['lowest']:.2f} to {one['highest']:.2f} ({one['pairs']} pairs)",
            f"{'  both in bfloat16':22}{equal['ours_seconds']:12.4f}{equal['reference_seconds']:12.4f}"
            f"{equal['ratio']:8.2f}  {equal['lowest']:.2f} to {equal['highest']:.2f}",
            f"{'  bound, s':22}{one['ours_bound_seconds']:12.4f}{one['reference_bound_seconds']:12.4f}",
            f"{'  words a second':22}{one['ours_words_a_second']:12.0f}{one['reference_words_a_second']:12.0f}",
            f"{'  share of matrix rate':22}{one['ours_share_of_matrix_rate']:12.1%}"
            f"{one['reference_share_of_matrix_rate']:12.1%}",
        ]
    return "\n".join(
        [
            *lines,
            f"{'matrix rate, Gflop/s':22}{rates['ours'] / 1e9:12.0f}{rates['reference'] / 1e9:12.0f}",
            f"{'peak memory, MiB':22}{memory['ours']:12.0f}{memory['reference']:12.0f}",
            f"{'MBR, ms a sentence':22}{1000 * chosen['ours_seconds_a_sentence']:12.2f}"
            f"{1000 * chosen['reference_seconds_a_sentence']:12.2f}{chosen['ratio']:8.2f}",
            "",
            f"MBR of {chosen['sentences']} sentences: {chosen['seconds']:.1f} s, "
            f"{'within' if chosen['within_limit'] else 'over'} the limit of {chosen['limit_seconds']:.0f} s; "
            f"{'the same choices as' if chosen['same'] else 'OTHER choices than'} the plain loop",
            "The optimisers are the same on both sides and count on both: only the passes through the network differ.",
            "Memory is the peak of the process so far, its data included: after our steps, then after the reference's.",
            f"The bound is what the products alone would take; the aim is {AIM:.0%} of the matrix rate in training.",
            "Shares are of a matrix product in the side's own precision; padding counts neither as words nor as work.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return command.run("lib.benchmarks.infodiffusion", __doc__, "bench", measure, report, arguments)


if __name__ == "__main__":
    errors.command(main)
