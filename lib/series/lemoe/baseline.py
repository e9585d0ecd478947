"""Two small cases beside the experiment: what the unedited model knows, and what experts cost a forward pass."""

import time
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode_edits
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.records import Case, Outcome
from lib.series.lemoe import fact_edits
from lib.series.lemoe.edit_sets import edit_set
from lib.series.lemoe.workbench import BenchConfig, Workbench, workbench
from lib.settings import Settings


class KnownConfig(Settings):
    """Of how many edits of a set a backbone is asked the true answer."""

    edits: str
    count: PositiveInt
    backbone: str
    layers: PositiveInt | None
    dtype: str


class LatencyConfig(Settings):
    """An adaptor, the numbers of experts that it holds in turn, and the prompts that go through the model."""

    settings: AdaptorConfig
    held: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    edits: str
    count: PositiveInt  # prompts of a forward pass
    repeats: PositiveInt  # timed passes
    backbone: str
    layers: PositiveInt | None
    dtype: str


def known(case: Case) -> Outcome:
    """Ask the unedited model for the true answers of edits: 1 where it knows one."""
    config: KnownConfig = case.config
    bench = workbench(config.backbone, config.layers, config.dtype, case.device, BenchConfig())
    found = fact_edits.known(bench.model, bench.tokenizer, edit_set(config.edits).edits[: config.count])
    return Outcome(values={"known": [int(one) for one in found]})


def latency(case: Case) -> Outcome:
    """Time a forward pass with more and more experts; the seconds are provenance."""
    config: LatencyConfig = case.config
    bench = workbench(config.backbone, config.layers, config.dtype, case.device, BenchConfig())
    asked = edit_set(config.edits).edits[: config.count]
    found = seconds_by_experts(bench, config.settings, config.held, asked, config.repeats)
    return Outcome(values={"experts": list(config.held)}, cost={"seconds_by_experts": found})


def seconds_by_experts(
    bench: Workbench, config: AdaptorConfig, held: Sequence[int], asked: Sequence[Edit], repeats: int
) -> dict[str, float]:
    """Return the median seconds of a forward pass over prompts while an adaptor holds so many experts, 0: none.

    The experts are fresh: they add nothing, at the cost of trained ones.
    """
    read = encode_edits(bench.model, bench.tokenizer, asked)
    found = {}
    for count in held:
        adaptor = Adaptor.attach(bench.model, config) if count else None
        for _ in range(count):
            adaptor.add_expert()
        taken = []
        with torch.inference_mode():
            for _ in range(repeats + 2):  # the first two warm up
                began = time.perf_counter()
                logits = bench.model(input_ids=read.ids, attention_mask=read.mask, use_cache=False).logits
                logits[0, 0, 0].item()  # waits for the device
                taken.append(time.perf_counter() - began)
        found[str(count)] = round(float(np.median(taken[2:])), 5)
        if adaptor is not None:
            adaptor.detach()
    return found
