"""LoRA fine-tuning in sequence: one low-rank adaptor of chosen linear maps that goes on learning, edit after edit."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lib import seeds
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode_edits
from lib.causal_lm.layers import block, blocks
from lib.causal_lm.upper_layers import chunked, descend
from lib.editing.editor import Editor, State
from lib.errors import UserError
from lib.settings import Settings

if TYPE_CHECKING:
    from peft import LoraModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LoraConfig(Settings):
    """LoRA in sequence, by the peft library; defaults are those of the common editing library for LLaMA-2-7B.

    Ours: no end token is learnt after the target. (Its code offers AdaLoRA as well, with the same numbers.)
    """

    rank: PositiveInt = 8
    alpha: PositiveFloat = 32.0  # the change is alpha / rank B A
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # of what enters A, in training
    modules: tuple[str, ...] = ("q_proj", "v_proj")  # names within a block; GPT-2 has "c_attn"
    layers: tuple[NonNegativeInt, ...] | None = None  # None: all
    rate: PositiveFloat = 5e-3
    steps: PositiveInt = 70  # passes over a batch, at most
    together: PositiveInt | None = 1  # edits of an optimiser step; None: the whole batch
    enough: NonNegativeFloat = 0.0  # stops when the mean loss of a pass, in nats a target token, is below
    chunk: PositiveInt = 32  # edits that run at once in a step; bounds memory, leaves the gradient as it is
    seed: NonNegativeInt = 0

    @classmethod
    def tuned(cls, **settings: Any) -> Self:
        """Return settings for small models on few cores, with some of them changed; each one's reason stands here."""
        ours: dict[str, Any] = {
            "dropout": 0.0,  # so that lower layers are run once, and a learnt edit is seen to be learnt
            "together": None,  # a step for each edit would take as many times as long
            "enough": 1e-2,  # as FT-L's
            "rate": 5e-4,  # the best of three on the tuning split: 5e-3 undoes earlier batches
        }
        return cls(**{**ours, **settings})


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
        names = {id(part): name for name, part in model.named_modules()}
        self.config, self._names = config, [names[id(part)] for part in found]
        self.adaptors: list[Any] = []  # the peft library's layers, each around a linear map
        self._peft: LoraModel | None = None
        self._batches = 0

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Train the adaptor on a batch; raises `UserError` for no edits and those that `check` refuses."""
        encode_edits(self.model, self.tokenizer, batch)  # raises before anything changes
        if not self.adaptors:
            self._insert()
        size, lowest = self.config.together or len(batch), min(self.layers)
        groups = []
        for start in range(0, len(batch), size):
            encoded = encode_edits(self.model, self.tokenizer, batch[start : start + size])
            groups.append((len(encoded.ids), chunked(self.model, encoded, lowest, self.config.chunk)))
        trained = self._parameters()
        optimiser = torch.optim.Adam(trained, self.config.rate)
        self._train(True)
        with torch.random.fork_rng():
            torch.manual_seed(seeds.seed_of("LoRA dropout", self.config.seed, self._batches))
            for _ in range(self.config.steps):
                total = 0.0
                for edits, chunks in groups:
                    optimiser.zero_grad()
                    loss, _ = descend(chunks)
                    total += loss * edits / len(batch)
                    # The gradient of one step for all is left where the loss is small enough.
                    if len(groups) > 1 or loss >= self.config.enough:
                        optimiser.step()
                if total < self.config.enough:
                    break
        self._train(False)
        self._batches += 1

    def _parameters(self) -> list[nn.Parameter]:
        """Return all A and B, by adaptor."""
        return [part["default"].weight for adaptor in self.adaptors for part in (adaptor.lora_A, adaptor.lora_B)]

    def _train(self, on: bool) -> None:
        """Let A and B take gradients, and what enters A be dropped, or not."""
        for parameter in self._parameters():
            parameter.requires_grad_(on)
            parameter.grad = None
        for adaptor in self.adaptors:
            adaptor.lora_dropout.train(on)

    def memory(self) -> int:
        """Return the bytes of all A and B."""
        return sum(value.numel() * value.element_size() for value in self._parameters())

    def in_place(self) -> list[nn.Module]:
        """Return the adaptors, which every batch trains further."""
        return self.adaptors

    def saved_state(self) -> State:
        """Return A and B of every map, by its name, and how many batches they have learnt."""
        names = [f"{name}.{part}" for name in self._names for part in ("A", "B")] if self.adaptors else []
        return dict(zip(names, self._parameters(), strict=True)), {"batches": self._batches}

    @torch.no_grad()
    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned; raises as `Editor.take_state`."""
        self._insert()
        names = [f"{name}.{part}" for name in self._names for part in ("A", "B")]
        if set(names) != set(tensors):
            raise ValueError("the maps that LoRA changes are others")
        for name, parameter in zip(names, self._parameters(), strict=True):
            if parameter.shape != tensors[name].shape:
                raise ValueError(f"{name} is of another shape")
            parameter.copy_(tensors[name])
        self._batches = int(told["batches"])

    @contextmanager
    def without_edits(self) -> Iterator[None]:
        """Within this block the model answers as the unedited one."""
        for adaptor in self.adaptors:
            adaptor.enable_adapters(False)
        try:
            yield
        finally:
            for adaptor in self.adaptors:
                adaptor.enable_adapters(True)
            self._train(False)  # which the library has switched on

    def restore(self) -> None:
        """Take the adaptor off: the weights beneath were never changed."""
        if self._peft is not None:
            self._peft.unload()
            vars(self.model).pop("peft_config", None)
        self.adaptors, self._peft, self._batches = [], None, 0
        super().restore()

    def _insert(self) -> None:
        import peft

        config = self.config
        settings = peft.LoraConfig(
            r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=self._names
        )
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")  # about GPT-2's transposed weights, which it sees by itself
            self._peft = peft.LoraModel(self.model, settings, "default")
        self.adaptors = [self.model.get_submodule(name) for name in self._names]
        generator = seeds.generator("LoRA", config.seed)
        with torch.no_grad():
            for adaptor in self.adaptors:  # A as the library draws it, but from a stream of its own
                down = adaptor.lora_A["default"].weight
                down.copy_((2 * torch.rand(down.shape, generator=generator) - 1) * down.shape[1] ** -0.5)
        self.model.eval()
        self._train(False)
