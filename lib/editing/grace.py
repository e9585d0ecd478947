"""GRACE: a codebook of keys with radii at one layer, whose values replace its output (arXiv 2211.11031)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from lib import seeds
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import IGNORED, Encoded, encode_edits
from lib.causal_lm.layers import matrix
from lib.causal_lm.upper_layers import chunked
from lib.editing.editor import State
from lib.editing.output_replacing import OutputReplacing
from lib.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Codebook:
    """Keys (entries, inputs), values (entries, outputs), radii (entries,), and each entry's label, a tuple of ids."""

    keys: Tensor
    values: Tensor
    radii: Tensor
    labels: list[tuple[int, ...]]

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.labels)

    def nearest(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest entry of each key (keys, inputs) and its L2 distance, both (keys,)."""
        exact = torch.cdist(keys, self.keys, compute_mode="donot_use_mm_for_euclid_dist")
        distance, entry = exact.min(1)
        return entry, distance

    def arrive(
        self, key: Tensor, value: Tensor, label: tuple[int, ...], radius: float, equal: float | None = None
    ) -> int:
        """Take in a key (inputs,) and return its entry (Algorithm 1 of GRACE; keys within `equal`: our choice).

        Out of the reach of all (farther from the nearest than its radius plus `radius`): a new entry. Within it and of
        the same label: the nearest, widened to the distance. Of another label: a new entry, both radii half the
        distance (the older one 1e-5 less, so that they do not touch); but where the keys are within `equal` of each
        other, one prompt has two labels, and the later label and value take the entry over.
        """
        entry, distance = -1, float("inf")
        if len(self):
            found, far = self.nearest(key[None])
            entry, distance = int(found), float(far)
        if not len(self) or distance > float(self.radii[entry]) + radius:
            return self._add(key, value, label, radius)
        if self.labels[entry] == label:
            self.radii[entry] = max(float(self.radii[entry]), distance)
            return entry
        if equal is not None and distance <= equal:
            self.labels[entry], self.values[entry] = label, value
            return entry
        self.radii[entry] = distance / 2 - 1e-5
        return self._add(key, value, label, distance / 2)

    def _add(self, key: Tensor, value: Tensor, label: tuple[int, ...], radius: float) -> int:
        self.keys, self.values = torch.cat([self.keys, key[None]]), torch.cat([self.values, value[None]])
        self.radii = torch.cat([self.radii, self.radii.new_tensor([radius])])
        self.labels.append(label)
        return len(self) - 1


class GraceConfig(Settings):
    """GRACE; defaults are those of its authors' code, whose layers were chosen by model."""

    layer: NonNegativeInt = 27  # of LLaMA-2-7B's 32
    radius: PositiveFloat = 1.0  # eps of a new entry
    rate: PositiveFloat = 1.0
    steps: PositiveInt = 100  # at most
    enough: NonNegativeFloat = 0.0  # stops when every target token's loss, in nats, is below; 0: never
    equal: NonNegativeFloat | None = None  # keys nearer than this share of their norm are one prompt; None: none are
    where: Literal["prompt", "last", "all", "onward"] = "prompt"  # tokens replaced: before the last prompt token, ...
    start: Literal["cold", "warm"] = "cold"  # of a value: uniform in [0, 1), or what the layer itself puts out
    chunk: PositiveInt = 32  # edits that run at once in a step; bounds memory, leaves the gradient as it is
    packed: bool = False  # no padding above the layer, where that is less work; equal but for rounding (ours)
    seed: NonNegativeInt = 0

    @classmethod
    def tuned(cls, **settings: Any) -> Self:
        """Return settings for small models, with some of them changed; each one's reason stands here."""
        ours: dict[str, Any] = {
            "radius": 5.0,  # the best of four on the tuning split: keys lie farther apart than a 7B model's
            "enough": 1e-2,  # a learnt value is not worked on further
            "equal": 1e-3,  # one prompt with two targets: the later one holds, also where its key is rounded otherwise
            "where": "onward",  # the answer's own tokens see the value, so that answers of several tokens are learnt
        }
        return cls(**{**ours, **settings})


class Grace(OutputReplacing):
    """GRACE on the down projection of one feed-forward part: its input is the key, its output is replaced.

    So do its authors for decoders. Ours: labels are compared by their ids (theirs: by the mean of them), and tokens
    generated with a cache keep the decision of their prompt (theirs: each decides again).
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: GraceConfig) -> None:
        """Take a model; raises `UserError` for a layer that does not exist."""
        super().__init__(model, tokenizer, config.layer)
        self.config, self.where = config, config.where
        self._arrived = 0
        self._empty()

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Let edits arrive one after the other, then train their entries' values together (they do not interact).

        As in the authors' code, an edit that falls to an entry of its label trains that entry's value further. Raises
        `UserError` for no edits and those that `check` refuses.
        """
        encoded = encode_edits(self.model, self.tokenizer, batch)
        keys, outputs = self.keys(encoded)
        entries, labels = [], []
        for key, output, row in zip(keys, outputs, encoded.labels.tolist(), strict=True):
            label = tuple(token for token in row if token != IGNORED)
            value = output if self.config.start == "warm" else self._drawn(output)
            equal = None if self.config.equal is None else self.config.equal * float(key.norm())
            entries.append(self.codebook.arrive(key, value, label, self.config.radius, equal))
            labels.append(label)
            self._arrived += 1
        kept = [self.codebook.labels[entry] == label for entry, label in zip(entries, labels, strict=True)]
        self._train(encoded, torch.tensor(entries, device=keys.device), torch.tensor(kept, device=keys.device))

    def decided(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return which keys (sequences, inputs) lie within the radius of their nearest entry, and this one's value."""
        entry, distance = self.codebook.nearest(keys)
        return distance <= self.codebook.radii[entry], self.codebook.values[entry]

    def replacement(self, inputs: Tensor, *decided: Tensor) -> Tensor:
        """Return the value of each sequence's entry, (sequences, 1, outputs)."""
        del inputs
        (values,) = decided
        return values[:, None]

    def is_empty(self) -> bool:
        """Tell whether the codebook is empty."""
        return not len(self.codebook)

    def memory(self) -> int:
        """Return the bytes of keys, values and radii."""
        book = self.codebook
        return sum(part.numel() * part.element_size() for part in (book.keys, book.values, book.radii))

    def in_place(self) -> list[Tensor]:
        """Return values and radii: an edit may move those of an entry that is there."""
        return [self.codebook.values, self.codebook.radii]

    def restore(self) -> None:
        """Take the hooks off and empty the codebook."""
        super().restore()
        self._arrived = 0
        self._empty()

    def _empty(self) -> None:
        outputs, inputs = matrix(self._module).shape
        zeros = torch.zeros(0, outputs + inputs + 1, device=self._module.weight.device)
        self.codebook = Codebook(zeros[:, :inputs], zeros[:, :outputs], zeros[:, 0], [])

    def saved_state(self) -> State:
        """Return the codebook, and how many edits have arrived."""
        book = self.codebook
        tensors = {"keys": book.keys, "values": book.values, "radii": book.radii}
        return tensors, {"labels": [list(label) for label in book.labels], "arrived": self._arrived}

    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned; raises as `Editor.take_state`."""
        labels = [tuple(int(token) for token in label) for label in told["labels"]]
        sizes = {"keys": self.codebook.keys.shape[1:], "values": self.codebook.values.shape[1:], "radii": ()}
        for name, size in sizes.items():
            if tensors[name].shape != (len(labels), *size):
                raise ValueError(f"the codebook's {name} are of another shape")
        self.codebook = Codebook(tensors["keys"], tensors["values"], tensors["radii"], labels)
        self._arrived = int(told["arrived"])

    def _drawn(self, output: Tensor) -> Tensor:
        drawn = torch.rand(output.shape, generator=seeds.generator("GRACE", self.config.seed, self._arrived))
        return drawn.to(output)

    def _train(self, encoded: Encoded, entries: Tensor, kept: Tensor) -> None:
        """Train the values of `entries` (sequences,): Adam on the sum of the mean losses of the sequences `kept`.

        Those not kept lost their entry to a later edit of the same batch.
        """
        size = self.config.chunk
        used, slot = entries.unique(return_inverse=True)
        values = self.codebook.values[used].clone().requires_grad_()
        optimiser = torch.optim.Adam([values], self.config.rate)
        with self.off():
            chunks = chunked(self.model, encoded, self.layer, size, self._module, packed=self.config.packed)
            for _ in range(self.config.steps):
                optimiser.zero_grad()
                largest = 0.0
                for upper, part, still in zip(chunks, slot.split(size), kept.split(size), strict=True):
                    losses, _, sequence = upper.losses(change=self.training_change(upper.encoded, values[part]))
                    losses = losses * still[sequence]
                    largest = max(largest, losses.max().item())
                    (losses / torch.bincount(sequence)[sequence]).sum().backward()
                if largest < self.config.enough:
                    break
                optimiser.step()
        self.codebook.values[used] = values.detach()
        self.hand.decision = None
