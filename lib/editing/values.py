"""What a closed-form edit writes, and where: the key at the subject's last token, and the value optimised there.

Both are means over the same texts: the prompt as it is and after prefixes that the model generated itself. Keys are
averaged wherever one occurs (ROME's own code mixed averaged and bare keys, which made single edits break a model).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from lib import seeds
from lib.editing.edits import Edit, check
from lib.editing.encoding import subject_places, tokens
from lib.editing.layers import block, blocks, down_projection
from lib.editing.moments import states
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class ValueConfig(BaseModel):
    """How values are found; defaults are those of ROME and MEMIT as published, else our choices."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
class Row:
    """A text as token ids, the place of the subject's last token in it, and how many tokens at its end are target."""

    ids: list[int]
    place: int
    targets: int


@dataclass(frozen=True)
class Values:
    """What was found for some edits at a layer, float64: keys (edits, inner width); deltas, outputs (edits, width).

    `outputs` are those of the whole block before the edit; the value of a key k is W k plus its delta.
    """

    keys: Tensor
    outputs: Tensor
    deltas: Tensor


@dataclass(frozen=True)
class Located:
    """An edit with its texts: one for each prefix, prompt and target, and "{subject} is a" without a target."""

    texts: tuple[Row, ...]
    essence: Row


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


def locate(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", edits: Sequence[Edit], prefixes: Sequence[str]
) -> list[Located]:
    """Tokenise edits behind each prefix; raises `UserError` for none, one without a subject, and a text too long."""
    if not edits:
        raise UserError("no edits: give at least one")
    context = getattr(model.config, "max_position_embeddings", None)
    found = []
    for edit in edits:
        check(edit, needs_subject=True)
        target, subject = tokens(tokenizer, edit.target), edit.subject or ""
        if not subject.strip():
            raise UserError(f"the edit {edit.prompt!r} has an empty subject: give one")
        rows = []
        for prefix in prefixes:
            text = f"{prefix}. {edit.prompt}" if prefix else edit.prompt
            ids, place = tokens(tokenizer, text), subject_places(tokenizer, text, subject)[1] - 1
            rows.append(Row(ids + target, place, len(target)))
        essence = f"{subject} is a"
        place = subject_places(tokenizer, essence, subject)[1] - 1
        longest = max(len(row.ids) for row in rows)
        if context is not None and longest > context:
            raise UserError(f"an edit has {longest} tokens with a prefix, the model's context {context}: shorten it")
        found.append(Located(tuple(rows), Row(tokens(tokenizer, essence), place, 0)))
    return found


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


