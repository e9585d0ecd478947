"""DEFER: one gate and one replacement output shared by all edits; GRACE's baseline (arXiv 2211.11031)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lib import seeds
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import Encoded, encode, encode_edits
from lib.causal_lm.layers import matrix
from lib.causal_lm.upper_layers import Change, chunked, targets
from lib.editing.editor import State
from lib.editing.output_replacing import OutputReplacing
from lib.errors import UserError
from lib.settings import Settings, Share

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class DeferConfig(Settings):
    """DEFER; defaults are those of its authors' code, where both rates are one, chosen for T5."""

    layer: NonNegativeInt = 27  # as GRACE
    learns: Literal["edits", "contrast"] = "edits"  # the gate: by the edits' loss, or to tell them from other texts
    rate: PositiveFloat = 0.1  # of the replacement
    gate_rate: PositiveFloat = 0.1
    steps: PositiveInt = 100  # at most
    enough: NonNegativeFloat = 0.0  # stops when the mean loss of both parts, in nats, is below; 0: never
    threshold: Share = 0.5  # sequences whose gate is at least so open are served
    chunk: PositiveInt = 32  # edits that run at once in a step; bounds memory, leaves the gradient as it is
    packed: bool = False  # no padding above the layer, where that is less work; equal but for rounding (ours)
    seed: NonNegativeInt = 0  # of both parts' weights, where the edits' loss trains the gate

    @classmethod
    def tuned(cls, **settings: Any) -> Self:
        """Return settings for small models, with some of them changed; each one's reason stands here."""
        ours: dict[str, Any] = {
            "learns": "contrast",  # nothing else ever asks the gate to be shut, so that all texts are changed
            "rate": 1e-3,  # the replacement starts as the layer itself, near what it is to be
            "gate_rate": 1e-2,
            "enough": 1e-2,
        }
        return cls(**{**ours, **settings})


