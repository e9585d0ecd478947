"""Short trainings on validation sentences that choose how both models are trained and sampled; no test sentence.

Run as `python -m lib.series.infodiffusion.pilots TASK MODEL WAY [--steps N] [--seed N]`: it trains one model of the
pair in one way and puts what came out into docs/pilots/infodiffusion.json. Each model is read against itself, in 1, 2,
5 and 20 sampling steps; the difference between the models plays no part.
"""

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lib import files, paths, strict_json
from lib.diffusion.model import DiffusionModel
from lib.diffusion.process import RELEASED
from lib.diffusion.sampling import SamplingConfig
from lib.seq2seq import decoding
from lib.series.infodiffusion import cases
from lib.series.infodiffusion.run import Experiment
from lib.text import metrics

FILE = paths.ROOT / "docs" / "pilots" / "infodiffusion.json"
SENTENCES, STEPS = 200, (1, 2, 5, 20)
APART = {"estimate": "network", "rounding_of": "estimate", "squared_error_of": "output"}
ONE = {"estimate": "expected", "rounding_of": "estimate", "squared_error_of": "estimate"}
# How the two losses are joined, fields of the process and of the network's shape: read from different things ("apart"),
# or from one distribution over words ("one optimum").
WAYS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "apart": ({**APART, "timesteps": "skewed"}, {"sharpness": 0.3}),
    "apart, sharpness 1": ({**APART, "timesteps": "skewed"}, {"sharpness": 1.0}),
    "one optimum": ({**ONE, "timesteps": "skewed"}, {"sharpness": 1.0}),
    # A blunt distribution sharpens as outputs grow longer: the optimum is the same, the way there is not.
    "one optimum, sharpness 0.3": ({**ONE, "timesteps": "skewed"}, {"sharpness": 0.3}),
    "one optimum, loss-aware times": ({**ONE, "timesteps": "loss_aware"}, {"sharpness": 1.0}),
    "one optimum, dropout": ({**ONE, "timesteps": "skewed"}, {"sharpness": 1.0, "dropout": 0.1}),
    "cross entropy alone": ({**ONE, "timesteps": "skewed", "squared_error": 0.0}, {"sharpness": 1.0}),
    "as released": ({**APART, **RELEASED}, {"sharpness": math.sqrt(128)}),
}
WALKS = {
    "ddim": SamplingConfig(sampler="ddim"),
    "clamped": SamplingConfig(sampler="ancestral", clamp="nearest"),
    "clamped, half the noise": SamplingConfig(sampler="ancestral", clamp="nearest", temperature=0.5),
    "ancestral": SamplingConfig(sampler="ancestral"),
}


def configured(task: str, model: str, way: str, steps: int) -> Experiment:
    """Return the experiment of one model of the pair, trained in one way for so many steps."""
    process, shape = WAYS[way]
    config = cases.configuration(task, model, "cpu")
    method = config.method
    method = method.model_copy(
        update={
            "process": method.process.model_copy(update=dict(process)),
            "shape": method.shape.model_copy(update=dict(shape)),
        }
    )
    training = config.training.model_copy(update={"steps": steps})
    return Experiment.of(config.model_copy(update={"method": method, "training": training, "watch_at": ()}), "cpu")


def curve(
    model: DiffusionModel, run: Experiment, walk: SamplingConfig, counts: Sequence[int] = STEPS
) -> dict[str, list[float]]:
    """Return BLEU of one candidate, and Diverse-4 of three, on validation sentences for each number of steps."""
    sources, targets = (list(side[:SENTENCES]) for side in run.data.splits["validation"])
    how = run.config.decoding.model_copy(update={"candidates": 3})
    found: dict[str, list[float]] = {"bleu": [], "diverse_4": []}
    for steps in counts:
        stepped = walk.model_copy(update={"steps": steps})

        def sample(source: torch.Tensor, places: int, draw: torch.Generator, how: Any = stepped) -> torch.Tensor:
            return model.reverse(source, places, draw, how)

        texts = decoding.decode(sample, how, run.data.vocabulary, sources, run.config.window, 0)
        bleu = [float(metrics.bleu([three[k] for three in texts], targets).mean()) for k in range(3)]
        found["bleu"].append(round(sum(bleu) / 3, 4))
        found["diverse_4"].append(round(float(metrics.diverse_4(texts).mean()), 4))
    return found


