"""WISE: edits in a side memory, a copy of one down projection that serves a sequence where its activation is strong.

From the paper of the name (arXiv 2405.14768). A side memory W_v' is held as its change W_v' - W_v, whose product with
the activations A(x) is what is added to the layer's output.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from lib import seeds
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode, encode_edits, prompt_tokens
from lib.causal_lm.layers import activation, block, down_projection, hang, matrix
from lib.causal_lm.passes import Decision, Passes
from lib.causal_lm.upper_layers import UpperLayers, chunked, targets
from lib.editing.contexts import draw_contexts
from lib.editing.editor import Editor, State, Switchable
from lib.editing.moments import states
from lib.editing.wise_losses import WiseConfig, after_activation, difference, margin_loss, target_loss
from lib.editing.wise_memories import SideMemories
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Wise(Switchable, Editor):
    """WISE on one model: shards of edits in side memories, routed by activation, merged or retrieved.

    The route, main or side memory and which, is decided once per sequence, from all its tokens that are not masked or
    from its prompt (`reading`); tokens generated with a cache keep it (ours: the released code decides again for each).
    Padding takes no part in any difference (the released code's means take it in).

    Shards that wait for their merge, and the open one, serve as they will when the edits end ("merge": a view that is
    made anew after every edit) or beside the others ("serve"). Of the memories whose difference reaches their threshold
    the strongest serves.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        irrelevant: Sequence[str],
        config: WiseConfig | None = None,
        prefixes: Sequence[str] | None = None,
    ) -> None:
        """Take a model, texts that are not to be edited, and texts put before prompts in training.

        Without `prefixes` they are drawn from the model: `contexts`, each followed by a blank. Raises `UserError` for a
        layer that does not exist and for no irrelevant texts.
        """
        self.config = config or WiseConfig()
        self._projection = down_projection(model, self.config.layer)
        if not any(text.strip() for text in irrelevant):
            raise UserError("WISE has no irrelevant texts: give some that the edits are not to touch")
        super().__init__(model, tokenizer)
        self._irrelevant = [text for text in irrelevant if text.strip()]
        self._prefixes = draw_contexts(model, tokenizer, self.config) if prefixes is None else tuple(prefixes)
        self._activation = activation(model, self.config.layer)
        self._hooks: list[Any] = []
        self._reset()

    def _reset(self) -> None:
        self.side = SideMemories(self.config)
        self.hand.decision = None
        self._groups = self._learnt = 0
        self._pool: list[tuple[Tensor, Tensor]] = []

    @property
    def route(self) -> Tensor | None:
        """Return the memory of each sequence that this thread read last, (sequences,), -1 for the main one."""
        return None if self.hand.decision is None else self.hand.decision.values[0]

    @property
    def memories(self) -> list[Tensor]:
        """Return the side memories that serve, each a change (outputs, inputs) of the down projection."""
        return [memory.change for memory in self.side.serving()]

    @property
    def threshold(self) -> float:
        """Return epsilon: a sequence at or above it is read with a side memory."""
        return self.side.epsilon(self.side.smallest)

    def memory(self) -> int:
        """Return the bytes of the side memories and of the open shard's mask."""
        held = [*self.memories, *([] if self.side.free is None else [self.side.free])]
        return sum(value.numel() * value.element_size() for value in held)

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Train the open shard on a batch, opening, closing and merging shards where they are full (sec. 2.3)."""
        encode_edits(self.model, self.tokenizer, batch)  # raises before anything changes
        if not self._hooks:
            self._hang()
        start, side = 0, self.side
        while start < len(batch):
            if side.open is None:
                side.open_shard(matrix(self._projection))
            group = batch[start : start + min(self.config.together, self.config.shard - side.filled)]
            self._train(group)
            start, side.filled = start + len(group), side.filled + len(group)
            if side.filled == self.config.shard:
                side.close_shard()
        if self.config.measured == "batch":
            for start in range(0, len(batch), 32):
                found = self._differences(batch[start : start + 32])
                side.smallest = min(side.smallest, found.max(0).values.min().item())

    @torch.no_grad()
    def _differences(self, edits: Sequence[Edit]) -> Tensor:
        """Return Delta_act of edits with each side memory, (memories, edits).

        Taken when the whole batch is learnt, as later edits of a shard move the difference of earlier ones.
        """
        encoded = encode_edits(self.model, self.tokenizer, edits)
        entering = self._activations(encoded.ids, encoded.mask)
        mask = encoded.prompt if self.config.over == "prompt" else encoded.mask
        output = self._projection.forward(entering)  # without hooks: those of any method are for whole passes
        return torch.stack([self._difference(entering, output, each, mask) for each in self.memories])

    def _difference(self, entering: Tensor, output: Tensor, change: Tensor, mask: Tensor) -> Tensor:
        """Return Delta_act, (sequences,), for what enters the layer and its own output, (sequences, tokens, size)."""
        shift = functional.linear(entering.float(), change)
        if self.config.activated:
            shift = after_activation(output.float(), shift, self._activation)
        return difference(shift, mask, self.config.peak_above)

    def restore(self) -> None:
        """Take the side memories off: the model is what it was, to the bit."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._reset()
        super().restore()

    def saved_state(self) -> State:
        """Return the side memories, and how far their streams have been drawn."""
        tensors, told = self.side.saved_state()
        return tensors, {**told, "groups": self._groups, "learnt": self._learnt, "prefixes": list(self._prefixes)}

    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned; raises as `Editor.take_state`."""
        self.side.take_state(matrix(self._projection).shape, tensors, told)
        self._groups, self._learnt = int(told["groups"]), int(told["learnt"])
        self._hang()

    def _hang(self) -> None:
        self._hooks = [
            Passes(
                self.model,
                self.hand,
                lambda _, __: None,  # the hook below decides
                lambda: not self.side.serving(),
                by_prompt=lambda: self.config.over == "prompt",
            ),
            *hang(block(self.model, self.config.layer), "down", self._add_memory),
        ]

    def _train(self, group: Sequence[Edit]) -> None:
        config, before = self.config, ("", *self._prefixes)
        # The texts of an edit stand together, and no chunk parts them: the margins' means are an edit's own.
        encoded = encode(
            self.model, self.tokenizer, [(text + edit.prompt, edit.target) for edit in group for text in before]
        )
        texts = len(encoded.ids)
        size = max(1, config.chunk // len(before)) * len(before)
        pool = self._irrelevant_activations()
        change = self.side.open.clone().requires_grad_()  # type: ignore[union-attr]  # a shard is open
        optimiser = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[config.optimiser]([change], config.rate)
        stream = seeds.generator("wise irrelevant", config.seed, self._groups)
        weight = matrix(self._projection).float()
        found: list[Tensor] = []
        totals = [0.0, 1e9]  # as if a loss of 1e9 had been seen: nothing stands still before two were
        with self.off():
            chunks = chunked(self.model, encoded, config.layer, size, self._projection, packed=config.packed)
            count = targets(chunks) if config.average == "token" else texts
            for _ in range(config.steps):
                optimiser.zero_grad(set_to_none=True)
                if config.fixed:
                    own = torch.arange(self._learnt, self._learnt + len(group)) % len(pool)
                    drawn = own.repeat_interleave(len(before))[:, None]
                else:
                    drawn = torch.randint(len(pool), (texts, config.irrelevant), generator=stream)
                total, found = 0.0, []
                for upper, numbers in zip(chunks, drawn.split(size), strict=True):
                    target, margin, distances = self._losses(upper, change, pool, numbers, len(before))
                    loss = target / count + margin * (len(numbers) / texts)
                    loss.backward()
                    total += loss.item()
                    found.append(distances)
                if self._is_learnt(total, totals):
                    break
                totals.append(total)
                change.grad.mul_(self.side.free)  # type: ignore[union-attr, arg-type]
                if config.decay:
                    change.grad.add_(weight + change.detach(), alpha=config.decay)  # type: ignore[union-attr]
                optimiser.step()
                if config.limit is not None:
                    change.data.clamp_(-config.limit, config.limit)
        self.side.learnt(change.detach())
        self._groups, self._learnt = self._groups + 1, self._learnt + len(group)
        if config.measured == "group":  # as released: before the last step, the mean over the texts of an edit
            each = torch.cat(found).view(len(group), -1).mean(1)
            self.side.smallest = min(self.side.smallest, each.min().item())

    def _is_learnt(self, total: float, before: Sequence[float]) -> bool:
        """Tell whether a group is learnt, by its loss, or by the last two before it where they must stand still."""
        config = self.config
        if config.still is None:
            return total < config.enough
        return abs(before[-1] - before[-2]) <= config.still and before[-1] <= config.enough

    def _losses(
        self, upper: UpperLayers, change: Tensor, pool: Sequence[tuple[Tensor, Tensor]], drawn: Tensor, texts: int = 1
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the targets' loss, summed, in nats, L_a, and the differences of the edits' texts without gradient.

        `drawn`, (sequences, drawn), numbers the irrelevant texts of `pool`, which holds the activations of each and the
        layer's own outputs; `texts` is how many texts in a row are of one edit, whose margins' means are its own.
        """
        config, shifts, outputs = self.config, [], []

        def with_change(inputs: Tensor, output: Tensor) -> Tensor:
            shifts.append(functional.linear(inputs.float(), change))
            outputs.append(output.float())
            return (outputs[0] + shifts[0]).to(output.dtype)

        losses, _, sequence = upper.losses(change=with_change)
        target = target_loss(losses, sequence, len(upper.encoded.ids), config.average)
        edited, norms = shifts[0], self._irrelevant_differences(change, pool, drawn)
        if config.activated:
            edited = after_activation(outputs[0], edited, self._activation)
        edits = difference(edited, upper.encoded.prompt if config.over == "prompt" else upper.encoded.mask)
        bounds = config.alpha, config.beta, config.gamma
        if config.terms == "all":
            margin = margin_loss(edits, norms, *bounds)
        else:
            pairs = zip(edits.split(texts), norms.split(texts), strict=True)
            margin = torch.stack([margin_loss(one, other, *bounds, "violated") for one, other in pairs]).mean()
        return target, margin, edits.detach()

    def _irrelevant_differences(self, change: Tensor, pool: Sequence[tuple[Tensor, Tensor]], drawn: Tensor) -> Tensor:
        """Return Delta_act of the irrelevant texts that `drawn` numbers, in its shape.

        Each text is computed once, however often it is drawn (an edit's eleven texts share theirs), and unpadded.
        """
        numbers, place = drawn.unique(return_inverse=True)
        chosen = [pool[number] for number in numbers.tolist()]
        entering = torch.cat([one for one, _ in chosen]).float()
        shift = functional.linear(entering, change)
        if self.config.activated:
            shift = after_activation(torch.cat([own for _, own in chosen]).float(), shift, self._activation)
        lengths = torch.tensor([len(one) for one, _ in chosen], device=shift.device)
        owner = torch.repeat_interleave(torch.arange(len(chosen), device=shift.device), lengths)
        norms = torch.linalg.vector_norm(shift, dim=-1)
        return (norms.new_zeros(len(chosen)).index_add(0, owner, norms) / lengths)[place.to(shift.device)]

    @torch.no_grad()
    def _activations(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return A(x) of the unedited model, (sequences, tokens, inputs), in its precision; nothing above is run."""
        with self.off():
            found, _ = states(self.model, [self.config.layer], input_ids=ids, attention_mask=mask)
        return found[self.config.layer]

    @torch.no_grad()
    def _irrelevant_activations(self) -> list[tuple[Tensor, Tensor]]:
        """Return A(x), (tokens, inputs), and the layer's output of each irrelevant text, once: they never change."""
        if not self._pool:
            context = getattr(self.model.config, "max_position_embeddings", self.config.cut)
            cut = min(self.config.cut, context)
            rows = [prompt_tokens(self.tokenizer, text)[:cut] for text in self._irrelevant]
            for start in range(0, len(rows), 16):
                part = [torch.tensor(row, device=self.model.device) for row in rows[start : start + 16]]
                mask = pad_sequence([torch.ones_like(row) for row in part], batch_first=True)
                kept = self._activations(pad_sequence(part, batch_first=True), mask)
                for found, row in zip(kept, part, strict=True):
                    entering = found[: len(row)].clone()
                    self._pool.append((entering, self._projection.forward(entering)))
        return self._pool

    @torch.no_grad()
    def _add_memory(self, entering: Tensor, output: Tensor) -> Tensor | None:
        """Add the chosen side memory's part to the rows that are routed to it; the others keep their very output."""
        if self.hand.off or not self.side.serving():
            return None
        memories, hand = self.memories, self.hand
        if hand.decision is None:
            route = self._chosen(entering, output)
            hand.decision = Decision((route, torch.full_like(route, self._learnt)))
        if hand.decision.prepared is None:  # the device is asked once for a prompt, not for every token
            route, learnt = hand.decision.values
            numbers = [number for number in route.unique().tolist() if number >= 0]
            hand.decision.prepared = int(learnt.max()), [(number, route == number) for number in numbers]
        learnt, served = hand.decision.prepared
        if learnt != self._learnt:
            raise UserError("the cache was filled before the last edits, which made other memories: begin without it")
        if not served:
            return None
        output = output.clone()
        for number, rows in served:
            shift = functional.linear(entering[rows].float(), memories[number])
            output[rows] = (output[rows].float() + shift).to(output.dtype)
        return output

    def _chosen(self, entering: Tensor, output: Tensor) -> Tensor:
        """Return the strongest memory of each sequence that reaches its threshold, -1 where none does (eq. 5)."""
        sequences, length = entering.shape[:2]
        read = self.hand.mask
        mask = entering.new_ones(sequences, length) if read is None else read.to(entering.device)
        mask = mask.repeat_interleave(sequences // len(mask), 0)  # beams of one prompt
        mask = functional.pad(mask, (0, length - mask.shape[1]))  # what is generated without a cache
        found = torch.stack([self._difference(entering, output, memory, mask) for memory in self.memories])
        least = torch.tensor(self.side.thresholds(), device=found.device)
        reached = torch.where(found >= least[:, None], found, -1)
        strongest, number = reached.max(0)
        return torch.where(strongest >= 0, number, -1)
