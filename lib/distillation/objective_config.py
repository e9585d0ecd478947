"""One arm of the comparison: the weights of the losses, and the form of each."""

from typing import Any

import torch
from pydantic import Field, NonNegativeFloat, computed_field, model_validator

from lib.distillation.divergences import DIVERGENCES
from lib.settings import Settings, Share

__all__ = ["ObjectiveConfig"]


class ObjectiveConfig(Settings):
    """One arm: the weights of the three losses, zero for one that is left out, and the form of each.

    With `on_policy` that share of the batches carries responses drawn from the student, on which only the output loss
    is taken (GKD, Agarwal et al. 2024). Raises `ValueError` for settings that the
    divergence does not have or that are out of its range.
    """

    ce: NonNegativeFloat = 1.0
    output: NonNegativeFloat = 0.0
    middle: NonNegativeFloat = 0.0
    divergence: str = "forward_kl"
    settings: dict[str, NonNegativeFloat] = Field({})  # of the divergence: alpha, beta, mu
    rule: str = "uniform"  # of the layers
    # A rule that compares a student's states reads one that learnt from cross-entropy alone for this share of the
    # steps, and is thrown away then. Untrained, all its states are little more than its embeddings; after a quarter of
    # the steps the loss has fallen by four fifths of what it falls in all (`cpu`, from 7.5 nats).
    compared_after: Share = 0.25
    distance: str = "mse"
    alignment: str = "per_pair"
    proportions: str = "fixed"
    on_policy: Share = 0.0
    pairing: str = "same"  # of tokens, see own_tokenizer

    @model_validator(mode="before")
    @classmethod
    def _drop_derived(cls, given: Any) -> Any:
        """Take a stored configuration, which names its losses, as one that does not: they follow from the weights."""
        return {name: value for name, value in given.items() if name != "losses"} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _has_settings_of_its_divergence(self) -> "ObjectiveConfig":
        """Try the divergence on one token: each knows what it takes."""
        if self.settings:
            try:
                DIVERGENCES[self.divergence](torch.zeros(1, 2), torch.zeros(1, 2), **self.settings)
            except TypeError as error:
                raise ValueError(f"settings {self.settings}: {error}") from None
        return self

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorators of properties
    @property
    def losses(self) -> tuple[str, ...]:
        """Return the names of the losses that read the teacher: those whose weight is above zero."""
        weights = {"output": self.output, "middle": self.middle}
        return tuple(f"{name}_loss" for name, weight in weights.items() if weight > 0)

    @property
    def needs_teacher(self) -> bool:
        """Tell whether a loss reads the teacher."""
        return bool(self.losses)
