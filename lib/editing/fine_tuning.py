"""Fine-tuning one down projection: FT-L (bounded change) and FT-EWC (change made dear by the Fisher information)."""

import dataclasses
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lib.causal_lm.edits import Edit, as_edits
from lib.causal_lm.encoding import encode_edits
from lib.causal_lm.layers import block, down_projection, matrix
from lib.causal_lm.upper_layers import Change, Loss, UpperLayers, chunked, descend
from lib.editing.editor import Editor, State
from lib.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class FineTuningConfig(Settings):
    """FT-L; defaults are those of ROME's code, with the layer, rate and steps of the common library for LLaMA-2-7B."""

    layer: NonNegativeInt = 21
    rate: PositiveFloat = 5e-4
    steps: PositiveInt = 25  # at most
    enough: NonNegativeFloat = 1e-2  # stops when the mean loss, in nats a target token, is below
    radius: PositiveFloat | None = 5e-4  # eps, largest change of a weight: GPT-2 XL's (GPT-J: 5e-5); None: no bound
    centre: Literal["edit", "first"] = "edit"  # measured from the weights before this batch (ROME's), or before all
    loss: Loss = "last_position"  # the original's; "teacher_forcing" is the ordinary one
    average: Literal["edit", "token"] = "edit"  # every edit weighs the same (as released), or every target token
    chunk: PositiveInt = 32  # edits that run at once in a step; bounds memory, leaves the gradient as it is
    packed: bool = False  # no padding above the layer, where that is less work; equal but for rounding (ours)

    @classmethod
    def tuned(cls, **settings: Any) -> Self:
        """Return settings for small models, with some of them changed; each one's reason stands here."""
        ours: dict[str, Any] = {
            "loss": "teacher_forcing",  # the original's asks the last prompt token for every target token at once
            "radius": 2e-2,  # the weights of a small model are larger; the best of three on the tuning split
            "steps": 50,  # a batch of edits instead of one
        }
        return cls(**{**ours, **settings})


class EwcConfig(Settings):
    """FT-EWC; defaults are those of GRACE's code.

    It divides the sum over the remembered edits by 10 even while there are fewer, theta* as well: here both are means.
    """

    layer: NonNegativeInt = 21  # our choice: the same as FT-L's
    rate: PositiveFloat = 1e-2
    steps: PositiveInt = 100  # at most: it stops when every target token is the best guess
    weight: NonNegativeFloat = 0.1  # of the penalty
    recent: PositiveInt = 10  # edits that the Fisher information is taken from
    chunk: PositiveInt = 32  # edits that run at once in a step; bounds memory, leaves the gradient as it is
    packed: bool = False  # no padding above the layer, where that is less work; equal but for rounding (ours)


