"""What each device of the diffusion's training step brings: the step without it, alternately with the step as it is.

Run as `python -m lib.benchmarks.diffusion_parts [--quick]`: it prints a table and writes `build/bench_parts.json`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lib import errors, progress
from lib.benchmarks import command
from lib.benchmarks.infodiffusion import SEED, SIZES, WARM_UPS, Side, compare
from lib.diffusion.denoiser import Denoiser
from lib.diffusion.model import DiffusionModel
from lib.seq2seq import batches
from lib.seq2seq.blocks import Block, attention, rotate
from lib.series.infodiffusion import cases
from lib.series.infodiffusion.run import Experiment

Batch = tuple[Tensor, Tensor]


class PlainReading(Denoiser):
    """The denoiser whose losses read the scores by torch's own functions, each anew."""

    def read(self, estimate: Tensor, vectors: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `Denoiser.read` returns, from two tables of scores for all places."""
        scores = self.logits(estimate, vectors).flatten(0, -2)
        loss = functional.cross_entropy(scores, target.flatten(), reduction="none").view(target.shape)
        return loss, self.expected(self.logits(estimate, vectors), vectors)

    def mean_word(self, estimate: Tensor, vectors: Tensor) -> Tensor:
        """Return what `Denoiser.mean_word` returns, from a table for all places."""
        return self.expected(self.logits(estimate, vectors), vectors)


class PlainBlock(Block):
    """The layer whose attention is left to autograd."""

    def _layer(self, hidden: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        mixed = self.attend(self.norm_attention(hidden)).unflatten(-1, (3, self.heads, -1))
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        attended = attention(rotate(query, angles), rotate(key, angles), value)
        hidden = hidden + self.dropout(self.merge(attended.transpose(1, 2).flatten(2)))
        return hidden + self.dropout(self.contract(functional.gelu(self.expand(self.norm_feed_forward(hidden)))))


def _read_plainly(model: DiffusionModel) -> None:
    model.denoiser.__class__ = PlainReading


def _attend_plainly(model: DiffusionModel) -> None:
    for block in model.denoiser.blocks:
        block.__class__ = PlainBlock


@dataclass(frozen=True)
class Part:
    """One device, and how a step goes without it."""

    title: str
    without: Callable[[DiffusionModel], None] = lambda model: None
    precision: str | None = None
    padded: bool = False  # every batch to the longest sentences of the training, with no mask


PARTS = {
    "reading": Part("loss and mean word from one table of scores", without=_read_plainly),
    "attention": Part("turning and attention with one backward pass", without=_attend_plainly),
    "lengths": Part("batches of one length, no padding", padded=True),
    "precision": Part("bfloat16", precision="float32"),
}


def padded(batch: Batch, places: tuple[int, int], pad: int) -> Batch:
    """Return a batch filled up with `pad` to so many places of source and target."""
    source, target = (
        functional.pad(ids, (0, most - ids.shape[1]), value=pad) for ids, most in zip(batch, places, strict=True)
    )
    return source, target


def measure_parts(run: Experiment, pairs: int) -> dict[str, dict[str, Any]]:
    """Return, by part, the seconds of `pairs` training steps with and without it, from equal weights on equal words."""
    encoded, config = run.encode(), run.config.training
    longest = max(encoded.groups)
    places, pad = (longest, run.config.window.places(longest)), run.data.vocabulary.pad
    drawn = batches.order(encoded, config.tokens, SEED, 0)[: WARM_UPS + pairs]
    ids: list[Batch] = []
    for length, rows in drawn:
        source, target = encoded.groups[length]
        ids.append((source[rows], target[rows]))
    found = {}
    for name, part in PARTS.items():
        sides = []
        for without in (False, True):
            torch.manual_seed(SEED)
            model, how = run.build(), config
            if without:
                part.without(model)
                how = config.model_copy(update={"precision": part.precision or config.precision})
            sides.append(Side(model, how))
        for number in progress.bar(range(len(ids)), name):
            for side, fill in zip(sides, (False, part.padded), strict=True):
                side.step(*(padded(ids[number], places, pad) if fill else ids[number]), number, number >= WARM_UPS)
        found[name] = compare(*(side.kinds["training"].seconds for side in sides))
    return found


def measure(profile: str) -> dict[str, Any]:
    """Measure at the sizes of cpu or, quickly, of smoke."""
    run = cases.experiment("paraphrase", "infodiffusion", profile)
    return {"parts": measure_parts(run, SIZES[profile].pairs)}


def report(found: dict[str, Any]) -> str:
    """Return what was measured as a plain table."""
    lines = [f"{'training step without':48}{'s':>8}{'as it is':>10}{'ratio':>8}  lowest to highest of the pairs"]
    for name, one in found["parts"].items():
        lines.append(
            f"{PARTS[name].title:48}{one['reference_seconds']:8.3f}{one['ours_seconds']:10.3f}{one['ratio']:8.2f}"
            f"  {one['lowest']:.2f} to {one['highest']:.2f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return command.run("lib.benchmarks.diffusion_parts", __doc__, "bench_parts", measure, report, arguments)


if __name__ == "__main__":
    errors.command(main)
