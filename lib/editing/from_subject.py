"""A model from one block and from the subjects on: what a change at the subject's last token can reach, and no more."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.causal_lm import caches
from lib.causal_lm.layers import block, blocks, feed_forward, final_norm
from lib.causal_lm.passes import continuing
from lib.causal_lm.upper_layers import residual, watched
from lib.editing.located import Located
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Upper:
    """A model from one block upward, on the texts of some edits, as a function of what is added at the subjects.

    Nothing before a subject's last token depends on what is added there, so those tokens run once: texts are laid out
    with that token in one column, and the columns before it are kept as keys and values of the attention.
    """

    @torch.no_grad()
    def __init__(self, model: "PreTrainedModel", edits: Sequence[Located], layer: int) -> None:
        """Run what does not change: the blocks below `layer`, and the columns before the subjects' last tokens."""
        from transformers import DynamicCache

        site = feed_forward(block(model, layer))
        if site is None:
            raise UserError(f"{type(model).__name__}: its feed-forward parts are no modules, which this method needs")
        self._site, self.model, self.layer, self._located, self.edits = site, model, layer, edits, len(edits)
        rows = [row for edit in edits for row in (*edit.texts, edit.essence)]
        device = model.device
        per_edit = [len(edit.texts) + 1 for edit in edits]
        self.owner = torch.repeat_interleave(torch.arange(len(edits)), torch.tensor(per_edit)).to(device)
        self.prefixes = torch.tensor(per_edit, device=device) - 1
        head = max(row.place for row in rows)
        # The last target token is only predicted, never read.
        used: list[Any] = [row.ids[: len(row.ids) - (row.targets > 0)] for row in rows]
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
                use_cache=True,
                **caches.argument(model.base_model, cache),
            )
        self._kept = [(kept.keys, kept.values) for kept in cache.layers[layer:]]
        self._cache = cache
        self._arguments, self._named = self._entering(ids[:, head:], masks, places[:, head:], cache)
        self._parted = self._parts()
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
            with continuing():  # for an adaptor that hangs on the model
                base = self.model.base_model
                base(ids, attention_mask=mask, position_ids=places, use_cache=True, **caches.argument(base, cache))
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
        norm = final_norm(self.model) or nn.Identity()  # OPT of 350M parameters has none
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
        cached = self._with_cache()
        if self._parted is not None:
            before, output = self._parted
            hidden, rest = before + self._added(output, delta), self.layer + 1
        else:
            hidden, rest = self._arguments[0], self.layer
        handle = self._site.register_forward_hook(lambda _, __, output: self._added(output, delta))
        try:
            for upper in blocks(self.model)[rest:]:
                found = upper(hidden, *cached[0], **cached[1])
                hidden = found[0] if isinstance(found, tuple) else found
        finally:
            handle.remove()
        return hidden

    def _added(self, output: Tensor, delta: Tensor) -> Tensor:
        """Return the MLP's output, (rows, columns, width), with what is added at the subjects."""
        first = output[:, 0] + delta[self.owner].to(output.dtype)
        return torch.cat([first[:, None], output[:, 1:]], 1)

    def _with_cache(self) -> tuple[list[Any], dict[str, Any]]:
        """Return a block's other arguments, with the kept keys and values in a cache of their own."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for number, (keys, values) in enumerate(self._kept, self.layer):
            cache.update(keys, values, number)
        arguments = [cache if value is self._cache else value for value in self._arguments[1:]]
        return arguments, {name: cache if value is self._cache else value for name, value in self._named.items()}

    def _parts(self) -> tuple[Tensor, Tensor] | None:
        """Return what the edited block puts out without a change: the residual, and the MLP's output added to it.

        Both are (rows, columns, width); what is below the change is not run again. None where a block is built
        otherwise (as with a norm after the MLP): then it is run in every step.
        """
        edited, (arguments, named) = block(self.model, self.layer), self._with_cache()
        with watched({self._site, *edited.children()}) as seen:
            found = edited(self._arguments[0], *arguments, **named)
        before = residual(edited, seen)
        if before is None:
            return None
        output = seen[self._site].output
        whole = found[0] if isinstance(found, tuple) else found
        return (before, output) if torch.equal(before + output, whole) else None


class _Caught(Exception):
    """The arguments of a block have been seen."""
