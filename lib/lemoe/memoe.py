"""MEMoE (arXiv 2405.19086), LEMoE's predecessor: a fixed set of experts, routed by token and knowledge anchor.

editor = Memoe(model, tokenizer, MemoeConfig(layer=18))
editor.edit(batch)       # all experts learn together; later batches train the same ones on
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lib import seeds
from lib.causal_lm.edits import Edit, check
from lib.causal_lm.encoding import Encoded, tokens
from lib.editing.editor import State
from lib.errors import UserError
from lib.lemoe.conventional import MixtureConfig, TokenMixture
from lib.lemoe.experts import Expert
from lib.settings import of_kind

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Memoe", "MemoeConfig"]


class MemoeConfig(MixtureConfig):
    """MEMoE; the sheet tells the router's input and that its softmax is noisy, the numbers are our choices."""

    experts: PositiveInt = 4
    rate: PositiveFloat = 3e-3  # of AdamW; paper: 2e-4, at which a small model's edits are not learnt in 30 steps
    noise: NonNegativeFloat = 1.0  # standard deviation added to scores in training, none at inference


class Memoe(TokenMixture):
    """g = TopK(softmax(W [x; a] + noise)), x a token's hidden state and a the embedding of its knowledge anchor.

    The anchor is the entity: the longest subject of any edit so far whose tokens occur in the prompt, the last of
    several; else the whole prompt. a is the mean of its input embeddings, at root mean square 1 (our choice: raw
    embeddings are small beside x). At inference no subject is given, and so training looks for it in the same way.
    `anchored` counts prompts of the edits with an entity, `fallbacks` those without. A bare forward pass takes all
    tokens that are not masked for the prompt; while tokens are generated with a cache, the prompt's anchor stays.
    """

    config: MemoeConfig
    router: nn.Linear
    anchored: int
    fallbacks: int
    _subjects: set[tuple[int, ...]]
    _anchor: Tensor
    _noise: torch.Generator | None
    _stream: torch.Generator | None
    _streams: int | None

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: MemoeConfig | None = None
    ) -> None:
        """Take a model; `UserError` for an architecture or a layer that is not there."""
        super().__init__(model, tokenizer, MemoeConfig() if config is None else of_kind(config, MemoeConfig))

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Learn a batch with all experts together, on from where the last left them; `UserError` for bad edits."""
        for edit in batch:
            check(edit)
        for edit in batch:
            if edit.subject is not None and edit.subject.strip():
                for text in (edit.subject, " " + edit.subject):  # at the beginning of a prompt, and within
                    self._subjects.add(tuple(tokens(self.tokenizer, text)))
        super()._learn(batch)
        for edit in batch:
            found = self.entity(tokens(self.tokenizer, edit.prompt))
            self.anchored, self.fallbacks = self.anchored + (found is not None), self.fallbacks + (found is None)

    def grow(self) -> None:
        """Build experts and router before the first batch; later ones find them made."""
        if len(self.experts):
            return
        self.experts = nn.ModuleList([Expert(self.width, self.inner) for _ in range(self.config.experts)])
        embedding = self.model.get_input_embeddings().weight.shape[1]
        self.router = nn.Linear(self.width + embedding, self.config.experts)

    def scores(self, hidden: Tensor) -> Tensor:
        """Return the router's scores, (sequences, tokens, experts), with noise in training."""
        anchor = self._anchor[:, None].expand(-1, hidden.shape[1], -1)
        found = self.router(torch.cat([hidden, anchor], -1))
        if self._noise is None:
            return found
        return found + self.config.noise * torch.randn(found.shape, generator=self._noise).to(found)

    def context(self, read: Encoded) -> Tensor:
        """Return the anchors of sequences."""
        return self.anchors(read.ids, read.prompt)

    @contextmanager
    def training(self, context: Tensor) -> Iterator[None]:
        """Within this block the router is noisy and takes these anchors."""
        if self._streams != self.learnt:  # one stream of noise a batch of edits
            self._stream, self._streams = seeds.generator("MEMoE noise", self.config.seed, self.learnt), self.learnt
        self._anchor, self._noise = context, self._stream
        try:
            yield
        finally:
            self._noise = None

    def hooks(self) -> list[Any]:
        """Hang the adaptor on the model, and what looks for the anchor before each forward pass."""
        return [
            *super().hooks(),
            self.model.base_model.register_forward_pre_hook(self._decide_anchors, with_kwargs=True),
        ]

    def entity(self, prompt: Sequence[int]) -> tuple[int, int] | None:
        """Return the half-open range of the longest known subject in a prompt's ids, the last of several; or None."""
        for length in range(min(len(prompt), max(map(len, self._subjects), default=0)), 0, -1):
            for start in range(len(prompt) - length, -1, -1):
                if tuple(prompt[start : start + length]) in self._subjects:
                    return start, start + length
        return None

    def anchors(self, ids: Tensor, prompt: Tensor) -> Tensor:
        """Return a, (sequences, embedding), in float32, for ids and their prompt mask, each (sequences, tokens)."""
        mask = prompt.bool().tolist()
        chosen = torch.zeros(ids.shape)
        for row, (sequence, asked) in enumerate(zip(ids.tolist(), mask, strict=True)):
            places = [place for place, is_prompt in enumerate(asked) if is_prompt]
            found = self.entity([sequence[place] for place in places])
            chosen[row, places if found is None else places[slice(*found)]] = 1
        table = self.model.get_input_embeddings().weight
        vectors, weights = functional.embedding(ids, table).float(), chosen.to(table.device)
        mean = (vectors * weights[..., None]).sum(1) / weights.sum(1, keepdim=True).clamp(min=1)
        return functional.rms_norm(mean, mean.shape[-1:], eps=1e-12)

    def saved_state(self) -> State:
        """Return experts and router, the subjects known, and how many prompts had one."""
        tensors, told = super().saved_state()
        counts = {"anchored": self.anchored, "fallbacks": self.fallbacks}
        return tensors, {**told, **counts, "subjects": sorted(map(list, self._subjects))}

    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned; raises as `Editor.take_state`."""
        super().take_state(tensors, told)
        self._subjects = {tuple(int(token) for token in subject) for subject in told["subjects"]}
        self.anchored, self.fallbacks = int(told["anchored"]), int(told["fallbacks"])

    def _reset(self) -> None:
        super()._reset()
        self._subjects = set()
        self.anchored = self.fallbacks = 0
        self._anchor = torch.empty(0)
        self._noise = None
        self._stream = None
        self._streams = None

    def _decide_anchors(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Decide the anchors of a forward pass; one that continues a cache keeps those of its prompt."""
        past = named.get("past_key_values")
        training = self._noise is not None  # with anchors of its own
        if training or not len(self.experts) or (past is not None and past.get_seq_length() > 0):
            return
        ids = named.get("input_ids", arguments[0] if arguments else None)
        if ids is None:
            raise UserError("MEMoE looks for the entity in token ids: call the model with input_ids, not embeddings")
        mask = self._prompt if self._prompt is not None else named.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None or mask.ndim != 2 else mask
        # Without a cache what has been generated follows the prompt; beams and drawn sequences repeat its rows.
        mask = mask.repeat_interleave(max(1, len(ids) // len(mask)), 0)
        self._anchor = self.anchors(ids, functional.pad(mask, (0, ids.shape[1] - mask.shape[1])))
