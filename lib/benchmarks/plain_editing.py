"""Editing as the field writes it, for the benchmark alone: each step runs the whole model, with logits everywhere.

Weights are frozen, as in the released code, so that the way back ends at the edited layer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import IGNORED, Encoded, encode, encode_edits, prompt_tokens
from lib.causal_lm.layers import activation, block, down_projection, feed_forward, matrix
from lib.editing.located import Located
from lib.editing.wise_losses import WiseConfig, after_activation, difference, margin_loss
from lib.lemoe.experts import Expert

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def grace(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", edits: Sequence[Edit], layer: int, steps: int
) -> None:
    """Learn GRACE's values of edits, which replace the down projection's output from the last prompt token on."""
    read = encode_edits(model, tokenizer, edits)
    values = torch.rand(len(edits), model.config.hidden_size).requires_grad_()
    onward = (torch.arange(read.ids.shape[1]) >= read.last_prompt[:, None])[..., None]

    def change(_: Tensor, output: Tensor) -> Tensor:
        return torch.where(onward, values[:, None], output)

    _train(model, read, down_projection(model, layer), change, torch.optim.Adam([values], 1.0), steps)


def lemoe(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    edits: Sequence[Edit],
    layer: int,
    steps: int,
    width: int,
) -> None:
    """Learn an expert of an inner width beside a feed-forward part."""
    site = feed_forward(block(model, layer))
    assert site is not None
    expert = Expert(model.config.hidden_size, width)
    optimiser = torch.optim.AdamW(expert.parameters(), 3e-3)
    read = encode_edits(model, tokenizer, edits)
    _train(model, read, site, lambda inputs, output: output + expert(inputs), optimiser, steps)


def wise(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    edits: Sequence[Edit],
    layer: int,
    steps: int,
    prefixes: Sequence[str],
    irrelevant: Sequence[str],
) -> None:
    """Learn a side memory as released: each edit's texts and its irrelevant one go through the model in one batch."""
    site, config = down_projection(model, layer), WiseConfig()
    weight = matrix(site).detach()
    memory = weight.clone().requires_grad_()
    free = torch.rand(weight.shape) < config.density
    read, texts = with_irrelevant(model, tokenizer, edits, prefixes, irrelevant), len(prefixes) + 1
    function, kept = activation(model, layer), {}

    def change(inputs: Tensor, output: Tensor) -> Tensor:
        kept["own"], kept["edited"] = output, functional.linear(inputs, memory)
        return kept["edited"]

    def margins() -> Tensor:
        shift = after_activation(kept["own"], kept["edited"] - kept["own"], function)
        found = difference(shift, read.mask)
        ours, others = found[: -len(edits)].split(texts), found[-len(edits) :]
        bounds = config.alpha, config.beta, config.gamma
        each = [
            margin_loss(one, other.expand(texts, 1), *bounds, "violated")
            for one, other in zip(ours, others, strict=True)
        ]
        return torch.stack(each).mean()

    optimiser = torch.optim.SGD([memory], config.rate)
    memory.register_hook(lambda gradient: gradient * free)
    _train(model, read, site, change, optimiser, steps, margins)


def with_irrelevant(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    edits: Sequence[Edit],
    prefixes: Sequence[str],
    irrelevant: Sequence[str],
) -> Encoded:
    """Return the texts of edits, those of each together, and one irrelevant text an edit, without labels, behind."""
    asked = [(text + edit.prompt, edit.target) for edit in edits for text in ("", *prefixes)]
    texts = encode(model, tokenizer, asked)
    rows = [torch.tensor(prompt_tokens(tokenizer, text)) for text in irrelevant[: len(edits)]]
    longest = max(texts.ids.shape[1], *map(len, rows))

    def joined(part: Tensor, filling: int, values: list[Tensor]) -> Tensor:
        whole = [*part, *values]
        return torch.stack([functional.pad(row, (0, longest - len(row)), value=filling) for row in whole])

    ones = [torch.ones_like(row) for row in rows]
    labels = joined(texts.labels, IGNORED, [torch.full_like(row, IGNORED) for row in rows])
    return Encoded(joined(texts.ids, 0, rows), joined(texts.mask, 0, ones), joined(texts.prompt, 0, ones), labels)


def values(model: "PreTrainedModel", edits: Sequence[Located], layer: int, steps: int) -> None:
    """Optimise ROME's value of each edit in turn, its texts and its essence in one batch, after reading its key."""
    for edit in edits:
        rows = [*edit.texts, edit.essence]
        longest = max(len(row.ids) for row in rows)
        ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows])
        mask = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows])
        labels = torch.full_like(ids, IGNORED)
        for number, row in enumerate(rows):
            start = len(row.ids) - row.targets
            labels[number, start : len(row.ids)] = ids[number, start : len(row.ids)]
        at = nn.functional.one_hot(torch.tensor([row.place for row in rows]), longest)[..., None]
        with torch.no_grad():
            before = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[-1, len(edit.essence.ids) - 1]
        delta = torch.zeros(model.config.hidden_size, requires_grad=True)
        optimiser = torch.optim.Adam([delta], 0.5)

        def diverged(logits: Tensor, place: int = len(edit.essence.ids) - 1, known: Tensor = before) -> Tensor:
            after = logits[-1, place].log_softmax(-1)
            return 0.0625 * functional.kl_div(after, known.log_softmax(-1), reduction="sum", log_target=True)

        site = feed_forward(block(model, layer))
        assert site is not None
        read = Encoded(ids, mask, mask, labels)

        def change(_: Tensor, output: Tensor, added: Tensor = delta, places: Tensor = at) -> Tensor:
            return output + places * added

        _train(model, read, site, change, optimiser, steps, of_logits=diverged)


def _train(
    model: "PreTrainedModel",
    read: Encoded,
    site: nn.Module,
    change: Callable[[Tensor, Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    steps: int,
    more: Callable[[], Tensor] | None = None,
    of_logits: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Take steps down the loss of the target tokens, and what is added to it."""
    labels = read.labels[:, 1:].flatten()
    with _frozen(model), _changed(site, change):
        for _ in range(steps):
            optimiser.zero_grad()
            logits = model(input_ids=read.ids, attention_mask=read.mask, use_cache=False).logits
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels, ignore_index=IGNORED)
            if more is not None:
                loss = loss + more()
            if of_logits is not None:
                loss = loss + of_logits(logits)
            loss.backward()
            optimiser.step()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Within this block no gradient of the model's own weights is computed."""
    trained = [value for value in model.parameters() if value.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for value in trained:
            value.requires_grad_()


@contextmanager
def _changed(site: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    handle = site.register_forward_hook(lambda _, given, output: change(given[0], output))
    try:
        yield
    finally:
        handle.remove()
