"""One trained model sampled in few and in many steps, by ancestral steps and by DDIM, and at other temperatures."""

import time
from collections.abc import Sequence

import pandas as pd
import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from lib import records
from lib.diffusion.model import DiffusionModel
from lib.diffusion.sampling import SamplingConfig
from lib.seq2seq import decoding
from lib.series.infodiffusion.run import Experiment, RunConfig
from lib.settings import Settings

SAMPLERS = ("ancestral", "ddim")  # with fresh noise in every step, and without; neither clamps
# Our comparisons, in few steps: towards the nearest word vectors; the far end of a step keeps the e of the step before.
CLAMPED, CARRIED, COMPARED_MOST = "clamped", "ddim, carried e", 50
WARM = "temperature "  # and the factor on the noise of the model's own way of sampling


class SweepConfig(Settings):
    """Which numbers of sampling steps a trained model is tried in, on how many test sentences, how often on each."""

    trained: RunConfig
    steps: tuple[PositiveInt, ...]
    pairs: PositiveInt
    candidates: PositiveInt = 3  # as many as diversity is measured on
    temperatures: tuple[NonNegativeFloat, ...] = ()  # of the model's own way and number of steps


def draw(case: records.Case) -> records.Outcome:
    """Draw with the trained model of a case, its input `model`, in all numbers of steps."""
    config: SweepConfig = case.config
    experiment = Experiment.of(config.trained, case.device)
    network = experiment.load(records.trained_weights(case.inputs["model"], "model"))
    outputs, seconds = run(network, experiment, config, case.seed)
    return records.Outcome(values={}, frames={"outputs": outputs}, cost={"seconds_a_sentence": seconds})


def run(
    model: DiffusionModel, experiment: Experiment, config: SweepConfig, seed: int
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """Return the sentences as rows (sampler, steps, item, candidate, text) and seconds a sentence by sampler and steps.

    The same noise x_T serves every number of steps of all samplers. What the model does not do itself, to clamp or not,
    is tried in few steps, and so is the carried e where the schedule follows information. At each temperature only the
    model's own number of steps is taken.
    """
    own, few = model.config.sampling, [steps for steps in config.steps if steps <= COMPARED_MOST]
    ancestral, ddim = own.model_copy(update={"sampler": "ancestral", "clamp": "none"}), SamplingConfig(sampler="ddim")
    clamped = ancestral.model_copy(update={"clamp": "nearest"})
    walks = [("ancestral", ancestral, steps) for steps in (config.steps if own.clamp == "none" else few)]
    walks += [("ddim", ddim, steps) for steps in config.steps]
    walks += [(CLAMPED, clamped, steps) for steps in (config.steps if own.clamp == "nearest" else few)]
    if model.config.process.schedule == "information":
        walks += [(CARRIED, ddim.model_copy(update={"information": "carried"}), steps) for steps in few]
    for temperature in config.temperatures:
        walks.append((f"{WARM}{temperature:g}", own.model_copy(update={"temperature": temperature}), own.steps))
    rows, seconds = [], {sampler: {} for sampler, _, _ in walks}
    sources = list(experiment.data.splits["test"][0][: config.pairs])
    how = experiment.config.decoding.model_copy(update={"candidates": config.candidates})
    for sampler, walk, steps in walks:
        began = time.perf_counter()
        written = _decode(model, experiment, how, walk.model_copy(update={"steps": steps}), sources, seed)
        seconds[sampler][str(steps)] = round((time.perf_counter() - began) / (len(sources) * config.candidates), 4)
        rows += [
            {"sampler": sampler, "steps": steps, "item": item, "candidate": candidate, "text": text}
            for item, texts in enumerate(written)
            for candidate, text in enumerate(texts)
        ]
    return pd.DataFrame(rows), seconds


def _decode(
    model: DiffusionModel,
    experiment: Experiment,
    how: decoding.DecodingConfig,
    walk: SamplingConfig,
    sources: Sequence[str],
    seed: int,
) -> list[list[str]]:
    def sample(source: Tensor, places: int, generator: torch.Generator) -> Tensor:
        return model.reverse(source, places, generator, walk)

    return decoding.decode(
        sample, how, experiment.data.vocabulary, sources, experiment.config.window, seed, experiment.device
    )
