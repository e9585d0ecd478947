"""What LEMoE's adaptor is to be: the paper's values, and our choices where it is silent."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lib.errors import UserError
from lib.lemoe import rejection, router
from lib.settings import Settings


class AdaptorConfig(Settings):
    """The adaptor; defaults are the paper's where it gives them, else our choices, which a notebook compares.

    A gradient reaches keys and projection from two sources: the gate, where it is no constant, and `auxiliary`.
    """

    layer: int = Field(18, ge=0)  # paper: the layer of LLaMA-2-7B
    scale: float = 1.0  # paper: lambda
    expert: Literal["ffn", "lora"] = "ffn"  # paper: a feed-forward network; its appendix: LoRA, on the down projection
    expert_width: int | None = Field(None, ge=1)  # paper silent; None: as wide as the layer's own feed-forward network
    rank: int = Field(8, ge=1)  # of a LoRA expert; paper silent
    router_width: int = Field(128, ge=1)  # of v and the keys; paper silent
    # Paper: W_down and W_up are trained with every batch, "shared", so that earlier routes move. Ours, to compare:
    # trained with the first batch only (without a null key a random projection, since the softmax of one expert is
    # constant); one for each expert, frozen with it; frozen from the start, a random projection.
    projection: router.Projection = "shared"
    # Paper: keys are "learned", by the gate's gradient and `auxiliary`. Ours: "mean", each the mean v of its batch's
    # anchors, without a gradient; in a rough trial, with a frozen projection, the most consistent routing.
    keys: router.Keys = "learned"
    # Paper: TopK of the softmax, which can be read as its value, "softmax", or as a gate of "one". Straight-through is
    # one going forward, so that an expert does not fade as others come, with the gradient of the softmax value.
    gate: router.Gate = "straight_through"
    forced: bool = True  # paper silent; the new expert serves its own batch in training, else the router decides
    auxiliary: float = Field(1.0, ge=0)  # ours: weight of -log softmax of the newest key, which so learns to win
    anchor: router.Anchor = "instance"  # paper compares the mean over the prompt or the subject, and "token": its last
    top_k: int = Field(1, ge=1)  # paper
    rate: float = Field(2e-4, gt=0)  # paper: AdamW
    steps: int = Field(30, ge=1)  # on the whole batch; paper silent
    chunk: int = Field(64, ge=1)  # edits a forward pass takes; the gradient is the whole batch's, whatever it is
    cached: bool = True  # compute what is frozen once for a batch; the same logits, only sooner
    way_out: rejection.Kind | None = None  # ours, see `rejection`: the paper has none
    threshold_on: rejection.Measured = "anchor"  # distance to the nearest edit by e or v, or to the nearest key by v
    false_positives: float = Field(0.05, ge=0, le=1)  # share of unrelated texts that may get an expert all the same
    locality_weight: float = Field(1.0, ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _one_space(self) -> Self:
        measured = self.way_out == "threshold" and self.threshold_on != "anchor"
        if self.projection == "per_expert" and (self.way_out == "null" or measured):
            raise UserError("this way out compares values v of one projection: take another than 'per_expert'")
        return self
