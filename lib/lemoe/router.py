"""KV anchor routing: what a sequence is routed by, and which expert serves it (LEMoE)."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from lib.causal_lm import encoding
from lib.causal_lm.edits import Edit
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Anchor = Literal["instance", "entity", "token"]
Projection = Literal["shared", "frozen_after_first", "per_expert", "frozen"]
Keys = Literal["learned", "mean", "each"]
Gate = Literal["one", "softmax", "straight_through"]
NONE = -1  # the expert of a sequence that the unedited model answers
# Half the squared distance from a key within which a prompt is the key's own. Rounding makes 1e-12 of it; on SmolLM2
# short prompts lie 0.06 or more apart, and two of 341 tokens that differ in one word 4e-5.
SAME = 1e-8


class Route(NamedTuple):
    """The experts of each sequence, (sequences, k) ids with the best first, and the factors of their outputs."""

    experts: Tensor
    gates: Tensor

    @property
    def expert(self) -> Tensor:
        """Return the best expert, (sequences,); `NONE` where it is rejected."""
        return self.experts[:, 0]

    @property
    def gate(self) -> Tensor:
        """Return the factor of the best expert's output, (sequences,)."""
        return self.gates[:, 0]


class Router(nn.Module):
    """Keys k_i and the projection v = W_up SiLU(W_down e); the expert of a sequence is argmax_i k_i . v.

    Where its gradient comes from: with gate "softmax" the expert's output is multiplied by its softmax value, whose
    gradient is exactly zero while there is one expert; "straight_through" has factor one in the forward pass and the
    gradient of the softmax value; with gate "one" nothing but `auxiliary` trains the router. With projection "frozen"
    the projection is a frozen random one. Keys "mean" have no gradient: each is the mean v of its batch's anchors. With
    keys "each" (ours) an expert has the v of every anchor of its batch, and the expert of the nearest one is taken.
    """

    def __init__(
        self, embedding: int, width: int, projection: Projection, gate: Gate, keys: Keys = "learned", top_k: int = 1
    ) -> None:
        """Build a router without experts; `embedding` is the size of e, `width` that of v and the keys."""
        super().__init__()
        self.embedding, self.width, self.projection, self.gate = embedding, width, projection, gate
        self.kind, self.top_k = keys, top_k
        self.keys = nn.ParameterList()
        self.projections = nn.ModuleList()

    def __len__(self) -> int:
        """Return the number of experts."""
        return len(self.keys)

    def add(self) -> None:
        """Insert the key of a new expert and freeze those before; a projection of its own where each expert has one."""
        self.requires_grad_(False)
        self.keys.append(nn.Parameter(torch.randn(self.width) * self.width**-0.5, self.kind == "learned"))
        if self.projection == "per_expert" or not len(self.projections):
            down, up = nn.Linear(self.embedding, self.width, bias=False), nn.Linear(self.width, self.width, bias=False)
            self.projections.append(nn.Sequential(down, nn.SiLU(), up))
        first = len(self.keys) == 1
        trained = {"shared": True, "frozen_after_first": first, "per_expert": True, "frozen": False}
        self.projections[-1].requires_grad_(trained[self.projection])

    def values(self, anchors: Tensor) -> Tensor:
        """Return v, (sequences, width), of anchors e (sequences, embedding), by the newest projection."""
        return self.projections[-1](anchors)

    @torch.no_grad()
    def set_key(self, anchors: Tensor) -> None:
        """Set the newest key to the mean v of its batch's anchors (sequences, embedding), or to each of them."""
        if self.kind == "mean":
            self.keys[-1].copy_(self.values(anchors).mean(0))
        if self.kind == "each":
            self.keys[-1] = nn.Parameter(self.values(anchors), requires_grad=False)

    def known(self) -> Tensor:
        """Return the keys of all experts, (keys, width)."""
        return torch.cat([torch.atleast_2d(key) for key in self.keys])

    def scores(self, anchors: Tensor, null: Tensor | None = None) -> Tensor:
        """Return k_i . v, (sequences, experts), for anchors e (sequences, embedding); `ValueError` without experts.

        With keys "each" it is -|k - v|^2 / 2 of an expert's nearest key. A `null` key (width,), which stands for no
        expert, adds a last column.
        """
        if not len(self.keys):
            raise ValueError("the router has no expert yet: add one")
        if self.kind == "each":
            keys = list(self.keys) if null is None else [*self.keys, null]
            apart = self.projection == "per_expert"
            values = [project(anchors) for project in self.projections] if apart else [self.values(anchors)] * len(keys)
            return torch.stack([_nearness(value, key) for value, key in zip(values, keys, strict=True)], -1)
        if self.projection == "per_expert":
            values = [project(anchors) for project in self.projections]
            return torch.stack([value @ key for value, key in zip(values, self.keys, strict=True)], -1)
        keys = list(self.keys) if null is None else [*self.keys, null]
        return self.values(anchors) @ torch.stack(keys).T

    def route(self, anchors: Tensor, forced: int | Tensor | None = None, null: Tensor | None = None) -> Route:
        """Choose the best `top_k` experts for each anchor (sequences, embedding), or the `forced` one.

        `forced` is one expert for all or one for each, (sequences,), `NONE` included. Where the null key scores best
        there is no expert. The factors of "softmax" are not renormalised over the k; those of the other gates are 1/k.
        """
        scores = self.scores(anchors, null)
        probability = scores.softmax(-1)
        if forced is None:
            experts = self._best(scores[:, : len(self)])
            if null is not None:
                experts = experts.masked_fill((scores.argmax(-1) == len(self))[:, None], NONE)
        else:
            number = torch.as_tensor(forced, dtype=torch.long, device=scores.device)
            experts = number.expand(len(scores))[:, None]
        value = probability.gather(1, experts.clamp(min=0)).masked_fill(experts == NONE, 0)
        one = (experts != NONE).to(value) / experts.shape[1]
        gates = {"one": one, "softmax": value, "straight_through": one + value - value.detach()}
        return Route(experts, gates[self.gate])

    def _best(self, scores: Tensor) -> Tensor:
        """Return the experts of the best scores, (sequences, k); with keys "each", of equal ones the later first."""
        if self.kind != "each":
            return scores.topk(min(self.top_k, len(self)), -1).indices
        best = scores.amax(-1, keepdim=True)
        settled = torch.where(scores >= best - SAME, best, scores)
        order = settled.flip(-1).sort(stable=True, dim=-1, descending=True).indices
        return len(self) - 1 - order[:, : self.top_k]

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *others: Any) -> None:
        """Take keys of as many rows as were saved; the rest is the module's own way."""
        if self.kind == "each":
            for number in range(len(self.keys)):
                saved = state_dict.get(f"{prefix}keys.{number}")
                if saved is not None and saved.ndim == 2 and saved.shape[1] == self.width:
                    self.keys[number] = nn.Parameter(self.keys[number].new_empty(saved.shape), requires_grad=False)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def auxiliary(self, anchors: Tensor, null: Tensor | None = None, wanted: int | None = None) -> Tensor:
        """Return -log softmax of the newest expert's score, averaged over anchors: its key is to win (our choice).

        `wanted` may name another expert, `NONE` the null key.
        """
        scores = self.scores(anchors, null)
        number = len(self) - 1 if wanted is None else wanted % scores.shape[1]
        return functional.cross_entropy(scores, torch.full((len(anchors),), number, device=anchors.device))


