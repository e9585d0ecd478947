"""Rejection, ours: the paper's router gives every sequence an expert, also one that has nothing to do with any edit.

"null": an extra key that routes to no expert, set from the anchors of unrelated texts. "threshold": no expert for a
sequence farther from the nearest edit than unrelated texts are, but for a given share of these. "locality_loss": the
route stays, and the expert learns to give nothing on unrelated texts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib import seeds
from lib.causal_lm import layers
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lib.lemoe.router import Router

Kind = Literal["null", "threshold", "locality_loss"]
Distance = Literal["anchor", "value", "key"]


class Rejection(nn.Module):
    """What rejection has to remember; all of it is saved with the adaptor."""

    edits: Tensor
    unrelated: Tensor
    states: Tensor
    null: Tensor
    threshold: Tensor
    size: Tensor

    STATES = 1024  # unrelated hidden states kept for the locality loss, at most

    def __init__(self, kind: Kind | None, measured: Distance, false_positives: float, seed: int) -> None:
        """Build one that has seen neither edits nor unrelated texts."""
        super().__init__()
        self.kind, self.measured, self.false_positives, self.seed = kind, measured, false_positives, seed
        for name in ("edits", "unrelated", "states", "null"):  # anchors (edits, e) and (texts, e), inputs, key
            self.register_buffer(name, torch.empty(0))
        self.register_buffer("threshold", torch.tensor(torch.inf))
        self.register_buffer("size", torch.tensor(1.0))  # mean |W0(x)|^2 on the unrelated states

    def add_edits(self, anchors: Tensor) -> None:
        """Add the anchors of a batch of edits, (edits, embedding); only a threshold needs them."""
        if self.kind == "threshold":
            self.edits = torch.cat([self.edits.to(anchors).view(-1, anchors.shape[1]), anchors])

    def set_unrelated(self, anchors: Tensor, found: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Take unrelated texts: anchors (texts, embedding); inputs (tokens, any) and outputs of the edited part."""
        self.unrelated = anchors
        if found:
            states = torch.cat([inputs for inputs, _ in found])
            drawn = torch.randperm(len(states), generator=seeds.generator("unrelated states", self.seed))[: self.STATES]
            self.states = states[drawn.to(states.device)].float()
            self.size = torch.cat([outputs for _, outputs in found]).float().square().mean()

    def require_unrelated(self) -> None:
        """Raise `UserError` where rejection was asked for and no unrelated texts were given."""
        if self.kind is not None and not len(self.unrelated):
            raise UserError(f"rejection {self.kind!r} is set from unrelated texts: give some (unrelated=[...])")

    @torch.no_grad()
    def calibrate(self, router: "Router") -> None:
        """Set the null key or the threshold for the router as it is; `add_edits` and `set_unrelated` come before.

        The null key is the mean v of the unrelated texts at the mean length of the keys, so that it has no advantage.
        The threshold is the quantile of the unrelated texts' distances at the rate of false positives: no larger a
        share of these texts lies nearer and gets an expert.
        """
        if self.kind == "null":
            mean = router.values(self.unrelated).mean(0)
            self.null = functional.normalize(mean, dim=0) * router.known().norm(dim=1).mean()
        if self.kind == "threshold":
            distances = self.distance(router, self.unrelated)
            self.threshold = distances.quantile(self.false_positives, interpolation="lower")

    def null_key(self) -> Tensor | None:
        """Return the null key, (width,), where there is one."""
        return self.null if self.kind == "null" and len(self.null) else None

    def distance(self, router: "Router", anchors: Tensor) -> Tensor:
        """Return one less the cosine to the nearest edit's anchor or value, or key: (sequences,), in [0, 2]."""
        if self.measured == "anchor":
            found, known = anchors, self.edits
        else:
            found = router.values(anchors)
            known = router.values(self.edits) if self.measured == "value" else router.known()
        return 1 - (functional.normalize(found, dim=-1) @ functional.normalize(known, dim=-1).T).amax(-1)

    def rejects(self, router: "Router", anchors: Tensor) -> Tensor | None:
        """Tell which sequences (sequences,) are too far from every edit; None where distance plays no part."""
        if self.kind != "threshold" or not len(self.edits):
            return None
        return self.distance(router, anchors) >= self.threshold

    def loss(self, expert: nn.Module, scale: float) -> Tensor:
        """Return mean |lambda f(x)|^2 / mean |W0(x)|^2 on the unrelated states, a scalar."""
        return (scale * expert(self.states)).square().mean() / self.size


@torch.no_grad()
def states(
    model: "PreTrainedModel", layer: int, on: Literal["feed_forward", "down"], ids: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the inputs (tokens, inputs) and outputs (tokens, width) of a layer's part, at the unmasked tokens."""
    seen: list[Tensor] = []

    def note(inputs: Tensor, output: Tensor) -> None:
        seen.extend((inputs, output))

    hooks = layers.hang(layers.block(model, layer), on, note)
    try:
        model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    kept = mask.bool()
    return seen[0][kept], seen[1][kept]
