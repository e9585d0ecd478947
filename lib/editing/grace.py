"""GRACE: a codebook of keys with radii at one layer, whose values replace its output (arXiv 2211.11031)."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from lib import seeds
from lib.editing.editor import Editor
from lib.editing.edits import Edit
from lib.editing.encoding import IGNORED, Encoded, encode_edits
from lib.editing.fine_tuning import UpperLayers
from lib.editing.layers import block, down_projection, matrix
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class OutputReplacing(Editor):
    """Methods that decide once per sequence, at its last prompt token, whether to replace one down projection's output.

    The output is replaced from that token on, generated ones included: a pass that continues a cache keeps the
    decision of its prompt. `reading` tells where prompts end; a bare pass takes the last token that is not masked, so
    generation without a cache is to be read with `reading`.
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", layer: int) -> None:
        """Take a model and hang hooks on it; raises `UserError` for a layer that does not exist."""
        block(model, layer)
        super().__init__(model, tokenizer)
        self.layer, self._module = layer, down_projection(model, layer)
        self._hooks = [
            model.base_model.register_forward_pre_hook(self._before, with_kwargs=True),
            self._module.register_forward_hook(self._after),
        ]
        self._prompt: Tensor | None = None
        self._last: Tensor | None = None  # (sequences,), None: the pass continues a cache
        self._served: Tensor | None = None  # (sequences,) bool, the decision for the sequences in hand

    @abstractmethod
    def decide(self, keys: Tensor) -> Tensor:
        """Return which sequences are served, (sequences,) bool, by the module's inputs at the last prompt tokens."""

    @abstractmethod
    def replacement(self, inputs: Tensor) -> Tensor:
        """Return what replaces the output of inputs (sequences, tokens, inputs), broadcastable to the output."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Tell whether nothing has been learnt yet, so that nothing is to be replaced."""

    @contextmanager
    def reading(self, prompt: Tensor) -> Iterator[None]:
        """Within this block prompts end with the last token of the mask `prompt` (sequences, tokens)."""
        before, self._prompt = self._prompt, prompt
        try:
            yield
        finally:
            self._prompt = before

    def restore(self) -> None:
        """Take the hooks off: the weights were never changed."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._served, self._last = [], None, None
        super().restore()

    def keys(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Return the module's inputs and own outputs at the last prompt tokens, float32 (sequences, size)."""
        seen: list[Tensor] = []

        def note(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            rows = torch.arange(len(output), device=output.device)
            seen.extend(part[rows, encoded.last_prompt].float() for part in (arguments[0], output))

        hook = self._module.register_forward_hook(note, prepend=True)  # before the output is replaced
        try:
            with torch.no_grad(), self.reading(encoded.prompt):
                self.model.base_model(input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False)
        finally:
            hook.remove()
        return seen[0], seen[1]

    def _begin(self, encoded: Encoded) -> None:
        """Serve all sequences of a batch in the passes to come, which begin above the embeddings."""
        self._last, self._served = encoded.last_prompt, torch.ones_like(encoded.last_prompt, dtype=torch.bool)

    def _before(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Find where the prompts of a forward pass end, and forget the decision for those before."""
        past = named.get("past_key_values")
        if past is not None and past.get_seq_length() > 0:
            self._last = None
            return
        ids = named.get("input_ids", arguments[0] if arguments else None)
        ids = named["inputs_embeds"] if ids is None else ids
        mask = named.get("attention_mask") if self._prompt is None else self._prompt
        if mask is None or mask.ndim != 2:
            mask = torch.ones(ids.shape[:2], device=ids.device)
        if len(ids) % len(mask):
            raise UserError(f"{len(ids)} sequences are read with the prompts of {len(mask)}: give each its own")
        mask = mask.repeat_interleave(len(ids) // len(mask), 0)  # beams of one prompt stand together
        self._last, self._served = (mask != 0).long().cumsum(1).argmax(1).to(ids.device), None

    def _after(self, _: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """Replace the output (sequences, tokens, width) of served sequences from the last prompt token on."""
        if self.is_empty():
            return None
        inputs = arguments[0]
        if self._served is None and self._last is not None:
            rows = torch.arange(len(inputs), device=inputs.device)
            self._served = self.decide(inputs[rows, self._last].float())
        if self._served is None or len(self._served) != len(inputs):
            raise UserError("the cache holds other sequences than were read last: begin again without a cache")
        where = self._served[:, None]
        if self._last is not None:
            where = where & (torch.arange(inputs.shape[1], device=inputs.device) >= self._last[:, None])
        return torch.where(where[..., None], self.replacement(inputs).to(output.dtype), output)


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

    def arrive(self, key: Tensor, value: Tensor, label: tuple[int, ...], radius: float, equal: float = 0.0) -> int:
        """Take in a key (inputs,) and return its entry (Algorithm 1 of GRACE; keys within `equal`: our choice).

        Out of the reach of all (farther from the nearest than its radius plus `radius`): a new entry. Within it and of
        the same label: the nearest, widened to the distance. Of another label: a new entry, both radii half the
        distance (the older one a little less, so that they do not touch); but where the keys are within `equal` of each
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
        if distance <= equal:
            self.labels[entry], self.values[entry] = label, value
            return entry
        self.radii[entry] = distance / 2 * (1 - 1e-5)
        return self._add(key, value, label, distance / 2)

    def _add(self, key: Tensor, value: Tensor, label: tuple[int, ...], radius: float) -> int:
        self.keys, self.values = torch.cat([self.keys, key[None]]), torch.cat([self.values, value[None]])
        self.radii = torch.cat([self.radii, self.radii.new_tensor([radius])])
        self.labels.append(label)
        return len(self) - 1


class GraceConfig(BaseModel):
    """GRACE; defaults are those of its authors' code, whose layers were chosen by model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: int = 27  # of LLaMA-2-7B's 32
    radius: float = 1.0  # eps of a new entry
    rate: float = 1.0
    steps: int = 100  # at most
    enough: float = 1e-2  # our choice: stops when every target token's loss, in nats, is below; 0: never
    equal: float = 1e-3  # our choice: keys nearer than this share of their norm are one prompt, rounded otherwise
    start: Literal["cold", "warm"] = "cold"  # of a value: uniform in [0, 1), or what the layer itself puts out
    seed: int = 0


class Grace(OutputReplacing):
    """GRACE on the down projection of one feed-forward part: its input is the key, its output is replaced.

    So do its authors for decoders. Ours: the output is replaced from the last prompt token on (theirs: of all tokens,
    the prompt's, or one), and labels are compared by their ids (theirs: by the mean of them).
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: GraceConfig) -> None:
        """Take a model; raises `UserError` for a layer that does not exist."""
        super().__init__(model, tokenizer, config.layer)
        self.config = config
        self._values: Tensor | None = None  # (sequences, outputs) of the sequences in hand
        self._arrived = 0
        self._empty()

    def edit(self, batch: Sequence[Edit]) -> None:
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
            equal = self.config.equal * float(key.norm())
            entries.append(self.codebook.arrive(key, value, label, self.config.radius, equal))
            labels.append(label)
            self._arrived += 1
        kept = [self.codebook.labels[entry] == label for entry, label in zip(entries, labels, strict=True)]
        self._train(encoded, torch.tensor(entries, device=keys.device), torch.tensor(kept, device=keys.device))

    def decide(self, keys: Tensor) -> Tensor:
        """Return which keys (sequences, inputs) lie within the radius of the entry nearest to them, (sequences,)."""
        entry, distance = self.codebook.nearest(keys)
        self._values = self.codebook.values[entry]
        return distance <= self.codebook.radii[entry]

    def replacement(self, inputs: Tensor) -> Tensor:
        """Return the value of each sequence's entry, (sequences, 1, outputs)."""
        del inputs
        return self._values[:, None]

    def is_empty(self) -> bool:
        """Tell whether the codebook is empty."""
        return not len(self.codebook)

    def memory(self) -> int:
        """Return the bytes of keys, values and radii."""
        book = self.codebook
        return sum(part.numel() * part.element_size() for part in (book.keys, book.values, book.radii))

    def restore(self) -> None:
        """Take the hooks off and empty the codebook."""
        super().restore()
        self._values, self._arrived = None, 0
        self._empty()

    def _empty(self) -> None:
        outputs, inputs = matrix(self._module).shape
        zeros = torch.zeros(0, outputs + inputs + 1, device=self._module.weight.device)
        self.codebook = Codebook(zeros[:, :inputs], zeros[:, :outputs], zeros[:, 0], [])

    def _drawn(self, output: Tensor) -> Tensor:
        drawn = torch.rand(output.shape, generator=seeds.generator("GRACE", self.config.seed, self._arrived))
        return drawn.to(output)

    def _train(self, encoded: Encoded, entries: Tensor, kept: Tensor) -> None:
        """Train the values of `entries` (sequences,): Adam on the sum of the mean losses of the sequences `kept`.

        Those not kept lost their entry to a later edit of the same batch.
        """
        upper = UpperLayers(self.model, encoded, self.layer)
        used, slot = entries.unique(return_inverse=True)
        values = self.codebook.values[used].clone().requires_grad_()
        optimiser = torch.optim.Adam([values], self.config.rate)
        self._begin(encoded)
        for _ in range(self.config.steps):
            self._values = values[slot]
            losses, _, sequence = upper.losses()
            losses = losses * kept[sequence]
            if losses.max().item() < self.config.enough:
                break
            optimiser.zero_grad()
            (losses / torch.bincount(sequence)[sequence]).sum().backward()
            optimiser.step()
        self.codebook.values[used] = values.detach()
        self._values = self._last = self._served = None