def _nearness(values: Tensor, keys: Tensor) -> Tensor:
    """Return -|k - v|^2 / 2, (sequences,), of the nearest of some keys (keys, width), or of one, to each of values."""
    # Through products of the two, a value would lie some way from itself.
    apart = torch.cdist(values, torch.atleast_2d(keys), compute_mode="donot_use_mm_for_euclid_dist")
    return -apart.amin(-1).square() / 2


def check_forced(forced: Any, experts: int) -> None:
    """Raise `TypeError` unless `forced` is None or whole numbers, `ValueError` for an expert that is not there."""
    if forced is None:
        return
    if not isinstance(forced, (int, Tensor)) or isinstance(forced, bool):
        raise TypeError(f"forced is of type {type(forced).__name__}: give the number of an expert, or a tensor of them")
    numbers = torch.as_tensor(forced)
    if numbers.is_floating_point() or numbers.dtype in (torch.bool, torch.complex64, torch.complex128):
        raise TypeError(f"forced holds {numbers.dtype}: give whole numbers")
    if numbers.ndim > 1:
        raise ValueError(
            f"forced has the shape {tuple(numbers.shape)}: give one number for each sequence, (sequences,)"
        )
    missing = numbers[(numbers < NONE) | (numbers >= experts)].flatten().tolist()
    if missing:
        raise ValueError(f"forced names expert {missing[0]}, there are {experts}: they begin with 0, and -1 is none")