class Upper:
    """A model from one block upward, on the texts of some edits, as a function of what is added at the subjects.

    Nothing before a subject's last token depends on what is added there, so those tokens run once: texts are laid out
    with that token in one column, and the columns before it are kept as keys and values of the attention.
    """

    @torch.no_grad()
    def __init__(self, model: "PreTrainedModel", edits: Sequence[Located], layer: int) -> None:
        """Run what does not change: the blocks below `layer`, and the columns before the subjects' last tokens."""
        from transformers import DynamicCache

        self.model, self.layer, self._located, self.edits = model, layer, edits, len(edits)
        rows = [row for edit in edits for row in (*edit.texts, edit.essence)]
        device = model.device
        per_edit = [len(edit.texts) + 1 for edit in edits]
        self.owner = torch.repeat_interleave(torch.arange(len(edits)), torch.tensor(per_edit)).to(device)
        self.prefixes = torch.tensor(per_edit, device=device) - 1
        head = max(row.place for row in rows)
        # The last target token is only predicted, never read.
        used = [row.ids[: len(row.ids) - (row.targets > 0)] for row in rows]
        longest = head + max(len(ids) - row.place for ids, row in zip(used, rows, strict=True))
        laid, mask = [], []
        for ids, row in zip(used, rows, strict=True):
            left = head - row.place
            right = longest - left - len(ids)
            laid.append([0] * left + ids + [0] * right)
            mask.append([0] * left + [1] * len(ids) + [0] * right)
        ids, masks = torch.tensor(laid, device=device), torch.tensor(mask, device=device)
        places = (masks.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache()
        if head:
            model.base_model(
                ids[:, :head],
                attention_mask=masks[:, :head],
                position_ids=places[:, :head],
                past_key_values=cache,
                use_cache=True,
            )
        self._kept = [(kept.keys, kept.values) for kept in cache.layers[layer:]]
        self._cache = cache
        self._arguments, self._named = self._entering(ids[:, head:], masks, places[:, head:], cache)
        scored = [
            (number, len(ids) - row.place - row.targets + step, label)
            for number, (ids, row) in enumerate(zip(used, rows, strict=True))
            for step, label in enumerate(row.ids[len(row.ids) - row.targets :])
        ]
        self._row, self._column, self.labels = torch.tensor(scored, device=device).T
        essences = [number for number, row in enumerate(rows) if not row.targets]
        self._essence = torch.tensor(essences, device=device)
        self._last = torch.tensor([len(rows[number].ids) - rows[number].place - 1 for number in essences]).to(device)
        share = torch.tensor([1 / max(row.targets, 1) for row in rows], device=device)
        self._weight = share[self._row] / self.prefixes[self.owner[self._row]]
        self._unedited: Tensor | None = None

    def _entering(self, ids: Tensor, mask: Tensor, places: Tensor, cache: Any) -> tuple[tuple[Any, ...], dict]:
        """Return the arguments with which the model itself would call the block of the edited layer."""
        caught: list[Any] = []

        def hook(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            caught.append((arguments, named))
            raise _Caught

        handle = block(self.model, self.layer).register_forward_pre_hook(hook, with_kwargs=True)
        try:
            self.model.base_model(ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True)
        except _Caught:
            pass
        finally:
            handle.remove()
        return caught[0]

    def only(self, chosen: Tensor) -> "Upper":
        """Return the same for some of the edits, `chosen` (edits,) of truth values."""
        fewer = Upper(self.model, [self._located[index] for index in chosen.nonzero()[:, 0].tolist()], self.layer)
        fewer._unedited = None if self._unedited is None else self._unedited[chosen]
        return fewer

    def losses(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return of each edit the loss of its target and the divergence after "{subject} is a", (edits,) each, nats.

        `delta` (edits, width) is added to the MLP's output; the first call's predictions are the unedited ones. The
        loss is averaged over the target's tokens and the prefixes; the divergence is KL(before || after).
        """
        hidden = self._run(delta)
        # For the head only what is scored: (scored tokens, width).
        taken = torch.cat([hidden[self._row, self._column], hidden[self._essence, self._last]])
        base = self.model.base_model
        norm = base.norm if hasattr(base, "norm") else base.ln_f
        logits = self.model.get_output_embeddings()(norm(taken)).float()
        wanted, essence = logits[: len(self.labels)], logits[len(self.labels) :].log_softmax(-1)
        each = functional.cross_entropy(wanted, self.labels, reduction="none") * self._weight
        loss = each.new_zeros(self.edits).index_add(0, self.owner[self._row], each)
        if self._unedited is None:
            self._unedited = essence.detach()
        divergence = functional.kl_div(essence, self._unedited, reduction="none", log_target=True).sum(-1)
        return loss, divergence

    def _run(self, delta: Tensor) -> Tensor:
        """Return the hidden states before the final norm, (rows, columns from the subject on, width)."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for number, (keys, values) in enumerate(self._kept, self.layer):
            cache.update(keys, values, number)
        arguments = [cache if value is self._cache else value for value in self._arguments[1:]]
        named = {name: cache if value is self._cache else value for name, value in self._named.items()}

        def add(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            first = output[:, 0] + delta[self.owner].to(output.dtype)
            return torch.cat([first[:, None], output[:, 1:]], 1)

        found = blocks(self.model)
        hidden = self._arguments[0]
        handle = found[self.layer].mlp.register_forward_hook(add)
        try:
            for upper in found[self.layer :]:
                hidden = upper(hidden, *arguments, **named)
        finally:
            handle.remove()
        return hidden


class _Caught(Exception):
    """The arguments of a block have been seen."""


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
