"""What a closed-form edit writes, and where: the key at the subject's last token, and the value optimised there.

The texts of an edit are its prompt as it is and after prefixes that the model generated itself. By default all is as in
the code of ROME and MEMIT; where that differs from what their papers say, the other reading is a setting by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from lib.causal_lm.layers import down_projection
from lib.editing.from_subject import Upper
from lib.editing.located import KlAt, Located, MeanOver
from lib.editing.moments import states
from lib.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ValueConfig(Settings):
    """How values are found; defaults are those of the released code of ROME and MEMIT, else our choices.

    `mean_over`: the mean key weighs every text the same (ROME) or every group of texts (MEMIT, AlphaEdit: the bare
    prompt is one group, the prefixes of one length are another). `averaged`: in the released code the key alone is a
    mean; the norm that bounds delta, the output that it is added to and ROME's divisor are those of the bare prompt.
    With "all" each of them is the mean over the texts. `kl_at`: the released code reads the divergence at the subject's
    last token; the papers' sentence has it after "{subject} is a".
    """

    steps: PositiveInt = 25  # losses computed; the last is not followed by a step of Adam, so there is one step less
    rate: PositiveFloat = 0.5
    kl: NonNegativeFloat = 0.0625  # weight of the divergence from the model before the edit
    kl_at: KlAt = "subject"
    decay: NonNegativeFloat = 0.5  # weight of |delta| / |start|^2
    clamp: PositiveFloat = 4.0  # largest |delta| / |start|; ROME: 4, MEMIT: 0.75
    start: Literal["mlp", "block"] = "mlp"  # whose output gives |start|; ROME: the MLP's, MEMIT: the whole block's
    averaged: Literal["keys", "all"] = "keys"
    mean_over: MeanOver = "texts"
    enough: NonNegativeFloat = 0.05  # an edit whose loss is below stops
    prefixes: tuple[tuple[PositiveInt, PositiveInt], ...] = ((5, 10), (10, 10))  # (tokens with the opening, how many)
    openings: tuple[str, ...] = ("The", "Therefore", "Because", "I", "You")  # MEMIT's; ROME's: the end-of-text token
    at_once: PositiveInt = 16  # edits optimised together (our choice)
    seed: NonNegativeInt = 0  # of the prefixes


@dataclass(frozen=True)
class Values:
    """What was found for some edits at a layer, float64: keys (edits, inner width); deltas, outputs (edits, width).

    `outputs` are those of the whole block before the edit; the value of a key k is W k plus its delta. `measured`,
    (edits, inner width), are the keys at which the new value is measured against the old: those of the bare prompt, or
    the mean ones.
    """

    keys: Tensor
    measured: Tensor
    outputs: Tensor
    deltas: Tensor


@torch.no_grad()
def at_subjects(
    model: "PreTrainedModel",
    edits: Sequence[Located],
    keys: Sequence[int],
    outputs: Sequence[int] = (),
    at_once: int = 16,
    bare: bool = False,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Return by layer the keys, (edits, inner width), and the outputs of blocks, (edits, width), float64.

    Each is the mean over an edit's texts, by their weights, of the state at the subject's last token, or with `bare`
    that of the first text alone; nothing after that token is computed.
    """
    key_parts: dict[int, list[Tensor]] = {layer: [] for layer in keys}
    output_parts: dict[int, list[Tensor]] = {layer: [] for layer in outputs}
    for start in range(0, len(edits), at_once):
        chosen = edits[start : start + at_once]
        rows = [row.ids[: row.place + 1] for edit in chosen for row in (edit.texts[:1] if bare else edit.texts)]
        weights = torch.tensor([[1.0] if bare else edit.weights for edit in chosen], dtype=torch.float64)
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=model.device)
        lengths = torch.tensor([len(row) for row in rows], device=model.device)
        mask = (torch.arange(longest, device=model.device) < lengths[:, None]).long()
        found = states(model, keys, outputs, input_ids=ids, attention_mask=mask)
        number = torch.arange(len(rows), device=model.device)
        for parts, layers in zip((key_parts, output_parts), found, strict=True):
            for layer, state in layers.items():
                vectors = state[number, lengths - 1].double()
                weighed = vectors * weights.flatten().to(vectors)[:, None]
                parts[layer].append(weighed.unflatten(0, (len(chosen), -1)).sum(1))
    joined = [{layer: torch.cat(part) for layer, part in parts.items()} for parts in (key_parts, output_parts)]
    return joined[0], joined[1]


def optimise(model: "PreTrainedModel", edits: Sequence[Located], layer: int, config: ValueConfig) -> Values:
    """Find for each edit the delta on the MLP's output at its subject with which the model predicts its target.

    Each edit has its own delta, its own stop and its own bound, so that the result does not depend on its company.
    """
    found = at_subjects(model, edits, [layer], [layer], config.at_once)
    keys, (measured, outputs) = found[0], found
    if config.averaged == "keys":
        measured, outputs = at_subjects(model, edits, [layer], [layer], config.at_once, bare=True)
    starts = outputs[layer]
    if config.start == "mlp":
        projection = down_projection(model, layer)
        with torch.no_grad():
            # Linear: the output at the mean key is the mean of the outputs. Hooks are for passes of the whole model.
            starts = projection.forward(measured[layer].to(projection.weight.dtype)).double()
    bounds = starts.norm(dim=1)
    order = sorted(range(len(edits)), key=lambda index: max(len(row.ids) - row.place for row in edits[index].texts))
    deltas = torch.zeros_like(starts)
    for start in range(0, len(order), config.at_once):
        chosen = order[start : start + config.at_once]
        deltas[chosen] = _adam(
            model, [edits[index] for index in chosen], layer, bounds[chosen].float(), config
        ).double()
    return Values(keys[layer], measured[layer], outputs[layer], deltas)


def _adam(
    model: "PreTrainedModel", edits: Sequence[Located], layer: int, starts: Tensor, config: ValueConfig
) -> Tensor:
    """Return the deltas of some edits, (edits, width), float32; `starts` are the norms that bound them."""
    delta = torch.zeros(len(edits), model.config.hidden_size, device=model.device, requires_grad=True)
    optimiser = torch.optim.Adam([delta], config.rate)
    upper, inside = Upper(model, edits, layer), torch.arange(len(edits), device=model.device)
    stopped = torch.zeros(len(edits), dtype=torch.bool, device=model.device)
    for step in range(config.steps):
        loss, divergence = upper.losses(delta[inside])
        decay = delta[inside].norm(dim=1) / starts[inside].square()
        total = loss + config.kl * divergence + config.decay * decay
        stopped[inside] |= total.detach() < config.enough
        if stopped.all() or step == config.steps - 1:  # the released code looks at the last loss before it would step
            break
        (delta.grad,) = torch.autograd.grad(total.sum(), delta)
        with torch.no_grad():
            before = delta.clone()
            optimiser.step()
            bounded = (config.clamp * starts / delta.norm(dim=1).clamp(min=1e-12)).clamp(max=1)
            delta.copy_(torch.where(stopped[:, None], before, delta * bounded[:, None]))
        if 2 * int(stopped[inside].sum()) >= len(inside):  # drop the edits that are done, once it pays
            going = ~stopped[inside]
            upper, inside = upper.only(going), inside[going]
    return delta.detach()
