"""What a closed-form edit writes, and where: the key at the subject's last token, and the value optimised there.

Both are means over the same texts: the prompt as it is and after prefixes that the model generated itself. Keys are
averaged wherever one occurs (ROME's own code mixed averaged and bare keys, which made single edits break a model).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lib import seeds
from lib.causal_lm.encoding import tokens
from lib.causal_lm.layers import down_projection
from lib.editing.from_subject import Upper
from lib.editing.located import Located
from lib.editing.moments import states
from lib.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class ValueConfig(Settings):
    """How values are found; defaults are those of ROME and MEMIT as published, else our choices."""

    steps: int = 25  # of Adam; ROME and MEMIT: 20 to 25
    rate: float = 0.5
    kl: float = 0.0625  # weight of the divergence from the model before the edit after "{subject} is a"
    decay: float = 0.5  # weight of |delta| / |start|^2
    clamp: float = 4.0  # largest |delta| / |start|; ROME: 4, MEMIT: 0.75
    start: Literal["mlp", "block"] = "mlp"  # whose output gives |start|; ROME: the MLP's, MEMIT: the whole block's
    enough: float = 0.05  # an edit whose loss is below stops
    prefixes: tuple[tuple[int, int], ...] = ((5, 10), (10, 10))  # (tokens, how many); ROME's; MEMIT: ((10, 5),)
    openings: tuple[str, ...] = ("The", "Therefore", "Because", "I", "You")  # words that prefixes begin with (MEMIT)
    at_once: int = 16  # edits optimised together (our choice)
    seed: int = 0  # of the prefixes


@dataclass(frozen=True)
class Values:
    """What was found for some edits at a layer, float64: keys (edits, inner width); deltas, outputs (edits, width).

    `outputs` are those of the whole block before the edit; the value of a key k is W k plus its delta.
    """

    keys: Tensor
    outputs: Tensor
    deltas: Tensor


def draw_prefixes(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: ValueConfig
) -> tuple[str, ...]:
    """Return the empty prefix and texts that the model generates (top 5, seeded), the same for all edits."""
    drawn = [""]
    for length, number in config.prefixes:
        for index, opening in enumerate(config.openings):
            count = len(range(index, number, len(config.openings)))
            if not count:
                continue
            ids = torch.tensor([tokens(tokenizer, opening)], device=model.device)
            with torch.random.fork_rng():
                torch.manual_seed(seeds.seed_of("prefixes", config.seed, length, index))
                texts = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    top_k=5,
                    num_return_sequences=count,
                    min_new_tokens=length,
                    max_new_tokens=length,
                    pad_token_id=0,
                )
            drawn += [" ".join(tokenizer.decode(text, skip_special_tokens=True).split()) for text in texts]
    return tuple(drawn)


@torch.no_grad()
def at_subjects(
    model: "PreTrainedModel",
    edits: Sequence[Located],
    keys: Sequence[int],
    outputs: Sequence[int] = (),
    at_once: int = 16,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Return by layer the keys, (edits, inner width), and the outputs of blocks, (edits, width), float64.

    Each is the mean over an edit's texts of the state at the subject's last token; nothing after it is computed.
    """
    key_parts: dict[int, list[Tensor]] = {layer: [] for layer in keys}
    output_parts: dict[int, list[Tensor]] = {layer: [] for layer in outputs}
    for start in range(0, len(edits), at_once):
        chosen = edits[start : start + at_once]
        rows = [row.ids[: row.place + 1] for edit in chosen for row in edit.texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=model.device)
        lengths = torch.tensor([len(row) for row in rows], device=model.device)
        mask = (torch.arange(longest, device=model.device) < lengths[:, None]).long()
        found = states(model, keys, outputs, input_ids=ids, attention_mask=mask)
        number = torch.arange(len(rows), device=model.device)
        for parts, layers in zip((key_parts, output_parts), found, strict=True):
            for layer, state in layers.items():
                vectors = state[number, lengths - 1].double()
                parts[layer].append(vectors.unflatten(0, (len(chosen), -1)).mean(1))
    joined = [{layer: torch.cat(part) for layer, part in parts.items()} for parts in (key_parts, output_parts)]
    return joined[0], joined[1]


def optimise(model: "PreTrainedModel", edits: Sequence[Located], layer: int, config: ValueConfig) -> Values:
    """Find for each edit the delta on the MLP's output at its subject with which the model predicts its target.

    Each edit has its own delta, its own stop and its own bound, so that the result does not depend on its company.
    """
    keys, outputs = at_subjects(model, edits, [layer], [layer], config.at_once)
    starts = outputs[layer]
    if config.start == "mlp":
        projection = down_projection(model, layer)
        with torch.no_grad():
            # Linear: the output at the mean key is the mean of the outputs.
            starts = projection(keys[layer].to(projection.weight.dtype)).double()
    bounds = starts.norm(dim=1)
    order = sorted(range(len(edits)), key=lambda index: max(len(row.ids) - row.place for row in edits[index].texts))
    deltas = torch.zeros_like(starts)
    for start in range(0, len(order), config.at_once):
        chosen = order[start : start + config.at_once]
        deltas[chosen] = _adam(
            model, [edits[index] for index in chosen], layer, bounds[chosen].float(), config
        ).double()
    return Values(keys[layer], outputs[layer], deltas)


def _adam(
    model: "PreTrainedModel", edits: Sequence[Located], layer: int, starts: Tensor, config: ValueConfig
) -> Tensor:
    """Return the deltas of some edits, (edits, width), float32; `starts` are the norms that bound them."""
    delta = torch.zeros(len(edits), model.config.hidden_size, device=model.device, requires_grad=True)
    optimiser = torch.optim.Adam([delta], config.rate)
    upper, inside = Upper(model, edits, layer), torch.arange(len(edits), device=model.device)
    stopped = torch.zeros(len(edits), dtype=torch.bool, device=model.device)
    for _ in range(config.steps):
        loss, divergence = upper.losses(delta[inside])
        decay = delta[inside].norm(dim=1) / starts[inside].square()
        total = loss + config.kl * divergence + config.decay * decay
        stopped[inside] |= total.detach() < config.enough
        if stopped.all():
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
