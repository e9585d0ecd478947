"""What is read off a model after a training: answers, distances, losses, answers on other facts, perplexity."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from lib.beacons import answers, distance
from lib.beacons.adapters import Handle
from lib.beacons.cached_facts import Chosen, chunks, fact_losses
from lib.beacons.facts import BeaconFact, Pool
from lib.causal_lm.upper_layers import UpperLayers
from lib.series.beacons.config import RunConfig
from lib.series.beacons.workbench import Workbench

OTHER: dict[Pool, Pool] = {"results": "tuning", "tuning": "results", "invented": "results"}  # asked for locality


def read(
    config: RunConfig,
    bench: Workbench,
    handle: Handle,
    asked: Sequence[BeaconFact],
    trained: Sequence[BeaconFact],
    once: UpperLayers,
    before: Sequence[str],
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Return the raw outputs of a trained model on facts, and its perplexity where the configuration asks for it.

    The frames are those of `experiment.Results`; `once`: the facts, and perhaps more after them, run once; `before` is
    what the base model answered on the other facts.
    """
    wordings = [(fact.identity, n, text) for fact in asked for n, text in enumerate(_wordings(fact, config))]
    said = answers.greedy(handle.model, bench.tokenizer, [text for *_, text in wordings], config.answer_tokens)
    given = pd.DataFrame([row[:2] for row in wordings], columns=["identity", "prompt"]).assign(answer=said)
    first, targets = given[given["prompt"] == 0]["answer"].tolist(), [fact.target for fact in asked]
    seen = {fact.identity for fact in trained}
    frame = pd.DataFrame(
        {
            "identity": [fact.identity for fact in asked],
            "trained": [fact.identity in seen for fact in asked],
            "loss": losses(once, len(asked)),
            "raw": distance.distance(bench.raw, first, targets).tolist(),
            "centred": distance.distance(bench.centred, first, targets).tolist(),
        }
    )
    frames, values = {"facts": frame, "answers": given}, {}
    if config.others:
        others = bench.facts(OTHER[config.pool], config.answer_tokens)[: config.others]
        now = answers.greedy(handle.model, bench.tokenizer, [fact.prompt for fact in others], config.answer_tokens)
        frames["others"] = pd.DataFrame(
            {"identity": [fact.identity for fact in others], "before": list(before), "answer": now}
        )
    if config.text_tokens:
        values["perplexity"] = round(perplexity(bench, config.text_tokens, handle.first_layer, handle.caches), 4)
    return frames, values


@torch.no_grad()
def losses(once: UpperLayers, count: int) -> list[float]:
    """Return the loss now of the first `count` facts: the mean over a target's tokens, in nats, teacher forced."""
    found = torch.empty(count)
    for rows, part in chunks(Chosen(once, torch.arange(count, device=once.encoded.ids.device))):
        found[rows.cpu()] = fact_losses(part).float().cpu()
    return found.tolist()


@torch.no_grad()
def perplexity(bench: Workbench, count: int, layer: int, cached: bool, batch_size: int = 8) -> float:
    """Return the perplexity of general text, in [1, inf), of about `count` tokens, under the model as it is now.

    `cached`: nothing below `layer` has changed, so that the text is run once through what lies there. Raises
    `ValueError` where the model gives no probability that a number can tell.
    """
    text = bench.text(count, layer, cached)
    found = [part.losses()[0].double().cpu() for _, part in chunks(text, batch_size)]
    mean = torch.cat(found).mean().item()
    if not mean < math.log(sys.float_info.max):
        raise ValueError(f"the loss on general text is {mean} nats a token: the model's weights are broken")
    return math.exp(mean)


def _wordings(fact: BeaconFact, config: RunConfig) -> tuple[str, ...]:
    return (fact.prompt, *fact.paraphrases[: config.paraphrases])
