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
from lib.causal_lm.encoding import Encoded, prompt_tokens, subject_forms
from lib.causal_lm.passes import Decision, Passes
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
    tokens that are not masked for the prompt; a prompt's anchor stays with its cache and its `generate`
    (`causal_lm.passes` has the rules).
    """

    config: MemoeConfig
    router: nn.Linear
    anchored: int
    fallbacks: int
    _subjects: set[tuple[int, ...]]
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
                self._subjects |= subject_forms(self.tokenizer, edit.subject)
        super()._learn(batch)
        for edit in batch:
            found = self.entity(prompt_tokens(self.tokenizer, edit.prompt))
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
        assert self.hand.decision is not None
        (anchors,) = self.hand.decision.values
        anchor = anchors[:, None].expand(-1, hidden.shape[1], -1)
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
        self.hand.decision, self._noise = Decision((context,)), self._stream
        try:
            yield
        finally:
            self._noise = None

    def hooks(self) -> list[Any]:
        """Hang the adaptor on the model, and what looks for the anchor before each forward pass."""
        return [*super().hooks(), Passes(self.model, self.hand, self._decide_anchors, self._is_idle)]

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
        self._noise = None
        self._stream = None
        self._streams = None

    def _is_idle(self) -> bool:
        """Tell whether no anchor is to be decided: there are no experts yet, or training gives anchors of its own."""
        return self._noise is not None or not len(self.experts)

    def _decide_anchors(self, ids: Tensor | None, mask: Tensor) -> Decision:
        """Decide the anchors of new prompts, ids and mask (sequences, tokens)."""
        if ids is None:
            raise UserError("MEMoE looks for the entity in token ids: call the model with input_ids, not embeddings")
        # Beams and drawn sequences repeat the rows of a prompt; what is beyond its mask follows it.
        mask = mask.repeat_interleave(max(1, len(ids) // len(mask)), 0)
        return Decision((self.anchors(ids, functional.pad(mask, (0, ids.shape[1] - mask.shape[1]))),))