class OneMatrix(Editor):
    """Fine-tuning of one down projection's weight (not its bias) in float32, whatever the model's own precision."""

    config: FineTuningConfig | EwcConfig

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", layer: int) -> None:
        """Take a model; raises `UserError` for a layer that does not exist."""
        block(model, layer)
        super().__init__(model, tokenizer)
        self._module = down_projection(model, layer)

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Train the matrix (outputs, inputs) on a batch; raises `UserError` for no edits and those `check` refuses."""
        encoded = encode_edits(self.model, self.tokenizer, batch)
        config = self.config
        chunks = chunked(self.model, encoded, config.layer, config.chunk, self._module, packed=config.packed)
        self.keep(self._module)
        before = matrix(self._module).detach().float()
        weight = before.clone().requires_grad_()

        def change(inputs: Tensor, _: Tensor) -> Tensor:
            return functional.linear(inputs, weight.to(inputs.dtype), self._module.bias)

        self._train(chunks, change, weight, before)
        with torch.no_grad():
            matrix(self._module).copy_(weight)

    @abstractmethod
    def _train(self, chunks: Sequence[UpperLayers], change: Change, weight: Tensor, before: Tensor) -> None:
        """Move `weight` (outputs, inputs) from `before`, both float32, in place; `change` puts out what it gives."""


class FineTuning(OneMatrix):
    """FT-L: Adam on one down projection, each weight clamped within eps of its start."""

    config: FineTuningConfig

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: FineTuningConfig
    ) -> None:
        """Take a model; raises `UserError` for a layer that does not exist."""
        super().__init__(model, tokenizer, config.layer)
        self.config = config

    def _train(self, chunks: Sequence[UpperLayers], change: Change, weight: Tensor, before: Tensor) -> None:
        if self.config.centre == "first":
            first = next(value for kept, value in self._saved.values() if kept is self._module.weight)
            before = (first if isinstance(self._module, nn.Linear) else first.T).float()
        optimiser = torch.optim.Adam([weight], self.config.rate)
        for _ in range(self.config.steps):
            optimiser.zero_grad()
            loss = self._descend(chunks, change)
            if loss < self.config.enough:
                return
            optimiser.step()
            if self.config.radius is not None:
                with torch.no_grad():
                    weight.copy_(weight.clamp(before - self.config.radius, before + self.config.radius))

    def _descend(self, chunks: Sequence[UpperLayers], change: Change) -> float:
        """Add the gradient of the mean loss, chunk by chunk; returns that mean in nats."""
        if self.config.average == "token":
            return descend(chunks, self.config.loss, change)[0]
        edits, total = sum(len(chunk.encoded.ids) for chunk in chunks), 0.0
        for chunk in chunks:
            losses, _, sequence = chunk.losses(self.config.loss, change)
            loss = (losses / torch.bincount(sequence)[sequence]).sum() / edits
            loss.backward()
            total += loss.item()
        return total


class EwcFineTuning(OneMatrix):
    """FT-EWC: loss + weight * sum F (theta - theta*)^2, theta* the weights before the batch.

    F is the mean squared gradient, at theta*, of the losses of the last edits before the batch, each edit on its own.
    """

    config: EwcConfig

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: EwcConfig) -> None:
        """Take a model; raises `UserError` for a layer that does not exist."""
        super().__init__(model, tokenizer, config.layer)
        self.config = config
        self._recent: deque[Edit] = deque(maxlen=config.recent)

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Train on a batch and remember its last edits; raises `UserError` as `OneMatrix`."""
        super()._learn(batch)
        self._recent.extend(batch)

    def memory(self) -> int:
        """Return the bytes of the remembered edits' token ids: the information is computed anew from them."""
        if not self._recent:
            return 0
        encoded = encode_edits(self.model, self.tokenizer, list(self._recent))
        return int(encoded.mask.sum()) * encoded.ids.element_size()

    def restore(self) -> None:
        """Give the model back, to the bit, and forget the edits."""
        self._recent.clear()
        super().restore()

    def saved_state(self) -> State:
        """Return the weight and the edits that the information is taken from."""
        tensors, _ = super().saved_state()
        return tensors, {"recent": [dataclasses.asdict(edit) for edit in self._recent]}

    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned; raises as `Editor.take_state`."""
        super().take_state(tensors, told)
        self._recent.extend(as_edits(told["recent"]))

    def fisher(self) -> Tensor:
        """Return F of the remembered edits at the present weights, (outputs, inputs) in float32; zeros without any.

        No edit needs a pass of its own: its gradient is the sum over its tokens of output gradient times input.
        """
        found = torch.zeros_like(matrix(self._module), dtype=torch.float32)
        if not self._recent:
            return found
        encoded = encode_edits(self.model, self.tokenizer, list(self._recent))
        config = self.config
        for upper in chunked(self.model, encoded, config.layer, config.chunk, self._module, packed=config.packed):
            seen: list[Tensor] = []

            def note(inputs: Tensor, output: Tensor, seen: list[Tensor] = seen) -> Tensor:
                seen[:] = [inputs.detach().float(), output.detach().requires_grad_()]
                return seen[1]

            losses, _, sequence = upper.losses(change=note)
            lengths = torch.bincount(sequence, minlength=len(upper.encoded.ids))
            (slope,) = torch.autograd.grad((losses / lengths[sequence]).sum(), seen[1])
            for entering, leaving in zip(seen[0], slope.float(), strict=True):
                found += (leaving.T @ entering).square()
        return found / len(encoded.ids)

    def penalty(self, weight: Tensor, before: Tensor, fisher: Tensor) -> Tensor:
        """Return weight * sum F (theta - theta*)^2, a scalar, for matrices (outputs, inputs)."""
        return self.config.weight * (fisher * (weight - before).square()).sum()

    def _train(self, chunks: Sequence[UpperLayers], change: Change, weight: Tensor, before: Tensor) -> None:
        fisher = self.fisher()  # while the model's own weight still equals `before`
        optimiser = torch.optim.Adam([weight], self.config.rate)
        for _ in range(self.config.steps):
            optimiser.zero_grad()
            _, right = descend(chunks, change=change)
            if right:
                return
            self.penalty(weight, before, fisher).backward()
            optimiser.step()
