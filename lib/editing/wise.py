"""WISE: edits in a side memory, a copy of one down projection that serves a sequence where its activation is strong.

From the paper of the name (arXiv 2405.14768). A side memory W_v' is held as its change W_v' - W_v, whose product with
the activations A(x) is both the activation difference and what is added to the layer's output.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from lib import seeds
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode, encode_edits, tokens
from lib.causal_lm.layers import down_projection, matrix
from lib.causal_lm.upper_layers import UpperLayers, chunked, targets
from lib.editing.editor import Editor, Switchable
from lib.editing.merging import ties
from lib.editing.moments import states
from lib.errors import UserError
from lib.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class WiseConfig(Settings):
    """WISE; defaults are the paper's and its released configuration's for LLaMA-2-7B on ZsRE, unless marked ours."""

    layer: int = 27  # of 32
    memories: Literal["merge", "retrieve"] = "merge"
    density: float = Field(0.2, gt=0, le=1)  # rho: the share of coordinates that a shard may change
    shard: int = Field(500, ge=1)  # edits of a shard
    shards: int = Field(2, ge=1)  # k, merged into one side memory when they are full
    kept: float = Field(0.53, gt=0, le=1)  # share of entries that TIES leaves; every entry of a shard at density .2
    alpha: float = 5.0  # the activation difference of irrelevant texts is to stay below
    beta: float = 20.0  # that of edits is to be above
    gamma: float = 10.0  # and the two are to be this far apart
    threshold: float | None = None  # epsilon; None: the smallest difference of the edits so far, times `ratio`
    ratio: float = 0.88  # released configuration
    optimiser: Literal["sgd", "adam"] = "sgd"
    rate: float = 1.0
    steps: int = Field(70, ge=1)
    enough: float = 0.01  # training of a group stops below this loss (ours; the released code stops early as well)
    limit: float | None = 1.0  # no coordinate moves further than this (released configuration)
    together: int = Field(1, ge=1)  # edits trained at a time
    irrelevant: int = Field(1, ge=1)  # irrelevant texts drawn for each edit and step (paper: one, fixed for each edit)
    cut: int = Field(64, ge=1)  # irrelevant texts are cut to so many tokens (ours)
    chunk: int = Field(32, ge=1)  # sequences that run at once in a step; leaves the gradient as it is (ours)
    seed: int = 0


def difference(shift: Tensor, mask: Tensor) -> Tensor:
    """Return Delta_act, (sequences,): the mean over the tokens of `mask` of || A(x) (W_v' - W_v) ||_2.

    `shift` is A(x) (W_v' - W_v), (sequences, tokens, width). In the paper a norm stands for the whole input; the mean
    over tokens, also that of the released code, makes long and short inputs comparable.
    """
    weights = mask.to(shift)
    return (torch.linalg.vector_norm(shift, dim=-1) * weights).sum(1) / weights.sum(1).clamp(min=1)


def margin_loss(edits: Tensor, irrelevant: Tensor, alpha: float, beta: float, gamma: float) -> Tensor:
    """Return L_a for differences of edits (edits,) and of texts drawn for them (edits, drawn): each term's mean."""
    above = functional.relu(irrelevant - alpha).mean()
    below = functional.relu(beta - edits).mean()
    return above + below + functional.relu(gamma - (edits[:, None] - irrelevant)).mean()


class Wise(Switchable, Editor):
    """WISE on one model: shards of edits in side memories, routed by activation, merged or retrieved.

    The route, main or side memory and which, is decided once per sequence: from its prompt (`reading`), or else from
    all tokens that are not masked; tokens generated with a cache keep it. In training the difference of an edit is that
    of its prompt, so both see the same number. A memory that is still being filled, or waits for the merge, serves
    beside the others: the strongest of them is compared with the threshold.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        irrelevant: Sequence[str],
        config: WiseConfig | None = None,
        prefixes: Sequence[str] = (),
    ) -> None:
        """Take a model, texts that are not to be edited, and texts put before prompts in training (paper: ten).

        Raises `UserError` for a layer that does not exist and for no irrelevant texts.
        """
        self.config = config or WiseConfig()
        self._projection = down_projection(model, self.config.layer)
        if not any(text.strip() for text in irrelevant):
            raise UserError("WISE has no irrelevant texts: give some that the edits are not to touch")
        super().__init__(model, tokenizer)
        self._irrelevant, self._prefixes = [text for text in irrelevant if text.strip()], tuple(prefixes)
        self._hooks: list[Any] = []
        self._reset()

    def _reset(self) -> None:
        self.merged: Tensor | None = None  # each a change (outputs, inputs) in float32
        self.waiting: list[Tensor] = []
        self.open: Tensor | Any = None  # None until an edit opens a shard
        self.free: Tensor | None = None  # which coordinates the open shard may change
        self.smallest = float("inf")  # the smallest difference of the edits so far
        self.route: Tensor | None = None  # the memory of each sequence read last, -1 for the main one
        self._filled = self._shards = self._groups = 0
        self._read: Tensor | None = None
        self._pool: list[Tensor] = []

    @property
    def memories(self) -> list[Tensor]:
        """Return the side memories in use, each a change (outputs, inputs) of the down projection."""
        return [memory for memory in (self.merged, *self.waiting, self.open) if memory is not None]

    @property
    def threshold(self) -> float:
        """Return epsilon: a sequence at or above it is read with a side memory."""
        return self.smallest * self.config.ratio if self.config.threshold is None else self.config.threshold

    def memory(self) -> int:
        """Return the bytes of the side memories and of the open shard's mask."""
        held = [*self.memories, *([] if self.free is None else [self.free])]
        return sum(value.numel() * value.element_size() for value in held)

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Train the open shard on a batch, opening, closing and merging shards where they are full (sec. 2.3)."""
        encode_edits(self.model, self.tokenizer, batch)  # raises before anything changes
        if not self._hooks:
            self._hooks = [
                self.model.base_model.register_forward_pre_hook(self._note_prompt, with_kwargs=True),
                self._projection.register_forward_hook(self._add_memory),
            ]
        start = 0
        while start < len(batch):
            if self.open is None:
                self._open_shard()
            group = batch[start : start + min(self.config.together, self.config.shard - self._filled)]
            self._train(group)
            start, self._filled = start + len(group), self._filled + len(group)
            if self._filled == self.config.shard:
                self._close_shard()
        for start in range(0, len(batch), 32):
            found = self._differences(batch[start : start + 32])
            self.smallest = min(self.smallest, found.max(0).values.min().item())

    @torch.no_grad()
    def _differences(self, edits: Sequence[Edit]) -> Tensor:
        """Return Delta_act of the prompts of edits with each side memory, (memories, edits).

        Taken when the whole batch is learnt, as later edits of a shard move the difference of earlier ones.
        """
        encoded = encode_edits(self.model, self.tokenizer, edits)
        entering = self._activations(encoded.ids, encoded.mask).float()
        return torch.stack([difference(functional.linear(entering, each), encoded.prompt) for each in self.memories])

    def restore(self) -> None:
        """Take the side memories off: the model is what it was, to the bit."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._reset()
        super().restore()

    def _open_shard(self) -> None:
        weight = matrix(self._projection)
        drawn = torch.rand(weight.shape, generator=seeds.generator("wise mask", self.config.seed, self._shards))
        self.free = (drawn < self.config.density).to(weight.device)
        self.open = torch.zeros(weight.shape, device=weight.device)
        self._filled, self._shards = 0, self._shards + 1

    def _close_shard(self) -> None:
        self.waiting.append(self.open)
        self.open = self.free = None
        if self.config.memories == "merge" and len(self.waiting) == self.config.shards:
            # An earlier merge takes part as one more change (ours: the paper merges once).
            self.merged = ties(self.memories, self.config.kept)
            self.waiting = []

    def _train(self, group: Sequence[Edit]) -> None:
        config = self.config
        pairs = [(before + edit.prompt, edit.target) for before in ("", *self._prefixes) for edit in group]
        encoded = encode(self.model, self.tokenizer, pairs)
        pool = self._irrelevant_activations()
        change = self.open.clone().requires_grad_()
        optimiser = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[config.optimiser]([change], config.rate)
        stream = seeds.generator("wise irrelevant", config.seed, self._groups)
        with self.off():
            chunks = chunked(self.model, encoded, config.layer, config.chunk, self._projection)
            count = targets(chunks)
            for _ in range(config.steps):
                optimiser.zero_grad(set_to_none=True)
                drawn = torch.randint(len(pool), (len(pairs), config.irrelevant), generator=stream)
                total = 0.0
                for upper, numbers in zip(chunks, drawn.split(config.chunk), strict=True):
                    target, margin = self._losses(upper, change, [pool[number] for number in numbers.flatten()])
                    loss = target / count + margin * (len(numbers) / len(pairs))
                    loss.backward()
                    total += loss.item()
                if total < config.enough:
                    break
                change.grad.mul_(self.free)  # type: ignore[union-attr, arg-type]  # a shard is open, with a gradient
                optimiser.step()
                if config.limit is not None:
                    change.data.clamp_(-config.limit, config.limit)
        self.open, self._groups = change.detach(), self._groups + 1

    def _losses(self, upper: UpperLayers, change: Tensor, drawn: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return -log P of all target tokens, summed, in nats, and L_a; `drawn` are activations of irrelevant texts."""
        config, shifts = self.config, []

        def with_change(inputs: Tensor, output: Tensor) -> Tensor:
            shifts.append(functional.linear(inputs.float(), change))
            return (output.float() + shifts[0]).to(output.dtype)

        target = upper.losses(change=with_change)[0].sum()
        texts = pad_sequence(drawn, batch_first=True).float()
        # Padding is zero, and so is its norm; only the counts need the lengths.
        counted = torch.tensor([len(text) for text in drawn], device=texts.device)
        norms = torch.linalg.vector_norm(functional.linear(texts, change), dim=-1).sum(1) / counted
        edits = difference(shifts[0], upper.encoded.prompt)
        return target, margin_loss(edits, norms.view(len(edits), -1), config.alpha, config.beta, config.gamma)

    @torch.no_grad()
    def _activations(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return A(x) of the unedited model, (sequences, tokens, inputs), in its precision; nothing above is run."""
        with self.off():
            found, _ = states(self.model, [self.config.layer], input_ids=ids, attention_mask=mask)
        return found[self.config.layer]

    def _irrelevant_activations(self) -> list[Tensor]:
        """Return A(x) of each irrelevant text, (tokens, inputs): they never change, so they are computed once."""
        if not self._pool:
            context = getattr(self.model.config, "max_position_embeddings", self.config.cut)
            rows = [tokens(self.tokenizer, text)[: min(self.config.cut, context)] for text in self._irrelevant]
            for start in range(0, len(rows), 16):
                part = [torch.tensor(row, device=self.model.device) for row in rows[start : start + 16]]
                mask = pad_sequence([torch.ones_like(row) for row in part], batch_first=True)
                kept = self._activations(pad_sequence(part, batch_first=True), mask)
                self._pool += [found[: len(row)].clone() for found, row in zip(kept, part, strict=True)]
        return self._pool

    def _note_prompt(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Note what a forward pass is routed by; one that continues a cache keeps the route of its prompt."""
        past = named.get("past_key_values")
        if self._off or (past is not None and past.get_seq_length() > 0):
            return
        self.route = None
        mask = self._prompt if self._prompt is not None else named.get("attention_mask")
        self._read = mask if mask is not None and mask.ndim == 2 else None

    @torch.no_grad()
    def _add_memory(self, _: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """Add the chosen side memory's part to the rows that are routed to it; the others keep their very output."""
        memories = self.memories
        if self._off or not memories:
            return None
        entering = given[0]
        if self.route is None:
            self.route = self._chosen(entering, memories)
        if not bool((self.route >= 0).any()):
            return None
        output = output.clone()
        for number in self.route.unique().tolist():
            if number >= 0:
                rows = self.route == number
                shift = functional.linear(entering[rows].float(), memories[number])
                output[rows] = (output[rows].float() + shift).to(output.dtype)
        return output

    def _chosen(self, entering: Tensor, memories: list[Tensor]) -> Tensor:
        """Return the strongest memory of each sequence, -1 where even it stays below the threshold (eq. 5)."""
        sequences, length = entering.shape[:2]
        mask = entering.new_ones(sequences, length) if self._read is None else self._read.to(entering.device)
        mask = mask.repeat_interleave(sequences // len(mask), 0)  # beams of one prompt
        mask = functional.pad(mask, (0, length - mask.shape[1]))  # what is generated without a cache
        found = torch.stack([difference(functional.linear(entering.float(), memory), mask) for memory in memories])
        strongest, number = found.max(0)
        return torch.where(strongest >= self.threshold, number, -1)