class Defer(OutputReplacing):
    """A gate sigma(w . z + b) at the last prompt token, and a linear layer in place of one down projection.

    Of SERAC (which keeps its edits, a scope classifier and a second model): a gate and a linear layer, by GRACE's
    authors. As released ("edits"), z is the module's input at the last prompt token, the linear layer maps it to one
    output for all tokens, and in training the gate mixes this and the module's own. With "contrast" z is at root mean
    square 1; the gate learns, by cross-entropy, to open for the batch and to stay shut for the given unrelated texts,
    apart from the replacement, which starts as the module itself and sees each token from the last prompt token on.
    Earlier batches are not rehearsed: they can be forgotten.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: DeferConfig,
        unrelated: Sequence[str] = (),
    ) -> None:
        """Take a model and texts that the gate is to stay shut for; `UserError` for an unknown layer, and for no texts.

        As released, the gate is shown no such texts: give none.
        """
        if config.learns == "contrast" and not unrelated:
            raise UserError("DEFER has no unrelated texts for its gate: give some, such as locality prompts")
        super().__init__(model, tokenizer, config.layer)
        self.config, self._unrelated = config, list(unrelated)
        self.where = "onward" if config.learns == "contrast" else "all"
        self._negatives: Tensor | None = None
        self.replacing: nn.Linear | Any = None  # both None until the first edit
        self.gate: nn.Linear | Any = None

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Train both parts further on a batch; raises `UserError` for no edits and those that `check` refuses."""
        encoded = encode_edits(self.model, self.tokenizer, batch)
        contrast = self._contrast(encoded, batch[0].target) if self.config.learns == "contrast" else None
        if self.gate is None:
            self._insert()
        parts = [
            {"params": self.replacing.parameters(), "lr": self.config.rate},
            {"params": self.gate.parameters(), "lr": self.config.gate_rate},
        ]
        self.replacing.requires_grad_(True)
        self.gate.requires_grad_(True)
        optimiser = torch.optim.Adam(parts)
        change = self.training_change if contrast else self._mixed
        with self.off():
            chunks = chunked(
                self.model, encoded, self.layer, self.config.chunk, self._module, packed=self.config.packed
            )
            count = targets(chunks)
            for _ in range(self.config.steps):
                optimiser.zero_grad()
                loss = 0.0
                if contrast:
                    keys, wanted, weights = contrast
                    gated = functional.binary_cross_entropy_with_logits(
                        self.openness(keys), wanted, weights, reduction="sum"
                    )
                    gated.backward()
                    loss = gated.item()
                for upper in chunks:
                    part = upper.losses(change=change(upper.encoded))[0].sum() / count
                    part.backward()
                    loss += part.item()
                if loss < self.config.enough:
                    break
                optimiser.step()
        optimiser.zero_grad()
        self.replacing.requires_grad_(False)
        self.gate.requires_grad_(False)
        self.hand.decision = None

    def _contrast(self, encoded: Encoded, target: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return the keys of a batch and of the unrelated texts, what the gate is to say to each, and its weight."""
        positives, _ = self.keys(encoded)
        if self._negatives is None:
            # Any target will do: keys are taken before it.
            asked = [(text, target) for text in self._unrelated]
            self._negatives = self.keys(encode(self.model, self.tokenizer, asked))[0]
        wanted = torch.cat([torch.ones_like(positives[:, 0]), torch.zeros_like(self._negatives[:, 0])])
        # Both sides weigh the same, however many texts there are.
        weights = torch.where(wanted > 0, 0.5 / len(positives), 0.5 / len(self._negatives))
        return torch.cat([positives, self._negatives]), wanted, weights

    def _mixed(self, encoded: Encoded) -> Change:
        """Return what the module puts out in training as released: all tokens get the gate's mixture of both parts."""

        def change(inputs: Tensor, output: Tensor) -> Tensor:
            keys = inputs[torch.arange(len(inputs), device=inputs.device), encoded.last_prompt].float()
            gate = self.openness(keys).sigmoid()[:, None, None]
            return (gate * self.replacing(keys)[:, None] + (1 - gate) * output.float()).to(output.dtype)

        return change

    def openness(self, keys: Tensor) -> Tensor:
        """Return the gate's logit, (sequences,), for the module's inputs at last prompt tokens (sequences, inputs)."""
        if self.config.learns == "contrast":
            keys = functional.rms_norm(keys, keys.shape[-1:], eps=1e-12)
        return self.gate(keys)[:, 0]

    def decided(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return for which keys the gate is open, (sequences,) bool, and the linear layer's outputs."""
        return self.openness(keys).sigmoid() >= self.config.threshold, self.replacing(keys)

    def replacement(self, inputs: Tensor, *decided: Tensor) -> Tensor:
        """Return the linear layer's output, float32 (sequences, tokens, outputs); as released, one for all tokens."""
        if self.config.learns == "edits":
            return decided[0][:, None]
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

    def saved_state(self) -> State:
        """Return gate and replacement, and the keys of the unrelated texts."""
        if self.gate is None:
            return {}, {}
        parts = {"gate": self.gate, "replacing": self.replacing}
        found = {f"{name}.{one}": value for name, part in parts.items() for one, value in part.state_dict().items()}
        return found | ({} if self._negatives is None else {"negatives": self._negatives}), {}

    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned; raises as `Editor.take_state`."""
        del told
        self._insert()
        for name, part in (("gate", self.gate), ("replacing", self.replacing)):
            part.load_state_dict({one: tensors[f"{name}.{one}"] for one in part.state_dict()})
            part.requires_grad_(False)
        self._negatives = tensors.get("negatives")

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
        if self.config.learns == "edits":
            stream = seeds.generator("DEFER", self.config.seed)
            for part in (self.gate, self.replacing):  # as torch starts every linear layer
                for value in part.parameters():
                    drawn = torch.rand(value.shape, generator=stream)
                    value.copy_((2 * drawn - 1) * inputs**-0.5)
            return
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        nn.init.zeros_(self.replacing.bias)
        self.replacing.weight.copy_(matrix(self._module))
        if self._module.bias is not None:
            self.replacing.bias.copy_(self._module.bias)
