"""LEMoE as one of the editing methods: one new expert for each batch."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lib.causal_lm.edits import Edit, texts
from lib.causal_lm.layers import block
from lib.editing.editor import Editor, State
from lib.errors import UserError
from lib.lemoe import routing
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.settings import of_kind

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LemoeEditor", "OracleEditor"]


class LemoeEditor(Editor):
    """LEMoE on one model; `adaptor` is there from the first edit until `restore`."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: AdaptorConfig | None = None,
        most: int = 5,
        unrelated: Sequence[str] = (),
    ) -> None:
        """Take a model, at most so many experts (paper: 5), and the unrelated texts that rejection is set from.

        Raises `TypeError` and `ValueError` that name an argument, `UserError` for a layer that is not there.
        """
        config = AdaptorConfig() if config is None else of_kind(config, AdaptorConfig)
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise ValueError(f"most={most!r}: give a whole number of experts, at least 1")
        found = tuple(texts(unrelated, "unrelated"))
        block(model, config.layer)
        super().__init__(model, tokenizer)
        self.config, self.most, self.unrelated = config, most, found
        self.adaptor: Adaptor | None = None
        self.losses: list[list[float]] = []  # of every batch and step, in nats a target token

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Learn a batch with a new expert; raises as `Adaptor.edit`, and `UserError` when there are `most` already."""
        if self.adaptor is None:
            self.adaptor = Adaptor.attach(self.model, self.config)
        if len(self.adaptor.experts) >= self.most:
            raise UserError(f"all {self.most} experts are taken: give fewer, larger batches, or raise `most`")
        # Given once: the adaptor keeps what it needs of them.
        unrelated = () if len(self.adaptor.experts) or self.config.rejection is None else self.unrelated
        self.losses.append(self.adaptor.edit(self.tokenizer, batch, unrelated))

    def reading(self, prompt: Tensor) -> AbstractContextManager[object]:  # type: ignore[override]  # no generator's
        """Return the block within which the route is decided by the tokens of `prompt`, a mask (sequences, tokens)."""
        return nullcontext() if self.adaptor is None else self.adaptor.prompt(prompt)

    def route_agreement(self, batches: Sequence[Sequence[Edit]]) -> list[dict[str, Any]]:
        """Return one row: the `routing.Consistency` of all batches so far."""
        if self.adaptor is None:
            return []
        found = routing.consistency(self.adaptor, self.tokenizer, batches)
        return [{"batch": -1, **dataclasses.asdict(found)}]

    def memory(self) -> int:
        """Return the bytes of experts, router and what rejection remembers."""
        return sum(value.nbytes for value in self.adaptor.state_dict().values()) if self.adaptor else 0

    def saved_state(self) -> State:
        """Return the adaptor's experts, router and rejection, and what it knows besides."""
        if self.adaptor is None:
            return {}, {}
        tensors, told = self.adaptor.saved_state()
        return tensors, {**told, "losses": self.losses}

    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned; raises as `Editor.take_state`."""
        self.adaptor = Adaptor.attach(self.model, self.config)
        self.adaptor.take_state(tensors, told)
        self.losses = [[float(loss) for loss in batch] for batch in told["losses"]]

    def without_edits(self) -> AbstractContextManager[object]:  # type: ignore[override]  # no generator's
        """Return the block within which the model answers as the unedited one."""
        return nullcontext() if self.adaptor is None else self.adaptor.off()

    def restore(self) -> None:
        """Take the adaptor off: the model is the unedited one, to the bit, and can be edited afresh."""
        if self.adaptor is not None:
            self.adaptor.detach()
        self.adaptor, self.losses = None, []
        super().restore()


class OracleEditor(LemoeEditor):
    """LEMoE whose router is told the batch of what it reads: `serving`, or None to let it choose (an ablation)."""

    serving: int | None = None

    def scoring_groups(self, batches: Sequence[Sequence[Edit]]) -> Iterator[tuple[list[Edit], list[int]]]:
        """Yield each batch alone, served by its own expert; an unrelated question has none, so it is left out."""
        try:
            for number, batch in enumerate(batches):
                self.serving = number
                yield [dataclasses.replace(edit, locality=None) for edit in batch], [number] * len(batch)
        finally:
            self.serving = None

    def reading(self, prompt: Tensor) -> AbstractContextManager[object]:  # type: ignore[override]  # no generator's
        """Return the block within which everything is served by the expert of batch `serving`."""
        return nullcontext() if self.adaptor is None else self.adaptor.prompt(prompt, forced=self.serving)