@torch.inference_mode()
def lengths(model: DiffusionModel, run: Experiment) -> float:
    """Return the mean length of the network's estimate at t = T, in word vectors."""
    ids = torch.tensor([run.data.vocabulary.encode(run.data.splits["validation"][0][0])])
    denoiser, config = model.denoiser, model.config.process
    clean = torch.nn.functional.embedding(ids, denoiser.vectors())
    x_t = torch.randn(64, run.config.window.places(ids.shape[1]), clean.shape[-1])
    t = torch.full((64,), float(config.steps))
    estimate = denoiser(clean.expand(64, -1, -1), x_t, torch.zeros_like(x_t), t, config.steps)
    if config.estimate == "expected":
        estimate = denoiser.expected(denoiser.logits(estimate, denoiser.vectors()), denoiser.vectors())
    return float(estimate.norm(dim=-1).mean() / denoiser.vectors()[0].norm())


def pilot(task: str, model: str, way: str, steps: int, seed: int) -> dict[str, Any]:
    """Train and read one model; returns the row that is kept."""
    run, began = configured(task, model, way, steps), time.perf_counter()
    end = run.config.training.steps
    run = replace(run, config=run.config.model_copy(update={"watch_at": (end * 3 // 4, end)}))

    def look(model: nn.Module) -> dict[str, float]:
        return {"bleu": curve(model, run, WALKS["clamped"], STEPS[-1:])["bleu"][0]}  # type: ignore[arg-type]

    trained = run.train(run.encode(), seed, run.config.training, watch=look)
    network: DiffusionModel = trained.model  # type: ignore[assignment]  # what a row of the pair builds
    row: dict[str, Any] = {"task": task, "model": model, "way": way, "training_steps": steps, "seed": seed}
    last = trained.curve[-1]
    row["losses"] = {name: round(last[name], 4) for name in ("squared_error", "rounding")}
    looks = [point["bleu"] for point in trained.curve if "bleu" in point]
    row["gained_in_last_quarter"] = round(looks[-1] - looks[0], 4)  # clamped, in all steps
    row["length_at_T"] = round(lengths(network, run), 3)
    row["walks"] = {name: curve(network, run, walk) for name, walk in WALKS.items()}
    return row | {"training_minutes": round(trained.seconds / 60, 1), "minutes": _minutes(began)}


def _minutes(began: float) -> float:
    return round((time.perf_counter() - began) / 60, 1)


def keep(row: Mapping[str, Any]) -> None:
    """Put a row into the file, in the place of one of the same task, model, way, steps and seed."""
    told = strict_json.parse(strict_json.read_text(FILE), FILE.name) if FILE.exists() else {}
    key = ("task", "model", "way", "training_steps", "seed")
    rows = [old for old in told.get("rows", []) if any(old[name] != row[name] for name in key)]
    told = {"sentences": SENTENCES, "sampling_steps": STEPS, "rows": [*rows, dict(row)]}
    FILE.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(FILE, told)


def main(arguments: Sequence[str]) -> int:
    """Run one pilot and print its row."""
    parser = argparse.ArgumentParser(prog="python -m lib.series.infodiffusion.pilots", description=__doc__)
    parser.add_argument("task", choices=cases.tasks_of("cpu"))
    parser.add_argument("model", choices=cases.PAIR)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    row = pilot(given.task, given.model, given.way, given.steps, given.seed)
    keep(row)
    print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
