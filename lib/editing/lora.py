"""LoRA fine-tuning in sequence: one low-rank adaptor of chosen linear maps that goes on learning, edit after edit.

The adaptor is ours, on torch's parametrizations: `peft` is not among the project's libraries.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lib import seeds
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode_edits
from lib.causal_lm.layers import block, blocks, matrix
from lib.causal_lm.upper_layers import chunked, descend
from lib.editing.editor import Editor
from lib.errors import UserError
from lib.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lib.causal_lm.layers import LinearMap


class LoraConfig(Settings):
    """LoRA in sequence; defaults are those of the common editing library for LLaMA-2-7B, without its dropout."""

    rank: int = 8
    alpha: float = 32.0  # the change is alpha / rank B A
    modules: tuple[str, ...] = ("q_proj", "v_proj")  # names within a block; GPT-2 has "c_attn"
    layers: tuple[int, ...] | None = None  # None: all
    rate: float = 5e-3
    steps: int = 70  # at most
    enough: float = 1e-2  # stops when the mean loss, in nats a target token, is below: our choice, as FT-L's
    chunk: int = Field(32, ge=1)  # edits that run at once in a step; bounds memory, leaves the gradient as it is
    seed: int = 0


class LowRank(nn.Module):
    """W + alpha / rank B A for a weight W (outputs, inputs), or its transpose for GPT-2's; B starts at zero."""

    def __init__(self, linear: "LinearMap", config: LoraConfig, generator: torch.Generator) -> None:
        """Draw A uniformly within 1 / sqrt(inputs), in float32 on the device of the weight."""
        super().__init__()
        outputs, inputs = matrix(linear).shape
        self.transposed = not isinstance(linear, nn.Linear)
        self.scale = config.alpha / config.rank
        drawn = (2 * torch.rand(config.rank, inputs, generator=generator) - 1) * inputs**-0.5
        self.down = nn.Parameter(drawn.to(linear.weight.device))
        self.up = nn.Parameter(torch.zeros(outputs, config.rank, device=linear.weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed weight, in the shape and precision of the given one."""
        change = self.down.T @ self.up.T if self.transposed else self.up @ self.down
        return (weight + self.scale * change).to(weight.dtype)


class LoraFineTuning(Editor):
    """One adaptor for all edits: each batch trains it further by teacher forcing, with Adam started anew."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: LoraConfig) -> None:
        """Take a model; raises `UserError` for layers or modules that it does not have."""
        self.layers = tuple(range(len(blocks(model)))) if config.layers is None else config.layers
        if not self.layers or not config.modules:
            raise UserError("LoRA has no layers or no modules: name at least one of each")
        found = []
        for layer in sorted(set(self.layers)):
            inside = block(model, layer).named_modules()
            linear = {path: part for path, part in inside if getattr(getattr(part, "weight", None), "ndim", 0) == 2}
            for name in config.modules:
                suited = [part for path, part in linear.items() if path.split(".")[-1] == name]
                if not suited:
                    raise UserError(f"layer {layer} has no module {name!r} for LoRA: choose of {sorted(linear)}")
                found += suited
        super().__init__(model, tokenizer)
        self.config, self._modules = config, found
        self.adaptors: list[LowRank] = []

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Train the adaptor on a batch; raises `UserError` for no edits and those that `check` refuses."""
        encoded = encode_edits(self.model, self.tokenizer, batch)
        if not self.adaptors:
            self._insert()
        chunks = chunked(self.model, encoded, min(self.layers), self.config.chunk)
        trained = [parameter for adaptor in self.adaptors for parameter in adaptor.parameters()]
        for parameter in trained:
            parameter.requires_grad_(True)
        optimiser = torch.optim.Adam(trained, self.config.rate)
        for _ in range(self.config.steps):
            optimiser.zero_grad()
            loss, _ = descend(chunks)
            if loss < self.config.enough:
                break
            optimiser.step()
        for parameter in trained:
            parameter.requires_grad_(False)
            parameter.grad = None

    def memory(self) -> int:
        """Return the bytes of all A and B."""
        parameters = [value for adaptor in self.adaptors for value in adaptor.parameters()]
        return sum(value.numel() * value.element_size() for value in parameters)

    def in_place(self) -> list[LowRank]:
        """Return the adaptor, which every batch trains further."""
        return self.adaptors

    def restore(self) -> None:
        """Take the adaptor off: the weights beneath were never changed."""
        for module in self._modules if self.adaptors else []:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
        self.adaptors = []
        super().restore()

    def _insert(self) -> None:
        generator = seeds.generator("LoRA", self.config.seed)
        for module in self._modules:
            adaptor = LowRank(module, self.config, generator)
            parametrize.register_parametrization(module, "weight", adaptor)
            self.adaptors.append(adaptor)
