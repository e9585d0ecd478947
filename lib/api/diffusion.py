"""InfoDiffusion and DiffuSeq on sentence pairs of one's own: train, save, load, sample.

writer = train([{"src": "how are you", "trg": "how do you do"}, ...], steps=2000)
writer.sample(["how are you"], candidates=3)
writer.save("writer")
writer = load("writer")
"""

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError

from lib import files, paths, strict_json
from lib.diffusion.denoiser import DenoiserConfig
from lib.diffusion.model import DiffusionConfig, DiffusionModel, information
from lib.diffusion.process import DIFFUSEQ, OURS, ProcessConfig
from lib.diffusion.sampling import SamplingConfig
from lib.errors import UserError
from lib.profiles.cpu import DIFFUSION as SIZES
from lib.seq2seq import batches, decoding, training
from lib.seq2seq.batches import Window
from lib.settings import Settings
from lib.text import json_records, vocabulary
from lib.text.json_records import Record
from lib.text.vocabulary import Vocabulary

__all__ = ["METHODS", "Writer", "WriterConfig", "load", "train"]

# What the two papers differ in: the schedule and self-conditioning. All else is alike, as in our tables.
METHODS: dict[str, dict[str, Any]] = {"infodiffusion": {**OURS}, "diffuseq": {**OURS, **DIFFUSEQ}}
WEIGHTS, WORDS, CONFIG, CARD = "model.safetensors", "vocabulary.json", "config.json", "README.md"
LAYOUT = '{"src": ..., "trg": ...}'  # of a pair
TITLES = {"infodiffusion": "InfoDiffusion", "diffuseq": "DiffuSeq"}


class WriterConfig(Settings):
    """All that a saved writer is built from, besides its weights and words."""

    method: DiffusionConfig
    window: Window


@dataclass(frozen=True)
class Writer:
    """A trained model with its words: it writes a target for each source."""

    model: DiffusionModel
    words: Vocabulary
    window: Window

    def sample(
        self, sources: Iterable[str], candidates: int = 1, steps: int | None = None, seed: int = 0
    ) -> list[list[str]]:
        """Return `candidates` sentences for each source, in `steps` sampling steps (default: as trained).

        Raises `UserError` for no sources, one without words, more steps than T, and a count that is no whole number.
        """
        sources = [] if isinstance(sources, str) else list(sources)
        if not sources:
            raise UserError("sources must be a list of sentences, at least one")
        for number, source in enumerate(sources, start=1):
            if not isinstance(source, str) or not source.split():
                raise UserError(f"source {number} must be a sentence of one word or more, not {source!r}")
        _check_counts({"candidates": candidates, **({} if steps is None else {"steps": steps}), "seed": seed})
        sampling = self.model.config.sampling
        how = sampling if steps is None else sampling.model_copy(update={"steps": steps})
        device = next(self.model.parameters()).device

        def draw(source: torch.Tensor, places: int, generator: torch.Generator) -> torch.Tensor:
            return self.model.reverse(source, places, generator, how)

        config = decoding.DecodingConfig(candidates=candidates, precision="float32")
        return decoding.decode(draw, config, self.words, sources, self.window, seed, str(device))

    def save(self, folder: Path | str, overwrite: bool = False) -> None:
        """Write weights, words, configuration and a card (README.md) into a folder, all together or none.

        Raises `UserError` where the folder cannot be written to or, unless `overwrite`, holds files of such names but
        no writer: a language model's, say.
        """
        folder = Path(folder)
        if not overwrite:
            files.refuse_others(folder, (WEIGHTS, CONFIG, CARD), WORDS, "a saved writer")
        weights = {name: value.detach().cpu().contiguous() for name, value in self.model.named_parameters()}
        held = {WEIGHTS: safetensors.torch.save(weights, {"format": "pt"}), WORDS: self.words.as_json().encode()}
        told = {
            "method": self.model.config.model_dump(),
            "window": asdict(self.window),
            "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in held.items()},
        }
        held |= {CONFIG: files.json_text(told).encode(), CARD: self._card().encode()}
        files.write_together({folder / name: content for name, content in held.items()})

    def _card(self) -> str:
        """Return README.md: method, sizes, what it can read and write, limits, and how to load it."""
        config, count = self.model.config, sum(value.numel() for value in self.model.parameters())
        method = "infodiffusion" if config.process.schedule == "information" else "diffuseq"
        return f"""---
tags:
- text-diffusion
- {method}
---
# A text diffusion model: {TITLES[method]}

It writes a sentence for a source sentence, from noise, in {config.sampling.steps} of {config.process.steps} steps of
diffusion. It was trained on sentence pairs alone, from fresh weights.

- Parameters: {count:,}; layers {config.shape.layers}, width {config.shape.width}
- Words: {len(self.words):,}, split at blanks; others are read as unknown and cannot be written
- Lengths: {self.window.ratio:g} times the source's words and {self.window.extra} more, {self.window.most} at most
- Limits: it knows nothing but its pairs, and is meant for sentences like theirs

```python
from lib.api import diffusion

writer = diffusion.load(folder)
writer.sample(["a sentence like those of the training pairs"])
```
"""


