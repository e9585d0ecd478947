"""LEMoE as one of the editing methods: one new expert for each batch."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from lib.editing.editor import Editor
from lib.editing.edits import Edit
from lib.errors import UserError
from lib.lemoe.adaptor import Adaptor, AdaptorConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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
        """Take a model, at most so many experts (paper: 5), and the unrelated texts that a way out is set from."""
        super().__init__(model, tokenizer)
        self.config, self.most, self.unrelated = config or AdaptorConfig(), most, tuple(unrelated)
        self.adaptor: Adaptor | None = None
        self.losses: list[list[float]] = []  # of every batch and step, in nats a target token

    def edit(self, batch: Sequence[Edit]) -> None:
        """Learn a batch with a new expert; raises `UserError` as `Adaptor.edit`, and when there are `most` already."""
        if self.adaptor is None:
            self.adaptor = Adaptor.attach(self.model, self.config)
        if len(self.adaptor.experts) >= self.most:
            raise UserError(f"all {self.most} experts are taken: give fewer, larger batches, or raise `most`")
        # Given once: the adaptor keeps what it needs of them.
        unrelated = () if len(self.adaptor.experts) or self.config.way_out is None else self.unrelated
        self.losses.append(self.adaptor.edit(self.tokenizer, batch, unrelated))

    def reading(self, prompt: Tensor) -> AbstractContextManager[object]:
        """Return the block within which the route is decided by the tokens of `prompt`, a mask (sequences, tokens)."""
        return nullcontext() if self.adaptor is None else self.adaptor.prompt(prompt)

    def memory(self) -> int:
        """Return the bytes of experts, router and way out."""
        return sum(value.nbytes for value in self.adaptor.state_dict().values()) if self.adaptor else 0

    def save(self, folder: Path) -> None:
        """Write what was edited so far, to be resumed; `UserError` before the first edit."""
        if self.adaptor is None:
            raise UserError("nothing to save: edit first")
        self.adaptor.save(folder)

    def resume(self, folder: Path) -> int:
        """Go on from a saved state; returns how many batches it holds.

        Raises `UserError` as `Adaptor.load` does, and for a state saved under another config.
        """
        if self.adaptor is not None:
            self.adaptor.detach()
            self.adaptor = None
        found = Adaptor.load(folder, self.model)
        if found.config != self.config:
            found.detach()
            raise UserError(f"{folder.name}: saved under another config; delete it or give that config")
        self.adaptor = found
        return len(found.experts)

    def restore(self) -> None:
        """Take the adaptor off: the model is the unedited one, to the bit, and can be edited afresh."""
        if self.adaptor is not None:
            self.adaptor.detach()
        self.adaptor, self.losses = None, []
        super().restore()


class OracleEditor(LemoeEditor):
    """LEMoE whose router is told the batch of what it reads: `serving`, or None to let it choose (an ablation)."""

    serving: int | None = None

    def reading(self, prompt: Tensor) -> AbstractContextManager[object]:
        """Return the block within which everything is served by the expert of batch `serving`."""
        return nullcontext() if self.adaptor is None else self.adaptor.prompt(prompt, forced=self.serving)
