"""What LEMoE's adaptor is to be: the paper's values, and our choices where it is silent."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lib.errors import UserError
from lib.lemoe import router
from lib.lemoe.rejection import Distance, Kind
from lib.settings import Settings, Share

__all__ = ["AdaptorConfig", "Scale", "Stopping"]

Scale = Annotated[float, Field(ge=0, le=4)]  # lambda: the paper's is 1; more than a few times that is a mistake


class Stopping(Settings):
    """When a batch counts as learnt, before all steps are taken; by default never. The papers are silent.

    Batches of one edit and of two hundred need different numbers of steps: a rule with a common cap treats both alike.
    """

    until_right: bool = False  # every target token is the most likely one, under the routes of training (as in FT-EWC)
    enough: NonNegativeFloat = 0.0  # the mean loss, in nats a target token, is below

    def is_learnt(self, loss: float, right: bool) -> bool:
        """Tell whether training stops at a mean loss, and with all target tokens right or not."""
        return loss < self.enough or (self.until_right and right)


class AdaptorConfig(Stopping):
    """The adaptor; no code is released. Defaults are what keeps most edits on the tuning split; `paper` is beside.

    `python -m lib.benchmarks.library_defaults` compares them: routed as the paper words it, a second batch takes over
    the prompts of the first. A gradient reaches keys and projection from two sources: the gate, where it is no
    constant, and the auxiliary loss.
    """

    layer: NonNegativeInt = 18  # paper: the layer of LLaMA-2-7B
    scale: Scale = 1.0  # paper: lambda
    expert: Literal["ffn", "lora"] = "ffn"  # paper: a feed-forward network; its appendix: LoRA, on the down projection
    expert_width: PositiveInt | None = None  # paper silent; None: as wide as the layer's own feed-forward network
    rank: PositiveInt = 8  # of a LoRA expert; paper silent
    router_width: PositiveInt = 128  # of v and the keys; paper silent
    # Paper: W_down and W_up are trained with every batch, "shared", so that earlier routes move. Ours: "frozen" from
    # the start, a random projection; to compare, trained with the first batch only (without a null key a random
    # projection, since the softmax of one expert is constant), and one for each expert, frozen with it.
    projection: router.Projection = "frozen"
    # Paper: keys are "learned", by the gate's gradient and the auxiliary loss. Ours: "mean", each the mean v of its
    # batch's anchors, without a gradient; and "each", one for every edit: unlike edits share no direction, and the mean
    # of two can be farther from both than a later batch's.
    keys: router.Keys = "each"
    # Paper: TopK of the softmax, which can be read as its value, "softmax", or as a gate of "one". Straight-through is
    # one going forward, so that an expert does not fade as others come, with the gradient of the softmax value.
    gate: router.Gate = "one"
    force_new_expert: bool = True  # paper silent; it serves its own batch in training, else the router decides
    auxiliary_weight: NonNegativeFloat = 0.0  # weight of -log softmax of the newest key, which so learns to win
    anchor: router.Anchor = "instance"  # paper compares the mean over the prompt or the subject, and "token": its last
    top_k: PositiveInt = 1  # paper
    rate: PositiveFloat = 3e-3  # of AdamW; paper: 2e-4, at which a small model's edits are not learnt in 30 steps
    decay: NonNegativeFloat = 0.01  # of AdamW, of all that is trained; paper silent
    steps: PositiveInt = 30  # on the whole batch, at most (`Stopping`); paper silent
    # Ours: the most that experts may add at a token, their norm over that of the layer's own output; None: no bound.
    norm_limit: PositiveFloat | None = None
    chunk: PositiveInt = 64  # edits a forward pass takes; the gradient is the whole batch's, whatever it is
    packed: bool = False  # no padding above the layer, where that is less work; equal but for rounding (ours)
    cached: bool = True  # compute what is frozen once for a batch; the same logits, only sooner
    rejection: Kind | None = None  # ours, see the module of this name: the paper has none
    rejection_distance: Distance = "anchor"  # to the nearest edit by e or v, or to the nearest key by v
    false_positives: Share = 0.05  # share of unrelated texts that may get an expert all the same
    locality_weight: NonNegativeFloat = 1.0
    seed: NonNegativeInt = 0

    @classmethod
    def paper(cls, **settings: Any) -> Self:
        """Return the paper's wording, with some settings changed: everything of the router is learnt, throughout.

        Its gate is straight-through, and the auxiliary loss (ours) the only one that tells batches apart.
        """
        worded: dict[str, Any] = {
            "projection": "shared",
            "keys": "learned",
            "gate": "straight_through",
            "auxiliary_weight": 1.0,
            "rate": 2e-4,
        }
        return cls(**{**worded, **settings})

    @model_validator(mode="after")
    def _one_space(self) -> Self:
        measured = self.rejection == "threshold" and self.rejection_distance != "anchor"
        if self.projection == "per_expert" and (self.rejection == "null" or measured):
            raise UserError("this rejection compares values v of one projection: take another than 'per_expert'")
        return self