def train(
    pairs: Path | str | Iterable[Mapping[str, Any]],
    steps: int = 2000,
    method: Literal["infodiffusion", "diffuseq"] = "infodiffusion",
    *,
    diffusion_steps: int = 200,
    sampling_steps: int = 20,
    width: int = 256,
    layers: int = 4,
    heads: int = 4,
    embedding: int = 128,
    most_words: int = 8000,
    window: Window | None = None,
    tokens: int = 2048,
    rate: float = 2e-3,
    seed: int = 0,
    device: str = "cpu",
    workspace: Path | str | None = None,
    **process: Any,
) -> Writer:
    """Train a model on pairs of {"src", "trg"}, or a file of them as JSON lines, and return its writer.

    `diffusion_steps` is T; default sizes, losses and sampler are those of our `cpu` tables, `process` gives further
    fields of `lib.diffusion.process.ProcessConfig` (lam, schedule, ...). With a `workspace` a run that was killed goes
    on. Equal arguments give equal weights. A pair whose target does not fit the window is left out, with a warning that
    counts them. Raises `UserError` naming what cannot be: an unknown method, field or device, a pair without words, no
    pair that fits the window, heads that do not divide the width; `lib.errors.DivergedError` where training diverges.
    """
    if method not in METHODS:
        raise UserError(f"method {method!r} is not known: take one of {', '.join(METHODS)}")
    counts = {"steps": steps, "diffusion_steps": diffusion_steps, "sampling_steps": sampling_steps}
    sizes = {"width": width, "layers": layers, "heads": heads, "embedding": embedding}
    _check_counts({**counts, **sizes, "most_words": most_words, "tokens": tokens, "seed": seed})
    if width % (2 * heads):
        raise UserError(f"width is {width}: give a multiple of twice the number of heads, {heads}")
    _check_device(device)
    sources, targets = _read(pairs)
    words = Vocabulary.build([*sources, *targets], most_words)
    window = window or Window(ratio=1.0, extra=max(3, _extra(sources, targets)), most=64)
    settings = {"steps": diffusion_steps, **METHODS[method], **process}
    try:
        config = DiffusionConfig(
            shape=DenoiserConfig(
                vocabulary=len(words), embedding=embedding, width=width, layers=layers, heads=heads,
                dropout=SIZES.dropout, embedding_scale=SIZES.embedding_scale, sharpness=SIZES.sharpness,
            ),
            process=ProcessConfig(**settings),
            sampling=SamplingConfig(
                steps=min(sampling_steps, diffusion_steps), sampler=SIZES.sampler, clamp=SIZES.clamp
            ),
        )  # fmt: skip
        budget = training.TrainingConfig(
            steps=steps,
            tokens=tokens,
            rate=rate,
            optimiser="muon",
            precision="bfloat16" if device != "cpu" else "float32",
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: {first['msg']}" if where else first["msg"]) from error
    encoded = batches.encode_targets(words, sources, targets, window)
    if not encoded.pairs:
        raise UserError(f"none of {len(sources)} pairs fits the window of at most {window.most} words: widen it")
    if encoded.left_out:
        warnings.warn(
            f"{encoded.left_out} of {len(sources)} pairs are left out: their targets do not fit the window of "
            f"{window.ratio:g} times the source's words and {window.extra} more, {window.most} at most",
            stacklevel=2,
        )
    found = training.train(
        lambda: DiffusionModel(config, information(words, config.information)),
        budget,
        encoded,
        seed,
        device,
        None if workspace is None else Path(workspace),
    )
    return Writer(found.model, words, window)  # type: ignore[arg-type]  # what was built


def load(folder: Path | str, device: str = "cpu") -> Writer:
    """Return the writer that `Writer.save` wrote; raises `UserError` for one that is not whole, or no such device."""
    folder = Path(folder)
    _check_device(device)
    try:
        told = strict_json.parse(strict_json.read_text(folder / CONFIG), CONFIG)
        for name, digest in told.pop("sha256").items():
            if files.sha256(folder / name) != digest:
                raise ValueError(f"{name} has another checksum")
        config = WriterConfig.model_validate(told)
        words = vocabulary.load(folder / WORDS)
        model = DiffusionModel(config.method, information(words, config.method.information))
        training.put(model, safetensors.torch.load_file(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{paths.relative(folder)}: not a whole writer ({reason}); save it again") from error
    return Writer(model.to(device).eval(), words, config.window)


def _read(pairs: Path | str | Iterable[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return sources and targets, with single blanks."""
    if isinstance(pairs, Path | str):
        rows = json_records.read(Path(pairs), "sentence pairs", LAYOUT)
    else:
        named = ((f"pair {number}", number, pair) for number, pair in enumerate(pairs, start=1))
        rows = [Record(place, number, json_records.fields(pair, place, LAYOUT)) for place, number, pair in named]
    found: tuple[list[str], list[str]] = [], []
    for row in rows:
        for side, name in zip(found, ("src", "trg"), strict=True):
            side.append(" ".join(row.text(name).split()))
    if not found[0]:
        raise UserError("no pairs to train on: give at least one")
    return found


def _check_counts(counts: Mapping[str, Any]) -> None:
    """Raise `UserError` for what is no whole number of 1 or more; a seed may be 0."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < (name != "seed"):
            raise UserError(f"{name} is {count!r}: give a whole number of {int(name != 'seed')} or more")


def _check_device(device: str) -> None:
    """Raise `UserError` for a device that torch does not know, or this machine does not have."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        known = str(device).split(":")[0] in ("cpu", "cuda", "mps")
        told = "is not there on this machine: take cpu" if known else "is not known: take cpu, cuda, cuda:1 or mps"
        raise UserError(f"device {device!r} {told}") from error


def _extra(sources: Sequence[str], targets: Sequence[str]) -> int:
    """Return how many words more than its source 95 of 100 targets have at most, and END."""
    more = sorted(len(t.split()) + 1 - len(s.split()) for s, t in zip(sources, targets, strict=True))
    return more[int(0.95 * (len(more) - 1))]
