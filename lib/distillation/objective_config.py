"""One arm of the comparison: the weights of the losses, and the form of each."""

from typing import Any

from pydantic import Field, computed_field, model_validator

from lib.settings import Settings


class ObjectiveConfig(Settings):
    """One arm: the weights of the three losses, zero for one that is left out, and the form of each.

    With `on_policy` that share of the batches carries responses drawn from the student, on which only the output loss
    is taken (GKD, Agarwal et al. 2024).
    """

    ce: float = 1.0
    output: float = 0.0
    middle: float = 0.0
    divergence: str = "forward_kl"
    settings: dict[str, float] = Field({})  # of the divergence: alpha, beta, mu
    rule: str = "uniform"  # of the layers
    distance: str = "mse"
    alignment: str = "per_pair"
    proportions: str = "fixed"
    on_policy: float = 0.0
    pairing: str = "same"  # of tokens, see own_tokenizer

    @model_validator(mode="before")
    @classmethod
    def _drop_derived(cls, given: Any) -> Any:
        """Take a stored configuration, which names its losses, as one that does not: they follow from the weights."""
        return {name: value for name, value in given.items() if name != "losses"} if isinstance(given, dict) else given

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
