"""DEFER: one gate and one replacement output shared by all edits; GRACE's baseline (arXiv 2211.11031)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode, encode_edits
from lib.causal_lm.layers import matrix
from lib.causal_lm.upper_layers import chunked, targets
from lib.editing.output_replacing import OutputReplacing
from lib.errors import UserError
from lib.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class DeferConfig(Settings):
    """DEFER; threshold and steps are the authors', the rates are ours (theirs, 0.1 for both parts, is for T5)."""

    layer: int = 27  # as GRACE
    rate: float = 1e-3  # of the replacement
    gate_rate: float = 1e-2
    steps: int = 100  # at most
    enough: float = 1e-2  # our choice: stops when the mean loss of both parts, in nats, is below
    threshold: float = 0.5  # sequences whose gate is at least so open are served
    chunk: int = Field(32, ge=1)  # edits that run at once in a step; bounds memory, leaves the gradient as it is


class Defer(OutputReplacing):
    """A gate sigma(w . z + b) at the last prompt token, and a linear layer in place of one down projection.

    Simplifications. Of SERAC (which keeps its edits, a scope classifier and a second model): a gate and a linear layer,
    by GRACE's authors. Ours: z is the module's input there at root mean square 1; the gate learns, by cross-entropy,
    to open for the batch and to stay shut for the given unrelated texts, apart from the replacement (theirs learns
    only through the loss of the edits, which never asks it to be shut); the replacement starts as the module itself and
    sees each token (theirs: the last prompt token). Earlier batches are not rehearsed: they can be forgotten.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: DeferConfig,
        unrelated: Sequence[str],
    ) -> None:
        """Take a model and texts that the gate is to stay shut for; `UserError` for none and for an unknown layer."""
        if not unrelated:
            raise UserError("DEFER has no unrelated texts for its gate: give some, such as locality prompts")
        super().__init__(model, tokenizer, config.layer)
        self.config, self._unrelated = config, list(unrelated)
        self._negatives: Tensor | None = None
        self.replacing: nn.Linear | Any = None  # both None until the first edit
        self.gate: nn.Linear | Any = None

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Train both parts further on a batch; raises `UserError` for no edits and those that `check` refuses."""
        encoded = encode_edits(self.model, self.tokenizer, batch)
        positives, _ = self.keys(encoded)
        if self._negatives is None:
            # Any target will do: keys are taken before it.
            self._negatives = self.keys(
                encode(self.model, self.tokenizer, [(t, batch[0].target) for t in self._unrelated])
            )[0]
        if self.gate is None:
            self._insert()
        keys = torch.cat([positives, self._negatives])
        wanted = torch.cat([torch.ones_like(positives[:, 0]), torch.zeros_like(self._negatives[:, 0])])
        # Both sides weigh the same, however many texts there are.
        weights = torch.where(wanted > 0, 0.5 / len(positives), 0.5 / len(self._negatives))
        parts = [
            {"params": self.replacing.parameters(), "lr": self.config.rate},
            {"params": self.gate.parameters(), "lr": self.config.gate_rate},
        ]
        self.replacing.requires_grad_(True)
        self.gate.requires_grad_(True)
        optimiser = torch.optim.Adam(parts)
        with self.off():
            chunks = chunked(self.model, encoded, self.layer, self.config.chunk, self._module)
            count = targets(chunks)
            for _ in range(self.config.steps):
                optimiser.zero_grad()
                gated = functional.binary_cross_entropy_with_logits(
                    self.openness(keys), wanted, weights, reduction="sum"
                )
                gated.backward()
                loss = gated.item()
                for upper in chunks:
                    part = upper.losses(change=self.training_change(upper.encoded))[0].sum() / count
                    part.backward()
                    loss += part.item()
                if loss < self.config.enough:
                    break
                optimiser.step()
        optimiser.zero_grad()
        self.replacing.requires_grad_(False)
        self.gate.requires_grad_(False)
        self._last = self._served = None

    def openness(self, keys: Tensor) -> Tensor:
        """Return the gate's logit, (sequences,), for the module's inputs at last prompt tokens (sequences, inputs)."""
        return self.gate(functional.rms_norm(keys, keys.shape[-1:], eps=1e-12))[:, 0]

    def decide(self, keys: Tensor) -> Tensor:
        """Return for which keys the gate is open to the threshold, (sequences,) bool."""
        return self.openness(keys).sigmoid() >= self.config.threshold

    def replacement(self, inputs: Tensor) -> Tensor:
        """Return the linear layer's output, float32 (sequences, tokens, outputs)."""
        return self.replacing(inputs.float())

    def is_empty(self) -> bool:
        """Tell whether no batch has come yet."""
        return self.gate is None

    def memory(self) -> int:
        """Return the bytes of gate and replacement."""
        parts = [part for part in (self.gate, self.replacing) if part is not None]
        return sum(value.numel() * value.element_size() for part in parts for value in part.parameters())

    def in_place(self) -> list[nn.Module]:
        """Return gate and replacement, which every batch trains further."""
        return [part for part in (self.gate, self.replacing) if part is not None]

    def restore(self) -> None:
        """Take the hooks off and forget both parts."""
        super().restore()
        self.gate = self.replacing = None

    @torch.no_grad()
    def _insert(self) -> None:
        outputs, inputs = matrix(self._module).shape
        device = self._module.weight.device
        self.gate = nn.utils.skip_init(nn.Linear, inputs, 1, device=device)
        self.replacing = nn.utils.skip_init(nn.Linear, inputs, outputs, device=device)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        nn.init.zeros_(self.replacing.bias)
        self.replacing.weight.copy_(matrix(self._module))
        if self._module.bias is not None:
            self.replacing.bias.copy_(self._module.bias)
