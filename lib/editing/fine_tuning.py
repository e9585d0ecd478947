"""Fine-tuning one down projection: FT-L (bounded change) and FT-EWC (change made dear by the Fisher information)."""

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from lib.editing.editor import Editor
from lib.editing.edits import Edit
from lib.editing.encoding import IGNORED, Encoded, encode_edits
from lib.editing.layers import block, blocks, down_projection, matrix

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Loss = Literal["last_position", "teacher_forcing"]


class UpperLayers:
    """A batch carried once through the frozen blocks below a layer, to be run on from there step after step."""

    def __init__(self, model: "PreTrainedModel", encoded: Encoded, layer: int) -> None:
        """Run the whole model once without gradients, keeping what each block from `layer` on was called with."""
        base = model.base_model
        self._encoded, self._blocks = encoded, list(blocks(model))[layer:]
        self._norm = base.norm if hasattr(base, "norm") else base.ln_f
        self._head = model.get_output_embeddings()
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        hidden: list[Tensor] = []

        def note(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            hidden.append(arguments[0])
            del hidden[1:]
            self._calls.append((arguments[1:], named))

        hooks = [part.register_forward_pre_hook(note, with_kwargs=True) for part in self._blocks]
        try:
            with torch.no_grad():  # not inference mode: the kept tensors take part in training
                base(input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        self._start = hidden[0]

    def logits(self, places: Tensor) -> Tensor:
        """Return float32 logits (places, vocabulary) at the marked places of a mask (sequences, tokens)."""
        hidden = self._start
        for part, (arguments, named) in zip(self._blocks, self._calls, strict=True):
            hidden = part(hidden, *arguments, **named)
        return self._head(self._norm(hidden[places])).float()

    def losses(self, kind: Loss = "teacher_forcing") -> tuple[Tensor, Tensor, Tensor]:
        """Return, for each target token: its loss in nats, whether it is the best guess, and its sequence.

        "teacher_forcing" predicts each from what stands before it; "last_position" predicts all of them from the last
        prompt token alone, as the code of ROME's FT-L does.
        """
        labels = self._encoded.labels
        target = labels != IGNORED
        sequence = target.nonzero()[:, 0]
        if kind == "teacher_forcing":
            logits = self.logits(target.roll(-1, 1))  # no target stands first, so nothing comes round
        else:
            places = functional.one_hot(self._encoded.last_prompt, labels.shape[1]).bool()
            logits = self.logits(places)[sequence]
        wanted = labels[target]
        return functional.cross_entropy(logits, wanted, reduction="none"), logits.argmax(-1) == wanted, sequence


class FineTuningConfig(BaseModel):
    """FT-L; rate, steps and the kind of loss as in ROME's and WISE's runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: int = 21  # the common choice for LLaMA-2-7B
    rate: float = 5e-4
    steps: int = 50  # at most
    enough: float = 1e-2  # stops when the mean loss, in nats a target token, is below
    radius: float | None = 5e-4  # eps, largest change of a weight: ROME's for GPT-2 XL (GPT-J: 5e-5); None: no bound
    centre: Literal["edit", "first"] = "edit"  # measured from the weights before this batch (ROME's), or before all
    loss: Loss = "last_position"  # the original's; "teacher_forcing" is the ordinary one


class EwcConfig(BaseModel):
    """FT-EWC, as in GRACE's comparison."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: int = 21  # our choice: the same as FT-L's
    rate: float = 1e-2
    steps: int = 100  # at most: it stops when every target token is the best guess
    weight: float = 0.1  # of the penalty
    recent: int = 10  # edits that the Fisher information is taken from


class OneMatrix(Editor):
    """Fine-tuning of one down projection's weight (not its bias) in float32, whatever the model's own precision."""

    config: FineTuningConfig | EwcConfig

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", layer: int) -> None:
        """Take a model; raises `UserError` for a layer that does not exist."""
        block(model, layer)
        super().__init__(model, tokenizer)
        self._module = down_projection(model, layer)

    def edit(self, batch: Sequence[Edit]) -> None:
        """Train the matrix (outputs, inputs) on a batch; raises `UserError` for no edits and those `check` refuses."""
        encoded = encode_edits(self.model, self.tokenizer, batch)
        upper = UpperLayers(self.model, encoded, self.config.layer)
        self.keep(self._module)
        before = matrix(self._module).detach().float()
        weight = before.clone().requires_grad_()
        bias = self._module.bias

        def instead(_: nn.Module, arguments: tuple[Tensor, ...], __: Tensor) -> Tensor:
            return functional.linear(arguments[0], weight.to(arguments[0].dtype), bias)

        hook = self._module.register_forward_hook(instead)
        try:
            self._train(upper, weight, before)
        finally:
            hook.remove()
        with torch.no_grad():
            matrix(self._module).copy_(weight)

    @abstractmethod
    def _train(self, upper: UpperLayers, weight: Tensor, before: Tensor) -> None:
        """Move `weight` (outputs, inputs) from `before`, both float32, in place."""


class FineTuning(OneMatrix):
    """FT-L: Adam on one down projection, each weight clamped within eps of its start."""

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: FineTuningConfig
    ) -> None:
        """Take a model; raises `UserError` for a layer that does not exist."""
        super().__init__(model, tokenizer, config.layer)
        self.config = config

    def _train(self, upper: UpperLayers, weight: Tensor, before: Tensor) -> None:
        if self.config.centre == "first":
            first = next(value for kept, value in self._saved.values() if kept is self._module.weight)
            before = (first if isinstance(self._module, nn.Linear) else first.T).float()
        optimiser = torch.optim.Adam([weight], self.config.rate)
        for _ in range(self.config.steps):
            loss = upper.losses(self.config.loss)[0].mean()
            if loss.item() < self.config.enough:
                return
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if self.config.radius is not None:
                with torch.no_grad():
                    weight.copy_(weight.clamp(before - self.config.radius, before + self.config.radius))


class EwcFineTuning(OneMatrix):
    """FT-EWC: loss + weight * sum F (theta - theta*)^2, theta* the weights before the batch.

    F is the mean squared gradient, at theta*, of the losses of the last edits before the batch, each edit on its own.
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: EwcConfig) -> None:
        """Take a model; raises `UserError` for a layer that does not exist."""
        super().__init__(model, tokenizer, config.layer)
        self.config = config
        self._recent: deque[Edit] = deque(maxlen=config.recent)

    def edit(self, batch: Sequence[Edit]) -> None:
        """Train on a batch and remember its last edits; raises `UserError` as `OneMatrix.edit`."""
        super().edit(batch)
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

    def fisher(self) -> Tensor:
        """Return F of the remembered edits at the present weights, (outputs, inputs) in float32; zeros without any.

        One pass for all: an edit's gradient is the sum over its tokens of output gradient times input.
        """
        found = torch.zeros_like(matrix(self._module), dtype=torch.float32)
        if not self._recent:
            return found
        encoded = encode_edits(self.model, self.tokenizer, list(self._recent))
        upper = UpperLayers(self.model, encoded, self.config.layer)
        seen: list[Tensor] = []

        def note(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
            seen[:] = [arguments[0].detach().float(), output.detach().requires_grad_()]
            return seen[1]

        hook = self._module.register_forward_hook(note)
        try:
            losses, _, sequence = upper.losses()
        finally:
            hook.remove()
        lengths = torch.bincount(sequence, minlength=len(encoded.ids))
        (slope,) = torch.autograd.grad((losses / lengths[sequence]).sum(), seen[1])
        for entering, leaving in zip(seen[0], slope.float(), strict=True):
            found += (leaving.T @ entering).square()
        return found / len(encoded.ids)

    def penalty(self, weight: Tensor, before: Tensor, fisher: Tensor) -> Tensor:
        """Return weight * sum F (theta - theta*)^2, a scalar, for matrices (outputs, inputs)."""
        return self.config.weight * (fisher * (weight - before).square()).sum()

    def _train(self, upper: UpperLayers, weight: Tensor, before: Tensor) -> None:
        fisher = self.fisher()  # while `weight` still equals `before`
        optimiser = torch.optim.Adam([weight], self.config.rate)
        for _ in range(self.config.steps):
            losses, right, _ = upper.losses()
            if right.all():
                return
            optimiser.zero_grad()
            (losses.mean() + self.penalty(weight, before, fisher)).backward()
            optimiser.step()
