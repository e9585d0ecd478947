"""Processor seconds a sentence at equal BLEU: a trained model's own few sampling steps against 2,000 as released.

Run as `python -m lib.benchmarks.equal_bleu [--quick]`: it prints a table and writes `build/bench_equal_bleu.json`. Both
sides have the weights of InfoDiffusion on the cheapest task. The released side walks as DiffuSeq's code does, by the
plain network: T = 2,000 ancestral steps towards the nearest word vectors, float32, every batch padded to the full
length. Without the weights in the cache they are trained first.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib import errors, records
from lib.benchmarks import command
from lib.benchmarks.reference_denoiser import ReferenceDenoiser, padded
from lib.diffusion import sampling
from lib.diffusion.model import DiffusionModel
from lib.profiles import profile as profile_of
from lib.seq2seq import decoding
from lib.series.infodiffusion import cases
from lib.series.infodiffusion.rows import CHEAPEST
from lib.series.infodiffusion.run import Experiment
from lib.text import metrics


@dataclass(frozen=True)
class Sizes:
    """How much is measured: test sentences, one candidate each."""

    sentences: int
    released_steps: int
    steps: tuple[int, ...]


SIZES = {"cpu": Sizes(64, 2000, (1, 2, 5, 10, 20, 50)), "smoke": Sizes(4, 6, (1, 2))}
MARGIN = 0.002  # of BLEU, within which ours counts as equal


class PaddedDenoiser(ReferenceDenoiser):
    """The plain denoiser, which pads every batch to `places` of source and target and cuts off what it added."""

    places: tuple[int, int]

    def forward(  # type: ignore[override]  # as `Denoiser.forward`, which the plain one gives a mask
        self, source: Tensor, noised: Tensor, previous: Tensor, t: Tensor, steps: int
    ) -> Tensor:
        """Estimate x0 (sentences, target words, embedding); shapes as in `Denoiser.forward`."""
        whole, kept = padded((source, noised, previous), self.places)
        return super().forward(*whole, t, steps, kept)[:, : noised.shape[1]]


def released(model: DiffusionModel, places: tuple[int, int], steps: int) -> decoding.Sampler:
    """Return the sampler with a model's weights that walks as released, in `steps` = T steps."""
    plain = PaddedDenoiser(model.config.shape)
    plain.load_state_dict(model.denoiser.state_dict())
    plain.places = places
    process = model.config.process.model_copy(update={"steps": steps})
    how = sampling.SamplingConfig(steps=steps, **sampling.RELEASED)

    def sample(source: Tensor, target_words: int, generator: torch.Generator) -> Tensor:
        return sampling.reverse(plain.eval(), process, how, source, target_words, model.values, generator)

    return sample


def fewest(ways: Sequence[dict[str, float]], wanted: float) -> dict[str, float] | None:
    """Return the way of the fewest seconds whose BLEU is not below `wanted`; None where there is none."""
    return min((way for way in ways if way["bleu"] >= wanted), key=lambda way: way["seconds"], default=None)


def compare(run: Experiment, model: DiffusionModel, sizes: Sizes, seed: int) -> dict[str, Any]:
    """Return BLEU and processor seconds of either side's walks, a sentence, on the first test sentences, one candidate.

    Each way decodes in batches as configured, ours in its own precision, the released one in float32.
    """
    sources, targets = (list(side[: sizes.sentences]) for side in run.data.splits["test"])
    longest = max(len(run.data.vocabulary.encode(source)) for source in sources)
    places = longest, run.config.window.places(longest)
    own = run.config.decoding.model_copy(update={"candidates": 1})

    def way(sample: decoding.Sampler, how: decoding.DecodingConfig, steps: int) -> dict[str, float]:
        began = time.process_time()
        written = decoding.decode(sample, how, run.data.vocabulary, sources, run.config.window, seed)
        seconds = (time.process_time() - began) / len(sources)
        return {
            "steps": steps,
            "bleu": float(metrics.bleu([w[0] for w in written], targets).mean()),
            "seconds": seconds,
        }

    def in_steps(steps: int) -> decoding.Sampler:
        walk = model.config.sampling.model_copy(update={"steps": steps})
        return lambda source, target_words, generator: model.reverse(source, target_words, generator, walk)

    ours = [way(in_steps(steps), own, steps) for steps in sizes.steps]
    plain = own.model_copy(update={"precision": "float32"})
    official = way(released(model, places, sizes.released_steps), plain, sizes.released_steps)
    best = fewest(ours, official["bleu"] - MARGIN)
    return {
        "sentences": len(sources),
        "ours": ours,
        "released": official,
        "equal": best,
        "ratio": None if best is None else official["seconds"] / best["seconds"],
    }


def measure(profile: str) -> dict[str, Any]:
    """Measure at the sizes of cpu, with trained weights, or of smoke, with fresh ones."""
    seed = profile_of(profile).diffusion.seeds[0]
    run = cases.experiment(CHEAPEST, cases.PUBLISHED, profile)
    if profile == "smoke":
        torch.manual_seed(seed)
        model = run.build().eval()
    else:
        model = run.load(records.trained_weights(cases.case(CHEAPEST, cases.PUBLISHED, seed, profile), "model"))
    return {"task": CHEAPEST, "equal_bleu": compare(run, model, SIZES[profile], seed)}


def report(found: dict[str, Any]) -> str:
    """Return what was measured as a plain table."""
    told = found["equal_bleu"]
    lines = [
        f"{found['task']}, {told['sentences']} test sentences, one candidate",
        f"{'':22}{'steps':>6}{'BLEU':>8}{'ms':>10}",
    ]
    named = [("ours", way) for way in told["ours"]] + [("as released", told["released"])]
    lines += [f"{name:22}{way['steps']:6}{way['bleu']:8.4f}{1000 * way['seconds']:10.1f}" for name, way in named]
    if told["equal"] is None:
        return "\n".join([*lines, "none of our walks reaches the released one's BLEU"])
    told_ratio = f"{told['equal']['steps']} of our steps reach its BLEU in 1/{told['ratio']:.0f} of its seconds"
    return "\n".join([*lines, told_ratio])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return command.run("lib.benchmarks.equal_bleu", __doc__, "bench_equal_bleu", measure, report, arguments)


if __name__ == "__main__":
    errors.command(main)