class Anchors:
    """Which tokens of a prompt make its anchor: all, "instance"; the subject's, "entity"; or the last, "token".

    An entity is known at inference by the tokens of the subjects edited so far (our choice: the paper does not say how
    it is found). Without one, the whole prompt counts, and `fallbacks` is raised by one.
    """

    def __init__(self, kind: Anchor) -> None:
        """Know no subject yet."""
        self.kind, self.subjects, self.fallbacks = kind, set[tuple[int, ...]](), 0

    def of_edits(
        self, tokenizer: "PreTrainedTokenizerBase", edits: Sequence[Edit], encoded: encoding.Encoded
    ) -> Tensor:
        """Return the mask (edits, tokens) of each edit's anchor and keep its subject, to be known at inference."""
        if self.kind != "entity":
            return self.of_prompts(encoded.ids, encoded.prompt)
        mask = encoded.prompt.clone()
        for row, edit in enumerate(edits):
            start, stop = encoding.subject_places(tokenizer, edit.prompt, edit.subject) if edit.subject else (0, 0)
            if start == stop:
                self.fallbacks += 1
                continue
            mask[row] = 0
            mask[row, start:stop] = 1
            self.subjects.add(tuple(encoded.ids[row, start:stop].tolist()))
            self.subjects |= encoding.subject_forms(tokenizer, str(edit.subject))
        return mask

    def of_prompts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the mask of each prompt's anchor, for its ids and mask (sequences, tokens)."""
        if self.kind == "token":
            return last_token(mask)
        if self.kind == "entity":
            mask, missing = known_subjects(ids, mask, self.subjects)
            self.fallbacks += missing
        return mask


def mean_embedding(table: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Return e, the mean embedding of the tokens of `mask`, at root mean square 1, (sequences, embedding), in float32.

    The scale is our choice: raw embeddings are so small that no key would win clearly. `ids` and `mask` are
    (sequences, tokens), `table` is (vocabulary, embedding).
    """
    vectors = functional.embedding(ids.to(table.device), table).float()
    weights = mask.to(vectors)
    mean = (vectors * weights[..., None]).sum(1) / weights.sum(1, keepdim=True).clamp(min=1)
    return functional.rms_norm(mean, mean.shape[-1:], eps=1e-12)


def last_token(mask: Tensor) -> Tensor:
    """Return the mask (sequences, tokens) of the last token of each row of `mask`: the anchor "token" (our reading)."""
    mask = (mask != 0).long()
    return mask * (mask.cumsum(1) == mask.sum(1, keepdim=True))


def known_subjects(ids: Tensor, mask: Tensor, subjects: Collection[tuple[int, ...]]) -> tuple[Tensor, int]:
    """Return the mask of the longest subject known from earlier edits in each sequence, and how many hold none.

    A sequence without one is routed by all of `mask` (sequences, tokens). Of equally long ones the last counts.
    """
    lengths = sorted({len(subject) for subject in subjects}, reverse=True)
    known, found, missing = set(subjects), (mask != 0).long(), 0
    for row, (words, places) in enumerate(zip(ids.tolist(), found.tolist(), strict=True)):
        kept = [place for place, is_prompt in enumerate(places) if is_prompt]
        text = [words[place] for place in kept]
        hits = (
            (start, length)
            for length in lengths
            for start in range(len(text) - length, -1, -1)
            if tuple(text[start : start + length]) in known
        )
        start, length = next(hits, (0, 0))
        if length:
            found[row] = 0
            found[row, kept[start : start + length]] = 1
        else:
            missing += 1
    return found, missing


def encoded_texts(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Return ids and mask of texts, (texts, tokens), padded on the right and cut at the model's context.

    Raises `UserError` for a text without tokens, `ValueError` for a tokenizer that is not the model's.
    """
    context = getattr(model.config, "max_position_embeddings", None)
    read = [encoding.prompt_tokens(tokenizer, text)[:context] for text in texts]
    if not all(read):
        raise UserError("an empty text cannot be routed: leave it out")
    encoding.check_vocabulary(model, read)
    rows = [torch.tensor(row, dtype=torch.long) for row in read]
    ids = pad_sequence(rows, batch_first=True).to(model.device)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(model.device)
    return ids, mask
