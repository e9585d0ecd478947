"""Where facts pull an adapter: gradients of their own losses, and shifts of the last prompt token's hidden state."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.beacons import interference, training
from lib.beacons.adapters import Handle
from lib.beacons.batched_lora import Group, train_alone
from lib.beacons.cached_facts import Chosen, fact_losses
from lib.beacons.facts import BeaconFact
from lib.beacons.methods import attach
from lib.causal_lm.encoding import encode
from lib.causal_lm.upper_layers import UpperLayers
from lib.series.beacons.config import RunConfig
from lib.series.beacons.workbench import Workbench


def directions(
    config: RunConfig, bench: Workbench, facts: Sequence[BeaconFact], alone: int, seed: int
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Train LoRA on facts together, and each alone for `alone` steps; returns cosines of gradients, shifts of states.

    The frame has a row for each pair of facts: one, other (numbers), before, after (the training together): the cosines
    between the gradients of their losses by the shared adapter. At the start LoRA's B is 0, so that A has no gradient.
    Shifts, (facts, width) each: "together" minus the base model, and "alone" minus it, of `hidden`. Raises as `train`.
    """
    base = hidden(bench, facts)
    with attach(bench.model, config.method, config.adapter, config.steps, seed) as handle:
        once = bench.once(tuple(facts), handle.first_layer, handle.caches)
        before = _cosines(once, handle)
        training.train(handle, bench.tokenizer, facts, config.steps, config.batch, config.rate, seed, once=once)
        after, together = _cosines(once, handle), hidden(bench, facts)
    one, other = np.triu_indices(len(facts), 1)
    frame = pd.DataFrame({"one": one, "other": other, "before": before, "after": after})
    found = torch.empty_like(base)

    def read(step: int, group: Group) -> None:
        if step == alone:
            found[list(group.places)] = hidden(bench, [facts[place] for place in group.places])

    train_alone(bench.model, bench.tokenizer, facts, alone, config.rate, config.adapter, seed, read)
    return frame, {"together": together - base, "alone": found - base}


@torch.inference_mode()
def hidden(bench: Workbench, facts: Sequence[BeaconFact]) -> Tensor:
    """Return the hidden state of the last prompt token, after the final norm, (facts, width), float32, on the CPU.

    All facts in their order in one batch, as adapters of each fact's own need it.
    """
    encoded = encode(bench.model, bench.tokenizer, [(fact.prompt, fact.target) for fact in facts])
    read = bench.model.base_model(input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False)
    rows = torch.arange(len(facts), device=encoded.ids.device)
    return read.last_hidden_state[rows, encoded.last_prompt].float().cpu()


def _cosines(whole: UpperLayers, handle: Handle) -> np.ndarray:
    """Return the cosines between the gradients of each pair of facts, rounded to 6 digits, in the order of `pairs`."""

    def loss(place: int) -> Tensor:
        return fact_losses(Chosen(whole, torch.tensor([place], device=whole.encoded.ids.device)))[0]

    gradients = interference.fact_gradients(loss, len(whole.encoded.ids), handle.parameters())
    return interference.pairs(interference.cosines(gradients.numpy())).round(6)
